import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics import scores

LABEL, PROBABILITY = [0, 0, 0, 1, 1], [0.1, 0.6, 0.3, 0.6, 0.9]
NAMES = ["healthy", "fractured"]


def test_confusion_has_true_rows_and_negative_first():
    assert scores.confusion(LABEL, PROBABILITY, 0.5).tolist() == [[2, 1], [0, 2]]
    assert scores.confusion([1, 1], [0.6, 0.9], 0.5).tolist() == [[0, 0], [0, 2]]


def test_classification_report_is_that_of_scikit_learn():
    report = scores.classification_report(LABEL, PROBABILITY, 0.5, NAMES)
    assert report.index.tolist() == [*NAMES, "accuracy", "macro avg", "weighted avg"]
    assert report.columns.tolist() == ["precision", "recall", "f1-score", "support"]
    np.testing.assert_allclose(report.loc["healthy"], [1, 2 / 3, 0.8, 3])
    np.testing.assert_allclose(report.loc["fractured"], [2 / 3, 1, 0.8, 2])
    np.testing.assert_allclose(report.loc["accuracy"], [np.nan, np.nan, 0.8, 5])
    np.testing.assert_allclose(report.loc["macro avg"], [5 / 6, 5 / 6, 0.8, 5])
    np.testing.assert_allclose(report.loc["weighted avg"], [13 / 15, 0.8, 0.8, 5])


@pytest.mark.parametrize("names", [("accuracy", "macro avg"), ("0", "weighted avg"), ("label", "accuracy")])
def test_a_class_may_be_called_like_a_row_of_the_classification_report(names):
    report = scores.classification_report(LABEL, PROBABILITY, 0.5, names)
    assert report.index.tolist() == [*names, "accuracy", "macro avg", "weighted avg"]
    np.testing.assert_allclose(report.iloc[0], [1, 2 / 3, 0.8, 3])
    np.testing.assert_allclose(report.iloc[1], [2 / 3, 1, 0.8, 2])
    np.testing.assert_allclose(report.iloc[2], [np.nan, np.nan, 0.8, 5])


def test_classification_report_of_one_class_has_the_same_rows():
    report = scores.classification_report([1, 1], [0.6, 0.9], 0.5, NAMES)
    assert report.index.tolist() == [*NAMES, "accuracy", "macro avg", "weighted avg"]
    assert report["support"].tolist() == [0, 2, 2, 2, 2]


def test_summary_by_hand():
    summary = scores.summary(LABEL, PROBABILITY, 0.5)
    assert summary == pytest.approx(
        {
            "auroc": 5.5 / 6,  # of six pairs one is tied
            "average_precision": 1 / 2 + 1 / 2 * 2 / 3,
            "brier": (0.01 + 0.36 + 0.09 + 0.16 + 0.01) / 5,
            "log_loss": -np.log([0.9, 0.4, 0.7, 0.6, 0.9]).mean(),
            "accuracy": 4 / 5,
            "balanced_accuracy": 5 / 6,
            "sensitivity": 1,
            "specificity": 2 / 3,
            "precision": 2 / 3,
            "negative_predictive_value": 1,
            "f1": 4 / 5,
            "mcc": 2 / 3,
        }
    )


@pytest.mark.filterwarnings("error")
def test_one_class_gives_nan_where_undefined():
    positive = scores.summary([1, 1], [0.2, 0.9], 0.5)
    undefined = {name for name, value in positive.items() if np.isnan(value)}
    assert undefined == {"auroc", "specificity", "balanced_accuracy", "mcc"}
    assert (positive["sensitivity"], positive["negative_predictive_value"]) == (0.5, 0)

    negative = scores.summary([0, 0], [0.2, 0.3], 0.5)
    undefined = {name for name, value in negative.items() if np.isnan(value)}
    assert undefined == {"auroc", "average_precision", "sensitivity", "balanced_accuracy", "precision", "f1", "mcc"}


def test_one_decision_for_all_has_no_correlation():
    assert scores.summary([0, 1], [0.6, 0.7], 0.5)["mcc"] == 0


SKLEARN = {
    "auroc": lambda y, p, d, w: sklearn.metrics.roc_auc_score(y, p, sample_weight=w),
    "average_precision": lambda y, p, d, w: sklearn.metrics.average_precision_score(y, p, sample_weight=w),
    "brier": lambda y, p, d, w: sklearn.metrics.brier_score_loss(y, p, sample_weight=w),
    "log_loss": lambda y, p, d, w: sklearn.metrics.log_loss(y, p, sample_weight=w),
    "accuracy": lambda y, p, d, w: sklearn.metrics.accuracy_score(y, d, sample_weight=w),
    "balanced_accuracy": lambda y, p, d, w: sklearn.metrics.balanced_accuracy_score(y, d, sample_weight=w),
    "sensitivity": lambda y, p, d, w: sklearn.metrics.recall_score(y, d, sample_weight=w),
    "specificity": lambda y, p, d, w: sklearn.metrics.recall_score(y, d, pos_label=0, sample_weight=w),
    "precision": lambda y, p, d, w: sklearn.metrics.precision_score(y, d, sample_weight=w, zero_division=np.nan),
    "f1": lambda y, p, d, w: sklearn.metrics.f1_score(y, d, sample_weight=w),
    "mcc": lambda y, p, d, w: sklearn.metrics.matthews_corrcoef(y, d, sample_weight=w),
}

# Few distinct probabilities make many ties; weights of zero are files that a bootstrap draw left out.
weighted_files = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 10).map(lambda step: step / 10), st.sampled_from([0, 1, 2, 0.3])),
    min_size=2,
    max_size=40,
).filter(lambda files: len({label for label, _, weight in files if weight}) == 2)


@pytest.mark.filterwarnings("ignore:.*", "error::RuntimeWarning")
@settings(max_examples=60, deadline=None)
@given(weighted_files)
def test_weighted_metrics_equal_those_of_scikit_learn(files):
    label, probability, weight = map(np.array, zip(*files, strict=True))
    summary = scores.summary(label, probability, 0.5, weight)
    decision = probability >= 0.5
    for name, reference in SKLEARN.items():
        expected = reference(label, probability, decision, weight)
        assert summary[name] == pytest.approx(expected, abs=1e-9, nan_ok=True), name


def test_many_weightings_at_once_equal_one_by_one():
    rng = np.random.default_rng(0)
    label, probability, weight = rng.integers(0, 2, 60), rng.integers(0, 20, 60) / 19, rng.integers(0, 3, (2, 3, 60))
    together = scores.summaries(label, probability, 0.4, weight)
    for place in np.ndindex(2, 3):
        alone = scores.summary(label, probability, 0.4, weight[place])
        assert {name: values[place] for name, values in together.items()} == pytest.approx(alone)


def test_threshold_sweep_lists_every_decision():
    sweep = scores.threshold_sweep([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(sweep["threshold"], [0.1, 0.3, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(sweep["sensitivity"], [1, 1, 0.5, 0.5, 0])
    np.testing.assert_allclose(sweep["specificity"], [0, 0.5, 0.5, 1, 1])
    np.testing.assert_allclose(sweep["precision"], [1 / 2, 2 / 3, 1 / 2, 1, np.nan])
    np.testing.assert_allclose(sweep["f1"], [2 / 3, 0.8, 0.5, 2 / 3, 0])
    np.testing.assert_allclose(sweep["balanced_accuracy"], [0.5, 0.75, 0.5, 0.75, 0.5])
    np.testing.assert_allclose(sweep["flagged_share"], [1, 0.75, 0.5, 0.25, 0])


def test_a_long_threshold_sweep_is_thinned_between_its_ends():
    probability = np.linspace(0.01, 0.99, 1000)
    sweep = scores.threshold_sweep(np.arange(1000) % 2, probability)
    assert len(sweep) == 201
    assert sweep["threshold"].is_monotonic_increasing
    assert (sweep["flagged_share"].iloc[0], sweep["flagged_share"].iloc[-1]) == (1, 0)
    assert sweep["flagged_share"].diff().abs().max() <= 0.006


def test_groups_have_equal_weight():
    weight = scores.equal_group_weight(["a", "b", "a", "a", "b", "c"])
    assert weight == pytest.approx([1 / 3, 1 / 2, 1 / 3, 1 / 3, 1 / 2, 1])


def test_per_group_averages_logits():
    table = pd.DataFrame({"group": ["b", "a", "b"], "label": [1, 0, 1], "logit": [3.0, -1.0, -1.0]})
    expected = pd.DataFrame({"group": ["a", "b"], "label": [0, 1], "logit": [-1.0, 1.0], "n_files": [1, 2]})
    pd.testing.assert_frame_equal(scores.per_group(table), expected)


def test_per_group_refuses_a_group_with_both_labels():
    table = pd.DataFrame({"group": ["b", "b"], "label": [1, 0], "logit": [3.0, -1.0]})
    with pytest.raises(FractureMaeError, match="'b'"):
        scores.per_group(table)


def test_reconstruction_by_hand():
    original = np.full((2, 16, 16), 0.5)
    mask = np.zeros_like(original)
    mask[:, :4] = 1  # a quarter is hidden
    reconstructed = original.copy()
    reconstructed[0, :4] += 0.2
    reconstructed[0, 4:] += 0.1
    quality = scores.reconstruction(original, reconstructed, mask)
    np.testing.assert_allclose(quality["masked_mse"], [0.04, 0])
    np.testing.assert_allclose(quality["mse"], [0.04 / 4 + 0.01 * 3 / 4, 0])
    np.testing.assert_allclose(quality["psnr"], [-10 * np.log10(0.0175), np.inf])
    assert quality["ssim"][1] == 1


def test_reconstruction_of_flat_pictures_has_the_ssim_of_their_means():
    # Without contrast SSIM is its luminance term (2ab + c) / (a² + b² + c) with c = 0.01².
    original, reconstructed = np.full((1, 20, 20), 0.4), np.full((1, 20, 20), 0.6)
    quality = scores.reconstruction(original, reconstructed, np.ones((1, 20, 20)))
    assert quality["ssim"][0] == pytest.approx((2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4))


def test_reconstruction_agrees_with_scikit_image_and_falls_with_noise():
    rng = np.random.default_rng(0)
    original = rng.random((1, 32, 32))
    worse, better = (np.clip(original + rng.normal(0, sigma, original.shape), 0, 1) for sigma in (0.3, 0.05))
    tables = [scores.reconstruction(original, each, np.zeros_like(original)) for each in (worse, better)]
    assert tables[0]["psnr"][0] == pytest.approx(peak_signal_noise_ratio(original[0], worse[0], data_range=1))
    assert tables[0]["ssim"][0] < tables[1]["ssim"][0] < 1
    assert tables[0]["masked_mse"].isna().all()


@pytest.mark.parametrize(
    ("shape", "scale", "message"),
    [((2, 16, 15), 1, "differ in shape"), ((16, 16), 1, r"expected \[n, h, w\]"), ((2, 16, 16), 255, "to 255")],
)
def test_reconstruction_refuses(shape, scale, message):
    pictures = np.ones((2, 16, 16))
    with pytest.raises(FractureMaeError, match=message):
        scores.reconstruction(pictures, scale * np.ones(shape), pictures)
