import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fracture_mae.errors import FractureMaeError
from fracture_mae.processes import collectives, ranks
from fracture_mae.stages import inputs


def test_a_process_by_itself_does_the_obvious():
    assert not collectives.are_several()
    assert collectives.share(3).tolist() == [0, 1, 2]
    assert collectives.gather("mine") == ["mine"]
    assert collectives.from_first(lambda: 5) == collectives.broadcast(5) == 5
    assert collectives.total(torch.tensor(2.0)) == 2
    with collectives.first_goes_ahead():
        pass
    assert collectives.goes_on_alone()


@pytest.mark.parametrize(("n", "sizes"), [(7, [3, 2, 2]), (2, [1, 1, 0]), (0, [0, 0, 0])])
def test_parts_hold_each_position_once_in_order(monkeypatch, n, sizes):
    monkeypatch.setattr(collectives, "are_several", lambda: True)
    monkeypatch.setattr(collectives, "_world_size", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(collectives.share(n))
    assert [len(part) for part in parts] == sizes
    assert np.concatenate(parts).tolist() == list(range(n))


def test_who_a_process_is(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", ranks.LEADER):
        monkeypatch.delenv(name, raising=False)
    assert (ranks.rank(), ranks.world_size(), ranks.is_first()) == (0, 1, True)
    assert not ranks.under_launcher()
    assert not ranks.is_led()
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv(ranks.LEADER, "17")
    assert (ranks.rank(), ranks.world_size(), ranks.is_first()) == (2, 4, False)
    assert ranks.under_launcher()
    assert ranks.is_led()


@pytest.mark.parametrize(("rank", "heard"), [("0", True), ("1", False)])
def test_only_the_first_is_heard(rank, heard):
    script = (
        "import entrypoints, logging, warnings; from tqdm import tqdm; "
        "print('a line'); logging.warning('a log'); warnings.warn('a warning'); list(tqdm([1]))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment | {"RANK": rank}, capture_output=True, text=True, check=True
    )
    assert (done.stdout == "a line\n") == heard
    assert ("a log" in done.stderr, "a warning" in done.stderr) == (heard, heard)
    assert "it/s" not in done.stderr  # no terminal


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (torch.distributed.DistBackendError("NCCL error"), True),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:1"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("gloo"), False),
    ],
)
def test_a_bug_is_told_from_the_loss_of_another_process(monkeypatch, error, lost):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert collectives.lost_another(error) == lost
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not collectives.lost_another(error)


def test_processes_that_see_different_xrays_are_refused(dataset, monkeypatch):
    inputs.check_alike(dataset)
    monkeypatch.setattr(collectives, "gather", lambda mine: [mine, mine, "another"])
    with pytest.raises(
        FractureMaeError, match="process 2 finds other X-rays in made, or in another order, than process 0"
    ):
        inputs.check_alike(dataset)
