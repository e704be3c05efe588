"""One training in two processes, as a user starts it: one run; and when one of them is killed."""

import os
import re
import signal
import subprocess
import sys

import psutil
import pytest

from tests.ports import free_port
from tests.workplace import SMALL, Workplace, command_of, given, wait_until

pytestmark = pytest.mark.slow
MAE = SMALL | {"model": "vit-mae-nano", "n_figures": 2, "batch_size": 7}
EPOCHS = 40  # so many that none of them is the last before a signal arrives


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("processes") / "project").create(searched=True)


def curve(workplace, run, metric):
    """Epoch → value; what is logged after training stands at 0."""
    points = workplace.store.get_metric_history(run.info.run_id, metric)
    return {point.step: point.value for point in points if point.step}


def assert_alike(workplace, ours, theirs, *metrics):
    for metric in metrics:
        expected = curve(workplace, theirs, metric)
        assert len(expected) > 1
        assert curve(workplace, ours, metric) == pytest.approx(expected, rel=1e-4)


def start_training(workplace, **parameters):
    """Start a training in two processes and wait until it has a checkpoint; it, and the processes that train, by their rank."""
    sign = "cache/checkpoints/*/epoch-*[2-9]"
    before = set(workplace.root.glob(sign))
    process = workplace.start_python("finetune_mae", **MAE | {"nproc": 2} | parameters)
    wait_until(lambda: set(workplace.root.glob(sign)) - before, process)
    return process, ranks_of(process)


def ended(ranks):
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in ranks.values())


def ranks_of(process):
    """The processes that train, by their rank."""
    found = {}
    for each in psutil.Process(process.pid).children(recursive=True):
        environment = each.environ()
        if "RANK" in environment and "entrypoints" in " ".join(each.cmdline()):
            found[int(environment["RANK"])] = each
    return found


@pytest.fixture(scope="module")
def alone(workplace):
    done = workplace.python("finetune_mae", **MAE, epochs=2)
    assert done.returncode == 0, done.stderr
    return workplace.runs("fracture-mae")[-1]


def test_two_processes_make_one_run_with_the_metrics_of_one(workplace, alone):
    before = len(workplace.runs("fracture-mae"))
    options = ["-e", "finetune_mae"]
    done = workplace.mlflow("run", ".", *options, *given(MAE | {"epochs": 2, "nproc": 2}))
    assert done.returncode == 0, done.stderr
    *_, run = runs = workplace.runs("fracture-mae")
    assert len(runs) == before + 1
    assert (run.info.status, run.data.params["nproc"], run.data.tags["step.processes"]) == ("FINISHED", "2", "2")
    assert (
        run.data.tags.items() >= {"step.precision": alone.data.tags["step.precision"], "step.compile": "false"}.items()
    )
    assert_alike(workplace, run, alone, "train/loss", "validation/masked_mse")
    assert set(run.data.metrics) == set(alone.data.metrics)
    for split in ("train", "validation"):
        assert run.data.metrics[f"{split}/ssim"] == pytest.approx(alone.data.metrics[f"{split}/ssim"], rel=1e-3)
    assert 0 <= run.data.metrics["train/data_wait_share"] <= 1
    assert workplace.store.get_model_version("xray-mae", "2").run_id == run.info.run_id
    assert len(re.findall(r"^epoch \d/2: train/loss ", done.stdout, re.MULTILINE)) == 2  # only the first process prints
    for word in ("Warning", "WARNING", "Traceback", "\r"):
        assert word not in done.stderr


def test_a_classifier_with_folds_is_trained_by_two_as_by_one(workplace, alone):
    parameters = SMALL | {"encoder": "models:/xray-mae/1", "epochs": 2, "cross_validate": 2, "batch_size": 7}
    runs = []
    for nproc in (1, 2):
        done = workplace.python("train_classifier", **parameters, nproc=nproc)
        assert done.returncode == 0, done.stderr
        runs += [
            run for run in workplace.runs("fracture-mae") if run.data.tags.get("entry_point") == "train_classifier"
        ][-1:]
    assert_alike(workplace, *runs, "train/loss", "validation/xray/log_loss")
    for metric in ("cross_validation/xray/log_loss", "threshold", "validation/xray/log_loss"):
        assert runs[1].data.metrics[metric] == pytest.approx(runs[0].data.metrics[metric], rel=1e-3)
    children = [
        run for run in workplace.runs("fracture-mae") if run.data.tags.get("mlflow.parentRunId") == runs[1].info.run_id
    ]
    assert [(run.info.run_name, run.info.status) for run in children] == [
        ("fold 1 of 2", "FINISHED"),
        ("fold 2 of 2", "FINISHED"),
    ]


def test_if_one_is_killed_the_run_fails_and_the_next_goes_on(workplace):
    parameters = {"epochs": EPOCHS, "seed": 10}
    dead = []
    for victim in (0, 1):
        process, trained = start_training(workplace, **parameters)
        trained[victim].send_signal(signal.SIGKILL)
        assert process.wait(timeout=180) == 1
        assert ended(trained)
        failed = workplace.runs("fracture-mae")[-1]
        assert failed.info.status == "FAILED"
        reason = rf"FractureMaeError: rank {victim} of 2 was ended by SIGKILL"
        assert re.match(reason, failed.data.tags["failure_reason"])
        output = (workplace.root / "output.txt").read_text()
        assert output.count(f"Error: rank {victim} of 2 was ended by SIGKILL") == 1
        assert "Traceback" not in output
        dead.append(failed.info.run_id)
        assert ("epoch 1/" in output) == (victim == 0)  # the second one went on in two processes

    done = workplace.python("finetune_mae", **MAE | parameters)  # and the third by one
    assert done.returncode == 0, done.stderr
    assert "epoch 1/" not in done.stdout
    run = workplace.runs("fracture-mae")[-1]
    assert (run.info.status, run.data.tags["resumed_from"]) == ("FINISHED", ", ".join(dead))
    assert sorted(curve(workplace, run, "train/loss")) == list(range(1, EPOCHS + 1))


def test_ranks_do_not_outlive_who_leads_them(workplace):
    process, trained = start_training(workplace, epochs=200, seed=20)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    gone, alive = psutil.wait_procs(list(trained.values()), timeout=30)
    assert (len(gone), alive) == (2, [])


def test_ctrl_c_ends_all(workplace):
    process, trained = start_training(workplace, epochs=200, seed=21)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=180) == 1
    assert ended(trained)
    run = workplace.runs("fracture-mae")[-1]
    assert (run.info.status, run.data.tags["failure_reason"]) == ("FAILED", "KeyboardInterrupt: interrupted")
    assert "Traceback" not in (workplace.root / "output.txt").read_text()


def test_a_mistake_that_all_ranks_find_is_told_once(workplace):
    empty = workplace.root / "empty"
    empty.mkdir()
    done = workplace.python("finetune_mae", **MAE | {"data_dir": empty}, nproc=2)
    assert done.returncode == 1
    assert done.stderr.count(f"Error: {empty} holds no X-rays") == 1
    assert "Traceback" not in done.stderr
    run = workplace.runs("fracture-mae")[-1]
    assert run.data.tags["failure_reason"].startswith(f"FractureMaeError: {empty} holds no X-rays")


def test_torchrun_on_two_machines_makes_one_run(workplace, alone):
    """Two launchers with a process each, as on two machines; here they share one."""
    before = len(workplace.runs("fracture-mae"))
    _, _, *entry_point = command_of("finetune_mae", MAE | {"epochs": 2})
    rendezvous = [
        f"--rdzv-endpoint=127.0.0.1:{free_port()}",
        "--rdzv-backend=c10d",
        "--rdzv-id=x",
        "--local-addr=127.0.0.1",
    ]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", *rendezvous, "-m"]
    launchers = [
        subprocess.Popen(
            [*torchrun, *entry_point], cwd=workplace.root, env=workplace.environment, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    told = [launcher.communicate(timeout=300)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], told
    *_, run = runs = workplace.runs("fracture-mae")
    assert len(runs) == before + 1
    assert (run.info.status, run.data.tags["step.processes"]) == ("FINISHED", "2")
    assert_alike(workplace, run, alone, "train/loss", "validation/masked_mse")


def test_what_is_no_training_is_not_shared(workplace):
    environment = workplace.environment | {"RANK": "1", "WORLD_SIZE": "2"}
    command = command_of("reconstruct_baseline", SMALL)
    done = subprocess.run(command, cwd=workplace.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "found 2 processes, as a launcher has started them, expected one" in done.stderr
