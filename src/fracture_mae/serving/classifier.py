"""The model-from-code script of `fracture-classifier`."""

from mlflow.models import set_model

from fracture_mae.serving.models import ServedClassifier

set_model(ServedClassifier())
