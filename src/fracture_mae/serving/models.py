"""What answers in `mlflow models serve`: X-rays as base64 text in, a row of answers for each out."""

import base64
import reprlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PythonModel, PythonModelContext

from fracture_mae.data.reading.decoding import UnreadableImage, decode, letterbox
from fracture_mae.metrics import thresholds
from fracture_mae.models import autoencoder, classifier
from fracture_mae.models.pixels import to_unit

_BATCH = 16
_NETWORK = "network"
_EXPECTED = "expected a picture file (JPEG, PNG, …) as base64 text"


class _BadRequest(MlflowException):
    """An error 400 that keeps its message: the scoring server would put the whole request, megabytes of base64, before it."""

    @property
    def message(self) -> str:
        return self.args[0]

    @message.setter
    def message(self, _: str) -> None:
        pass


class ServedClassifier(PythonModel):
    """Answers with label, probability, threshold and model_id for each row of base64 images in the column `image`."""

    def load_context(self, context: PythonModelContext) -> None:
        folder = Path(context.artifacts[_NETWORK])
        self.classifier, self.decision = classifier.load(folder)
        self.model_id = Model.load(str(folder.parents[1])).model_id

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        given = (params or {}).get("threshold")
        limit = self.decision.threshold if given is None else float(given)
        if not 0 <= limit <= 1:
            raise _BadRequest.invalid_parameter_value(f"threshold: found {limit}, expected a number from 0 to 1")
        logit = _in_batches(self.classifier, _pixels(model_input["image"], self.classifier.image_size))
        probability = self.decision.probability(logit)
        names = np.array(self.decision.label_names)
        return pd.DataFrame(
            {
                "label": names[thresholds.decide(probability, limit)],
                "probability": probability,
                "threshold": limit,
                "model_id": self.model_id,
            }
        )


class ServedFeatures(PythonModel):
    """Answers with the mean patch token of the encoder for each row of base64 images in the column `image`."""

    def load_context(self, context: PythonModelContext) -> None:
        loaded = autoencoder.load(context.artifacts[_NETWORK])
        self.encoder = classifier.from_mae(loaded, pool="mean").eval()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        pixels = _pixels(model_input["image"], self.encoder.image_size)
        return pd.DataFrame({"features": _in_batches(self.encoder.features, pixels).tolist()})


def _pixels(column: pd.Series, image_size: int) -> np.ndarray:
    """Base64 images → uint8 [n, image_size, image_size]; a bad one is an error that names its row, counted from 0."""
    rows = []
    for row, text in enumerate(column):
        try:
            rows.append(letterbox(decode(_content(text)), image_size)[0])
        except UnreadableImage as error:
            raise _BadRequest.invalid_parameter_value(f"row {row}: {error}") from None
    return np.stack(rows) if rows else np.zeros((0, image_size, image_size), np.uint8)


def _content(text: object) -> bytes:
    if not isinstance(text, str) or not text:
        found = "null" if pd.isna(text) else reprlib.repr(text)  # JSON's null arrives as None or NaN
        raise UnreadableImage(f"found {found}, {_EXPECTED}")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii's own, and for letters beyond ASCII a plain one
        raise UnreadableImage(f"not base64 ({error}), {_EXPECTED}") from None


@torch.inference_mode()
def _in_batches(network, pixels: np.ndarray) -> np.ndarray:
    parts = [
        network(to_unit(torch.from_numpy(pixels[start : start + _BATCH]))) for start in range(0, len(pixels), _BATCH)
    ]
    return torch.cat(parts).numpy().astype(np.float64) if parts else np.zeros(0)
