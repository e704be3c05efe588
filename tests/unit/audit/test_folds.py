import numpy as np
import pandas as pd
import pytest

from fracture_mae.audit import folds
from fracture_mae.errors import FractureMaeError


def predictions(label, logit, group=None):
    group = [f"g{number}" for number in range(len(label))] if group is None else group
    return pd.DataFrame({"label": label, "logit": logit, "group": group})


def test_scores_by_hand():
    # In the first fold one of four pairs is turned round, in the second none.
    table = predictions([0, 0, 1, 1, 0, 0, 1, 1], [0.0, 2.0, 1.0, 3.0, 10.0, 11.0, 12.0, 13.0])
    parts = [(np.arange(4, 8), np.arange(4)), (np.arange(4), np.arange(4, 8))]
    found = folds.score(table, parts)["image"]
    assert found.folds == (0.75, 1.0)
    assert found.n_files == found.n_xrays == 8
    assert np.isnan([found.low, found.high]).all()  # four of each label
    often = [tuple(np.concatenate([rows + 8 * n for n in range(3)]) for rows in fold) for fold in parts]
    copied = pd.concat([table] * 3, ignore_index=True).assign(group=[f"x{n}" for n in range(24)])
    found = folds.score(copied, often)["image"]
    assert found.low < found.auroc < found.high


def test_scales_of_different_folds_are_not_mixed_up():
    """Each fold ranks perfectly, but the scores of the second all lie above those of the first."""
    table = predictions([0, 0, 1, 1, 0, 0, 1, 1], [-9.0, -8.0, -7.0, -6.0, 6.0, 7.0, 8.0, 9.0])
    parts = [(np.arange(4, 8), np.arange(4)), (np.arange(4), np.arange(4, 8))]
    assert folds.score(table, parts)["image"].auroc == 1


def test_copies_count_once_per_xray():
    table = predictions([0, 1, 1, 1, 1], [1.0, 0.0, 0.0, 0.0, 2.0], group=["n", "p", "p", "p", "q"])
    found = folds.score(table, [(np.arange(0), np.arange(5))])
    assert found["image"].auroc == pytest.approx(1 / 4)
    assert found["xray"].auroc == pytest.approx(1 / 2)
    assert (found["xray"].n_files, found["xray"].n_xrays) == (5, 3)


def test_an_xray_with_many_files_does_not_shift_the_others_of_its_fold():
    """Both folds rank their two X-rays perfectly; in the first, one positive has many files, above all others."""
    table = predictions([0, 1, 1, 1, 1, 0, 1], [0.0, 1.0, 1.1, 1.2, 1.3, 5.0, 6.0], group=["a", *"bbbb", "c", "d"])
    parts = [(np.arange(5, 7), np.arange(5)), (np.arange(5), np.arange(5, 7))]
    assert folds.score(table, parts)["xray"].auroc == 1


def test_an_xray_in_several_folds_counts_once():
    table = predictions([0, 1, 0, 1], [0.0, 1.0, 2.0, 1.0], group=["a", "b", "a", "b"])
    found = folds.score(table, [(np.arange(2, 4), np.arange(2)), (np.arange(2), np.arange(2, 4))])["xray"]
    assert (found.n_xrays, found.n_files) == (2, 4)
    assert found.auroc == 0.5  # right in one fold, wrong in the other


def test_files_that_no_fold_scores_are_left_out():
    table = predictions([0, 1, 0, 1], [1.0, 2.0, np.nan, np.nan])
    found = folds.score(table, [(np.arange(2, 4), np.arange(2))])["image"]
    assert (found.auroc, found.n_files) == (1, 2)


def test_a_group_under_both_labels_counts_as_two():
    table = predictions([0, 1, 1, 0], [0.0, 1.0, 2.0, 0.5], group=["patient", "patient", "b", "c"])
    assert folds.score(table, [(np.arange(0), np.arange(4))])["xray"].n_xrays == 4


def test_two_xrays_of_a_patient_are_drawn_as_one():
    rng = np.random.default_rng(0)
    label = np.tile([0, 1], 20)
    one = predictions(label, rng.normal(size=40) + label)
    twice = pd.concat([one, one.assign(group=one["group"].astype(str) + "b")], ignore_index=True)
    rows = [(np.arange(0), np.arange(40))], [(np.arange(0), np.arange(80))]
    alone = folds.score(one, rows[0])["xray"]
    joined = folds.score(twice.assign(patient=twice["group"].astype(str).str.rstrip("b")), rows[1])["xray"]
    apart = folds.score(twice, rows[1])["xray"]
    assert (alone.n_xrays, joined.n_xrays, apart.n_xrays) == (40, 80, 80)
    assert (joined.low, joined.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    assert apart.high - apart.low < 0.85 * (joined.high - joined.low)


def test_a_fold_with_one_label_has_no_score_of_its_own():
    table = predictions([0, 0, 1, 0], [0.0, 1.0, 2.0, 0.5])
    found = folds.score(table, [(np.arange(2, 4), np.arange(2)), (np.arange(2), np.arange(2, 4))])["image"]
    assert np.isnan(found.folds[0])
    assert found.folds[1] == 1


def test_folds_split_no_group():
    label, group = np.repeat([0, 1], 30), np.repeat(np.arange(20), 3)
    found = folds.grouped(label, group, 5, seed=0)
    assert len(found) == 5
    assert sorted(np.concatenate([held_out for _, held_out in found])) == list(range(60))
    assert all(not set(group[fitted]) & set(group[held_out]) for fitted, held_out in found)


def test_fewer_xrays_than_folds_are_refused():
    table = pd.DataFrame({"label_name": ["yes"] * 4 + ["no"] * 4, "group": [*"abcc", *"defg"]})
    folds.check_enough(table, 3)
    with pytest.raises(FractureMaeError, match=r"--n-folds 4: .*'no': 4, 'yes': 3.* at least 4 of each label"):
        folds.check_enough(table, 4)
    with pytest.raises(FractureMaeError, match="found: none"):
        folds.check_enough(table.iloc[:0], 2)
    with pytest.raises(FractureMaeError, match="'yes': 3"):
        folds.check_enough(table.iloc[:4], 2)
