"""What is drawn; how it looks, a person must judge."""

import numpy as np
import pandas as pd

from fracture_mae.audit import evidence, examples, figures, leakage
from fracture_mae.audit.claims import HONEST, LEAKY
from fracture_mae.audit.folds import Score
from fracture_mae.audit.shortcuts import FILE, VISIBLE, ShortcutProbe
from fracture_mae.data.copies import links as content_links


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]


def test_the_matrix_of_leakage_names_rows_and_shares():
    files = [("train", "a"), ("test", "a"), ("test", "b"), ("test", "c")]
    table = pd.DataFrame(files, columns=["split_published", "sha256"]).assign(
        content_group=list("aabc"), group=list("aabb")
    )
    drawn = texts(figures.leakage_matrix(leakage.between_splits(table), ["train", "test"], "Leakage"))
    assert {"100.0%", "33.3%", "train", "test", "Leakage"} <= set(drawn)


def test_group_sizes_are_counted_in_doubling_bins():
    sizes = pd.DataFrame({"files": [1, 1, 2, 3, 4, 70], "label": ["no", "yes", "no", "no", "no", "yes"]})
    drawn = texts(figures.group_sizes(sizes, "Sizes"))
    assert {"1", "2-3", "4-7", "64-127"} <= set(drawn)


SCORE = Score(0.9, 0.85, 0.95, (0.8, float("nan")), 10, 5)


def test_claims_without_a_published_split():
    drawn = texts(
        figures.leaky_vs_honest({name: {"image": SCORE, "xray": SCORE} for name in (LEAKY, HONEST)}, "Claims")
    )
    assert "random split by file" in drawn
    assert "published split" not in drawn
    assert "0.900 [0.850, 0.950]" in drawn


def test_shortcuts_with_their_importance():
    rows = [(FILE, "file size", 0.2, 0.1), (VISIBLE, "sharpness", -0.01, 0.02)]
    properties = pd.DataFrame(rows, columns=["set", "property", "importance", "importance_std"])
    drawn = texts(
        figures.shortcuts(ShortcutProbe({name: {"xray": SCORE} for name in (FILE, VISIBLE)}, properties), "Shortcuts")
    )
    assert {"file size", "sharpness", FILE, VISIBLE} <= set(drawn)


def test_pairs_joined_by_name_have_no_lines():
    table = pd.DataFrame({"path": ["/x.png", "/x-rotated1.png"], "sha256": ["a", "b"], "scope": "s"})
    table = table.assign(given_patient="", given_xray="", given_group="")
    joined = evidence.join(table, content_links.as_table(), pd.DataFrame({"a": ["a"], "b": ["b"]}))
    chosen = examples.choose(evidence.describe(joined, content_links.as_table()))
    pairs = list(examples.examples(chosen, lambda path: np.full((30, 20), 90, np.uint8)))
    figure = figures.linked_pairs(pairs, "Pairs")
    assert "name alone, joins 2 files" in texts(figure)
    assert len(pairs[0].xy_a) == 0
