"""Further exposures of one patient: different X-rays that carry the same burnt-in marker, and a CSV that says whose they are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fracture_mae.audit import figures
from fracture_mae.audit.examples import MarkedPair
from fracture_mae.data import boxes, loading
from fracture_mae.data.copies import groups
from fracture_mae.data.copies.keypoints import shrink
from fracture_mae.data.copies.markers import MAX_SHARING
from fracture_mae.tracking.report import Report

_N_DRAWN = 8


@dataclass(frozen=True)
class Exposures:
    """X-rays, not known to be of one patient, that carry the same marker.

    Attributes:
        pairs: columns a and b (paths, one file of each X-ray), inliers, correlation, box_a and box_b (left, top, right, bottom in
            pixels of the thumbnails, see `keypoints.shrink`), the surest first.
        n_common: markers left out because more than MAX_SHARING X-rays carry them, such as a hospital's stamp.
    """

    pairs: pd.DataFrame
    n_common: int


def find(table: pd.DataFrame, num_workers: int | None) -> Exposures:
    """Look for the same marker on X-rays of patients that count as different ones.

    Args:
        table: of `evidence.join`.
    """
    markers, n_common = loading.find_markers(table, num_workers)
    file = table.drop_duplicates("sha256").set_index("sha256")
    strangers = [marker for marker in markers if file["patient"][marker.a] != file["patient"][marker.b]]
    rows = [
        (file["path"][m.a], file["path"][m.b], m.inliers, m.correlation, m.box_a, m.box_b)
        for m in sorted(strangers, key=lambda m: (-m.inliers, m.a, m.b))
    ]
    return Exposures(pd.DataFrame(rows, columns=["a", "b", "inliers", "correlation", "box_a", "box_b"]), n_common)


def patients(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """All files as a CSV that `data_dir` may name, the column patient filled for X-rays that a marker joins.

    Of patients that a CSV names, the smallest name is kept. Their X-rays' numbers, which are told apart within a patient, then
    carry the former patient.

    Args:
        table: of `evidence.join`; its splits by folder are not said in the CSV, which would fix them.
        pairs: columns a and b, paths in `table`.

    Returns:
        Columns path (absolute), label, patient, xray, group, split and source, and boxes where any file has one.
    """
    row = pd.Series(range(len(table)), index=table["path"])
    linked = row[pairs["a"]].to_numpy(), row[pairs["b"]].to_numpy()
    joined = groups.assign(table, links=[groups.same(table["patient"]), linked], by_name=False)
    several = table["patient"].groupby(joined.to_numpy()).transform("nunique") > 1
    given = table["given_patient"].where(table["given_patient"] != "")
    own = "marker-" + table["patient"].groupby(joined.to_numpy()).transform("min")
    named = given.groupby(joined.to_numpy()).transform("min").fillna(own)
    texts = boxes.texts_of(table)
    former = (table["given_patient"] + "/" + table["given_xray"]).where(table["given_xray"] != "", "")
    return pd.DataFrame(
        {
            "path": table["path"].map(lambda path: str(Path(path).absolute())),
            "label": table["label_name"],
            "patient": table["given_patient"].where(~several, named),
            "xray": table["given_xray"].where(~several, former),
            **{name: table[f"given_{name}"] for name in ("group", "split", "source")},
            **({boxes.COLUMN: texts} if (texts != "").any() else {}),
        }
    )


def show(exposures: Exposures, table: pd.DataFrame, name: str, load: Callable[[str], np.ndarray]) -> Report:
    """Their number, and where there are any the pairs, a CSV that joins them, and some of them drawn.

    Args:
        table: of `evidence.join`.
        name: of the data.
        load: from a path to its grey picture (height, width) uint8.
    """
    pairs = exposures.pairs
    found = Report(metrics={"same_marker/n_pairs": len(pairs), "same_marker/n_common": exposures.n_common})
    if len(pairs):
        found.tables["same_marker.csv"] = pairs[["a", "b", "inliers", "correlation"]]
        found.tables["patients.csv"] = patients(table, pairs)
        drawn = [
            MarkedPair(
                f"{pair.inliers} inliers · correlation {pair.correlation:.2f}",
                f"{Path(pair.a).name}   |   {Path(pair.b).name}",
                *(shrink(load(path)) for path in (pair.a, pair.b)),
                pair.box_a,
                pair.box_b,
            )
            for pair in pairs.head(_N_DRAWN).itertuples()
        ]
        title = f"Different X-rays with the same marker, to be checked by eye · {name}"
        found.figures["same_marker.png"] = figures.marked_pairs(drawn, title)
    return found


def sentence(exposures: Exposures) -> str:
    """What was found, to be printed."""
    n, left_out = len(exposures.pairs), exposures.n_common
    text = "same marker on different X-rays: none"
    if n:
        text = (
            f"same marker on different X-rays: {n:,} {'pair' if n == 1 else 'pairs'}, perhaps further exposures of one patient; "
            "look at same_marker.png, then use patients.csv as data_dir"
        )
    if left_out:
        text += f" ({left_out:,} more {'marker is' if left_out == 1 else 'markers are'} on over {MAX_SHARING} X-rays each: a stamp)"
    return text
