"""The index of copies among simulated pictures."""

import sys

import cv2
import numpy as np
import pytest

from benchmarks import copies
from fracture_mae.errors import FractureMaeError


@pytest.fixture
def pool():
    """Descriptors that no two have in common: bright in 32 places of 128."""
    rng = np.random.default_rng(1)
    return (rng.permuted(np.tile(np.arange(128) < 32, (600, 1)), axis=1) * 120).astype(np.uint8)


def simulated(tmp_path, pool, **options):
    return copies.Simulated(tmp_path / "made.npy", pool, **options)


def test_no_two_pictures_share_a_descriptor_but_copies_two_of_three(tmp_path, pool):
    pictures = simulated(tmp_path, pool, n=40, n_copies=10, noise=0)
    rows = [{bytes(each) for each in picture.descriptors} for picture in pictures]
    assert len(set().union(*rows[:30])) == 30 * 128
    for copy, original in pictures.copies:
        assert copy >= 30 > original
        # Of 128, 43 are another picture's, unless that other is the original itself.
        assert len(rows[copy] & rows[original]) in (85, 128)


def test_descriptors_spread_as_those_they_are_made_of(tmp_path):
    """Values of these stay within 0 to 255, so nothing is clipped."""
    pool = np.random.default_rng(1).normal(128, 12, (5000, 128)).round().astype(np.uint8)
    pictures = simulated(tmp_path, pool, n=40, n_copies=0, noise=0)
    made = np.concatenate([picture.descriptors for picture in pictures]).astype(float)
    assert made.mean() == pytest.approx(pool.mean(), abs=0.2)
    assert made.std(axis=0).mean() == pytest.approx(pool.std(axis=0).mean(), rel=0.02)


def test_undisturbed_copies_are_all_found_and_disturbed_beyond_measure_none(pool):
    table = copies.tabulate([60, 120], pool, n_copies=20, noise=0)
    assert table["found"].tolist() == [20, 20]
    assert table["ratio"].iloc[0] == 1
    assert table["ratio"].iloc[1] == pytest.approx(table["both [ms]"].iloc[1] / table["both [ms]"].iloc[0])
    assert copies.tabulate([120], pool, n_copies=20, noise=1e4)["found"].item() <= 4


def test_a_file_that_cannot_be_read_is_told_and_left_out(tmp_path, capsys):
    whole = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8))[1].tobytes()
    for label, content in (("fractured", whole), ("healthy", whole[: len(whole) // 2])):
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(content)
    pool = copies.pool_of(str(tmp_path))
    assert pool.shape[0] > 50
    assert pool.shape[1] == 128
    assert "left out: " in (told := capsys.readouterr().err)
    assert "healthy/x.png" in told
    (tmp_path / "fractured" / "x.png").write_bytes(b"")
    with pytest.raises(FractureMaeError, match="found 0 keypoints in 2 files, expected 2 or more"):
        copies.pool_of(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sizes", "100", "60", "--copies", "30"], "found 30 copies among 60 pictures, expected less than half"),
        (["--copies", "-1"], "found -1 copies among 1000 pictures"),
        (["--noise", "nan"], "--noise: found nan, expected a number, 0 or more"),
        (["--noise", "inf"], "--noise: found inf"),
    ],
)
def test_numbers_that_cannot_be_are_refused(monkeypatch, capsys, options, sentence):
    monkeypatch.setattr(sys, "argv", ["copies", *options])
    with pytest.raises(SystemExit) as ended:
        copies.main()
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
