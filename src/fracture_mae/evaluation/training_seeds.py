"""How much of a figure is the seed: classifiers kept beside a registered one that differ from it by their training's seed alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator

from fracture_mae import plots
from fracture_mae.config import CopyOptions
from fracture_mae.data.types import XRays
from fracture_mae.evaluation.judging import WITH_INTERVAL, Certainty, drawn, levels, title_of, with_ends
from fracture_mae.evaluation.prediction import predict, weighed
from fracture_mae.metrics.decision import Decision
from fracture_mae.metrics.ends import Interval
from fracture_mae.metrics.intervals import metric_intervals
from fracture_mae.metrics.seeds import OverSeeds, over_seeds
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.tracking.report import Report

_FOLDER = "seeds"
REGISTERED = "registered"  # beside the numbers of the others
_SPREAD = ("sd", "low", "high")


@dataclass(frozen=True)
class OtherSeeds:
    """The classifiers of the other seeds, each with its own calibration and threshold.

    Attributes:
        trained: by seed.
    """

    trained: Mapping[int, tuple[FractureClassifier, Decision]]

    def save(self, folder: Path) -> None:
        """Write them into the folder of the registered classifier."""
        for seed, (classifier, decision) in self.trained.items():
            classifier_model.save(classifier, decision, folder / _FOLDER / str(seed))


def load(folder: Path) -> Iterator[tuple[int, FractureClassifier, Decision]]:
    """What `OtherSeeds.save` wrote, one after the other, so that one at a time is held; nothing where nothing was.

    Raises:
        FractureMaeError: one of them is damaged.
    """
    if (folder / _FOLDER).is_dir():
        kept = [place for place in (folder / _FOLDER).iterdir() if place.name.isdecimal()]  # file managers add others
        for place in sorted(kept, key=lambda each: int(each.name)):
            yield int(place.name), *classifier_model.load(place)


def of_others(
    folder: Path, xrays: XRays, config: CopyOptions, *, batch_size: int, accelerator: Accelerator
) -> dict[int, tuple[pd.DataFrame, Decision]]:
    """What the classifiers of other seeds in `folder` predict, weighed as `config` says, with the decision of each."""
    options = {"batch_size": batch_size, "accelerator": accelerator}
    return {
        seed: (weighed(predict(classifier, xrays, **options), xrays, config), decision)
        for seed, classifier, decision in load(folder)
    }


def judge(
    predictions: Mapping[str | int, tuple[pd.DataFrame, Decision]], split: str, remark: str, certainty: Certainty
) -> Report:
    """The metrics of each seed, per X-ray, their mean and spread, and the interval that knows of X-rays and seeds.

    Args:
        predictions: REGISTERED and each other seed → a row per file, see `judging.judge_split`, and its decision; an empty report
            where there is no other.

    Returns:
        The tables SPLIT/xray/seeds.csv and over_seeds.csv, a figure, and the metrics SPLIT/xray/over_seeds/METRIC, _sd, _low and _high.
    """
    if len(predictions) < 2:
        return Report()
    found = {seed: _metrics(rows, decision, certainty) for seed, (rows, decision) in predictions.items()}
    seeds = pd.DataFrame({seed: table["estimate"] for seed, table in found.items()}).T.rename_axis("seed")
    over = pd.DataFrame(
        {
            name: over_seeds(
                *np.array([table.loc[name, list(Interval._fields)] for table in found.values()], dtype=float).T
            )
            for name in WITH_INTERVAL
        },
        index=OverSeeds._fields,
    ).T.rename_axis("metric")
    over["n_seeds"] = len(found)
    place = f"{split}/xray"
    flat = {f"{place}/over_seeds/{name}": row["estimate"] for name, row in over.iterrows()}
    flat |= {f"{place}/over_seeds/{name}_{end}": row[end] for name, row in over.iterrows() for end in _SPREAD}
    means = over.rename(columns={"estimate": "mean", "low": "mean_low", "high": "mean_high"})
    of_registered = found[REGISTERED].loc[list(WITH_INTERVAL)]
    title = f"Seeds of the training\n{title_of(split, 'xray', predictions[REGISTERED][0], remark)}"
    return Report(
        metrics={name: value for name, value in flat.items() if np.isfinite(value)},
        tables={f"{place}/seeds.csv": seeds.reset_index(), f"{place}/over_seeds.csv": over.reset_index()},
        figures={
            f"{place}/seeds.png": plots.fold_spread(
                seeds[list(WITH_INTERVAL)],
                means,
                of_registered,
                title,
                "seed",
                "The registered one, other X-rays alone",
            )
        },
    )


def digest(report: Report, split: str) -> str:
    """The figures to print; empty where there are no other seeds."""
    table = report.tables.get(f"{split}/xray/over_seeds.csv")
    if table is None:
        return ""
    told = [
        f"{'AUROC' if row['metric'] == 'auroc' else row['metric']} {with_ends(row)} (sd {row['sd']:.3f})"
        for _, row in table.iterrows()
        if row["metric"] in ("auroc", "sensitivity", "specificity")
    ]
    n_seeds = table.loc[0, "n_seeds"]
    return (
        f"{split}, mean over {n_seeds} training seeds, other X-rays and other seeds in the interval: {', '.join(told)}"
    )


def _metrics(predictions: pd.DataFrame, decision: Decision, certainty: Certainty) -> pd.DataFrame:
    rows = levels(predictions)["xray"]
    options = {"n_draws": certainty.n_draws, "seed": certainty.seed}
    probability = decision.probability(rows["logit"])
    return metric_intervals(rows["label"], probability, drawn(rows), decision.threshold, **options)
