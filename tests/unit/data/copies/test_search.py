"""Copies made on purpose must be found, whatever was done to them, and different X-rays must stay apart."""

import cv2
import numpy as np
import pandas as pd
import pytest

from fracture_mae.data.copies import search
from fracture_mae.data.copies.alignment import align
from fracture_mae.data.copies.keypoints import RECORD, KeypointStore, describe, mirror, negate
from fracture_mae.data.copies.links import Searched, as_table
from fracture_mae.data.synthetic.xray import xray

N_XRAYS = 4


@pytest.fixture(scope="module")
def xrays() -> list[np.ndarray]:
    return [xray(np.random.default_rng(seed), fractured=False, size=300) for seed in range(N_XRAYS)]


def rotated(picture, degrees=33.0, expand=False):
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    if not expand:
        return cv2.warpAffine(picture, turn, (width, height))
    cosine, sine = np.abs(turn[0, :2])
    size = np.array([width * cosine + height * sine, width * sine + height * cosine]).astype(int)
    turn[:, 2] += (size - [width, height]) / 2
    return cv2.warpAffine(picture, turn, tuple(size.tolist()))


def scaled(picture, factor):
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def half_of(picture, top=0.15, left=0.15):
    """Seven tenths of either side: half of the area."""
    height, width = picture.shape
    return picture[int(top * height) : int((top + 0.71) * height), int(left * width) : int((left + 0.71) * width)]


def toned(picture, gamma=1.0, contrast=1.0, brightness=0.0):
    return (np.clip((picture / 255) ** gamma * contrast + brightness, 0, 1) * 255).astype(np.uint8)


def as_jpeg(picture, quality):
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


CHANGES = {
    "exact": lambda x: x.copy(),
    "rotated": rotated,
    "rotated by a right angle": lambda x: cv2.rotate(x, cv2.ROTATE_90_CLOCKWISE),
    "rotated, canvas expanded": lambda x: rotated(x, 160, expand=True),
    "rotated three times": lambda x: rotated(rotated(rotated(x, 25), -40), 30),
    "flipped left to right": lambda x: x[:, ::-1],
    "flipped upside down": lambda x: x[::-1],
    "half the size": lambda x: scaled(x, 0.5),
    "twice the size": lambda x: scaled(x, 2),
    "half of the area": half_of,
    "the other corner's half": lambda x: half_of(x, 0.29, 0),
    "darker": lambda x: toned(x, brightness=-0.1),
    "brighter": lambda x: toned(x, brightness=0.1),
    "less contrast": lambda x: toned(x, contrast=0.6),
    "gamma": lambda x: toned(x, gamma=1.6),
    "re-encoded": lambda x: as_jpeg(x, 30),
    "squeezed": lambda x: cv2.resize(x, (224, 224), interpolation=cv2.INTER_AREA),
    "several at once": lambda x: as_jpeg(toned(rotated(half_of(x, 0.1, 0.2)[:, ::-1], 70), gamma=0.8), 90),
}


def with_noise(picture, sigma):
    """Of normal distribution, `sigma` grey levels."""
    noise = np.random.default_rng(int(picture.sum())).normal(0, sigma, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def equalised_locally(picture):
    return cv2.createCLAHE(clipLimit=4, tileGridSize=(8, 8)).apply(picture)


def with_text(picture):
    """A name, a hospital and the settings, white, on the bones too; and a white frame."""
    lettered = picture.copy()
    height, width = picture.shape
    for text, x, y in (
        ("NAME: 0042 - 1970", 0.02, 0.1),
        ("L 72 kV 4 mAs", 0.3, 0.55),
        ("General Hospital", 0.1, 0.93),
    ):
        place = int(x * width), int(y * height)
        cv2.putText(lettered, text, place, cv2.FONT_HERSHEY_SIMPLEX, width / 400, 255, 2)
    cv2.rectangle(lettered, (0, 0), (width - 1, height - 1), 255, 6)
    return lettered


DAMAGES = {
    "negative": lambda x: 255 - x,
    "negative, turned and mirrored": lambda x: rotated(255 - x[:, ::-1], 25),
    "noise": lambda x: with_noise(x, 15),
    "noise, turned": lambda x: with_noise(rotated(x), 12),
    "equalised": cv2.equalizeHist,
    "equalised locally": equalised_locally,
    "JPEG of quality 10": lambda x: as_jpeg(x, 10),
    "a quarter of the size": lambda x: scaled(x, 0.25),
    "a quarter of the size, re-encoded": lambda x: as_jpeg(scaled(x, 0.25), 75),
    "text and border burnt in": with_text,
}


@pytest.fixture(scope="module")
def thirty():
    return [xray(np.random.default_rng(1000 + seed), fractured=seed % 2 == 0, size=256) for seed in range(30)]


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """Where features are kept, so that the thirty are described once."""
    return KeypointStore(tmp_path_factory.mktemp("described") / "features.bin")


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_of_thirty_damaged_copies_at_least_28_are_found_and_no_other_is(thirty, described, damage):
    pictures = {f"{i:02}": picture for i, picture in enumerate(thirty)}
    copies = [f"{i:02} {damage}" for i in range(30)]
    pictures |= {name: DAMAGES[damage](picture) for name, picture in zip(copies, thirty, strict=True)}
    found = groups_of(pictures, described)
    assert all(group[:2] == name[:2] for name, group in found.items())
    assert sum(found[name[:2]] == found[name] for name in copies) >= 28


@pytest.mark.slow
def test_hundreds_of_different_xrays_stay_apart():
    """Bare shafts and rows of fingers among them, which can be squeezed until they look alike."""
    pictures = {
        f"{seed}": xray(np.random.default_rng(5000 + seed), fractured=seed % 2 == 0, size=192) for seed in range(300)
    }
    assert groups_of(pictures) == {name: name for name in pictures}


def groups_of(pictures: dict[str, np.ndarray], store: KeypointStore | None = None) -> dict[str, str]:
    links = search.find(pictures.__getitem__, list(pictures), store=store, num_workers=2)
    return search.groups(links, list(pictures)).to_dict()


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_joined_and_other_xrays_stay_apart(xrays, change):
    pictures = {f"{i}": picture for i, picture in enumerate(xrays)}
    pictures |= {f"{i} copy": CHANGES[change](picture) for i, picture in enumerate(xrays)}
    assert groups_of(pictures) == {name: name[0] for name in pictures}


@pytest.mark.parametrize("angle", [-135, -77, -8, 3, 58, 121])
def test_any_angle_with_the_black_corners_it_leaves(xrays, angle):
    pictures = {"0": xrays[0], "0 copy": rotated(xrays[0], angle), "1": xrays[1], "1 copy": rotated(xrays[1], -angle)}
    assert groups_of(pictures) == {name: name[0] for name in pictures}


def test_different_xrays_of_the_same_bones_stay_apart():
    pictures = {f"{seed}": xray(np.random.default_rng(seed), fractured=seed % 2 == 0, size=200) for seed in range(24)}
    assert groups_of(pictures) == {name: name for name in pictures}


def test_all_copies_of_an_xray_are_one_group(xrays):
    pictures = {f"{i} {change}": CHANGES[change](xrays[i]) for i in (0, 1) for change in CHANGES}
    assert pd.Series(groups_of(pictures)).groupby(lambda name: name[0]).nunique().tolist() == [1, 1]
    assert len(set(groups_of(pictures).values())) == 2


def test_a_long_xray_squeezed_into_a_square_and_turned(xrays):
    long = xrays[0][:, 60:170]
    assert groups_of({"0": long, "0 copy": rotated(cv2.resize(long, (200, 200))), "1": xrays[1]}) == {
        "0": "0",
        "0 copy": "0",
        "1": "1",
    }


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize(("flipped", "angle"), [(False, 30), (True, -30)])
def test_a_link_says_how_the_copy_was_made(xrays, flipped, angle, negative):
    """OpenCV turns the copy anticlockwise by 30°, so it goes back clockwise; mirrored again, it is turned the other way."""
    copy = scaled(rotated(xrays[0][:, ::-1] if flipped else xrays[0], 30), 0.5)
    pictures = {"a": xrays[0], "b": 255 - copy if negative else copy}
    (link,) = search.find(pictures.__getitem__, ["b", "a"]).itertuples()
    assert (link.a, link.b, link.method) == ("a", "b", "aligned")
    assert (link.flipped, link.negative) == (flipped, negative)
    assert link.scale == pytest.approx(2, rel=0.02)
    assert link.angle == pytest.approx(angle, abs=1)
    assert link.correlation > 0.9
    assert link.overlap > 0.8


def test_the_same_marker_banner_and_border_do_not_join_xrays(xrays):
    pictures = {}
    for i, picture in enumerate(xrays):
        marked = cv2.resize(picture, (300, 300))
        cv2.putText(marked, "RA93", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.4, 255, 4)
        cv2.rectangle(marked, (3, 3), (296, 296), 200, 4)
        marked[250:290, 10:290] = 0
        cv2.putText(marked, "General Hospital, Radiology", (14, 280), cv2.FONT_HERSHEY_SIMPLEX, 0.55, 255, 1)
        pictures[f"{i}"] = marked
    assert groups_of(pictures) == {name: name for name in pictures}


def test_an_xray_with_a_fracture_added_is_still_the_same(xrays):
    broken = xrays[1].copy()
    cv2.line(broken, (90, 150), (220, 165), 60, 3)
    assert groups_of({"0": xrays[1], "1": broken}) == {"0": "0", "1": "0"}


def test_one_picture_cannot_join_two_groups(xrays):
    """A collage shows two X-rays. One of them takes it; the other's copies do not agree with the first one's."""
    pictures = {f"{i} {n}": rotated(xrays[i], 20 * n) for i in (0, 1) for n in range(3)}
    left, right = (cv2.resize(xrays[i], (260, 300)) for i in (0, 1))
    found = groups_of({**pictures, "collage": np.hstack([left, right])})
    assert {found[f"0 {n}"] for n in range(3)} == {"0 0"}
    assert {found[f"1 {n}"] for n in range(3)} == {"1 0"}
    assert found["collage"] in ("0 0", "1 0")


def test_blank_and_tiny_pictures(xrays):
    pictures = {
        "blank": np.zeros((80, 60), np.uint8),
        "blank too": np.zeros((80, 60), np.uint8),
        "pixel": np.full((1, 1), 9, np.uint8),
        "row": np.arange(200, dtype=np.uint8)[None],
        "xray": xrays[0],
    }
    assert groups_of(pictures) == {name: "blank" if "blank" in name else name for name in pictures}


def test_nothing_but_blank_pictures_and_nothing_at_all():
    assert groups_of({"a": np.zeros((9, 9), np.uint8), "b": np.zeros((9, 8), np.uint8)}) == {"a": "a", "b": "b"}
    assert groups_of({}) == {}


def test_neither_order_nor_threads_matter(xrays):
    pictures = {f"{i} {n}": rotated(xrays[i], 15 * n) for i in range(3) for n in range(4)}
    one = search.find(pictures.__getitem__, list(pictures), num_workers=1)
    four = search.find(pictures.__getitem__, list(pictures)[::-1], num_workers=4)
    pd.testing.assert_frame_equal(one, four)


def test_added_files_cost_only_themselves(xrays, tmp_path):
    pictures = {f"{i}": picture for i, picture in enumerate(xrays)}
    loaded = []

    def load(name):
        loaded.append(name)
        return pictures[name]

    store = KeypointStore(tmp_path / "features.bin")
    search.find(load, ["0", "1", "2"], store=store)
    with open(store.file, "ab") as file:  # a writer that was killed
        file.write(b"half a record")
    loaded.clear()
    links = search.find(load, list(pictures), store=store)
    assert sorted(set(loaded)) == ["3"]
    pd.testing.assert_frame_equal(links, search.find(load, list(pictures)))


def test_of_pictures_searched_before_only_those_added_are_compared(xrays, monkeypatch):
    pictures = {f"{i} {n}": rotated(xrays[i], 15 * n) for i in range(3) for n in range(3)}
    before = [name for name in pictures if name not in ("1 2", "2 2")]
    known = Searched(before, search.find(pictures.__getitem__, before))
    added = {describe(pictures[name]).thumbnail.tobytes() for name in ("1 2", "2 2")}
    compared = []

    def also(b):
        return mirror(b), negate(b), mirror(negate(b))

    monkeypatch.setattr(search, "align", lambda a, b: compared.append((a, b)) or align(a, b))
    links = search.find(pictures.__getitem__, list(pictures), searched=known)
    assert compared
    assert all({x.thumbnail.tobytes() for x in (a, b, *also(b))} & added for a, b in compared)
    assert set(map(tuple, known.links.to_numpy().tolist())) <= set(map(tuple, links.to_numpy().tolist()))
    assert search.groups(links, list(pictures)).to_dict() == {name: f"{name[0]} 0" for name in pictures}


def test_only_groups_that_grew_are_looked_for_again(xrays, monkeypatch):
    pictures = {f"{i} {n}": rotated(xrays[i], 15 * n) for i, copies in enumerate((4, 1, 3, 1)) for n in range(copies)}
    rounds = []

    class Recorded(search.Index):
        def __init__(self, features, pool):
            super().__init__(features, pool)
            rounds.append((len(features), []))

        def candidates(self, positions):
            rounds[-1][1].extend(positions)
            return super().candidates(positions)

    monkeypatch.setattr(search, "Index", Recorded)
    search.find(pictures.__getitem__, list(pictures))
    assert [(n_pictures, len(asked)) for n_pictures, asked in rounds] == [(9, 9), (4, 2)]


def test_nothing_new_is_nothing_to_do():
    known = Searched(["a", "b", "c"], as_table())
    assert search.find(None, ["a", "b"], searched=known).empty


@pytest.mark.parametrize(
    "damage", [lambda x: bytes(len(x)), lambda x: x[:80] + bytes(len(x) - 80), lambda x: b"\xff" * len(x)]
)
def test_features_that_were_damaged_are_made_again(xrays, tmp_path, damage):
    pictures = {f"{i}": picture for i, picture in enumerate(xrays)} | {"0 copy": rotated(xrays[0])}
    store = KeypointStore(tmp_path / "features.bin")
    sound = search.find(pictures.__getitem__, list(pictures), store=store)
    size = RECORD.itemsize
    content = store.file.read_bytes()
    store.file.write_bytes(damage(content[:size]) + content[size:])
    loaded = []
    again = search.find(lambda name: loaded.append(name) or pictures[name], list(pictures), store=store)
    assert loaded == ["0"]
    pd.testing.assert_frame_equal(again, sound)
