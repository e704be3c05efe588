"""Which models are better than the first, as far as that can be told: from the AUROC of each in the same folds."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from fracture_mae.evaluation.judging import levels
from fracture_mae.metrics import scores
from fracture_mae.metrics.resampled_t import difference, holm

LEVEL = 0.95
BETTER, WORSE, NOT_TOLD_APART = "better", "worse", "not told apart"


def of_folds(files: pd.DataFrame) -> pd.Series:
    """The AUROC per X-ray of each fold, NaN where it lacks a label; index fold.

    Args:
        files: out-of-fold predictions: group, label, logit and fold, and more.
    """
    rows = levels(files)["xray"]
    fold = rows["group"].map(files.groupby("group")["fold"].first())
    found = {
        number: float(scores.aurocs(part["label"].to_numpy(), part["logit"].to_numpy(), np.ones(len(part))))
        for number, part in rows.groupby(fold, sort=True)
    }
    return pd.Series(found, name="auroc").rename_axis("fold")


def from_first(aurocs: pd.DataFrame, ratio: float, others: Collection[str] = ()) -> pd.DataFrame:
    """How much better each model is than the first, by the corrected resampled t test, Holm over the models of its kind.

    Args:
        aurocs: a column per model, a row for each fold of each dealing, the same for all.
        ratio: of held-out to training X-rays.
        others: models that are no encoders, such as references; they answer another question, and are allowed for by themselves.

    Returns:
        Index: model. Columns: difference, low, high, p, p_holm, verdict ("better", "worse", "not told apart"; empty for the first).
        Each interval stands for itself; p_holm and verdict allow for how many are compared.
    """
    first, *rest = aurocs
    rows = {name: difference(aurocs[name] - aurocs[first], ratio, LEVEL) for name in rest}
    columns = ["difference", "low", "high", "p"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).reindex([first, *rest])
    table["p_holm"] = np.nan
    is_other = table.index.isin(list(others))
    for kind in (is_other, ~is_other):
        table.loc[kind, "p_holm"] = holm(table.loc[kind, "p"])
    told = table["p_holm"] < 1 - LEVEL
    table["verdict"] = np.where(told, np.where(table["difference"] > 0, BETTER, WORSE), NOT_TOLD_APART)
    table.loc[first, "verdict"] = ""
    return table.rename_axis("model")
