from math import sqrt

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from fracture_mae.evaluation import out_of_fold
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.evaluation.out_of_fold import over_folds
from fracture_mae.metrics.calibration import Isotonic
from fracture_mae.metrics.decision import Decision

NAMES = ("healthy", "broken")
CERTAINTY = Certainty(n_draws=100, seed=0)


def held_out(*files):
    """Predictions from (name, X-ray, label, logit)."""
    rows = [
        {"path": name, "sha256": name, "label": label, "group": group, "source": "made", "logit": float(logit)}
        for name, group, label, logit in files
    ]
    return pd.DataFrame(rows)


# Fold 1 halves its logits and answers from 1/2 on; fold 2 takes them as they are and answers from 3/4 (logit log 3) on.
FIRST = held_out(("a", "p", 1, 4), ("b", "p", 1, -2), ("c", "q", 0, -2)), Decision(NAMES, 0.5, slope=0.5)
SECOND = held_out(("e", "r", 1, 0.5), ("d", "s", 0, 2), ("f", "s", 0, -3)), Decision(NAMES, 0.75)
FOLDS = (FIRST, SECOND)
DECISIONS = [decision for _, decision in FOLDS]


@pytest.fixture(scope="module")
def pooled():
    return out_of_fold.pool(FOLDS)


@pytest.fixture(scope="module")
def judged(pooled):
    return out_of_fold.judge(pooled, DECISIONS, "seen before", CERTAINTY)


def test_each_prediction_has_its_own_folds_choices(pooled):
    assert pooled["path"].tolist() == list("abcdef")
    assert pooled["fold"].tolist() == [1, 1, 1, 2, 2, 2]
    assert pooled["threshold"].tolist() == [0.5] * 3 + [0.75] * 3
    assert pooled["answer"].tolist() == ["broken", "healthy", "healthy", "broken", "healthy", "healthy"]
    assert pooled["truth"].tolist() == ["broken", "broken", "healthy", "healthy", "broken", "healthy"]
    np.testing.assert_allclose(np.log(pooled["probability"] / (1 - pooled["probability"])), [2, -1, -1, 2, 0.5, -3])


def test_pooled_metrics_by_hand(judged):
    # Files, calibrated: broken 2, -1, 0.5 and healthy -1, 2, -3: 2 beats two and ties one, -1 beats one and ties one, 0.5
    # beats two.
    assert judged.metrics["cross_validation/image/auroc"] == pytest.approx((2.5 + 1.5 + 2) / 9)
    assert judged.metrics["cross_validation/image/sensitivity"] == pytest.approx(1 / 3)
    assert judged.metrics["cross_validation/image/specificity"] == pytest.approx(2 / 3)
    # X-rays: broken 0.5 and 0.5, healthy -1 and -0.5; at the threshold of the second fold 0.5 is no alarm.
    assert judged.metrics["cross_validation/xray/auroc"] == 1
    assert judged.metrics["cross_validation/xray/sensitivity"] == 1 / 2
    assert judged.metrics["cross_validation/xray/specificity"] == 1


def test_an_isotonic_fold_calibrates_the_mean_logit_of_an_xray():
    isotonic = Isotonic((-2.0, 2.0), (0.1, 0.9))
    folds = [(held_out(("a", "p", 1, 6), ("b", "p", 1, -2), ("c", "q", 0, -1)), Decision(NAMES, isotonic=isotonic))]
    levels = out_of_fold.calibrated_levels(out_of_fold.pool(folds), [decision for _, decision in folds])
    assert levels["image"]["probability"].tolist() == pytest.approx([0.9, 0.1, 0.3])
    assert levels["xray"]["probability"].tolist() == pytest.approx([0.9, 0.3])  # of (6 - 2) / 2 = 2, and of -1


def test_metrics_of_each_fold_and_their_mean(judged):
    folds = judged.tables["cross_validation/image/folds.csv"].set_index("fold")
    assert folds["auroc"].tolist() == pytest.approx([(1 + 0.5) / 2, 1 / 2])
    assert folds["n"].tolist() == [3, 3]
    assert judged.metrics["cross_validation/image/auroc_mean"] == pytest.approx((0.75 + 0.5) / 2)
    table = judged.tables["cross_validation/image/metrics.csv"].set_index("metric")
    assert table.loc["auroc", "mean"] == pytest.approx((0.75 + 0.5) / 2)
    assert table.loc["auroc", "estimate"] == judged.metrics["cross_validation/image/auroc"]


def test_the_interval_over_folds_by_hand():
    folds = pd.DataFrame({"auroc": [0.6, 0.7, 0.8, 0.7], "precision": [0.5, np.nan, 0.7, 0.6]}, index=[1, 2, 3, 4])
    table = over_folds(folds)
    assert table.loc["auroc", "sd"] == pytest.approx(sqrt(0.02 / 3))
    reach = 3.182446 * sqrt(0.02 / 3) * sqrt(1 / 4 + 1 / 3)  # Student's 97.5 % quantile for 3 degrees of freedom
    assert table.loc["auroc", ["mean", "mean_low", "mean_high"]].tolist() == pytest.approx(
        [0.7, 0.7 - reach, 0.7 + reach]
    )
    reach = 4.302653 * 0.1 * sqrt(1 / 3 + 1 / 3)  # where a fold has no value
    assert table.loc["precision", ["mean", "mean_low"]].tolist() == pytest.approx([0.6, 0.6 - reach])
    assert table["n_folds"].tolist() == [4, 3]


def test_a_single_defined_fold_has_no_interval():
    table = over_folds(pd.DataFrame({"precision": [0.5, np.nan]}, index=[1, 2]))
    assert table.loc["precision", "mean"] == 0.5
    assert np.isnan(table.loc["precision", ["mean_low", "mean_high"]].astype(float)).all()


def test_files_that_do_not_count_are_left_out_among_files_alone(pooled):
    weight = pd.Series({"a": 1, "b": 0, "c": 1, "d": 0, "e": 1, "f": 1})
    found = out_of_fold.judge(pooled.assign(weight=pooled["path"].map(weight)), DECISIONS, "", CERTAINTY)
    assert found.metrics["cross_validation/image/auroc"] == 1  # 2 and 0.5 against -1 and -3
    assert found.metrics["cross_validation/xray/specificity"] == 1  # by the mean of d and f
    assert out_of_fold.digest(found).index.tolist() == [
        ("pooled", "one file per X-ray"),
        ("mean of folds", "one file per X-ray"),
        ("pooled", "X-ray"),
        ("mean of folds", "X-ray"),
    ]


def test_digest_prints_both_with_intervals(judged):
    table = out_of_fold.digest(judged)
    assert table.loc[("mean of folds", "file"), "auroc"].startswith("0.625 [")
    assert table.loc[("pooled", "X-ray"), "auroc"].startswith("1.000 [")


@pytest.mark.filterwarnings("error")
def test_figures_say_what_they_show(judged, tmp_path):
    expected = {
        f"cross_validation/{level}/{name}.png"
        for level in ("image", "xray")
        for name in ("roc", "folds", "confusion_matrix", "reliability")
    }
    assert set(judged.figures) == expected
    for path, figure in judged.figures.items():
        words = " ".join(text.get_text() for text in figure.findobj(Text))
        assert (
            "2 folds · " + ("per X-ray · 4 X-rays" if "/xray/" in path else "per file · 6 files of 4 X-rays") in words
        )
        assert "seen before" in words
        figure.savefig(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 10_000
    (axes,) = judged.figures["cross_validation/image/roc.png"].axes
    assert len(axes.lines) == 2 + 1 + 1  # folds, pooled, chance


def test_xrays_of_a_patient_are_drawn_as_one():
    rng, label = np.random.default_rng(0), np.tile([0, 1], 30)
    one = held_out(*((f"f{n}", f"x{n}", each, rng.normal() + each) for n, each in enumerate(label)))
    twice = pd.concat([one, one.assign(path="2" + one["path"], group="2" + one["group"])], ignore_index=True)

    def pooled_ends(table):
        parts = [table[table["group"].str[-1].isin(list(numbers))] for numbers in ("01234", "56789")]
        pooled = out_of_fold.pool((part, Decision(NAMES, 0.5)) for part in parts)
        metrics = out_of_fold.judge(pooled, [Decision(NAMES, 0.5)] * 2, "", CERTAINTY).metrics
        return [metrics[f"cross_validation/xray/auroc_{end}"] for end in ("low", "high")]

    known = twice.assign(patient=twice["group"].str.removeprefix("2"))
    assert pooled_ends(known) == pytest.approx(pooled_ends(one.assign(patient=one["group"])))
    assert np.ptp(pooled_ends(twice)) < 0.9 * np.ptp(pooled_ends(known))
