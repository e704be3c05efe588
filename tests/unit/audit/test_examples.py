import cv2
import numpy as np
import pandas as pd
import pytest

from fracture_mae.audit import examples, leakage
from fracture_mae.data.synthetic.xray import xray


def link(number, *, evidence="same picture", files=2, **changed):
    usual = {
        "inliers": 50,
        "inlier_ratio": 0.9,
        "scale": 1.0,
        "angle": 0.0,
        "flipped": False,
        "negative": False,
        "correlation": 0.95,
        "overlap": 1.0,
    }
    how = usual | changed if evidence == "same picture" else dict.fromkeys(usual, np.nan)
    method = "aligned" if evidence == "same picture" else np.nan
    paths = {"path_a": f"/{number}a.png", "path_b": f"/{number}b.png", "group": f"g{number}"}
    return {**paths, "evidence": evidence, "method": method, "files": files, **how}


def chosen_groups(*links):
    return examples.choose(pd.DataFrame(links))["group"].tolist()


def test_the_weakest_links_are_chosen():
    links = [link(number) for number in range(30)]
    links[3] |= {"correlation": 0.71}
    links[4] |= {"inlier_ratio": 0.2}
    links[5] |= {"overlap": 0.4}
    links[6] |= {"scale": 0.25}
    links[7] |= {"scale": 2.0}
    links[8] |= {"angle": -170.0}
    links[9] |= {"flipped": True}
    links += [link(30, evidence="name", files=9), link(31, evidence="CSV column", files=99)]
    found = chosen_groups(*links)
    assert {"g3", "g4", "g5", "g6", "g8", "g9", "g30"} <= set(found)
    assert "g31" not in found  # what one patient's files look like tells nothing
    assert len(found) == len(set(found)) <= 11


def test_of_an_xray_one_link_is_enough():
    links = [link(1, correlation=0.7), link(1, correlation=0.71), link(2, correlation=0.9)]
    assert chosen_groups(*links) == ["g1", "g2"]


def test_names_alone_can_be_shown():
    assert chosen_groups(link(1, evidence="name"), link(2, evidence="name", files=5)) == ["g2", "g1"]


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("flipped", [False, True])
def test_matched_keypoints_lie_on_the_same_spots(flipped, negative):
    picture = xray(np.random.default_rng(0), fractured=False, size=300)
    turn = cv2.getRotationMatrix2D((150, 120), 20, 0.8)
    copy = cv2.warpAffine(picture, turn, picture.shape[::-1])
    shown = copy[:, ::-1].copy() if flipped else copy
    shown = 255 - shown if negative else shown
    pair = pd.DataFrame([link(1, flipped=flipped, negative=negative)])
    (found,) = examples.examples(pair, {"/1a.png": picture, "/1b.png": shown}.get)
    assert len(found.xy_a) == len(found.xy_b) > 20
    zoom = found.a.shape[1] / picture.shape[1]
    expected = cv2.transform(found.xy_a[None] / zoom, turn)[0] * zoom
    if flipped:
        expected[:, 0] = found.b.shape[1] - 1 - expected[:, 0]
    assert np.median(np.linalg.norm(expected - found.xy_b, axis=1)) < 1.5  # pixels
    assert ("mirrored" in found.title) == flipped
    assert ("negative" in found.title) == negative


def test_the_contact_sheet_shows_the_largest_groups_in_the_order_of_splits():
    files = [("a1", "A", "train"), ("a2", "A", "test"), ("a2", "A", "test"), ("a2", "A", "train"), ("b", "B", "train")]
    table = pd.DataFrame(files, columns=["sha256", "group", "split_published"])
    table = table.assign(label_name="yes", path=[f"/{number}.png" for number in range(5)], row=range(5))
    (row,) = examples.largest_groups(table, leakage.group_sizes(table), lambda row: np.full((8, 8), row, np.uint8))
    assert row.splits == ["train", "train", "test"]  # byte-identical files of one split are shown once
    assert [int(picture[0, 0]) for picture in row.pictures] == [0, 3, 1]
    assert row.title == "yes\n4 files\n2 different"
