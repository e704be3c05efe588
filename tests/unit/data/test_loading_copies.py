import logging
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import loading
from fracture_mae.data.synthetic.xray import xray
from fracture_mae.errors import FractureMaeError


def test_copies_are_found_whatever_their_names_unless_told_otherwise(renamed):
    dataset = loading.load(renamed, image_size=32, split="published")
    assert dataset.index["group"].nunique() == 6
    assert dataset.leakage.with_label == pytest.approx(2 / 3)
    content = dataset.index.set_index(dataset.index["path"].str[-5])["sha256"]
    linked = {frozenset(pair) for pair in dataset.links[["a", "b"]].to_numpy().tolist()}
    assert linked == {frozenset(content[["0", "6"]]), frozenset(content[["1", "7"]])}
    by_name = loading.load(renamed, image_size=32, split="published", group_by="names")
    assert by_name.index["group"].nunique() == 8
    assert by_name.links.empty
    assert (dataset.group_by, by_name.group_by) == ("content", "names")


def test_xrays_that_differ_in_the_fracture_alone_are_a_label_conflict(renamed, tmp_path):
    """X-ray 2 is healthy; with a break drawn into it, it is called fractured. Which is true nobody can tell."""
    broken = cv2.imread(str(tmp_path / "2.png"), cv2.IMREAD_GRAYSCALE)
    cv2.line(broken, (40, 60), (90, 66), 30, 2)
    cv2.imwrite(str(tmp_path / "8.png"), broken)
    with open(renamed, "a", encoding="utf-8") as file:
        file.write("\n8.png,fractured,test")
    dataset = loading.load(renamed, image_size=32, split="published")
    assert sorted(Path(path).name for path in dataset.rejected["path"]) == ["2.png", "8.png"]
    assert set(dataset.rejected["reason"]) == {"label conflict: copies of this X-ray stand under both labels"}


def test_one_copy_under_the_wrong_label_is_all_that_is_lost(renamed, tmp_path):
    picture = cv2.imread(str(tmp_path / "4.png"), cv2.IMREAD_GRAYSCALE)
    turns = [cv2.rotate(picture, turn) for turn in (cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)] + [picture[:, ::-1]]
    with open(renamed, "a", encoding="utf-8") as file:
        for name, turned, label in zip("abc", turns, ("healthy", "healthy", "fractured"), strict=True):
            cv2.imwrite(str(tmp_path / f"{name}.png"), turned)
            file.write(f"\n{name}.png,{label},train")
    dataset = loading.load(renamed, image_size=32, split="published")
    assert [Path(path).name for path in dataset.rejected["path"]] == ["c.png"]
    assert dataset.rejected["reason"].str.contains("most copies of this X-ray stand under the other label").all()


def test_a_second_run_neither_decodes_nor_searches(renamed, monkeypatch):
    first = loading.load(renamed, image_size=32, split="published")
    monkeypatch.setattr(loading, "decode", None)
    monkeypatch.setattr(loading.search, "find", None)
    again = loading.load(renamed, image_size=32, split="published")
    pd.testing.assert_frame_equal(again.links, first.links)
    assert again.index["group"].equals(first.index["group"])


def test_a_file_that_is_added_is_the_only_one_decoded_and_joins_its_xray(renamed, tmp_path, monkeypatch):
    loading.load(renamed, image_size=32, split="published")
    turned = cv2.rotate(cv2.imread(str(tmp_path / "4.png"), cv2.IMREAD_GRAYSCALE), cv2.ROTATE_180)
    cv2.imwrite(str(tmp_path / "8.png"), turned)
    with open(renamed, "a", encoding="utf-8") as file:
        file.write("\n8.png,healthy,test")
    decode, decoded = loading.decode, []
    monkeypatch.setattr(loading, "decode", lambda content: decoded.append(content) or decode(content))
    group = loading.load(renamed, image_size=32, split="published").index.set_index("path")["group"]
    assert decoded == [(tmp_path / "8.png").read_bytes()]
    assert group[str(tmp_path / "8.png")] == group[str(tmp_path / "4.png")]
    assert group.nunique() == 6


def test_a_file_that_is_damaged_between_reading_and_comparing_says_so(renamed, tmp_path):
    table, _ = loading.index.read(renamed, "fractured")
    table["sha256"] = [str(row) for row in range(len(table))]
    (tmp_path / "3.png").write_bytes(b"nothing")
    with pytest.raises(FractureMaeError, match=r"3\.png cannot be read any more.*Run again"):
        loading.find_links(table)


def _folder(root, pictures):
    """Under two labels, from (label, name) to the picture."""
    for (label, name), picture in pictures.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / label / name), picture)
    return str(root)


def _pictures(n, size=160):
    return [xray(np.random.default_rng(seed), fractured=False, size=size) for seed in range(n)]


@pytest.fixture
def downloads(tmp_path):
    """Thirty X-rays under names that a browser gives: image.png, image (1).png, …; and four others."""
    pictures = {
        ("healthy", "image.png" if not n else f"image ({n}).png"): picture for n, picture in enumerate(_pictures(30))
    }
    pictures |= {("fractured", f"{n}.png"): _pictures(34)[n] for n in range(30, 34)}
    return _folder(tmp_path / "downloads", pictures)


def test_names_join_no_pictures_that_show_different_xrays(downloads):
    assert loading.load(downloads, image_size=32).index["group"].nunique() == 34


def test_a_group_of_most_files_is_a_warning(downloads, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(FractureMaeError):  # one X-ray cannot be split
        loading.load(downloads, image_size=32, group_by="names")
    assert "30 of 34 files count as one X-ray or patient: image (1).png, image (10).png, image (11).png" in caplog.text
    assert "data/large_group_1.png" in caplog.text


def test_names_are_believed_where_the_picture_is_damaged_or_blank(tmp_path):
    """Noise of 25 grey levels: under other names no copy would be found."""
    pictures = {
        (label, f"{n}.png"): picture
        for label, n, picture in zip(["healthy", "fractured"] * 6, range(12), _pictures(12), strict=True)
    }
    noise = np.random.default_rng(0).normal(0, 25, pictures["healthy", "0.png"].shape)
    damaged = np.clip(pictures["healthy", "0.png"] + noise, 0, 255).astype(np.uint8)
    blank = np.zeros((50, 50), np.uint8)
    alike = {("healthy", "0 (1).png"): damaged, ("fractured", "1 - Copy.png"): blank}
    unlike = {("healthy", "damaged.png"): damaged, ("fractured", "blank.png"): blank}
    renamed = loading.load(_folder(tmp_path / "unlike", pictures | unlike), image_size=32)
    assert renamed.index["group"].nunique() == 14
    told = loading.load(_folder(tmp_path / "alike", pictures | alike), image_size=32)
    assert told.index["group"].nunique() == 12
    assert set(told.links["method"]) == {"named", "name alone"}
