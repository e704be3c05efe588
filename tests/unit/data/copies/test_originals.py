import numpy as np
import pandas as pd
import pytest

from fracture_mae.data.copies.originals import is_original, one_of_each


def table_of(*files):
    """A table from (name, group, side in pixels, sha256)."""
    rows = [
        {"path": f"/x/{name}", "group": group, "height": side, "width": side, "sha256": sha256}
        for name, group, side, sha256 in files
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("files", "original"),
    [
        # By name, even if the rotated copy is larger, as turning with a grown canvas makes it.
        ([("12-rotated1.jpg", 300, "a"), ("12.jpg", 224, "b"), ("12 (1).jpg", 224, "c")], "12.jpg"),
        ([("7-rotated2-rotated1.jpg", 224, "a"), ("7-rotated3.jpg", 224, "b")], "7-rotated3.jpg"),
        ([("5 (1).jpg", 224, "c"), ("5 (1)-rotated1.jpg", 224, "a")], "5 (1).jpg"),
        # By size, where names tell nothing.
        ([("0001.jpg", 200, "a"), ("0002.jpg", 400, "b"), ("0003.jpg", 300, "c")], "0002.jpg"),
        # By content, where neither does.
        ([("0001.jpg", 224, "b"), ("0002.jpg", 224, "a")], "0002.jpg"),
    ],
)
def test_the_original_is_taken(files, original):
    table = table_of(*((name, "g", side, sha256) for name, side, sha256 in files))
    for order in (table, table[::-1]):
        assert order["path"][is_original(order)].tolist() == [f"/x/{original}"]


def test_one_of_each(xrays):
    taken = one_of_each(xrays)
    assert sorted(taken.group) == sorted(set(xrays.group))
    np.testing.assert_array_equal(
        taken.images(np.arange(len(taken))), xrays.images(np.flatnonzero(is_original(xrays.table)))
    )
    smallest = xrays.table.groupby("group")["sha256"].min()  # names and sizes tell nothing here
    assert dict(zip(taken.group, taken.table["sha256"], strict=True)) == smallest.to_dict()
