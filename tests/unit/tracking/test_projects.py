import os
from types import SimpleNamespace

import mlflow
import pytest
from click.testing import CliRunner

from entrypoints.main import main
from fracture_mae.config import DataOptions, Main
from fracture_mae.errors import FractureMaeError
from fracture_mae.stages import chain
from fracture_mae.tracking import projects, warm_processes
from fracture_mae.tracking.projects import Step
from fracture_mae.tracking.runs import REASON_TAG


class Submitted:
    """What `mlflow.projects.run` returns, with the end of the step made up."""

    def __init__(self, run_id, end):
        self.run_id, self.end, self.cancelled = run_id, end, False

    def wait(self):
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def start(store, monkeypatch):
    """Run a step that ends as told; the calls to `mlflow.projects.run` and what they returned are kept."""
    parent = store.create_run("0").info.run_id
    calls = []

    def step(end, env_manager="local", tags=(), metrics=()):
        made = store.create_run("0", tags=dict(tags)).info.run_id
        for name, value in dict(metrics).items():
            store.log_metric(made, name, value)

        def run(uri, entry_point, **options):
            calls.append((uri, entry_point, options, Submitted(made, end)))
            return calls[-1][-1]

        monkeypatch.setattr(mlflow.projects, "run", run)
        return projects.Chain(SimpleNamespace(id=parent), env_manager).run("evaluate", {"seed": 3})

    step.calls = calls
    return step


def test_a_step_is_this_projects_entry_point_in_the_parents_experiment(start):
    found = start(True, "uv", {"registered": "models:/x/1"}, {"auroc": 0.5})
    assert (found.registered, found.metrics) == ("models:/x/1", {"auroc": 0.5})
    ((uri, entry_point, options, submitted),) = start.calls
    assert projects.Path(uri, "MLproject").is_file()
    assert entry_point == options["run_name"] == "evaluate"
    assert (options["parameters"], options["env_manager"], options["experiment_id"]) == ({"seed": 3}, "uv", "0")
    assert not submitted.cancelled


def test_a_step_finds_mlflow_where_its_environment_was_not_activated(start, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    start(True)
    assert os.environ["PATH"].split(os.pathsep)[0] == str(projects.Path(projects.sys.executable).parent)


def test_a_project_whose_path_reads_as_an_address_is_run_by_a_link(start, tmp_path, monkeypatch):
    project = tmp_path / "a #1?%20 ü" / "fm #2"
    project.mkdir(parents=True)
    (project / "MLproject").touch()
    monkeypatch.setattr(projects, "PROJECT", project)
    seen = []
    monkeypatch.setattr(
        Submitted, "wait", lambda self: seen.append(projects.Path(start.calls[-1][0]).resolve()) or True
    )
    start(True)
    ((uri, *_),) = start.calls
    assert "#" not in uri
    assert seen == [project.resolve()]
    assert not projects.Path(uri).exists()


def test_a_failed_step_gives_its_reason(start):
    with pytest.raises(FractureMaeError, match=r"the step evaluate failed \(run .*\): no X-rays"):
        start(False, tags={REASON_TAG: "no X-rays"})
    with pytest.raises(FractureMaeError, match="see its output above"):
        start(False)


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit("ended by SIGTERM")])
def test_an_interrupted_chain_ends_its_step(start, end):
    with pytest.raises(type(end)):
        start(end)
    assert start.calls[0][-1].cancelled


def test_steps_share_the_data_options():
    shared = Main(seed=4, data_dir="/x", batch_size=2).shared()
    assert list(shared) == list(DataOptions.model_fields)
    assert (shared["seed"], shared["data_dir"], shared["batch_size"], shared["image_size"]) == (4, "/x", 2, "auto")


def test_summary_without_references_or_intervals():
    mae = projects.Step({}, {"baseline/validation/relative_masked_mse": 1.25, "validation/relative_masked_mse": 0.5})
    judged = projects.Step(
        {"classifier": "models:/x/2", "promotion": "not promoted: worse"},
        {"test/xray/auroc": 0.75, "test/xray/auroc_low": 0.5, "test/xray/auroc_high": 0.9},
    )
    text = chain.summary(mae, judged)
    assert "1.250 → 0.500" in text
    assert "0.750  [0.500, 0.900]" in text
    assert text.splitlines()[-1] == "models:/x/2: not promoted: worse"
    assert text.count("nan") >= 2


class Steps:
    """Stands for a chain: remembers what its steps are given."""

    def __init__(self, parent, env_manager):
        self.parameters = {}
        Steps.last = self

    def run(self, name, parameters):
        self.parameters[name] = parameters
        tags = {"registered": f"models:/{name}/1", "promotion": "champion", "classifier": "models:/x/1"}
        names = ("baseline/validation/relative_masked_mse", "validation/relative_masked_mse")
        return Step(tags, dict.fromkeys(names, 0.5))


def test_every_option_reaches_the_steps_it_is_for(store, monkeypatch):
    monkeypatch.setattr(chain, "Chain", Steps)
    monkeypatch.setattr(warm_processes, "start", lambda: None)  # or this very process would lead forks from now on
    options = ["--nproc", "2", "--recipe", "original", "--mae-epochs", "3", "--classifier-epochs", "4", "--seed", "7"]
    done = CliRunner().invoke(main, [*options, "--n-draws", "150"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = Steps.last.parameters
    assert list(found) == ["reconstruct_baseline", "finetune_mae", "train_classifier", "evaluate"]
    assert all(parameters["seed"] == 7 for parameters in found.values())
    for name, epochs, given in (("finetune_mae", 3, "model"), ("train_classifier", 4, "encoder")):
        parameters = found[name]
        assert (parameters["nproc"], parameters["recipe"], parameters["epochs"]) == (2, "original", epochs)
        assert given in parameters
    assert found["train_classifier"]["encoder"] == "models:/finetune_mae/1"
    assert found["evaluate"]["classifier"] == "models:/train_classifier/1"
    assert found["evaluate"]["n_draws"] == 150
    assert found["evaluate"]["mae"] == "models:/finetune_mae/1"
    assert "nproc" not in found["evaluate"]


@pytest.mark.parametrize(
    ("data_dir", "data"),
    [("synthetic:n_xrays=60,size=96", "synthetic:n_xrays=60,size=96"), ("/data/xrays", "xrays"), ("a/b.csv", "b.csv")],
)
def test_a_chain_is_named_by_what_tells_it_apart(data_dir, data):
    assert (
        chain.name_of(Main(data_dir=data_dir, recipe="original")) == f"main (facebook/vit-mae-base, original, {data})"
    )


@pytest.mark.parametrize(("manager", "is_read"), [("local", True), ("uv", False)])
def test_libraries_are_read_beforehand_for_steps_of_this_environment(store, monkeypatch, manager, is_read):
    monkeypatch.setattr(chain, "Chain", Steps)
    started = []
    monkeypatch.setattr(warm_processes, "start", lambda: started.append(True))
    CliRunner().invoke(main, ["--env-manager", manager], catch_exceptions=False)
    assert bool(started) == is_read
