import numpy as np

from fracture_mae.data.synthetic import foreign


def test_pictures_are_the_same_every_time_and_differ_from_each_other():
    pictures = [foreign.picture(number) for number in range(36)]
    for number in (0, 7, 35):
        np.testing.assert_array_equal(foreign.picture(number), pictures[number])
    assert len({picture.tobytes() for picture in pictures}) == 36
    for picture in pictures:
        assert picture.dtype == np.uint8
        assert max(picture.shape) == 128
        assert min(picture.shape) >= 76  # 0.6 of that


def test_every_kind_comes_in_turn(monkeypatch):
    made = []
    kinds = [lambda rng, i=i: made.append(i) or np.zeros((128, 128)) for i in range(len(foreign._KINDS))]
    monkeypatch.setattr(foreign, "_KINDS", kinds)
    for number in range(2 * len(kinds)):
        foreign.picture(number)
    assert made == [*range(len(kinds))] * 2
