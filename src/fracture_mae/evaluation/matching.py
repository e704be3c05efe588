"""Weights of training X-rays under which labels hang neither on file properties nor on the source.

What is known of an X-ray without its bone says how likely it is fractured: its propensity. X-rays that only one label is likely to
have there count little, those that both have count much (overlap weights, see `metrics.balance`), and within each source both labels
weigh the same. A network trained under these weights gains nothing by telling where a picture comes from.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fracture_mae.data import folds
from fracture_mae.data.types import XRays
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import properties, references
from fracture_mae.metrics import balance
from fracture_mae.metrics.scores import equal_group_weight
from fracture_mae.tracking.report import Report

_N_FOLDS = 5
_FEWEST_XRAYS = 4  # of each label, for two folds that fit and answer in turn
_LEAST_LEFT = 0.01  # share of the weight of all X-rays
_NEGLIGIBLE = 0.01  # share of the mean weight below which an X-ray is as good as lost


@dataclass(frozen=True)
class Matching:
    """The weights, and what they do.

    Attributes:
        files: a row per training file: path, sha256, group, label, source, propensity, weight (mean over X-rays: 1).
        differences: a row per property and source: property, and the standardised difference between fractured and other X-rays, before
            and after.
        summary: n_xrays and effective_xrays of each label, xrays_lost, files_lost, the AUROC with which file properties and source
            tell the label (by a forest that was fitted under the same weights on other X-rays), auroc_before and auroc_after, and the
            largest difference before and after.
    """

    files: pd.DataFrame
    differences: pd.DataFrame
    summary: dict[str, float]

    @property
    def weight(self) -> np.ndarray:
        """float64 [n], of each file."""
        return self.files["weight"].to_numpy()

    def report(self) -> Report:
        """Tables, metrics and tags of a run."""
        told = {name: round(value, 3) for name, value in self.summary.items()}
        return Report(
            metrics={f"match/{name}": value for name, value in self.summary.items()},
            tables={"data/matching.csv": self.files, "data/matching_balance.csv": self.differences},
            tags={"match": str(self), "match.lost": f"{told['files_lost']:.0f} files, {told['xrays_lost']:.0f} X-rays"},
        )

    def __str__(self) -> str:
        """What is left of the X-rays, and of the shortcut."""
        s = self.summary
        return (
            f"{s['n_xrays_positive']:.0f} fractured and {s['n_xrays_negative']:.0f} other X-rays weigh as much as "
            f"{s['effective_xrays_positive']:.0f} and {s['effective_xrays_negative']:.0f}, {s['xrays_lost']:.0f} weigh nothing; file "
            f"properties and source tell the label with an AUROC of {s['auroc_after']:.3f} (before: {s['auroc_before']:.3f})"
        )


def match_properties(xrays: XRays, seed: int, *, by_file: bool = False) -> Matching:
    """Weigh training X-rays, which are read alone.

    The propensity is a forest's, of file properties and source, for X-rays of patients that it was not fitted on (so that it cannot
    know their labels by heart), put right by a logistic regression on its log-odds (J. Platt, "Probabilistic outputs for support
    vector machines", 1999): a forest is too timid where it is sure, and what it leaves out would stay in the weights.

    Args:
        seed: of the folds and the forest.
        by_file: whether training counts every file, rather than every X-ray, the same; then so do the weights.

    Raises:
        FractureMaeError: no source holds X-rays of both labels, or there are fewer than four of a label.
    """
    table, label = xrays.table, xrays.label
    even = np.ones(len(xrays)) if by_file else equal_group_weight(xrays.group)
    known = _known(xrays)
    folds.check_enough(xrays, _FEWEST_XRAYS, "--match properties")
    propensity = _calibrated(_told(known, xrays, even, seed), label, even)
    weight = even * balance.overlap_weight(label, propensity)
    weight = balance.balanced_within(label, table["source"], weight)
    _check_left(weight.sum() / even.sum(), table["source"])
    differences = _differences(known, label, even, weight)
    return Matching(
        files=_files(table, propensity, weight / even),
        differences=differences,
        summary=_summary(xrays, even, weight, known, differences, seed),
    )


def _known(xrays: XRays) -> pd.DataFrame:
    """File properties, and a column of 0 and 1 for each source."""
    sources = pd.get_dummies(xrays.table["source"], prefix="source", prefix_sep=" ", dtype=float)
    return pd.concat([properties.of_files(xrays, "Properties of the training files"), sources], axis=1)


def _told(known: pd.DataFrame, xrays: XRays, weight: np.ndarray, seed: int) -> np.ndarray:
    """Log-odds [n] by forests that were fitted, under these weights, on other patients."""
    n_folds = min(_N_FOLDS, int(xrays.table.groupby("label")["patient"].nunique().min()))
    fold = folds.assign(xrays.table, n_folds, seed)
    answers, values = np.empty(len(xrays)), known.to_numpy()
    fitted_on = np.maximum(weight, weight.max() * 1e-9)  # a forest's bootstrap may draw none but weightless X-rays
    for number in range(n_folds):
        others, held_out = fold != number, fold == number
        model = references.fit(references.forest(seed), values[others], xrays.label[others], fitted_on[others])
        answers[held_out] = references.logit(model, values[held_out])
    return answers


def _calibrated(logit: np.ndarray, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Propensity [n]: two numbers are fitted, an offset and a slope, so these are not learnt by heart."""
    model = LogisticRegression().fit(logit[:, None], label, sample_weight=weight)
    return model.predict_proba(logit[:, None])[:, 1]


def _check_left(share: float, source: pd.Series) -> None:
    """Refuse to weigh where hardly anything of both labels is alike."""
    if share < _LEAST_LEFT:
        raise FractureMaeError(
            f"--match properties: of the training X-rays, from {source.nunique():,} sources, {share:.1%} of their weight is left "
            f"where X-rays of both labels have the same source and like file properties; expected {_LEAST_LEFT:.0%} or more. Add "
            "X-rays of the label that a source lacks, name sources better in a CSV's column source, or train with --match none."
        )


def _files(table: pd.DataFrame, propensity: np.ndarray, weight: np.ndarray) -> pd.DataFrame:
    of_xray = pd.Series(weight).groupby(table["group"].to_numpy()).mean()
    files = table[["path", "sha256", "group", "label", "source"]]
    return files.assign(propensity=propensity, weight=weight / of_xray.mean()).reset_index(drop=True)


def _differences(known: pd.DataFrame, label: np.ndarray, even: np.ndarray, weight: np.ndarray) -> pd.DataFrame:
    found = {
        name: balance.standardised_differences(known.to_numpy(), label, each, even)
        for name, each in (("before", even), ("after", weight))
    }
    return pd.DataFrame({"property": known.columns, **found})


def _summary(
    xrays: XRays, even: np.ndarray, weight: np.ndarray, known: pd.DataFrame, differences: pd.DataFrame, seed: int
) -> dict[str, float]:
    of_xray = pd.DataFrame({"weight": weight, "label": xrays.label}).groupby(xrays.group)
    of_xray = of_xray.agg(weight=("weight", "sum"), label=("label", "first"))
    lost = of_xray.index[of_xray["weight"] < _NEGLIGIBLE * of_xray["weight"].mean()]
    by_label = {
        "positive": of_xray["weight"][of_xray["label"] == 1],
        "negative": of_xray["weight"][of_xray["label"] == 0],
    }
    # Told anew by other forests in other folds: what was weighed away must be gone for whoever looks for it, too.
    aurocs = {
        name: roc_auc_score(xrays.label, _told(known, xrays, each, seed + 1), sample_weight=each)
        for name, each in (("auroc_before", even), ("auroc_after", weight))
    }
    return {
        **{f"n_xrays_{name}": float(len(part)) for name, part in by_label.items()},
        **{f"effective_xrays_{name}": balance.effective_size(part) for name, part in by_label.items()},
        "xrays_lost": float(len(lost)),
        "files_lost": float(np.isin(xrays.group, lost).sum()),
        **{name: float(value) for name, value in aurocs.items()},
        "largest_difference_before": float(differences["before"].abs().max()),
        "largest_difference_after": float(differences["after"].abs().max()),
    }
