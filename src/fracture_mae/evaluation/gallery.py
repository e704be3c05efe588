"""X-rays to look at: the surest wrong and right answers of each kind, and those nearest the threshold, each with its map."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fracture_mae import plots
from fracture_mae.data.copies.originals import is_original
from fracture_mae.evaluation.place import Maps
from fracture_mae.metrics import thresholds
from fracture_mae.metrics.decision import Decision
from fracture_mae.pages import Card, Cards, Picture
from fracture_mae.tracking.report import Report

MOST = 6  # X-rays of a kind
_LONGEST = 30  # letters of a line below a picture in the figure


def judge(maps: Maps, decision: Decision, split: str, remark: str) -> Report:
    """Up to MOST X-rays of each kind, one file of each: the figure SPLIT/gallery.png, and cards for the page.

    Args:
        remark: stands in the title; may be empty.
    """
    probability = decision.probability(maps.predictions["logit"])
    kinds = {title: found for title, found in _kinds(maps, decision, probability) if len(found)}
    wanted = np.concatenate([*kinds.values(), np.array([], np.int64)])
    chosen = maps.subset(wanted)
    boxes = np.where(chosen.with_place[:, None, None], chosen.xrays.boxes, np.nan)
    pictures = plots.under_map(chosen.xrays.images(np.arange(len(wanted))), chosen.logit, boxes)
    pairs = iter(zip(wanted, *pictures, strict=True))
    rows: dict[str, list[tuple[np.ndarray, np.ndarray, str]]] = {}
    cards = []
    for title, found in kinds.items():
        told = [(*next(pairs)[1:], _told(maps, decision, probability, position)) for position in found]
        rows[title] = [(plain, under, "\n".join(_short(words))) for plain, under, words in told]
        cards.append(Cards(title, tuple(_card(*each) for each in told)))
    heading = f"Gallery · {split}"
    figure = plots.gallery(rows, f"{heading}\n{remark}" if remark else heading, explained(maps))
    return Report(figures={f"{split}/gallery.png": figure}, galleries={split: cards})


def explained(maps: Maps) -> str:
    """What maps and marks mean."""
    marks = f"map: {maps.meaning[0].lower()}{maps.meaning[1:]}, the brighter the higher · cross: the hottest patch"
    return f"{marks} · green: a box around a fracture" if maps.with_place.any() else marks


def _kinds(maps: Maps, decision: Decision, probability: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what a row shows and the positions of its X-rays, the first the one that a reader wants to see most."""
    negative, positive = decision.label_names
    label, one = maps.xrays.label, is_original(maps.xrays.table)
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


def _told(maps: Maps, decision: Decision, probability: np.ndarray, position: int) -> dict[str, str]:
    names, row = decision.label_names, maps.predictions.iloc[position]
    value = probability[position]
    answer = names[int(thresholds.decide(value, decision.threshold))]
    return {
        "File": Path(row["path"]).name,
        "Source": str(row["source"]),
        "Label": names[row["label"]],
        "Answer": f"{answer}, probability {value:.3f} (threshold {decision.threshold:.3f})",
    }


def _short(told: dict[str, str]) -> list[str]:
    """As a caption below a small picture."""
    answer = told["Answer"].partition(" (")[0].replace("probability ", "")
    named = _shortened(f"{told['File']} · {told['Source']}", _LONGEST)
    return [named, _shortened(f"is {told['Label']}", _LONGEST), _shortened(answer, _LONGEST)]


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _card(plain: np.ndarray, under: np.ndarray, told: dict[str, str]) -> Card:
    pictures = (
        Picture.of_pixels(plain, f"X-ray {told['File']}"),
        Picture.of_pixels(under, f"{told['File']} under its map"),
    )
    return Card(pictures, told)
