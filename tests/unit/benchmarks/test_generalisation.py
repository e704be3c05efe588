"""The table of what each way of training is worth on other sources: by hand, and gone on with."""

import pandas as pd
import pytest

from benchmarks import generalisation
from benchmarks.generalisation import FOLDS, SOURCES, YARDSTICK, Answers, tabulate
from fracture_mae.errors import FractureMaeError

SOURCE = ["a"] * 16 + ["b"] * 16 + ["c"] * 2
LABEL = [0, 1] * 16 + [1, 1]


def write(folder, row, seed, score):
    """Answers for 34 X-rays of two files each; in the fold of their source the same as in ordinary folds."""
    files = pd.DataFrame({"group": range(34), "label": LABEL, "source": SOURCE, "probability": score})
    for what in (FOLDS, SOURCES):
        path = Answers(folder).path(row, seed, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.concat([files, files]).to_csv(path, index=False)


def test_table_by_hand(tmp_path):
    """One row knows nothing; the other all of it in source a, and in source b with one of its two seeds."""
    everything, nothing = [float(label) for label in LABEL], [0.5] * 34
    write(tmp_path, YARDSTICK, 0, nothing)
    write(tmp_path, "default", 0, everything)
    write(tmp_path, "default", 1, everything[:16] + nothing[:16] + everything[32:])
    table = tabulate(Answers(tmp_path), [YARDSTICK, "default"], n_draws=50)
    columns = ["five folds", "held out, pooled", "a", "b", "mean of sources", f"minus {YARDSTICK}"]
    assert list(table.columns) == [*columns, "seeds"]
    assert table.loc[YARDSTICK, "a"] == "0.500 [0.500, 0.500]"
    assert table.loc["default", "a"] == "1.000 [0.806, 1.000]"  # Wilson's of 16 of 16
    assert table.loc["default", "b"] == "0.750 [0.750, 0.750]"
    assert table.loc["default", "mean of sources"] == "0.875 [0.875, 0.875]"
    assert table.loc["default", f"minus {YARDSTICK}"] == "+0.375 [+0.375, +0.375]"
    assert table["seeds"].tolist() == [1, 2]


def test_strata_are_those_of_the_file_properties(tmp_path):
    """Scores that rank by source alone are worth nothing within sources, whatever they seem worth over all."""
    write(tmp_path, "default", 0, [0.1] * 16 + [0.5] * 16 + [0.9] * 2)
    properties = pd.read_csv(Answers(tmp_path).path("default", 0, FOLDS)).assign(
        logit=0.0, path="", sha256="", patient=""
    )
    path = Answers(tmp_path).path("histograms", 0, "file_properties")
    path.parent.mkdir(parents=True)
    properties.to_csv(path, index=False)
    table = tabulate(Answers(tmp_path), ["default"], n_draws=50)
    assert table.loc["default", "five folds"].startswith("0.5")
    assert table.loc["default", "five folds"] > "0.5"
    assert table.loc["default", "within strata"] == "0.500 [0.500, 0.500]"


def test_only_what_is_missing_is_run(tmp_path, monkeypatch, capsys):
    ran = []

    def run(name, seed, given, answers):
        ran.append((name, seed))
        write(tmp_path, name, seed, [0.5] * 34)

    monkeypatch.setattr(generalisation, "_run", run)
    write(tmp_path, "default", 1, [0.5] * 34)
    words = [
        "--data-dir",
        "x",
        "--out",
        str(tmp_path),
        "--rows",
        "default",
        "histograms",
        "cnn",
        "--seeds",
        "0",
        "1",
        "2",
    ]
    monkeypatch.setattr("sys.argv", ["generalisation", *words])
    generalisation.main()
    assert ran == [("default", 0), ("default", 2), ("histograms", 0)]  # no network of photographs was given
    assert "mean of sources" in capsys.readouterr().out
    assert (tmp_path / "table.csv").exists()


def test_rows_of_other_xrays_are_not_set_side_by_side(tmp_path):
    """The second row has X-rays of the same number and other labels."""
    write(tmp_path, YARDSTICK, 0, [0.5] * 34)
    write(tmp_path, "default", 0, [0.5] * 34)
    path = Answers(tmp_path).path("default", 0, SOURCES)
    pd.read_csv(path).assign(label=[1, 0] * 34).to_csv(path, index=False)
    with pytest.raises(FractureMaeError, match="row default is of other X-rays than letterbox"):
        tabulate(Answers(tmp_path), [YARDSTICK, "default"])


def test_where_no_source_can_be_judged_alone_it_says_so(tmp_path):
    write(tmp_path, "default", 0, [0.5] * 34)
    for what in (FOLDS, SOURCES):
        path = Answers(tmp_path).path("default", 0, what)
        pd.read_csv(path).assign(source=[f"s{n}" for n in range(68)]).to_csv(path, index=False)
    with pytest.raises(FractureMaeError, match="no source has 8 X-rays of each label"):
        tabulate(Answers(tmp_path), ["default"])


def test_what_goes_wrong_is_a_sentence(tmp_path, monkeypatch):
    words = ["generalisation", "--data-dir", "x", "--out", str(tmp_path), "--rows", "cnn"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match=r"Error: there is no row to show: .* need --cnn"):
        generalisation.main()


def test_what_a_run_has_logged_is_kept(store, tmp_path, monkeypatch, capsys):
    """The tables come back from the run; one that it did not log, here that of file properties, is left out."""
    files = pd.DataFrame({"group": range(34), "label": LABEL, "source": SOURCE, "probability": LABEL})

    def compare(asked, run):
        for folder in ("", f"{SOURCES}/"):
            run.table(files, f"{folder}predictions/gradient_histograms.csv")
        return ""

    monkeypatch.setattr(generalisation, "compare", compare)
    (tmp_path / "x").mkdir()
    monkeypatch.setattr("sys.argv", ["generalisation", "--data-dir", "x", "--out", "table", "--rows", "histograms"])
    generalisation.main()
    assert "1.000" in capsys.readouterr().out
    kept = {path.name: pd.read_csv(path) for path in (tmp_path / "table" / "histograms" / "0").iterdir()}
    assert kept.keys() == {f"{FOLDS}.csv", f"{SOURCES}.csv"}
    for table in kept.values():
        pd.testing.assert_frame_equal(table, files)


@pytest.mark.parametrize("name", generalisation.ROWS)
def test_every_row_is_something_that_can_be_asked_for(name):
    row = generalisation.ROWS[name]
    kind = generalisation.Compare if row.frozen else generalisation.TrainClassifier
    kind.model_validate(row.options)


def test_an_option_that_cannot_be_is_a_sentence(tmp_path, monkeypatch):
    words = ["generalisation", "--data-dir", "x", "--out", str(tmp_path), "--rows", "default", "--mae-epochs", "0"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match="Error: --epochs: found 0"):
        generalisation.main()
