"""What options cost: the table by hand, and one training that is measured."""

import pytest

from benchmarks import option_costs
from benchmarks.option_costs import DEFAULT, OPTIONS, measure, tabulate
from fracture_mae.config import TrainClassifier

WHAT = ("training [X-rays/s]", "answering [X-rays/s]", "memory [MB]", "before [s]")


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - {DEFAULT}))
def test_a_row_is_named_by_what_it_sets(name):
    typed = TrainClassifier(**dict(each.split("=") for each in name.split(", ")))
    assert typed == TrainClassifier(**OPTIONS[name])
    assert typed != TrainClassifier()


def test_ratios_are_those_of_the_same_round():
    """The machine was half as fast in the second round, so only within rounds is the option twice as slow."""
    rounds = {
        DEFAULT: [(100, 40, 200, 1), (50, 20, 200, 1)],
        "slow": [(50, 40, 400, 3), (25, 20, 300, 5)],
    }
    table = tabulate({name: [dict(zip(WHAT, each, strict=True)) for each in rows] for name, rows in rounds.items()})
    assert table.loc["slow", "training [X-rays/s]"] == "38 [25, 50]"
    assert table.loc["slow", "training, beside default"] == "0.50x [0.50, 0.50]"
    assert table.loc["slow", "answering, beside default"] == "1.00x [1.00, 1.00]"
    assert table.loc["slow", "memory, beside default"] == "1.75x [1.50, 2.00]"
    assert table.loc["slow", "before [s]"] == "4.0 [3.0, 5.0]"


def test_a_training_is_measured(store, accelerator):
    options = {"data_dir": "synthetic:n_xrays=40", "encoder": "vit-mae-nano", "image_size": 32, "precision": "fp32"}
    found = measure(options | {"device": "cpu", "group_by": "names"})
    assert tuple(found) == WHAT
    assert found["training [X-rays/s]"] > 0
    assert found["answering [X-rays/s]"] > 0


def test_what_goes_wrong_is_a_sentence(store, monkeypatch):
    words = ["option_costs", "--data-dir", "/nowhere", "--only", "freeze=true"]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    with pytest.raises(SystemExit, match=r"Error: .*/nowhere"):
        option_costs.main()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--batch-size", "0"], "Error: --batch-size: found 0"),
        (["--rounds", "0"], "--rounds: found 0, expected 1 or more"),
    ],
)
def test_numbers_that_cannot_be_are_refused(store, monkeypatch, capsys, words, told):
    monkeypatch.setattr("sys.argv", ["option_costs", "--only", "freeze=true", *words])
    monkeypatch.setenv("TQDM_DISABLE", "1")
    with pytest.raises(SystemExit) as ended:
        option_costs.main()
    assert told in f"{ended.value}{capsys.readouterr().err}"
