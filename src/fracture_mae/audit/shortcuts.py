"""How well a label is guessed from what a file tells without its bone, before and after preprocessing."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline

from fracture_mae.audit import folds
from fracture_mae.audit.folds import Fold, Score
from fracture_mae.evaluation import properties, references
from fracture_mae.evaluation.judging import drawn
from fracture_mae.metrics.ends import FEWEST_GROUPS
from fracture_mae.metrics.scores import equal_group_weight

FILE, VISIBLE, SOURCE = "all file properties", "after preprocessing", "name style or CSV source"
_N_REPEATS = 5  # permutations of each property in each fold
_ROWS = 100_000  # scored at once: some tens of megabytes


@dataclass(frozen=True)
class ShortcutProbe:
    """What the label can be guessed from.

    Attributes:
        scores: set of properties → level (`image`, `xray`) → how well they tell the label.
        properties: a row for each: set, property, importance (fall of the AUROC of held-out X-rays when it is shuffled among
            them, mean over folds), importance_std (between folds), auroc_alone (of its raw value; below 0.5: positives have less),
            visible (share of its variance, in ranks, that a forest recovers from the preprocessed picture; NaN if it never varies).
    """

    scores: dict[str, dict[str, Score]]
    properties: pd.DataFrame

    @property
    def warning(self) -> str:
        """A sentence if the label is clearly told by the file or by what is left of it in the pixels; else empty."""
        told = {name: self.scores[name]["xray"] for name in (FILE, VISIBLE) if self.scores[name]["xray"].low > 0.5}
        if not told:
            return ""
        names = {FILE: "file and border properties", VISIBLE: "what is left of them in the preprocessed pixels"}
        found = " and ".join(
            f"{names[name]} (AUROC per X-ray {score.auroc:.3f} [{score.low:.3f}, {score.high:.3f}])"
            for name, score in told.items()
        )
        return f"the label can be guessed without looking at a bone, from {found}"

    @property
    def warning_or_none(self) -> str:
        """The warning, "none", or that there are too few X-rays to tell."""
        if np.isnan(self.scores[FILE]["xray"].low):
            return f"not tested (fewer than {FEWEST_GROUPS} patients or X-rays of a class)"
        return self.warning or "none"


def probe(table: pd.DataFrame, of_file: pd.DataFrame, visible: pd.DataFrame, n_folds: int, seed: int) -> ShortcutProbe:
    """Guess the label by forests in grouped cross-validation, every X-ray weighing the same.

    Args:
        table: distinct files: columns label, group (of one label each), source and, where it is known, patient.
        of_file: their `properties.of_files`.
        visible: their `properties.visible`.
    """
    label, group = table["label"].to_numpy(), table["group"].to_numpy()
    patient = drawn(table)
    splits = folds.grouped(label, patient.to_numpy(), n_folds, seed)
    sets = {
        "file and picture size": of_file[list(properties.SIZE)],
        "encoding": of_file[list(properties.ENCODING)],
        "border and corners": of_file[list(properties.BORDER)],
        FILE: of_file,
        VISIBLE: visible,
        SOURCE: pd.DataFrame({"source": pd.factorize(table["source"], sort=True)[0]}),
    }
    scores, importances = {}, []
    for name, values in sets.items():
        logit, fall = _predict(values, label, group, splits, seed, name, ranked=name in (FILE, VISIBLE))
        scores[name] = folds.score(table[["group", "label"]].assign(patient=patient, logit=logit), splits)
        if len(fall):
            importances.append(_importances(name, values, fall, label, equal_group_weight(group)))
    remains = _recovered(of_file, visible, splits, equal_group_weight(group), seed)
    table = pd.concat(importances, ignore_index=True)
    of_file_rows = table["set"] == FILE
    return ShortcutProbe(scores, table.assign(visible=table["property"].map(remains).where(of_file_rows)))


def _predict(
    values: pd.DataFrame, label: np.ndarray, group: np.ndarray, splits: list[Fold], seed: int, name: str, ranked: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Held-out logits [n], and if `ranked` the fall of the AUROC of each fold without each property [n_folds, n_properties]."""
    features, weight = values.to_numpy(dtype=float), equal_group_weight(group)
    logit, falls = np.full(len(label), np.nan), []
    for model, held_out in folds.fitted(references.forest(seed), features, label, splits, weight, f"Shortcuts: {name}"):
        logit[held_out] = references.logit(model, features[held_out])
        if ranked and len(set(label[held_out])) == 2:
            falls.append(_falls(model, features[held_out], label[held_out], weight[held_out], seed))
    return logit, np.array(falls)


def _falls(model: Pipeline, features: np.ndarray, label: np.ndarray, weight: np.ndarray, seed: int) -> np.ndarray:
    """Permutation importance: by how much the AUROC falls when one property after the other is shuffled [n_properties].

    As scikit-learn's `permutation_importance`, but many shuffled copies are scored at once, a forest of 300 trees needs about as long
    for a hundred rows as for thousands, and not more of them than _ROWS rows, however many files there are.
    """
    n, n_properties = features.shape
    rng = np.random.default_rng(seed)
    n_copies = 1 + n_properties * _N_REPEATS  # the first stays as it is
    at_once, auroc = max(1, _ROWS // n), []
    for start in range(0, n_copies, at_once):
        copies = range(start, min(start + at_once, n_copies))
        shuffled = np.tile(features, (len(copies), 1, 1))
        for copy, values in zip(copies, shuffled, strict=True):
            if copy:
                column = (copy - 1) % n_properties
                values[:, column] = rng.permutation(values[:, column])
        logits = references.logit(model, shuffled.reshape(-1, n_properties)).reshape(-1, n)
        auroc += [roc_auc_score(label, logit, sample_weight=weight) for logit in logits]
    return (auroc[0] - np.array(auroc[1:])).reshape(_N_REPEATS, n_properties).mean(axis=0)


def _importances(
    name: str, values: pd.DataFrame, fall: np.ndarray, label: np.ndarray, weight: np.ndarray
) -> pd.DataFrame:
    alone = [roc_auc_score(label, column, sample_weight=weight) for _, column in values.items()]
    columns = {"importance": fall.mean(axis=0), "importance_std": fall.std(axis=0), "auroc_alone": alone}
    table = pd.DataFrame({"set": name, "property": values.columns, **columns})
    return table.sort_values("importance", ascending=False, kind="stable")


def _recovered(
    of_file: pd.DataFrame, visible: pd.DataFrame, splits: list[Fold], weight: np.ndarray, seed: int
) -> pd.Series:
    """R² with which a forest predicts the rank of each property from the preprocessed picture, for X-rays it was not fitted on."""
    varying = of_file.loc[:, of_file.nunique() > 1]
    target = rankdata(varying, axis=0) / len(varying)
    model = make_pipeline(RandomForestRegressor(100, min_samples_leaf=5, random_state=seed))
    features, predicted = visible.to_numpy(), np.full(target.shape, np.nan)
    for fit, held_out in folds.fitted(model, features, target, splits, weight, "What pixels still show"):
        predicted[held_out] = fit.predict(features[held_out]).reshape(len(held_out), -1)
    recovered = r2_score(target, predicted, sample_weight=weight, multioutput="raw_values")
    return pd.Series(recovered.clip(min=0), index=varying.columns).reindex(of_file.columns)
