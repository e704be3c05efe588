import click
import pytest

from benchmarks import figures, report
from benchmarks.results import Bar, Outcome, Point, Result, Roofline, Skipped
from benchmarks.timing import Sample

MACHINE = {"processor": "Processor 9000", "device": "cpu", "precision": "fp32"}


def result(*, ours=(9.0, 12.0, 10.0), alternative=(3.0, 3.0, 2.0), key="speed", **changes):
    ours, alternative = Sample(ours), Sample(alternative)
    given = {"told": "this · that", "unit": "images/s", "bar": Bar(3), "name": f"the {key}"} | changes
    return Result(key, ours=ours, alternative=alternative, ratio=ours.over(alternative), **given)


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        (Bar(4), "met"),  # the median of 3, 4 and 5
        (Bar(4.01), "not met"),
        (Bar(4, at_most=True), "met"),
        (Bar(3.99, at_most=True), "not met"),
        (Bar(4.01, waived="no bf16 here"), "n/a"),
    ],
)
def test_the_median_ratio_decides(bar, verdict):
    assert result(bar=bar).verdict == verdict


@pytest.fixture
def outcome():
    share = result(ours=(80.0,), alternative=(100.0,), key="share", bar=Bar(0.8), percent=True, unit="GFLOP/s")
    waived = result(key="waived", bar=Bar(3, waived="no bf16 here"))
    long = result(key="long", ours=(12345.0,), alternative=(4.0,), told="a word and another, " * 12)
    roofline = Roofline(
        {"bf16": Sample((4e11,)), "fp32": Sample((1e11,))},
        {"bf16": Sample((2e10,)), "fp32": Sample((2e10,))},
        [Point("training step", 3e9, 1e8, Sample((9e10, 8e10))), Point("attention", 1e8, 1e8, Sample((1e10,)))],
    )
    growth = [
        {"stage": "cache", "n_files": n, "ms_per_xray": 2.5, "low": 2.0, "high": 3.0}
        | {"peak_anonymous_mb": 500.4, "peak_file_backed_mb": 120.0}
        for n in (1000, 10_000)
    ]
    growing = result(key="growth_cache", bar=Bar(1.2, at_most=True))
    skipped = Skipped("processes", "two processes against one", "there is one core")
    return Outcome([result(), share, waived, long, growing, skipped], roofline, growth)


def test_the_table_fits_a_terminal(outcome):
    text = click.unstyle("\n".join([report.header("a sentence. " * 20), report.rows(outcome), report.footer(outcome)]))
    assert max(len(line) for line in text.splitlines()) <= report.WIDTH
    line = next(line for line in text.splitlines() if line.startswith("the speed"))
    assert " ".join(line.split()) == "the speed 10.0 images/s 3.00 images/s 4.00x 3.00 … 5.00 ≥ 3x met"
    share = next(line for line in text.splitlines() if line.startswith("the share"))
    assert " ".join(share.split()) == "the share 80.0 GFLOP/s 100 GFLOP/s 80 % 80 … 80 ≥ 80 % met"
    assert "the bar does not apply: no bf16 here" in text
    assert "two processes against one             not measured: there is one core" in text
    assert "≤ 1.2x  not met" in text
    assert "Bars: 3 met, 1 not met, 1 do not apply here, 1 not measured." in text
    assert "bf16: matrix products 400 GFLOP/s, copies of memory 20.0 GB/s" in text
    assert "1,000: 2.50 ms, 500 + 120 MB   10,000: 2.50 ms, 500 + 120 MB" in text


def test_everything_is_logged(outcome):
    found = report.findings(outcome, MACHINE, {"quick": False})
    assert found.metrics["speed/ratio"] == 4
    assert (found.metrics["speed/ratio_low"], found.metrics["speed/ratio_high"]) == (3, 5)
    assert (found.metrics["speed/ours"], found.metrics["speed/alternative_low"]) == (10, 2)
    assert (found.metrics["speed/met"], found.metrics["growth_cache/met"]) == (1, 0)
    assert "waived/met" not in found.metrics
    assert found.metrics["growth_cache/10000_files/peak_anonymous_mb"] == 500.4
    table = found.tables["benchmark.csv"].set_index("key")
    assert table["verdict"].to_dict() == {
        "speed": "met",
        "share": "met",
        "waived": "n/a",
        "long": "met",
        "growth_cache": "not met",
        "processes": "not measured",
    }
    assert table.loc["processes", "reason"] == "there is one core"
    document = found.documents["benchmark.json"]
    assert document["results"][0]["every_round"]["ratio"] == [3, 4, 5]
    assert document["roofline"]["points"][0]["flop_per_byte"] == 30
    assert document["roofline"]["ceilings"]["flops_per_second"]["fp32"] == (1e11,)
    assert set(found.figures) == {"ratios.png", "roofline.png"}


def test_nothing_measured_is_no_error():
    nothing = Outcome([Skipped("processes", "two processes against one", "there is one core")])
    assert report.findings(nothing, MACHINE, {"quick": False}).figures == {}
    assert "0 met" in report.footer(nothing)


def test_figures_show_every_row_and_point(outcome):
    measured = [each for each in outcome.results if isinstance(each, Result)]
    (axes,) = figures.ratios(measured, "title").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [each.name for each in measured]
    figure = figures.roofline(outcome.roofline, "title")
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [
        "Ceiling in bf16: 400 GFLOP/s, 20.0 GB/s",
        "Ceiling in fp32: 100 GFLOP/s, 20.0 GB/s",
        "training step: 85 GFLOP/s",
        "attention: 10 GFLOP/s",
    ]
    roof, *_ = figure.axes[0].lines
    # Under the ridge at 20 FLOP a byte memory is the limit, above it the matrix units.
    x, y = roof.get_data()
    assert y[x < 20] == pytest.approx(20e9 * x[x < 20])
    assert y[x > 20] == pytest.approx(400e9)


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.012")]
)
def test_numbers_have_about_three_digits(value, text):
    assert report.shown(value) == text
