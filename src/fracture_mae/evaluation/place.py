"""Where a classifier sees a fracture: maps as a reader is shown them, and, where boxes say where it is, how often it is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator
from matplotlib.figure import Figure

from fracture_mae import plots
from fracture_mae.data.copies.originals import is_original
from fracture_mae.data.types import XRays
from fracture_mae.evaluation.judging import Certainty, drawn, flat_metrics, with_ends
from fracture_mae.evaluation.prediction import predict_with_maps
from fracture_mae.metrics import place as metrics
from fracture_mae.metrics.ends import Interval
from fracture_mae.metrics.intervals import intervals
from fracture_mae.metrics.rates import share
from fracture_mae.metrics.scores import equal_group_weight
from fracture_mae.models import explanation
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.tracking.report import Report

RATES = (0.5, 1, 2)  # false marks per X-ray at which it is told how many fractures are found
_SHOWN = 8  # X-rays in a figure


@dataclass(frozen=True)
class Maps:
    """Where on X-ray files a classifier sees a fracture.

    Attributes:
        xrays: the files; of one that became several squares, the square with the hottest patch.
        predictions: of these, in their order: path, label, group, patient and logit.
        heat: float32 [n, rows, columns], of each patch of it, see `explanation.maps`.
        meaning: what such a number is, in words.
    """

    xrays: XRays
    predictions: pd.DataFrame
    heat: np.ndarray
    meaning: str

    @classmethod
    def of(cls, xrays: XRays, predictions: pd.DataFrame, heat: np.ndarray, meaning: str) -> "Maps":
        """From the maps of all k squares of the files, [n, k, rows, columns]."""
        hottest = heat.max(axis=(2, 3)).argmax(axis=1)
        number = np.arange(len(heat))
        shown = xrays.squares().subset(number * heat.shape[1] + hottest)
        return cls(shown, predictions, heat[number, hottest], meaning)

    @property
    def with_place(self) -> np.ndarray:
        """bool [n]: fractured, and it is known where."""
        return self.xrays.place_is_known & (self.xrays.label == 1)

    def subset(self, positions: np.ndarray) -> "Maps":
        rows = self.predictions.iloc[positions].reset_index(drop=True)
        return Maps(self.xrays.subset(positions), rows, self.heat[positions], self.meaning)


def maps_of(classifier: FractureClassifier, xrays: XRays, *, batch_size: int, accelerator: Accelerator) -> Maps:
    """The maps of a classifier, with its predictions; there must be X-rays."""
    predictions, heat = predict_with_maps(classifier, xrays, batch_size=batch_size, accelerator=accelerator)
    return Maps.of(xrays, predictions, heat, explanation.meaning(classifier))


def to_judge(xrays: XRays) -> XRays:
    """The files whose maps `judge` reads: fractured ones of which it is known where, and where there are any, all without fracture."""
    known = xrays.place_is_known & (xrays.label == 1)
    return xrays.subset(np.flatnonzero(known | (xrays.label == 0) if known.any() else known))


def joined(parts: Sequence[Maps]) -> Maps:
    """The maps of several folds' models in one; they are as different in scale as these."""
    xrays = [part.xrays for part in parts]
    table = pd.concat([each.table for each in xrays], ignore_index=True)
    rows = np.concatenate([each.rows for each in xrays])
    return Maps(
        XRays("held out", table, xrays[0].pixels, rows),
        pd.concat([part.predictions for part in parts], ignore_index=True),
        np.concatenate([part.heat for part in parts]),
        parts[0].meaning,
    )


def judge(maps: Maps, place: str, remark: str, certainty: Certainty) -> Report:
    """How often the hottest patch lies in a box, and how many fractures are found at some false marks; nothing where no boxes are.

    By X-ray: copies of an X-ray count together as much as another one, and draws take patients. Fractured X-rays of which it is not
    known where are left out; of the others, those without fracture count for false marks alone.

    Args:
        place: folder of tables and figures, and the beginning of metrics' names, such as "test".
        remark: stands in every title; may be empty.
    """
    boxed = maps.subset(np.flatnonzero(maps.with_place))
    if not len(boxed.xrays):
        return Report()
    counted = maps.subset(np.flatnonzero(maps.with_place | (maps.xrays.label == 0)))
    by_file = _hottest(boxed)
    table = pd.concat([_pointing_game(boxed, by_file), _free_response(counted, certainty)])
    n_xrays = boxed.predictions["group"].nunique()
    table["n_xrays"] = n_xrays
    title = f"{place} · {n_xrays:,} X-rays with boxes"
    title = f"{title}\n{remark}" if remark else title
    return Report(
        metrics=flat_metrics(table, f"{place}/xray", list(table.index)) | {f"{place}/n_xrays_with_boxes": n_xrays},
        tables={f"{place}/place.csv": table.reset_index(), f"{place}/hottest_patch.csv": by_file},
        figures={
            f"{place}/froc.png": _froc_figure(counted, table, title),
            f"{place}/places.png": _places_figure(boxed, by_file, table, title),
        },
    )


def digest(report: Report, place: str) -> str:
    """The figures of `judge` in words; empty where no boxes are."""
    if f"{place}/place.csv" not in report.tables:
        return ""
    table = report.tables[f"{place}/place.csv"].set_index("metric")
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    found, boxes = (
        ", ".join(with_ends(table.loc[f"{name}_at_{rate:g}"]) for rate in RATES) for name in ("found", "boxes_found")
    )
    n_xrays = int(table["n_xrays"].iloc[0])
    return "\n".join(
        [
            f"where, on {place}, of {n_xrays:,} X-rays with boxes: the hottest patch lies in a box in "
            f"{with_ends(table.loc['pointing_game'])} (by chance: {table.loc['pointing_game_chance', 'estimate']:.3f})",
            f"  at {rates} false marks per X-ray the fracture is found in {found}; of all boxes {boxes}",
        ]
    )


def _hottest(boxed: Maps) -> pd.DataFrame:
    """A row per file: path, group, x and y of the hottest patch's centre in shares of the square, inside, chance."""
    rows, columns = boxed.heat.shape[1:]
    x, y = (each.ravel() for each in metrics.centres(rows, columns))
    hottest = boxed.heat.reshape(len(boxed.heat), -1).argmax(axis=1)
    boxes = boxed.xrays.boxes
    inside, chance = metrics.hottest_inside(boxed.heat, boxes), metrics.covered(boxes, film_of(boxed.xrays))
    told = {"x": x[hottest], "y": y[hottest], "inside": inside, "chance": chance}
    return boxed.predictions[["path", "group"]].assign(**told)


def film_of(xrays: XRays) -> np.ndarray:
    """Where the film lies in each stored square, without what letterboxing adds: float64 [n, 4], edges as those of boxes."""
    height, width = xrays.table["height"].to_numpy(float), xrays.table["width"].to_numpy(float)
    scale_x, scale_y, left, top = xrays.table[["scale_x", "scale_y", "left", "top"]].to_numpy(float).T
    edges = np.stack([left, top, left + scale_x * width, top + scale_y * height], axis=1) / xrays.pixels.shape[-1]
    return edges.clip(0, 1)


def _pointing_game(boxed: Maps, by_file: pd.DataFrame) -> pd.DataFrame:
    """The share of hits with its interval, and how many times as often as by chance, what chance hits being held as it is."""
    weight, patient = equal_group_weight(boxed.predictions["group"]), drawn(boxed.predictions)
    hit, guess = (
        share(by_file["inside"].to_numpy(), patient, weight),
        share(by_file["chance"].to_numpy(), patient, weight),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        times = Interval(*(np.array(hit) / guess.estimate))
    rows = {"pointing_game": hit, "pointing_game_chance": guess, "pointing_game_times_chance": times}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=Interval._fields, dtype=float)
    return table.rename_axis("metric").assign(n_groups=patient.nunique())


def _free_response(counted: Maps, certainty: Certainty) -> pd.DataFrame:
    marks = _marks(counted)
    return intervals(
        lambda weight: metrics.found_at(marks, RATES, weight),
        counted.xrays.label,
        drawn(counted.predictions),
        scale="share",
        n_draws=certainty.n_draws,
        seed=certainty.seed,
        weight=equal_group_weight(counted.predictions["group"]),
    )


def _marks(counted: Maps) -> metrics.Marks:
    boxes = np.where(counted.with_place[:, None, None], counted.xrays.boxes, np.nan)
    return metrics.Marks.of(counted.heat, boxes)


def _froc_figure(counted: Maps, table: pd.DataFrame, title: str) -> Figure:
    weight = equal_group_weight(counted.predictions["group"])
    per_xray, boxes, files = metrics.froc_curve(_marks(counted), weight)
    names = {"X-rays in which a box is found": ("found", files), "Boxes found": ("boxes_found", boxes)}
    found = {
        name: {rate: tuple(table.loc[f"{metric}_at_{rate:g}", ["estimate", "low", "high"]]) for rate in RATES}
        for name, (metric, _) in names.items()
    }
    curves = {name: (per_xray, share) for name, (_, share) in names.items()}
    return plots.froc(curves, found, f"Free-response curve · {title}")


def _places_figure(boxed: Maps, by_file: pd.DataFrame, table: pd.DataFrame, title: str) -> Figure:
    """Of the hottest patches that lie in a box, and of those that do not, the hottest ones, half and half where both are."""
    hottest = boxed.heat.max(axis=(1, 2))
    one = is_original(boxed.xrays.table)
    right, wrong = (
        sorted(np.flatnonzero(one & hit), key=lambda position: -hottest[position])
        for hit in (by_file["inside"] > 0.5, by_file["inside"] <= 0.5)
    )
    n_wrong = min(len(wrong), max(_SHOWN // 2, _SHOWN - len(right)))
    chosen = np.array(right[: _SHOWN - n_wrong] + wrong[:n_wrong])
    shown = boxed.subset(chosen)
    words = np.where(by_file["inside"].to_numpy()[chosen] > 0.5, "in a box", "not in a box")
    captions = [f"{Path(path).stem[:28]}\n{word}" for path, word in zip(shown.predictions["path"], words, strict=True)]
    pictures = shown.xrays.images(np.arange(len(chosen)))
    heading = f"Hottest patch in a box: {with_ends(table.loc['pointing_game'])} · {title}"
    return plots.maps(pictures, shown.heat, captions, shown.xrays.boxes, title=heading, meaning=boxed.meaning)
