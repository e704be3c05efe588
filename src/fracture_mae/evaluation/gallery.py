"""X-rays to look at: the surest wrong and right answers of each kind, and those nearest the threshold, each with its map."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fracture_mae import plots
from fracture_mae.data.copies.originals import is_original
from fracture_mae.data.types import XRays
from fracture_mae.evaluation.neighbours import Neighbour, Neighbours
from fracture_mae.evaluation.place import Maps
from fracture_mae.metrics import thresholds
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import map_pictures
from fracture_mae.pages import Card, Cards, Picture
from fracture_mae.tracking.report import Report

MOST = 6  # X-rays of a kind
NEAREST = "nearest_training_xrays"  # begins a tag that says which of these are not shown
_LONGEST = 30  # letters of a line below a picture in the figure


def judge(
    xrays: XRays,
    predictions: pd.DataFrame,
    decision: Decision,
    split: str,
    remark: str,
    look: Callable[[XRays], Maps],
    near: Callable[[XRays], Neighbours],
) -> Report:
    """Up to MOST X-rays of each kind, one file of each: the figure SPLIT/gallery.png, and cards for the page.

    Args:
        predictions: of `xrays`, in their order.
        remark: stands in the title; may be empty.
        look: files → their maps; asked for those shown alone.
        near: files → the training X-rays most like each.
    """
    probability = decision.probability(predictions["logit"])
    kinds = {title: found for title, found in _kinds(xrays, decision, probability) if len(found)}
    if not kinds:
        return Report()
    shown = np.unique(np.concatenate(list(kinds.values())))
    chosen = xrays.subset(shown)
    maps, found_near = look(chosen), near(chosen)
    neighbours = dict(zip(shown, found_near.of_each, strict=True))
    boxes = np.where(maps.with_place[:, None, None], maps.xrays.boxes, np.nan)
    pictures = map_pictures.under_map(maps.xrays.images(np.arange(len(shown))), maps.heat, boxes)
    pairs = dict(zip(shown, zip(*pictures, strict=True), strict=True))
    rows: dict[str, list[tuple[np.ndarray, np.ndarray, str]]] = {}
    cards = []
    for title, found in kinds.items():
        told = {position: _told(predictions, decision, probability, position) for position in found}
        rows[title] = [
            (*pairs[each], "\n".join(_short(words, neighbours[each], decision.label_names)))
            for each, words in told.items()
        ]
        made = (_card(*pairs[each], words, neighbours[each], decision.label_names) for each, words in told.items())
        cards.append(Cards(title, tuple(made)))
    heading = f"Gallery · {split}"
    below = "\n".join(filter(None, [explained(maps), found_near.remark]))
    figure = plots.gallery(rows, f"{heading}\n{remark}" if remark else heading, below)
    tags = {f"{NEAREST}.{split}": found_near.remark} if found_near.remark else {}
    return Report(figures={f"{split}/gallery.png": figure}, galleries={split: cards}, tags=tags)


def explained(maps: Maps) -> str:
    """What maps and marks mean."""
    marks = f"map: {maps.meaning[0].lower()}{maps.meaning[1:]}, the brighter the higher · cross: the hottest patch"
    return f"{marks} · green: a box around a fracture" if maps.with_place.any() else marks


def _kinds(xrays: XRays, decision: Decision, probability: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what a row shows and the positions of its X-rays, the first the one that a reader wants to see most."""
    negative, positive = decision.label_names
    label, one = xrays.label, is_original(xrays.table)
    answer = thresholds.decide(probability, decision.threshold).astype(int)
    away = np.abs(probability - decision.threshold)

    def surest(kind: np.ndarray) -> np.ndarray:
        found = np.flatnonzero(one & kind)
        return found[np.argsort(-away[found], kind="stable")]

    yield f"Missed: {positive}, called {negative}", surest((label == 1) & (answer == 0))[:MOST]
    yield f"False alarms: {negative}, called {positive}", surest((label == 0) & (answer == 1))[:MOST]
    right = [surest((label == truth) & (answer == truth)) for truth in (1, 0)]
    turns = sorted((turn, kind, position) for kind, found in enumerate(right) for turn, position in enumerate(found))
    yield "Right, and surest of it", np.array([position for *_, position in turns[:MOST]], dtype=np.int64)
    yield "Least sure: nearest the threshold", np.flatnonzero(one)[np.argsort(away[one], kind="stable")][:MOST]


def _told(predictions: pd.DataFrame, decision: Decision, probability: np.ndarray, position: int) -> dict[str, str]:
    names, row = decision.label_names, predictions.iloc[position]
    value = probability[position]
    answer = names[int(thresholds.decide(value, decision.threshold))]
    return {
        "File": Path(row["path"]).name,
        "Source": str(row["source"]),
        "Label": names[row["label"]],
        "Answer": f"{answer}, probability {value:.3f} (threshold {decision.threshold:.3f})",
    }


def _short(told: dict[str, str], neighbours: Sequence[Neighbour], label_names: Sequence[str]) -> list[str]:
    """As a caption below a small picture."""
    answer = told["Answer"].partition(" (")[0].replace("probability ", "")
    named = _shortened(f"{told['File']} · {told['Source']}", _LONGEST)
    lines = [named, _shortened(f"is {told['Label']}", _LONGEST), _shortened(answer, _LONGEST)]
    labels = [each.label for each in neighbours]
    if labels and None not in labels:
        lines.append(_shortened(f"nearest: {sum(labels)} of {len(labels)} {label_names[1]}", _LONGEST))
    return lines


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _card(
    plain: np.ndarray,
    under: np.ndarray,
    told: dict[str, str],
    neighbours: Sequence[Neighbour],
    label_names: Sequence[str],
) -> Card:
    pictures = (
        Picture.of_pixels(plain, f"X-ray {told['File']}"),
        Picture.of_pixels(under, f"{told['File']} under its map"),
    )
    at_hand = [each for each in neighbours if each.pixels is not None]
    near = tuple(
        Picture.of_pixels(
            map_pictures.thumbnail(each.pixels), f"Training X-ray {each.name}: {_told_of(each, label_names)}"
        )
        for each in at_hand
    )
    if neighbours:
        told = told | {"Nearest training X-rays": ", ".join(_told_of(each, label_names) for each in neighbours)}
    return Card(pictures, told, near)


def _told_of(neighbour: Neighbour, label_names: Sequence[str]) -> str:
    """Label and distance of a training X-ray, and whether there is a picture."""
    label = "label unknown" if neighbour.label is None else label_names[neighbour.label]
    distance = "" if np.isnan(neighbour.distance) else f" {neighbour.distance:.2f}"
    return f"{label}{distance}{'' if neighbour.pixels is not None else ' (not at hand)'}"
