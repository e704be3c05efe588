import cv2
import numpy as np
import pandas as pd
import pytest

from fracture_mae.audit import overlays


def limb(seed=0, shape=(500, 400)):
    """Soft tissue on a dark film with two bright bones, blurred as an X-ray is, and noise: no overlay."""
    rng = np.random.default_rng(seed)
    picture = np.full(shape, 12, np.float32)
    height, width = shape
    for centre, reach, grey in ((0.5, 0.28, 80), (0.42, 0.055, 215), (0.6, 0.06, 235)):
        left, right = (round(width * (centre + side * reach)) for side in (-1, 1))
        cv2.rectangle(picture, (left, round(0.1 * height)), (right, round(0.9 * height)), grey, -1)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.006 * height) + rng.normal(0, 3, shape)
    return picture.clip(0, 255).astype(np.uint8)


def arrow(picture):
    cv2.arrowedLine(picture, (60, 260), (115, 290), 255, 4, tipLength=0.4)


def letter(picture):
    cv2.putText(picture, "R", (340, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 250, 3)


def word(picture):
    cv2.putText(picture, "LEFT", (20, 470), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2)


def ring(picture):
    cv2.circle(picture, (325, 250), 45, 255, 3)


PAINT = [arrow, letter, word, ring]


def painted(paint):
    """A picture with a mark, and the mark's box."""
    before = limb()
    after = before.copy()
    paint(after)
    rows, columns = np.nonzero(after != before)
    return after, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def overlap(one, other):
    left, top = (max(one[i], other[i]) for i in (0, 1))
    right, bottom = (min(one[i], other[i]) for i in (2, 3))
    both = max(0, right - left) * max(0, bottom - top)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


@pytest.mark.parametrize("seed", range(4))
def test_an_xray_without_marks_has_none(seed):
    assert overlays.boxes_of(limb(seed)) == []


@pytest.mark.parametrize("paint", PAINT)
def test_what_is_painted_is_found_where_it_is(paint):
    picture, expected = painted(paint)
    found = overlays.boxes_of(picture)
    assert len(found) == 1
    assert overlap(found[0], expected) > 0.6


@pytest.mark.parametrize("paint", PAINT)
def test_marks_are_found_after_jpeg_and_in_large_pictures(paint):
    picture, expected = painted(paint)
    stored = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_GRAYSCALE)
    assert len(overlays.boxes_of(stored)) == 1
    large = cv2.resize(stored, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    found = overlays.boxes_of(large)
    assert len(found) == 1
    assert overlap(found[0], [4 * end for end in expected]) > 0.6


def test_several_marks_are_several():
    picture = limb()
    for paint in PAINT[:3]:
        paint(picture)
    assert len(overlays.boxes_of(picture)) == 3


def metal(picture):
    """A rod and three screws in the bone, brighter than anything, with the softer edge of what X-rays have drawn."""
    drawn = np.zeros(picture.shape, np.float32)
    cv2.line(drawn, (168, 120), (168, 380), 1, 9)
    for height in (150, 250, 350):
        cv2.line(drawn, (150, height), (186, height), 1, 5)
    drawn = cv2.GaussianBlur(drawn, (0, 0), 1.8)
    return (picture + drawn * (255 - picture)).clip(0, 255).astype(np.uint8)


def bright_frame(picture):
    framed = picture.copy()
    framed[:6], framed[:, -5:] = 255, 255
    return framed


def bright_pin(picture):
    pinned = picture.copy()
    cv2.line(pinned, (200, 200), (240, 260), 255, 5)
    return pinned


def bright_stone(picture):
    dotted = picture.copy()
    cv2.circle(dotted, (330, 80), 9, 255, -1)
    return dotted


def soft_cross(picture):
    """As bright as a mark and shaped like one, but with the edge of a thing in the body."""
    drawn = np.zeros(picture.shape, np.float32)
    cv2.line(drawn, (75, 260), (115, 260), 1, 8)
    cv2.line(drawn, (95, 240), (95, 280), 1, 8)
    drawn = cv2.GaussianBlur(drawn, (0, 0), 3)
    return (picture + drawn * (255 - picture.astype(np.float32))).clip(0, 255).astype(np.uint8)


def bright_corner(picture):
    """Where a sheet or a collimator lies askew."""
    cornered = picture.copy()
    cv2.line(cornered, (0, 425), (70, 499), 255, 4)
    cv2.line(cornered, (0, 465), (34, 465), 255, 4)
    return cornered


@pytest.mark.parametrize("change", [metal, bright_frame, bright_pin, bright_stone, soft_cross, bright_corner])
def test_what_is_bright_and_no_mark_does_not_count(change):
    assert overlays.boxes_of(change(limb())) == []


def files_of(marked, label, source):
    """Pictures by path, and their table; one X-ray each."""
    pictures = {}
    for number, is_marked in enumerate(marked):
        pictures[f"/{number}.png"] = picture = limb(number)
        if is_marked:
            arrow(picture)
    names = np.where(np.array(label) == 1, "fractured", "not fractured")
    columns = {"path": list(pictures), "sha256": list(pictures), "label": label, "label_name": names}
    return pictures, pd.DataFrame(columns | {"source": source, "group": list(pictures), "patient": list(pictures)})


def test_presence_is_counted_by_label_and_source_and_may_tell_the_label():
    pictures, table = files_of([1, 1, 1, 0, 0, 0, 0, 1], [1, 1, 1, 1, 0, 0, 0, 0], list("aaabbbba"))
    found = overlays.find(table, pictures.get)
    # Of 16 pairs the marked fractured win 3 × 3, tie 3 × 1 and 1 × 3, and the unmarked one loses 1.
    assert found.told["auroc"] == pytest.approx((9 + 6 / 2) / 16)
    assert np.isnan(found.told["low"])  # four of each label
    counted = found.by_source.set_index(["label_name", "source"])[["marked_xrays", "xrays"]].to_dict("index")
    assert counted["fractured", "a"] == {"marked_xrays": 3, "xrays": 3}
    assert counted["not fractured", "b"] == {"marked_xrays": 0, "xrays": 3}
    text = overlays.sentence(found)
    assert "3 of 4 fractured, 1 of 4 not fractured" in text
    assert "AUROC of 0.750 [" in text
    report = overlays.show(found, "made", pictures.get)
    assert report.metrics["overlays/n_xrays"] == 4
    listed = report.tables["overlays.csv"].set_index("path")
    assert listed.loc["/0.png", "n_overlays"] == 1
    box = listed.loc["/0.png", "boxes"][0]
    assert listed.loc["/0.png", "share"] == pytest.approx((box[2] - box[0]) * (box[3] - box[1]) / (500 * 400))
    assert len([axes for axes in report.figures["overlays.png"].axes if axes.images]) == 4


def test_where_there_is_none_nothing_is_drawn():
    pictures, table = files_of([0, 0], [0, 1], ["a", "a"])
    found = overlays.find(table, pictures.get)
    assert overlays.sentence(found) == "overlays (letters, arrows, stamps): none"
    assert overlays.show(found, "made", pictures.get).figures == {}
