import cv2
import numpy as np

from fracture_mae.evaluation import gallery
from fracture_mae.evaluation.neighbours import Neighbour, Neighbours
from fracture_mae.metrics.decision import Decision
from tests.unit.evaluation.maps import UPPER_LEFT, maps_of

DECISION = Decision(("not fractured", "fractured"))
MISSED, ALARMS = "Missed: fractured, called not fractured", "False alarms: not fractured, called fractured"
RIGHT, LEAST = "Right, and surest of it", "Least sure: nearest the threshold"
LOGIT = np.array([5.0, 4, -1.5, -3.5, 2, 1, -7, -6, -5.5, 3])
LABEL = [1, 1, 1, 1, 0, 0, 0, 0, 0, 1]


def kinds(maps, decision=DECISION):
    probability = decision.probability(maps.predictions["logit"])
    return {title: found.tolist() for title, found in gallery._kinds(maps.xrays, decision, probability)}


def judged(maps, remark, near=lambda xrays: Neighbours([()] * len(xrays))):
    """The gallery of X-rays whose maps are there."""

    def look(xrays):
        return maps.subset(np.flatnonzero(np.isin(maps.xrays.table["path"], xrays.table["path"])))

    return gallery.judge(maps.xrays, maps.predictions, DECISION, "test", remark, look, near)


def test_each_kind_begins_with_what_a_reader_wants_to_see_most():
    found = kinds(maps_of(LABEL, [UPPER_LEFT] + [""] * 9, [(0, 0)] * 10, logit=LOGIT))
    assert found[MISSED] == [3, 2]  # -3.5 before -1.5
    assert found[ALARMS] == [4, 5]
    assert found[RIGHT] == [0, 6, 1, 7, 9, 8]  # fractured and not in turn: 5, -7, 4, -6, 3, -5.5
    assert found[LEAST] == [5, 2, 4, 9, 3, 1]  # 1, -1.5, 2, 3, -3.5, 4


def test_least_sure_is_nearest_to_the_threshold_and_not_to_a_half():
    maps = maps_of([1, 1, 0], [""] * 3, [(0, 0)] * 3, logit=np.array([0.0, 2.2, -3]))
    assert kinds(maps, Decision(("a", "b"), threshold=0.9))["Least sure: nearest the threshold"] == [1, 0, 2]


def test_there_are_no_more_than_six_of_a_kind_and_one_file_of_each_xray():
    maps = maps_of([1] * 20, [""] * 20, [(0, 0)] * 20, group=np.arange(20) // 2, logit=-np.arange(1.0, 21))
    found = kinds(maps)
    assert len(found[MISSED]) == gallery.MOST == 6
    assert len({position // 2 for position in found[MISSED]}) == 6
    assert found[ALARMS] == found[RIGHT] == []


def test_cards_tell_file_source_answer_and_probability():
    maps = maps_of(LABEL, [UPPER_LEFT] + [""] * 9, [(0, 0)] * 10, logit=LOGIT)
    report = judged(maps, "LEAKY")
    assert list(report.figures) == ["test/gallery.png"]
    assert report.figures["test/gallery.png"].get_suptitle() == "Gallery · test\nLEAKY"
    assert "green: a box" in report.figures["test/gallery.png"].get_supxlabel()
    shown = {block.title: block.cards for block in report.galleries["test"]}
    assert list(shown) == [MISSED, ALARMS, RIGHT, LEAST]
    card = shown[MISSED][0]
    row = maps.predictions.iloc[3]
    assert card.told["File"] == row["path"].rpartition("/")[2]
    assert card.told["Source"] == row["source"]
    assert card.told["Label"] == "fractured"
    assert card.told["Answer"] == "not fractured, probability 0.029 (threshold 0.500)"  # expit(-3.5)
    plain, under = card.pictures
    assert plain.png.startswith(b"\x89PNG")
    assert plain.png != under.png
    assert plain.size == under.size == (224, 224)


def test_what_there_is_none_of_has_no_row():
    maps = maps_of([1, 0], ["", ""], [(0, 0)] * 2, logit=np.array([3.0, -3]))
    report = judged(maps, "")
    assert [block.title for block in report.galleries["test"]] == [RIGHT, LEAST]


def test_the_nearest_training_xrays_stand_below_and_are_named():
    maps = maps_of([1, 0], ["", ""], [(0, 0)] * 2, logit=np.array([3.0, -3]))
    white, black = (np.full((32, 32), level, np.uint8) for level in (255, 0))
    near = [[Neighbour(0.5, 1, white, "a.jpg"), Neighbour(1.25, 0, black, "b.jpg")], []]
    report = judged(maps, "", lambda xrays: Neighbours([near[1 - label] for label in xrays.label]))
    (fractured, healthy), _ = (block.cards for block in report.galleries["test"])
    assert fractured.told["Nearest training X-rays"] == "fractured 0.50, not fractured 1.25"
    assert [picture.text for picture in fractured.small] == [
        "Training X-ray a.jpg: fractured 0.50",
        "Training X-ray b.jpg: not fractured 1.25",
    ]
    assert cv2.imdecode(np.frombuffer(fractured.small[0].png, np.uint8), cv2.IMREAD_COLOR).min() == 255
    assert healthy.small == ()
    assert "Nearest training X-rays" not in healthy.told
    assert report.tags == {}
    captions = [text.get_text() for text in report.figures["test/gallery.png"].axes[0].texts]
    assert sum("\nnearest: 1 of 2 fractured" in text for text in captions) == 2  # in two rows


def test_those_that_are_not_at_hand_are_told_without_a_picture():
    maps = maps_of([1, 0], ["", ""], [(0, 0)] * 2, logit=np.array([3.0, -3]))
    near = [Neighbour(0.5, 1), Neighbour(np.nan, None, np.zeros((32, 32), np.uint8), "b.jpg")]
    report = judged(maps, "", lambda xrays: Neighbours([near] * 2, "Nearest training X-rays: 1 of 2"))
    card = report.galleries["test"][0].cards[0]
    assert card.told["Nearest training X-rays"] == "fractured 0.50 (not at hand), label unknown"
    assert [picture.text for picture in card.small] == ["Training X-ray b.jpg: label unknown"]
    figure = report.figures["test/gallery.png"]
    assert figure.get_supxlabel().splitlines()[-1] == "Nearest training X-rays: 1 of 2"
    assert report.tags == {"nearest_training_xrays.test": "Nearest training X-rays: 1 of 2"}
    assert not any("nearest:" in text.get_text() for text in figure.axes[0].texts)  # of what labels is not known
