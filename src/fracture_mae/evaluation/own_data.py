"""What a classifier keeps of the X-rays it was made from, so that it can be judged where those are not at hand.

On somebody else's X-rays nothing may be fitted or chosen. So the thresholds of the operating points come from the validation
X-rays of the classifier, the references are fitted on its training X-rays, and both are compared with what it meets there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator
from sklearn.pipeline import Pipeline

from fracture_mae.data.copies.originals import one_of_each
from fracture_mae.data.types import Dataset, XRays
from fracture_mae.errors import damage_of
from fracture_mae.evaluation import properties, references
from fracture_mae.evaluation.chosen_on import VALIDATION, ChosenOn
from fracture_mae.evaluation.frozen_network import FrozenNetwork
from fracture_mae.evaluation.prediction import features
from fracture_mae.metrics.scores import equal_group_weight
from fracture_mae.models import gate
from fracture_mae.models.classifier import FractureClassifier

_FILE = "own_data.npz"
_MOST_FEATURES = 1000  # X-rays whose features are kept
_PREDICTED = ("group", "label", "logit")
_PATIENT = "validation_patient"
_OF_FEATURES = ("features_of", "features_label")  # unknown of classifiers of earlier versions


@dataclass(frozen=True)
class OwnData:
    """Numbers alone, no picture; about 120 bytes for a training file and 64 + 4 bytes × hidden size for each of at most 1,000 X-rays.

    Attributes:
        validation: what thresholds are chosen on, a row for each validation file, or file that was judged out of fold: group, label,
            logit and, where it is known, patient; see `chosen_on`.
        properties: `properties.of_files` of the training files.
        label: int64 [n], of these files; group: [n], their X-rays; original: bool [n], true for one file of each X-ray.
        gradients: float64 [d + 1], weights and intercept of the reference on gradient histograms, fitted on these files.
        features: float32 [m, hidden size], pooled features of one file of each training X-ray, of 1,000 of them at most.
        features_of: [m], the sha256 of these files; None of classifiers of earlier versions.
        features_label: int64 [m], their labels; None of classifiers of earlier versions.
        frozen: float64 [d + 1], the same as `gradients` of the reference on frozen features; None where none was asked for.
        frozen_by: name and fingerprint of the network whose features they are.
        place, calibrated: of `ChosenOn`.
    """

    validation: pd.DataFrame
    properties: pd.DataFrame
    label: np.ndarray
    group: np.ndarray
    original: np.ndarray
    gradients: np.ndarray
    features: np.ndarray
    features_of: np.ndarray | None = None
    features_label: np.ndarray | None = None
    frozen: np.ndarray | None = None
    frozen_by: tuple[str, str] = ("", "")
    place: str = VALIDATION
    calibrated: bool = False

    @classmethod
    def of(
        cls,
        classifier: FractureClassifier,
        dataset: Dataset,
        chosen_on: ChosenOn,
        *,
        batch_size: int,
        accelerator: Accelerator,
        seed: int,
        frozen: FrozenNetwork | None = None,
    ) -> "OwnData":
        """Of a trained classifier.

        Args:
            dataset: whose training X-rays it was trained on.
            chosen_on: what its threshold was chosen on.
            seed: by which the X-rays are drawn whose features are kept, where there are too many.
            frozen: the network whose frozen features are a reference.
        """
        train = dataset.train
        rng = np.random.default_rng(seed)
        originals = one_of_each(train)
        kept = np.sort(rng.permutation(len(originals))[:_MOST_FEATURES])
        kept = originals.subset(kept)
        options = {"batch_size": batch_size, "accelerator": accelerator}
        return cls(
            validation=chosen_on.files[[*_PREDICTED, *({"patient"} & {*chosen_on.files})]].reset_index(drop=True),
            properties=properties.of_files(train, "Properties of the training files"),
            label=train.label,
            group=train.group.astype(str),
            original=train.table["sha256"].isin(originals.table["sha256"]).to_numpy(),
            gradients=_fitted(references.gradient_classifier(), references.gradient_histograms, train),
            features=features(classifier, kept, **options),
            features_of=kept.table["sha256"].to_numpy().astype(str),
            features_label=kept.label,
            frozen=_fitted(references.feature_classifier(), frozen.describe, train) if frozen else None,
            frozen_by=(frozen.name, frozen.fingerprint) if frozen else ("", ""),
            place=chosen_on.place,
            calibrated=chosen_on.calibrated,
        )

    @property
    def chosen_on(self) -> ChosenOn:
        """What its threshold was chosen on, and those of operating points are."""
        return ChosenOn(self.validation, self.place, self.calibrated)

    def save(self, folder: Path) -> None:
        """Write it beside the classifier."""
        predicted = {f"validation_{name}": self.validation[name].to_numpy() for name in self.validation}
        predicted |= {name: predicted[name].astype(str) for name in ("validation_group", _PATIENT) if name in predicted}
        np.savez_compressed(
            folder / _FILE,
            **predicted,
            properties=self.properties.to_numpy(),
            label=self.label,
            group=self.group,
            original=self.original,
            gradients=self.gradients,
            features=self.features,
            **{name: value for name in _OF_FEATURES if (value := getattr(self, name)) is not None},
            place=np.array(self.place),
            calibrated=np.array(self.calibrated),
            **({} if self.frozen is None else {"frozen": self.frozen, "frozen_by": np.array(self.frozen_by)}),
        )

    @classmethod
    def load(cls, folder: Path) -> "OwnData | None":
        """What `save` wrote there; None where a classifier keeps nothing, as those of earlier versions.

        Raises:
            FractureMaeError: it is damaged.
        """
        if not (folder / _FILE).exists():
            return None
        told = damage_of(folder / _FILE, "what the classifier keeps of its own data")
        with told, np.load(folder / _FILE, allow_pickle=False) as stored:
            kept = dict(stored)
            predicted = {name: kept.pop(f"validation_{name}") for name in _PREDICTED}
            if _PATIENT in kept:  # unknown of classifiers of earlier versions, as is the place
                predicted["patient"] = kept.pop(_PATIENT)
            kept |= {"place": str(kept.get("place", VALIDATION)), "calibrated": bool(kept.get("calibrated", False))}
            kept["frozen_by"] = tuple(map(str, kept.get("frozen_by", ("", ""))))
            columns = [*properties.SIZE, *properties.ENCODING, *properties.BORDER]
            of_files = pd.DataFrame(kept.pop("properties"), columns=columns)
            return cls(validation=pd.DataFrame(predicted), properties=of_files, **kept)

    def keeps(self, frozen: FrozenNetwork) -> bool:
        """Whether the reference on this network's features was fitted."""
        return self.frozen is not None and self.frozen_by[1] == frozen.fingerprint

    def nearest(self, seen: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of `features`, and of `features_of`, of the k training X-rays nearest to each picture, and their distances, [n, k] each,
        see `gate.nearest`.

        Args:
            seen: pooled features of pictures, [n, hidden size].
        """
        return gate.nearest(seen, self.features, k)

    @cached_property
    def spacing(self) -> float:
        """Median distance, as of `nearest`, of a training X-ray from the nearest other one; NaN where that is 0."""
        distance = self.nearest(self.features, 2)[1][:, 1:]
        median = float(np.median(distance)) if distance.size else 0.0
        return median or np.nan

    def reference_logits(
        self, xrays: XRays, seed: int, frozen: FrozenNetwork | None = None
    ) -> Mapping[str, np.ndarray]:
        """Name of each reference → its logits [n] for X-rays that it was not fitted on.

        Args:
            seed: of the forest that reads file properties, which is grown anew from those of the training files.
            frozen: a network that it keeps the reference of, see `keeps`.
        """
        weight = equal_group_weight(self.group)
        forest = references.fit(references.forest(seed), self.properties.to_numpy(), self.label, weight)
        described = properties.of_files(xrays, "References, file properties").to_numpy()
        histograms = references.gradient_histograms(xrays, "References, gradient histograms")
        logits = {
            references.FILE_PROPERTIES: references.logit(forest, described),
            references.GRADIENT_HISTOGRAMS: _mapped(self.gradients, histograms),
        }
        return logits | ({frozen.title: _mapped(self.frozen, frozen.describe(xrays))} if frozen else {})


def _mapped(affine: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Logits [n] of features [n, d] by weights and intercept [d + 1]."""
    return references.bounded(values @ affine[:-1] + affine[-1])


def _fitted(classifier: Pipeline, describe: Callable[[XRays, str], np.ndarray], train: XRays) -> np.ndarray:
    """Scaling and logistic regression as one affine map of what `describe` makes of the training files."""
    described = describe(train, "References, training files")
    scaler, model = references.fit(classifier, described, train.label, equal_group_weight(train.group))
    weights = model.coef_[0] / scaler.scale_
    return np.append(weights, model.intercept_[0] - weights @ scaler.mean_)
