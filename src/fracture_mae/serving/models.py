"""What answers in `mlflow models serve`: X-rays as base64 text in, a row of answers for each out."""

import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mlflow.models import Model
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import ArrayLike

from fracture_mae.data.reading.decoding import UnreadableImage, decode, dicom_module
from fracture_mae.data.reading.preprocessing import preprocess
from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import thresholds
from fracture_mae.models import autoencoder, classifier, explanation, gate, map_pictures
from fracture_mae.models.gate import Gate
from fracture_mae.models.pixels import to_unit
from fracture_mae.serving import server
from fracture_mae.serving.cells import content_of
from fracture_mae.serving.limits import Limits, exceeded
from fracture_mae.serving.refusals import TooLarge, refuse
from fracture_mae.serving.requests import check_params, image_column

dicom_module()  # now: later, another version's code may be the one that Python finds, see `own_code`

_BATCH = 16
_NETWORK = "network"
_PARAMS = {"threshold": float, "prevalence": float, "explain": bool}


class ServedClassifier(PythonModel):
    """Answers with label, probability, threshold and model_id for each row of base64 images in the column `image`.

    And with what its gate says: accepted, reason (why not, empty where accepted) and farther_than, the share of its own X-rays that are
    nearer to those it was fitted on. A version without a gate accepts all, with farther_than null.

    Parameters of a request: threshold, on the probability that is answered, in place of the model's own; prevalence, the share of
    fractured X-rays where it is used, in place of that on the X-rays that its probabilities were fitted to; explain, whether `map` is
    answered besides: the X-ray under its map, see `explanation`, a PNG in base64.
    """

    def load_context(self, context: PythonModelContext) -> None:
        folder = Path(context.artifacts[_NETWORK])
        self.classifier, self.decision = classifier.load(folder)
        self.gate = Gate.load(folder)
        self.model_id = Model.load(str(folder.parents[1])).model_id
        self.limits = _limits()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        params = check_params(params, _PARAMS)
        served = self._moved(params.get("prevalence"))
        given = params.get("threshold")
        limit = float(served(self.decision.threshold) if given is None else given)
        if not 0 <= limit <= 1:
            raise refuse(f"threshold: found {limit}, expected a number from 0 to 1")
        pixels = _pixels(image_column(model_input), self.classifier, self.limits)
        answered = _answers(lambda batch: torch.column_stack(self.classifier.with_features(batch)), pixels)
        logit, features = answered[:, 0], answered[:, 1:]
        probability = served(self.decision.probability(logit))
        names = np.array(self.decision.label_names)
        return pd.DataFrame(
            {
                "label": names[thresholds.decide(probability, limit)],
                "probability": probability,
                "threshold": limit,
                "model_id": self.model_id,
                **self._gated(pixels, features),
                **({"map": _maps(self.classifier, pixels)} if params.get("explain") else {}),
            }
        )

    def _gated(self, pixels: np.ndarray, features: np.ndarray) -> dict[str, ArrayLike]:
        """What the gate says of squares uint8 [n, k, image_size, image_size] with features [n, width]; without one, that none does."""
        if self.gate is None:
            return {"accepted": True, "reason": "", "farther_than": None}
        distance = self.gate.distance(gate.describe(pixels, features, self.classifier.preprocess))
        return {
            "accepted": self.gate.accepts(distance),
            "reason": self.gate.reasons(distance),
            "farther_than": self.gate.farther_than(distance),
        }

    def _moved(self, prevalence: float | None) -> Callable[[ArrayLike], ArrayLike]:
        """What probabilities become where a share `prevalence` of X-rays is fractured; the model's own threshold is moved along.

        So the model's answers, and with them its sensitivity and specificity, stay those that it was judged by.
        """
        if prevalence is None:
            return lambda probability: probability
        try:
            self.decision.at_prevalence(self.decision.threshold, prevalence)
        except FractureMaeError as error:
            raise refuse(str(error)) from None
        return lambda probability: self.decision.at_prevalence(probability, prevalence)


class ServedFeatures(PythonModel):
    """Answers with the mean patch token of the encoder for each row of base64 images in the column `image`."""

    def load_context(self, context: PythonModelContext) -> None:
        loaded = autoencoder.load(context.artifacts[_NETWORK])
        self.encoder = classifier.from_mae(loaded, pool="mean").eval()
        self.limits = _limits()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        check_params(params, {})
        pixels = _pixels(image_column(model_input), self.encoder, self.limits)
        return pd.DataFrame({"features": _answers(self.encoder.features, pixels).tolist()})


def _answers(network: Callable[[torch.Tensor], torch.Tensor], pixels: np.ndarray) -> np.ndarray:
    """What the network says of each image, float64 [n, d]: the mean over its squares, uint8 [n, k, image_size, image_size]."""
    of_squares = _in_batches(network, pixels.reshape(-1, *pixels.shape[2:]))
    return of_squares.reshape(len(pixels), pixels.shape[1], *of_squares.shape[1:]).mean(axis=1)


def _maps(network: classifier.FractureClassifier, pixels: np.ndarray) -> list[str]:
    """Each image under its map, of its square with the hottest patch: PNG files in base64."""
    squares = pixels.reshape(-1, *pixels.shape[2:])
    heat = _in_batches(lambda batch: explanation.maps(network, batch)[1], squares)
    heat = heat.reshape(*pixels.shape[:2], *heat.shape[1:])
    found = []
    for image, of_squares in zip(pixels, heat, strict=True):
        hottest = of_squares.max(axis=(1, 2)).argmax()
        _, (under,) = map_pictures.under_map(image[[hottest]], of_squares[[hottest]])
        found.append(b64encode(map_pictures.png(under)).decode())
    return found


def _limits() -> Limits:
    """Those of the environment; what a request may hold in all counts only in a server, which begins to heed it.

    A server does not start with a wrong one, and says so.
    """
    try:
        limits = Limits.from_environment()
    except FractureMaeError as error:
        if server.is_serving():
            raise SystemExit(f"Error: {error}. The server was not started.") from None
        raise
    if not server.is_serving():
        return replace(limits, max_total_pixels=sys.maxsize)
    server.install(limits)
    return limits


def _pixels(column: pd.Series, network: classifier.FractureClassifier, limits: Limits) -> np.ndarray:
    """Base64 images → uint8 [n, k, image_size, image_size], k squares of each; a bad one is an error that names its row, from 0."""
    rows, total = [], 0
    for row, cell in enumerate(column):
        try:
            picture = decode(content_of(cell), limits.max_pixels)
        except UnreadableImage as error:
            raise refuse(f"row {row}: {error}") from None
        total += picture.size
        if total > limits.max_total_pixels:
            too_many = exceeded("max_total_pixels", f"{total:,} pixels up to row {row}", limits.max_total_pixels)
            raise refuse(f"{too_many}: send several requests", TooLarge)
        rows.append(preprocess(picture, network.image_size, network.preprocess)[0])
    return np.stack(rows) if rows else np.zeros((0, 1, network.image_size, network.image_size), np.uint8)


@torch.inference_mode()
def _in_batches(network, pixels: np.ndarray) -> np.ndarray:
    parts = [
        network(to_unit(torch.from_numpy(pixels[start : start + _BATCH]))) for start in range(0, len(pixels), _BATCH)
    ]
    return torch.cat(parts).numpy().astype(np.float64) if parts else np.zeros((0, 1))
