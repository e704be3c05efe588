"""The model-from-code script of `fracture-classifier`."""

from mlflow.models import set_model

from fracture_mae.serving import ServedClassifier

set_model(ServedClassifier())
