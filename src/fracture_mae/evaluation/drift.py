"""How far X-rays differ from those that a classifier was made from: property by property, and by what it reads from them."""

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fracture_mae.evaluation import references
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.metrics import delong
from fracture_mae.metrics.ends import Interval

_N_FOLDS = 5


def of_properties(own: pd.DataFrame, here: pd.DataFrame) -> pd.DataFrame:
    """Each property of the files on both sides, what differs most first.

    Args:
        own, here: a row for each X-ray, columns of the same names.

    Returns:
        Columns property, own_median, here_median, distance (Kolmogorov and Smirnov's: the largest distance between both cumulative
        distributions, 0 to 1) and p_value (of equal distributions).
    """
    rows = []
    for name in own.columns:
        test = ks_2samp(own[name], here[name])
        rows.append((name, own[name].median(), here[name].median(), test.statistic, test.pvalue))
    table = pd.DataFrame(rows, columns=["property", "own_median", "here_median", "distance", "p_value"])
    return table.sort_values("distance", ascending=False, kind="stable", ignore_index=True)


def told_apart(own: dict[str, np.ndarray], here: dict[str, np.ndarray], certainty: Certainty) -> pd.DataFrame:
    """How well X-rays of both sides are told apart: 0.5 where they are alike, 1 where each betrays its side.

    A classifier two-sample test (D. Lopez-Paz and M. Oquab, "Revisiting classifier two-sample tests", ICLR 2017): a forest on the
    properties, a logistic regression on the features, each X-ray answered for by a model of five that did not know it.

    Args:
        own, here: "properties" and "features" → [n, d], a row for each X-ray.

    Returns:
        Index: properties, features. Columns: estimate, low and high of the AUROC; NaN with fewer than five X-rays on a
        side, the ends also with fewer than `metrics.ends.FEWEST_GROUPS`.
    """
    models: dict[str, Pipeline] = {
        "properties": references.forest(certainty.seed),
        "features": make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)),
    }
    rows = {name: _auroc(model, own[name], here[name], certainty) for name, model in models.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "low", "high"]).rename_axis("told by")


def _auroc(model: Pipeline, own: np.ndarray, here: np.ndarray, certainty: Certainty) -> Interval:
    if min(len(own), len(here)) < _N_FOLDS:
        return Interval(np.nan, np.nan, np.nan)
    values, side = np.concatenate([own, here]), np.repeat([0, 1], [len(own), len(here)])
    folds = StratifiedKFold(_N_FOLDS, shuffle=True, random_state=certainty.seed)
    probability = cross_val_predict(model, values, side, cv=folds, method="predict_proba")[:, 1]
    return delong.auroc(side, probability, np.arange(len(side)))
