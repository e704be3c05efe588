from dataclasses import replace

import numpy as np
import pytest

from fracture_mae.data.reading.preprocessing import preprocess
from fracture_mae.errors import FractureMaeError
from fracture_mae.models import gate, gate_statistics
from fracture_mae.models.gate import Gate
from tests import builders

ONE = Gate(  # an X-ray at 0, and its border where 2 · exp(-x²) = 1
    centre=np.array([10.0], np.float32),
    scale=np.array([2.0], np.float32),
    support=np.zeros((1, 1), np.float32),
    weight=np.array([2.0], np.float32),
    constant=-1.0,
    gamma=1.0,
    distances=np.array([-1.0, -0.5, 0.0, 0.25]),
    where="4 made",
)


def at(*values):
    """Pictures of one part and one number."""
    return np.array(values, float).reshape(-1, 1, 1)


def test_distance_is_what_the_border_says():
    # 10 is the centre, 12 one deviation from it, and from 26 on all is as far.
    expected = [1 - 2, 1 - 2 * np.exp(-1), 1 - 2 * np.exp(-64), 1 - 2 * np.exp(-64)]
    np.testing.assert_allclose(ONE.distance(at(10, 12, 26, 1e9)), expected, atol=1e-12)
    parts = np.array([[[10.0], [12.0]]])
    np.testing.assert_allclose(ONE.distance(parts), [(expected[0] + expected[1]) / 2])
    assert ONE.distance(np.zeros((0, 1, 1))).shape == (0,)


@pytest.mark.parametrize(
    ("n", "rank", "refused"), [(4, 4, 1 / 5), (98, 98, 1 / 99), (99, 99, 1 / 100), (199, 198, 2 / 200)]
)
def test_one_percent_is_refused_as_far_as_n_says(n, rank, refused):
    made = replace(ONE, constant=-9.0, distances=np.arange(n) / n)
    assert (made.rank, made.limit) == (rank, (rank - 1) / n)
    assert made.refused == pytest.approx(refused)
    assert made.accepts(np.array([made.limit, np.nextafter(made.limit, 1)])).tolist() == [True, False]


def test_of_xrays_like_its_own_no_more_than_promised_are_refused():
    """On average over 400 gates, of 20 new X-rays each; the standard error is 0.001 where 0.01 is promised."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(400, 220))
    shares = [
        1 - replace(ONE, constant=-9.0, distances=np.sort(each[:200])).accepts(each[200:]).mean() for each in drawn
    ]
    assert 0.006 < np.mean(shares) < 0.0135


def test_what_is_like_nothing_known_is_refused_unless_too_many_xrays_would_be():
    """The border's constant is 1: of 99 X-rays one or two, then three, lie as far as that."""
    nearer = np.linspace(-1, 0.5, 99)
    for n_far, refuses in ((1, True), (2, False), (3, False)):
        made = replace(ONE, distances=np.append(nearer[: 99 - n_far], np.linspace(1, 2, n_far)))
        assert made.knows_the_unknown == (n_far / 99 <= 0.02)
        assert made.accepts(made.distance(at(10, 1e9))).tolist() == [True, not refuses]
        assert ("too few X-rays" in str(made)) == (not refuses)
    few = replace(ONE, distances=np.array([0.0, 1.0, 2.0]))
    assert few.accepts(few.distances).all()


def test_shares_rise_with_the_distance_and_reasons_tell_them():
    distance = np.linspace(-2, 2, 50)
    shares = ONE.farther_than(distance)
    assert (np.diff(shares) >= 0).all()
    assert (shares[0], shares[-1]) == (0, 1)
    assert ONE.farther_than(np.array([-0.7, 0.1])).tolist() == [1 / 4, 3 / 4]
    told = replace(ONE, distances=np.arange(600.0) - 600, constant=9.0)
    assert told.reasons(np.array([-600.0, -3.5, 1.0])) == [
        "",
        "unlike the X-rays it was made from: farther than 99.5 % of 600 of them",
        "unlike the X-rays it was made from: farther than all 600 of them",
    ]
    assert "refuses what is farther from its own X-rays than 595 of 600 of them (4 made)" in str(told)


def test_it_comes_back(tmp_path):
    ONE.save(tmp_path)
    back = Gate.load(tmp_path)
    for name in ("centre", "scale", "support", "weight", "distances"):
        np.testing.assert_array_equal(getattr(back, name), getattr(ONE, name))
    assert (back.constant, back.gamma, back.where) == (-1.0, 1.0, "4 made")
    assert Gate.load(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip"])
def test_damage_is_a_sentence(tmp_path, content):
    (tmp_path / "gate.npz").write_bytes(content)
    with pytest.raises(FractureMaeError, match=r"gate\.npz, by which the classifier tells .*, is damaged"):
        Gate.load(tmp_path)


def test_a_part_that_is_missing_is_damage(tmp_path):
    np.savez(tmp_path / "gate.npz", centre=ONE.centre)
    with pytest.raises(FractureMaeError, match="is damaged"):
        Gate.load(tmp_path)


def test_the_nearest_are_named_in_order():
    among = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 200.0], [2.0, 200.0]])  # deviations 1 and 100
    rows, distance = gate.nearest(np.array([[0.0, 0.0], [2.0, 150.0]]), among, 2)
    assert rows.tolist() == [[0, 1], [3, 1]]
    np.testing.assert_allclose(distance, [[0, 2], [0.5, 1.5]])
    assert gate.nearest(among, among, 9)[0].shape == (4, 4)
    even = np.array([[1.0, 5.0], [3.0, 5.0]])  # what is equal in all counts as it is
    assert gate.nearest(np.array([[1.0, 6.0]]), even, 1)[1].tolist() == [[1.0]]


@pytest.mark.parametrize(("how", "k"), [("letterbox", 1), ("film", 1), ("film_equalised", 1), ("film_squares", 3)])
def test_numbers_of_pictures_are_finite_and_as_many_for_every_side(how, k):
    pictures = [np.zeros((1, 1), np.uint8), np.full((40, 90), 255, np.uint8), builders.xrays("test", [1]).pixels[0]]
    numbers = []
    for side in (32, 128):
        squares = np.stack([preprocess(picture, side, how)[0] for picture in pictures])
        assert squares.shape[1] == k
        numbers.append(gate_statistics.of_pictures(squares, how))
        assert np.isfinite(numbers[-1]).all()
    assert numbers[0].shape == numbers[1].shape
    assert numbers[0].shape[:2] == (3, 1 if how == "film_equalised" else 3)
    described = gate.describe(squares, np.full((3, 2), 7.0), how)
    np.testing.assert_array_equal(described[..., :-2], numbers[-1])
    assert (described[..., -2:] == 7).all()


def test_numbers_of_a_square_hang_on_no_other():
    squares = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    together = gate_statistics.of_pictures(squares[None], "film_squares")[0]
    turned = gate_statistics.of_pictures(squares[None, [2, 0, 1]], "film_squares")[0]
    np.testing.assert_array_equal(turned, together[[2, 0, 1]])
    alone = gate_statistics.of_pictures(squares[:, None], "film_equalised")  # one each
    np.testing.assert_allclose(alone[:, 0], together, rtol=1e-5, atol=1e-6)


def test_numbers_of_stripes_are_those_worked_out_by_hand():
    """Three quarters of the rows black, one white; the gradient of upright stripes lies along x, the first of eight directions."""
    rows = np.repeat(np.uint8([0, 0, 0, 255]), 16)[:, None].repeat(64, axis=1)
    columns = np.tile(np.uint8([0, 0, 0, 0, 255, 255, 255, 255]), 8)[None].repeat(64, axis=0)
    (of_rows, of_columns, _) = gate_statistics.of_pictures(np.stack([rows, columns, rows])[None], "film_squares")[0]
    quantiles, histogram, commonest = of_rows[:7], of_rows[7:23], of_rows[23]
    np.testing.assert_allclose(quantiles, [0, 0, 0, 0, 0, 1, 1])  # at 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99
    np.testing.assert_allclose(histogram**2, [0.75, *[0] * 14, 0.25], atol=1e-7)
    np.testing.assert_allclose(commonest**2, 0.75)
    n_before = 24 + 10 + 64 + 64 + 15  # tones, spectrum, means and deviations of cells, their spread
    np.testing.assert_allclose(of_rows[34:98].reshape(8, 8), np.repeat([0, 0, 0, 1], 2)[:, None].repeat(8, axis=1))
    directions = of_columns[n_before : n_before + 128].reshape(16, 8) ** 2
    assert (directions[:, 0] > 0.9).all()
    np.testing.assert_allclose(directions[:, 1:], 0, atol=1e-6)
