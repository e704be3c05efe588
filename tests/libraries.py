"""What the entry points read of other projects, read before the first command: see `Workplace.python`."""

import os

os.environ["TQDM_DISABLE"] = "1"  # as the entry points set it where nobody looks, before tqdm is read

import accelerate
import cv2
import matplotlib.pyplot
import mlflow.pyfunc
import mlflow.store.tracking.sqlalchemy_store
import optuna
import scipy.stats
import skimage.metrics
import sklearn.linear_model
import torch
import transformers.models.vit_mae.modeling_vit_mae

__all__ = [
    "accelerate",
    "cv2",
    "matplotlib",
    "mlflow",
    "optuna",
    "scipy",
    "skimage",
    "sklearn",
    "torch",
    "transformers",
]
