"""The model-from-code script of `xray-mae`."""

from mlflow.models import set_model

from fracture_mae.serving.models import ServedFeatures

set_model(ServedFeatures())
