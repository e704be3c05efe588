import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.text import Text

from fracture_mae import plots
from fracture_mae.metrics import scores
from fracture_mae.metrics.agreement import smooth_curve
from fracture_mae.models import map_pictures
from fracture_mae.plots import style
from fracture_mae.plots.pictures import contact_sheet

RNG = np.random.default_rng(0)
LABEL = np.arange(300) % 3 == 0
PROBABILITY = np.clip(RNG.normal(0.4, 0.2, 300) + 0.2 * LABEL, 0, 1)
PICTURES = RNG.random((3, 32, 32))
NAMES = ["not fractured", "fractured"]
HEADING = plots.heading("Something", "validation", 1204, 310)
CURVES = {
    "Classifier": (LABEL, PROBABILITY),
    "File size and border": (LABEL, 1 - PROBABILITY),
    "A source without fractures": ([0, 0], [0.2, 0.4]),
}
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train/loss": [0.7, 0.5, 0.3],
        "validation/loss": [0.6, 0.5, 0.6],
        "validation/auroc": [0.5, np.nan, 0.7],
        "learning_rate": [1e-3, 1e-4, 1e-5],
    }
)
SOURCES = pd.DataFrame(
    {
        "estimate": [0.7, 0.6, np.nan],
        "low": [0.6, np.nan, np.nan],
        "high": [0.8, np.nan, np.nan],
        "n_groups": [99, 1, 9],
    },
    index=["HOG-like features + logistic regression", "hash_gallery", "wrists"],
)
ROWS = ["fractured\n12-rotated1-rotated3-rotated2-rotated1 (1) - Copy.jpg\nmasked MSE 0.0123"] * 3

RATES = ("sensitivity", "specificity", "precision", "negative_predictive_value", "flagged_per_1000")
POINTS = pd.DataFrame(
    {"name": ["own", "default", "sensitivity 0.90"], "threshold": [0.4, 0.5, 0.1], "prevalence": 0.3}
    | {
        f"{rate}{end}": np.array([0.7, 0.5, np.nan]) * (1000 if rate.endswith("1000") else 1) + shift
        for rate in RATES
        for end, shift in (("", 0), ("_low", -0.1), ("_high", 0.1))
    }
)

CURVE = pd.DataFrame({"probability": [0.2, 0.9], "share": [0.1, 0.8], "low": np.nan, "high": np.nan})
AT = np.arange(1, 100) / 100
NET_BENEFIT = pd.DataFrame(
    {
        "threshold_probability": AT,
        "net_benefit": 0.3 * (1 - AT),
        "low": 0.2 * (1 - AT),
        "high": 0.35 * (1 - AT),
        "flag_all": 0.3 - 0.7 * AT / (1 - AT),
    }
)


def pair(caption):
    plain, under = map_pictures.under_map(
        (255 * PICTURES[:1]).astype(np.uint8), np.eye(4)[None], np.full((1, 1, 4), 0.25)
    )
    return plain[0], under[0], caption


FIGURES = {
    "reconstructions": lambda: plots.reconstructions(
        {"Original": PICTURES, "Masked": PICTURES, "Reconstruction": PICTURES, "Reconstruction + Visible": PICTURES},
        ROWS,
        {"Reconstruction + Visible": ["PSNR 23.4 dB · SSIM 0.80"] * 3},
        HEADING,
    ),
    "one_reconstruction": lambda: plots.reconstructions({"Original": PICTURES[:1]}, ROWS[:1]),
    "confusion_matrix": lambda: plots.confusion_matrix(np.array([[90_449, 255], [0, 0]]), NAMES, HEADING),
    "roc_curves": lambda: plots.roc_curves(CURVES, {"Classifier": (0.7, 0.8)}, HEADING),
    "precision_recall_curves": lambda: plots.precision_recall_curves(CURVES, {"Classifier": (0.7, 0.8)}, HEADING),
    "reliability": lambda: plots.reliability(
        smooth_curve(LABEL, PROBABILITY, np.arange(len(LABEL)), n_draws=20),
        LABEL,
        PROBABILITY,
        told=["calibration slope (1): 0.912 [0.613, 1.211]"] * 4,
        before=CURVE,
        title=HEADING,
    ),
    "reliability_of_one_class": lambda: plots.reliability(CURVE, [1, 1], [0.2, 0.9]),
    "threshold_sweep": lambda: plots.threshold_sweep(scores.threshold_sweep(LABEL, PROBABILITY), 0.4, HEADING),
    "operating_points": lambda: plots.operating_points(POINTS, HEADING, chosen_here=True),
    "decision_curve": lambda: plots.decision_curve(NET_BENEFIT, NET_BENEFIT.iloc[15], 0.3, HEADING),
    "decision_curve_without_a_band": lambda: plots.decision_curve(
        NET_BENEFIT.assign(low=np.nan, high=np.nan), NET_BENEFIT.assign(low=np.nan, high=np.nan).iloc[15], 0.3, HEADING
    ),
    "froc": lambda: plots.froc(
        {"X-rays": (np.arange(5), np.arange(5) / 5), "Boxes": (np.arange(5), np.arange(5) / 9)},
        {
            "X-rays": {0.5: (0.1, 0.0, 0.2), 1: (0.2, 0.1, 0.3)},
            "Boxes": {0.5: (0.1, np.nan, np.nan), 1: (0.1, 0.1, 0.1)},
        },
        HEADING,
    ),
    "maps": lambda: plots.maps(
        (255 * np.tile(PICTURES, (2, 1, 1))).astype(np.uint8),
        RNG.normal(size=(6, 4, 4)),
        ["12-rotated1-rotated3-rotated2-rotated1 (1) - Copy\nnot in a box"] * 6,
        np.tile([[0.1, 0.1, 0.4, 0.3], [np.nan] * 4], (6, 1, 1)),
        HEADING,
    ),
    "one_map_without_a_box": lambda: plots.maps(
        (255 * PICTURES[:1]).astype(np.uint8), np.zeros((1, 4, 4)), ["one"], np.empty((1, 0, 4)), HEADING
    ),
    "gallery": lambda: plots.gallery(
        {"Missed: $a": [pair("12 $x_{$.jpg · ward\nis fractured\nnot fractured, 0.123")] * 6, "Right": [pair("a")]},
        HEADING,
        "map",
    ),
    "empty_gallery": lambda: plots.gallery({"Right": [pair("a")]}, "Gallery · test", "map"),
    "learning_curves": lambda: plots.learning_curves(HISTORY, 2, HEADING),
    "sources": lambda: plots.sources(SOURCES, HEADING),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_saved_whole(name, tmp_path):
    figure = FIGURES[name]()
    figure.savefig(tmp_path / "figure.png")
    assert matplotlib.image.imread(tmp_path / "figure.png").std() > 0.01
    drawn, page = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.min.min() >= 0, "cut off at the left or the bottom"
    assert (drawn.max <= page).all(), "cut off at the right or the top"
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 9
    assert pyplot.get_fignums() == []


def test_heading_leaves_out_what_is_not_given():
    assert HEADING == "Something · validation · 1,204 files of 310 X-rays"
    assert plots.heading("ROC", n_groups=3) == "ROC · 3 X-rays"
    assert plots.heading("ROC") == "ROC"


def test_reconstructions_place_every_picture():
    panels = {"Original": PICTURES, "Masked": PICTURES / 2}
    figure = plots.reconstructions(panels, ["first", "second\nline", "third"], {"Masked": ["a", "b", "c"]})
    grid = np.reshape(figure.axes, (3, 2))
    for row, column in np.ndindex(3, 2):
        shown = grid[row, column].images[0]
        np.testing.assert_array_equal(shown.get_array(), list(panels.values())[column][row])
        assert shown.get_clim() == (0, 1)
    assert [axes.get_title() for axes in grid[0]] == ["Original", "Masked"]
    assert [axes.get_ylabel() for axes in grid[:, 0]] == ["first", "second\nline", "third"]
    assert [axes.get_xlabel() for axes in grid.ravel()] == ["", "a", "", "b", "", "c"]


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class():
    axes = plots.confusion_matrix(np.array([[3, 1], [0, 1204]]), NAMES).axes[0]
    shown = {(*map(round, text.get_position()), text.get_text()) for text in axes.texts}  # x is the predicted class
    assert shown == {
        (0, 0, "3"), (0, 0, "75.0%"), (1, 0, "1"), (1, 0, "25.0%"),
        (0, 1, "0"), (0, 1, "0.0%"), (1, 1, "1,204"), (1, 1, "100.0%"),
    }  # fmt: skip
    assert [tick.get_text() for tick in axes.get_yticklabels()] == NAMES


def legend(axes):
    drawn = axes.get_legend() or axes.figure.legends[0]
    return [text.get_text() for text in drawn.get_texts()]


def test_roc_curves_name_area_and_interval():
    curves = {"perfect": ([0, 1], [0.1, 0.9]), "reversed": ([0, 1], [0.9, 0.1]), "healthy": ([0, 0], [0.1, 0.2])}
    axes = plots.roc_curves(curves, {"perfect": (0.8, 1)}).axes[0]
    assert legend(axes) == [
        "perfect 1.000 [0.800, 1.000]", "reversed 0.000", "healthy: one class alone, undefined", "Chance 0.500",
    ]  # fmt: skip
    assert axes.lines[0].get_xydata().tolist() == [[0, 0], [0, 1], [1, 1]]


def test_precision_recall_curves_dot_the_share_of_fractured():
    axes = plots.precision_recall_curves({"perfect": ([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9])}).axes[0]
    assert legend(axes) == ["perfect 1.000"]
    assert axes.lines[1].get_ydata() == [0.25, 0.25]


def test_reliability_draws_the_curves_and_both_classes():
    before = CURVE.assign(share=[0.4, 0.5])
    label, probability = [0, 1, 1, 1], [0.25, 0.25, 0.75, 0.75]
    figure = plots.reliability(CURVE, label, probability, told=["calibration slope (1): 0.9"], before=before)
    axes, histogram = figure.axes
    assert legend(axes) == ["Perfect", "Before calibration", "Calibrated"]
    assert axes.lines[1].get_xydata().tolist() == [[0.2, 0.4], [0.9, 0.5]]
    assert axes.lines[2].get_xydata().tolist() == [[0.2, 0.1], [0.9, 0.8]]
    assert figure.get_supxlabel() == "calibration slope (1): 0.9"
    fractured, others = (steps.get_data().values for steps in histogram.patches)
    assert (fractured[fractured != 0].tolist(), others[others != 0].tolist()) == ([1, 2], [-1])
    banded = plots.reliability(CURVE.assign(low=0.0, high=1.0), label, probability).axes[0]
    assert legend(banded) == ["Perfect", "Probability", "95 % of draws"]


def test_threshold_sweep_marks_the_chosen():
    axes = plots.threshold_sweep(scores.threshold_sweep([0, 1], [0.2, 0.6]), 0.4).axes[0]
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    rates = ["Sensitivity", "Specificity", "Precision", "F1", "Balanced accuracy", "Flagged share"]
    assert list(lines) == [*rates, "Chosen 0.400"]
    np.testing.assert_allclose(lines["Sensitivity"], [[0.1, 1], [0.4, 1], [0.8, 0]])
    assert lines["Chosen 0.400"][:, 0].tolist() == [0.4, 0.4]


def test_learning_curves_have_a_panel_per_metric():
    loss, auroc = plots.learning_curves(HISTORY, best_epoch=2).axes
    assert (loss.get_ylabel(), auroc.get_ylabel()) == ("loss", "auroc")
    assert legend(loss) == ["Train", "Validation", "Kept: epoch 2"]
    assert auroc.lines[0].get_xydata().tolist() == [[1, 0.5], [3, 0.7]]
    assert auroc.lines[0].get_color() == loss.lines[1].get_color()


def test_sources_list_rows_without_interval_or_estimate():
    axes = plots.sources(SOURCES).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == SOURCES.index.tolist()
    texts = [text.get_text() for text in axes.child_axes[0].get_yticklabels()]
    assert texts == ["0.700 [0.600, 0.800]   99 X-rays", "0.600 [n too small]   1 X-rays", "undefined   9 X-rays"]


def test_a_map_lies_over_its_xray_with_box_and_cross():
    logits = np.zeros((2, 4, 4))
    logits[0, 1, 2], logits[1] = 9, 1
    boxes = np.array([[[0, 0.5, 0.25, 0.75], [np.nan] * 4], [[np.nan] * 4] * 2])
    plain, under = map_pictures.under_map(np.full((2, 8, 8), 100, np.uint8), logits, boxes, side=80)
    assert plain.shape == under.shape == (2, 80, 80, 3)
    green, sky = (0, 158, 115), (86, 180, 233)
    assert tuple(plain[0, 40, 0]) == tuple(under[0, 40, 0]) == green
    assert tuple(under[0, 30, 50]) == sky  # the middle of the patch in the second row and third column
    assert (plain[1] == 100).all()
    assert under[0, 22, 42].sum() > under[0, 2, 2].sum()  # hot is bright
    assert under[1, 2, 2].sum() > under[0, 2, 2].sum()  # one scale for all


def test_maps_speak_of_boxes_where_any_is_drawn():
    """Two X-rays with room for two boxes each: of the second one's, one may be there."""
    pictures, logits, boxes = np.zeros((2, 8, 8), np.uint8), np.zeros((2, 2, 2)), np.full((2, 2, 4), np.nan)
    cross, box = "cross: the hottest patch", "green: a box around a fracture"
    assert plots.maps(pictures, logits, ["", ""], boxes).get_supxlabel() == cross
    assert plots.maps(pictures, logits, ["", ""], boxes[:, :0]).get_supxlabel() == cross
    boxes[1, 0] = 0.1, 0.1, 0.4, 0.3
    assert plots.maps(pictures, logits, ["", ""], boxes).get_supxlabel() == f"{cross} · {box}"


def test_reliability_counts_by_weight():
    label, probability, times = [1, 0, 1, 0], [0.9, 0.85, 0.3, 0.32], [1, 3, 2, 1]
    weighed = plots.reliability(CURVE, label, probability, weight=times).axes[1].patches
    repeated = plots.reliability(CURVE, np.repeat(label, times), np.repeat(probability, times)).axes[1].patches
    for one, other in zip(weighed, repeated, strict=True):
        assert one.get_data().values.tolist() == other.get_data().values.tolist()


@pytest.mark.parametrize("draw", [plots.roc_curves, plots.precision_recall_curves])
def test_curves_by_weight_are_those_of_files_repeated(draw):
    label, probability, times = [1, 0, 1, 0], [0.9, 0.85, 0.3, 0.32], [1, 3, 2, 1]
    weighed = draw({"a": (label, probability, times)}).axes[0].lines[0]
    repeated = draw({"a": (np.repeat(label, times), np.repeat(probability, times))}).axes[0].lines[0]
    np.testing.assert_allclose(weighed.get_xydata(), repeated.get_xydata())
    assert weighed.get_label() == repeated.get_label()


def test_spread_of_folds_has_a_dot_for_each_and_both_intervals():
    folds = pd.DataFrame({"auroc": [0.6, 0.8], "precision": [0.5, np.nan]}, index=[1, 2])
    means = pd.DataFrame(
        {"mean": [0.7, 0.5], "mean_low": [0.5, np.nan], "mean_high": [0.9, np.nan]}, index=folds.columns
    )
    pooled = pd.DataFrame({"estimate": [0.72, 0.6], "low": [0.6, 0.5], "high": [0.8, 0.7]}, index=folds.columns)
    figure = plots.fold_spread(folds, means, pooled)
    axes = figure.axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines[:2]] == [[0.6, 0.8], [0.5]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["AUROC", "Precision"]
    words = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "0.700 [0.500, 0.900]" in words
    assert "Mean of 2 folds" in words


SIGNS = [
    "$a_^$",
    "_^{",
    "100 %s",
    "\\frac{1}{",
    "$",
    "a $b$ c",
    "two\nlines",
    "\"'`",
    "<b>&amp;",
    "{x}",
    "\x1b[31m",
    "r\udcf6ntgen",
]


@pytest.mark.parametrize("name", SIGNS)
def test_names_are_drawn_as_they_are_written(name):
    """A `$` begins no formula, be it in a title, a legend, on an axis or below a picture."""
    matrix = np.array([[5, 1], [2, 4]])
    ticks = name.replace("\udcf6", "")
    figure = plots.confusion_matrix(matrix, [ticks, f"not {ticks}"], name)
    shown = style.legible(name)
    assert figure.axes[0].get_title() == name
    style.png(figure)
    assert figure.axes[0].get_title() == shown
    assert not any(text.get_parse_math() for text in figure.findobj(Text))
    style.png(contact_sheet(np.zeros((2, 8, 8), np.uint8), [name, name], name))
    style.png(plots.roc_curves({name: CURVES["Classifier"]}, {name: (0.1, 0.2)}, name))


def test_logarithmic_axes_have_numbers_and_no_formulas():
    figure, axes = style.figure_of(4, 3, "x")
    axes.plot([0.1, 1, 100], [1, 2, 3])
    axes.set(xscale="log", yscale="log")
    style.png(figure)
    texts = [text.get_text() for text in axes.get_xticklabels()]
    assert {"1.0", "100.0"} <= set(texts)
    assert not any("$" in text.get_text() for text in figure.findobj(Text))
