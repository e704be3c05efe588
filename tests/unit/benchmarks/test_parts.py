"""Each part as a whole, with the project's real code on a handful of X-rays; what the times are does not matter here."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from torch.utils._python_dispatch import _get_current_dispatch_mode

import benchmarks
from benchmarks import machine, ours, report, workload
from benchmarks.parts import PARTS, growing, parallel, training
from benchmarks.results import Result, Skipped
from benchmarks.timing import Sample
from fracture_mae.config import BENCHMARK_PARTS, Benchmark
from fracture_mae.data import loading
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.tracking import runs
from tests import builders

DATA = "synthetic:n_xrays=60,size=96"


@pytest.fixture(scope="module")
def dataset_of_files(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return loading.load(DATA, image_size=builders.SIDE, group_by="names")


@pytest.fixture
def measured(dataset_of_files, tiny_mae, accelerator, tmp_path):
    config = Benchmark(
        data_dir=DATA, quick=True, repeats=2, image_size=builders.SIDE, batch_size=8, device="cpu", precision="fp32"
    )
    xrays = workload.choose(dataset_of_files, config.n_images)
    parted = workload.parted(dataset_of_files, xrays)
    return workload.Workload(config, tiny_mae, xrays, parted, accelerator, tmp_path)


def only_result(outcome):
    (result,) = outcome.results
    assert isinstance(result, Result)
    assert (len(result.ours.values), len(result.alternative.values)) == (2, 2)
    assert min(*result.ours.values, *result.alternative.values) > 0
    assert result.verdict == "n/a"
    assert result.bar.waived == "a quick run"
    return result


@pytest.mark.parametrize(
    ("device", "precision", "options", "compiled"),
    [
        ("cpu", "no", {}, False),
        ("cpu", "bf16", {}, True),
        ("cpu", "bf16", {"quick": True}, False),
        ("cpu", "bf16", {"compile": False}, False),
        ("cpu", "no", {"compile": True}, True),
        ("cuda", "no", {"quick": True}, True),
        ("mps", "no", {}, False),
    ],
)
def test_steps_are_compiled_as_in_a_long_training(measured, device, precision, options, compiled):
    config = measured.config.model_copy(update={"quick": False} | options)
    accelerator = SimpleNamespace(device=torch.device(device), mixed_precision=precision)
    assert replace(measured, config=config, accelerator=accelerator).training.compile is compiled


def test_every_part_of_the_config_is_there():
    assert tuple(PARTS) == BENCHMARK_PARTS


def test_xrays_are_chosen_with_both_labels_taking_turns(dataset_of_files):
    xrays = workload.choose(dataset_of_files, 24)
    assert xrays.label.tolist() == [0, 1] * 12
    assert not xrays.table["sha256"].duplicated().any()
    assert workload.choose(dataset_of_files, 24).table.equals(xrays.table)
    everything = workload.choose(dataset_of_files, 10_000)
    sides = (dataset_of_files.train, dataset_of_files.validation, dataset_of_files.test)
    assert set(everything.table["sha256"]) == {sha256 for side in sides for sha256 in side.table["sha256"]}
    picture = everything.images(np.array([5]))[0]
    row = everything.table["row"].iloc[5]
    assert np.array_equal(picture, dataset_of_files.train.pixels[row])


@pytest.mark.parametrize("name", ["fine_tuning", "step", "forward", "loading", "evaluation", "predicting"])
def test_a_part_measures_ours_beside_the_alternative(measured, name):
    result = only_result(PARTS[name](measured))
    assert result.key == name
    higher_is_better = result.unit in ("images/s", "files/s")
    a, b = (result.ours, result.alternative) if higher_is_better else (result.alternative, result.ours)
    assert result.ratio.values == a.over(b).values


@pytest.mark.slow
def test_the_model_that_is_measured_stays_as_it_is(measured):
    before = {name: value.clone() for name, value in measured.mae.state_dict().items()}
    for name in ("fine_tuning", "step", "forward", "evaluation"):
        PARTS[name](measured)
    assert all(value.equal(before[name]) for name, value in measured.mae.state_dict().items())


def test_the_ceiling_is_the_faster_product(measured):
    outcome = PARTS["ceiling"](measured)
    result = only_result(outcome)
    roofline = outcome.roofline
    assert set(roofline.matrix) == set(roofline.copy) == {"fp32"}
    assert result.alternative.values == roofline.matrix["fp32"].times(1e-9).values
    names = [point.name for point in roofline.points]
    assert names[:2] == ["training step", "reference step"]
    assert {"attention, encoder", "attention written out, decoder", "MLP, decoder"} <= set(names)
    step, reference, *_ = roofline.points
    assert step.flops == reference.flops
    intensity = {point.name: point.intensity for point in roofline.points}
    assert intensity["attention written out, decoder"] < intensity["attention, decoder"]


def test_the_step_that_is_timed_is_never_one_whose_operators_are_counted(measured, monkeypatch):
    """Counting would keep it from being compiled, and a recording of it would hold the uncompiled one."""
    make, asked, counted = ours.step_of, [], []

    def step_of(trainer, *others):
        step, mine = make(trainer, *others), len(asked)
        asked.append(trainer.step_options)

        def watched():
            if _get_current_dispatch_mode():
                counted.append(mine)
            return step()

        return watched

    monkeypatch.setattr(ours, "step_of", step_of)
    PARTS["ceiling"](measured)
    assert [step_options.cuda_graphs for step_options in asked] == [False, True]
    assert counted == [0]


def test_without_memory_a_part_is_not_measured_and_the_others_are(measured, monkeypatch):
    def too_large(workload):
        raise torch.OutOfMemoryError

    monkeypatch.setitem(PARTS, "step", too_large)
    config = measured.config.model_copy(update={"only": "step,loading"})
    skipped, loaded = benchmarks.measure(replace(measured, config=config))
    (told,) = skipped.results
    assert told.reason == "memory does not suffice for batches of 8; take a smaller --batch-size"
    only_result(loaded)


def test_of_two_products_the_one_with_the_higher_median_is_the_ceiling():
    steady, spread = Sample((3.0, 3.0, 3.0)), Sample((1.0, 2.0, 9.0))
    assert training._higher(spread, steady) is training._higher(steady, spread) is steady


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_trials_are_real_and_scaled_to_200(measured, monkeypatch):
    taken = []
    real = ours.tuning_seconds

    def remembered(*args):
        before = os.environ["FRACTURE_MAE_CACHE"]
        taken.append(real(*args))
        assert os.environ["FRACTURE_MAE_CACHE"] == before
        return taken[-1]

    monkeypatch.setattr(ours, "tuning_seconds", remembered)
    uri = runs.mlflow.get_tracking_uri()
    result = only_result(PARTS["tuning"](measured))
    assert runs.mlflow.get_tracking_uri() == uri
    assert len(taken) == 3  # the first one was to warm up
    assert result.ours.values == tuple(once + trials * 200 / 4 for once, trials in taken[1:])
    assert all(once > 0 for once, _ in taken)  # the features are computed anew each time
    store = runs.MlflowClient(f"sqlite:///{next(measured.folder.glob('*/mlflow.db'))}")
    beside = store.get_experiment_by_name(f"{runs.EXPERIMENT}-trials")
    assert len(store.search_runs([beside.experiment_id], "tags.`trial.number` != ''")) == 3 * 4
    assert not runs.MlflowClient().search_runs(["0"])


@pytest.mark.slow
def test_growth_compares_the_time_for_an_xray(measured):
    config = measured.config.model_copy(update={"growth_sizes": "20,60"})
    outcome = PARTS["growth"](replace(measured, config=config))
    assert [result.key for result in outcome.results] == [
        "growth_cache",
        "growth_loading",
        "growth_copies",
        "growth_evaluation",
    ]
    assert all(result.bar.at_most and result.bar.value == 1.2 for result in outcome.results)
    assert [(row["stage"], row["n_files"]) for row in outcome.growth[:2]] == [("cache", 20), ("cache", 60)]
    for result in outcome.results:
        small, large = (row for row in outcome.growth if f"growth_{row['stage']}" == result.key)
        assert (small["ms_per_xray"], large["ms_per_xray"]) == (result.alternative.median, result.ours.median)
        assert small["peak_anonymous_mb"] > 10


def test_a_smaller_set_is_part_of_a_larger_one_and_holds_whole_xrays(measured):
    table = growing._files(measured)
    small, large = (growing._whole_xrays(table, n) for n in (25, 50))
    assert (len(small), len(large)) == (25, 50)
    assert set(small["sha256"]) < set(large["sha256"])
    assert 0.2 < small["label"].mean() < 0.8
    cut = small.groupby("group").size().lt(table.groupby("group").size().reindex(small["group"].unique()))
    assert cut.sum() <= 1  # the last one


def test_too_few_files_to_grow(measured, tmp_path):
    config = measured.config.model_copy(update={"data_dir": str(tmp_path), "growth_sizes": "50,20000"})
    (skipped,) = PARTS["growth"](replace(measured, config=config)).results
    n = measured.dataset.index["sha256"].nunique()
    assert skipped.reason == f"{n} X-ray files are too few for --growth-sizes 50,20000"


def test_two_processes_need_two_cores(measured, monkeypatch):
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 1)
    (skipped,) = PARTS["processes"](measured).results
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "there is one core"


def test_the_file_of_xrays_has_both_labels_in_every_split(measured):
    table = parallel._split_file(measured)
    assert list(table) == ["path", "label", "group", "split"]
    assert table.groupby("split")["label"].nunique().to_dict() == {"train": 2, "validation": 2, "test": 2}
    assert not table["path"].duplicated().any()


def test_only_the_parts_that_are_named_run_and_what_they_prepared_is_let_go(measured):
    config = measured.config.model_copy(update={"only": "loading,step"})
    outcomes = list(benchmarks.measure(replace(measured, config=config)))
    assert [outcome.results[0].key for outcome in outcomes] == ["step", "loading"]
    assert measured.accelerator._models == []


@pytest.mark.parametrize(
    ("device", "precision", "waived"),
    [("cpu", "fp32", "no bf16 here"), ("cpu", "bf16", ""), ("cuda", "bf16", "the bar is one for processors")],
)
def test_where_the_bar_of_fine_tuning_applies(device, precision, waived):
    assert training.waived(device, precision) == waived


def test_a_step_of_ours_is_the_trainers(measured):
    trainer = ours.trainer_of(measured, measured.training)
    step = ours.step_of(trainer, measured.xrays, np.arange(8))
    losses = [step().item() for _ in range(30)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@pytest.mark.slow
def test_bf16_has_a_ceiling_of_its_own(measured):
    AcceleratorState._reset_state(reset_partial_state=True)
    outcome = PARTS["ceiling"](replace(measured, accelerator=make_accelerator("bf16", "cpu")))
    assert list(outcome.roofline.matrix) == ["bf16", "fp32"]


def test_growth_is_logged_as_a_table(measured):
    config = measured.config.model_copy(update={"only": "loading"})
    (outcome,) = benchmarks.measure(replace(measured, config=config))
    found = report.findings(outcome, machine.describe(measured), measured.config.model_dump())
    assert isinstance(found.tables["benchmark.csv"], pd.DataFrame)
    assert machine.sentence(machine.describe(measured), measured).startswith(
        "QUICK RUN, the figures tell nothing and no bar applies: tiny at 32"
    )
