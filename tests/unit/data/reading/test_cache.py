import errno
import os
from dataclasses import astuple

import cv2
import numpy as np
import pandas as pd
import pytest

from fracture_mae.data.reading import cache, cache_folder, identities
from fracture_mae.data.reading.cache import ImageStore
from fracture_mae.data.reading.encoding import UNKNOWN
from fracture_mae.data.reading.placement import Placement
from fracture_mae.errors import FractureMaeError


@pytest.fixture
def pictures(tmp_path):
    """Five grey squares of brightness 10, 20, … as files, by their content."""
    paths = []
    for number in range(1, 6):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((8, 8), 10 * number, np.uint8))
        paths.append(str(path))
    return pd.Series(paths, index=[f"content {number}" for number in range(1, 6)])


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "store", 16)


def brightness(store: ImageStore, found: pd.DataFrame) -> list[int]:
    return store.pixels()[found["row"]].max(axis=(1, 2)).tolist()


def test_pictures_come_back_in_the_order_asked_for(store, pictures):
    reversed_ = pictures.iloc[::-1]
    assert brightness(store, store.add(reversed_, 2)) == [50, 40, 30, 20, 10]
    assert brightness(store, store.add(pictures, 2)) == [10, 20, 30, 40, 50]


def test_what_is_known_is_not_decoded_again_though_the_last_line_is_torn(store, pictures, monkeypatch):
    store.add(pictures.iloc[:3], 1)
    with open(store.list_file, "a", encoding="utf-8") as file:
        file.write(f"{pictures.index[3]},3,8,8,PNG")  # of a writer killed in the middle of a line
    decoded, others = [], (*astuple(Placement(1.0, 1.0, 0.0, 0.0)), 0.0, 0.0, *UNKNOWN)
    monkeypatch.setattr(store, "_decode_one", lambda path: decoded.append(path) or (bytes(16 * 16), 1, 1, *others, ""))
    store.add(pictures, 1)
    assert decoded == pictures.iloc[3:].tolist()


def test_unreadable_files_have_a_reason_and_no_row(store, pictures, tmp_path):
    (tmp_path / "bad, very.jpg").write_bytes(b"no, picture")
    files = pd.concat([pictures, pd.Series([str(tmp_path / "bad, very.jpg")], index=["bad"])])
    found = store.add(files, 1)
    assert found.loc["bad", "row"] == -1
    assert found.loc["bad", "reason"] == "not an image file"
    assert brightness(store, found.drop("bad")) == [10, 20, 30, 40, 50]


def test_a_writer_killed_after_its_bytes_leaves_a_store_that_heals(store, pictures):
    store.add(pictures.iloc[:2], 1)
    with open(store.bytes_file, "ab") as file:
        file.write(b"\xff" * 300)  # one picture and a part of the next, not listed
    assert brightness(store, store.add(pictures, 1)) == [10, 20, 30, 40, 50]


def test_a_store_whose_bytes_are_gone_is_built_anew(store, pictures):
    store.add(pictures, 1)
    store.bytes_file.write_bytes(b"")
    assert brightness(store, store.add(pictures, 1)) == [10, 20, 30, 40, 50]


def test_more_files_than_fit_one_chunk(store, pictures, monkeypatch):
    monkeypatch.setattr(cache, "_CHUNK", 2)
    assert brightness(store, store.add(pictures, 2)) == [10, 20, 30, 40, 50]


def test_size_of_the_original_is_kept(tmp_path, store):
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((30, 70), np.uint8))
    found = store.add(pd.Series({"wide": str(tmp_path / "wide.png")}), 1)
    assert found.loc["wide", ["height", "width"]].tolist() == [30, 70]


def test_where_a_picture_lies_in_its_square_is_kept_to_the_last_digit(tmp_path, store):
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((30, 70), np.uint8))
    found = store.add(pd.Series({"wide": str(tmp_path / "wide.png")}), 1)
    assert found.loc["wide", ["scale_x", "scale_y", "left", "top"]].tolist() == [16 / 70, 7 / 30, 0, 4]


@pytest.mark.parametrize(
    "damage", [b"\0\0 rubbish,\n1,2,3,4,5,6,7\n", b"a,b\n1,2\n", b"sha256,row,height,width,reason\nx,y\n", b""]
)
def test_a_damaged_list_is_built_anew(store, pictures, damage):
    store.add(pictures, 1)
    store.list_file.write_bytes(damage)
    assert brightness(store, store.add(pictures, 1)) == [10, 20, 30, 40, 50]


def test_building_anew_leaves_the_pixels_of_another_process_alone(store, pictures):
    rows = store.add(pictures, 1)["row"]
    mapped_elsewhere = store.pixels()
    store.list_file.unlink()
    store.add(pictures.iloc[:1], 1)
    assert mapped_elsewhere[rows].max(axis=(1, 2)).tolist() == [10, 20, 30, 40, 50]  # a truncated file kills its reader


def test_a_file_that_vanished_is_not_remembered_as_unreadable(store, tmp_path):
    files = pd.Series({"content": str(tmp_path / "late.png")})
    with pytest.raises(FractureMaeError, match=r"late\.png cannot be read any more"):
        store.add(files, 1)
    cv2.imwrite(str(tmp_path / "late.png"), np.full((8, 8), 70, np.uint8))
    assert brightness(store, store.add(files, 1)) == [70]


def test_a_cache_that_cannot_be_made_says_how_to_move_it(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FractureMaeError, match="FRACTURE_MAE_CACHE"):
        ImageStore(tmp_path / "file" / "store", 16)


def test_a_cache_that_may_only_be_read_is_read(store, pictures, monkeypatch):
    known, missing = pictures.iloc[:3], pictures
    store.add(known, 1)

    def refused(*_, **__):
        raise PermissionError(errno.EROFS, "Read-only file system", str(store.list_file))

    monkeypatch.setattr(store.lock, "acquire", refused)
    for owner, name in ((os, "truncate"), (store, "_append")):
        monkeypatch.setattr(owner, name, refused)
    assert brightness(store, store.add(known, 1)) == [10, 20, 30]
    with pytest.raises(OSError) as caught:  # noqa: PT011
        store.add(missing, 1)
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(store.list_file.parent))
    assert "FRACTURE_MAE_CACHE" in str(cache_folder.shortage(caught.value))
    store.list_file.unlink()
    with pytest.raises(FractureMaeError, match="there is none, and none may be made"):
        store.add(known, 1)


def test_without_hard_links_the_key_of_identities_is_copied(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.delenv(identities.VARIABLE, raising=False)
    first = identities.hashed("patient")
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["identity.key"]
    identities._key_in.cache_clear()
    assert identities.hashed("patient") == first
