import itertools
import json
import math

import pytest
import torch
from torch import nn

from fracture_mae.config import FinetuneMae
from fracture_mae.models import attention
from fracture_mae.models.autoencoder import Mae, load
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.encoders.network import NetworkEncoder
from fracture_mae.models.pixels import IMAGENET
from fracture_mae.training import step_options
from fracture_mae.training.step_options import (
    Chosen,
    StepOptions,
    StepTimer,
    choose,
    fastest,
    is_soon_compiled,
    is_worth_trying,
    pays,
)
from tests.unit.models.networks import FAMILIES, SIDE, network_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ALIKE = {"vit", "deit", "beit", "beit_cls", "dinov2", "dinov2_with_registers", "dinov3_vit"}
SECONDS = {"sdpa": 0.2, "eager": 0.1, "written_out": 0.1, "compiled": 0.05}
NAMED = {"eager": "eager", attention._PLAIN: "written_out"}


class Bench:
    """Stands for a probe: the time of a step is told by how it is computed, not measured."""

    def __init__(self, model, seconds=SECONDS, compiler=None, key="this machine", device=CPU, dtype=torch.float32):
        self.model = model
        self.device = device
        self.dtype = dtype
        self.compiled = nn.Identity()
        self.key = key
        self.steps = []
        self._seconds = seconds
        self._compiler = compiler

    def step(self, forward):
        self.steps.append(self._kind(forward))
        if forward is self.compiled and self._compiler:
            raise self._compiler

    def prepare(self, forward):
        return lambda: self.step(forward)

    def seconds(self, step):
        step()
        return self._seconds[self.steps[-1]]

    def _kind(self, forward):
        return "compiled" if forward is self.compiled else attention_of(self.model)[0]


@pytest.fixture
def compile_time(monkeypatch):
    """Let compiling take so many seconds."""

    def fix(seconds):
        clock = itertools.count(0, seconds)
        monkeypatch.setattr(step_options.time, "perf_counter", lambda: next(clock))

    return fix


def attention_of(model):
    """Of an MAE's encoder and of its decoder, or of a classifier's encoder."""
    is_mae = isinstance(model, Mae)
    configs = (model.network.config, model.network.decoder.config) if is_mae else (model.encoder.network.config,)
    return tuple(NAMED.get(config._attn_implementation, "sdpa") for config in configs)


def test_what_is_asked_for_is_done_without_trying(tiny_mae):
    bench = Bench(tiny_mae)
    assert choose(StepOptions(attention="eager"), bench, 1000) == Chosen("eager", False)
    assert bench.steps == []
    assert attention_of(tiny_mae) == ("eager", "eager")


def test_the_faster_attention_is_found_in_turns_once_and_remembered(tiny_mae):
    bench = Bench(tiny_mae)
    assert choose(StepOptions(attention="auto"), bench, 1000) == Chosen("written_out", False)
    assert attention_of(tiny_mae) == ("written_out", "written_out")
    assert bench.steps == ["sdpa", "sdpa"] + ["sdpa", "written_out"] * 4  # the first of each is not timed
    again = Bench(tiny_mae, seconds={"sdpa": 1.0, "written_out": 2.0})
    assert choose(StepOptions(attention="auto"), again, 1000) == Chosen("written_out", False)
    assert again.steps == []
    other = Bench(tiny_mae, seconds={"sdpa": 0.1, "written_out": 0.2}, key="another batch size")
    assert choose(StepOptions(attention="auto"), other, 1000) == Chosen("sdpa", False)


def test_in_bf16_on_a_processor_the_fastest_is_known(tiny_mae):
    bench = Bench(tiny_mae, dtype=torch.bfloat16)
    assert choose(StepOptions(attention="auto"), bench, 1000) == Chosen("written_out", False)
    assert bench.steps == []
    assert choose(StepOptions(attention="sdpa"), bench, 1000) == Chosen("sdpa", False)  # who asks for it gets it
    assert bench.steps == []
    on_gpu = Bench(tiny_mae, device=CUDA, dtype=torch.bfloat16)
    assert choose(StepOptions(attention="auto"), on_gpu, 1000) == Chosen("eager", False)
    assert on_gpu.steps


def test_a_damaged_memory_is_measured_anew(tiny_mae):
    choose(StepOptions(attention="auto"), Bench(tiny_mae), 1000)
    (file,) = step_options.cache_root().glob("*.json")
    file.write_text(file.read_text()[:10])
    bench = Bench(tiny_mae)
    assert choose(StepOptions(attention="auto"), bench, 1000) == Chosen("written_out", False)
    assert bench.steps
    assert json.loads(file.read_text())["this machine"]["attention"] == {"sdpa": 0.2, "written_out": 0.1}


@pytest.mark.parametrize(("n_steps", "measured"), [(100, False), (400, True)])
def test_slow_steps_are_measured_only_where_many_follow(tiny_mae, n_steps, measured):
    """Eight steps of 2 s are 16 s, a twentieth of 160 steps."""
    bench = Bench(tiny_mae, seconds={"sdpa": 2.0, "written_out": 1.0})
    chosen = choose(StepOptions(attention="auto"), bench, n_steps)
    assert chosen.attention == ("written_out" if measured else "sdpa")
    assert len(bench.steps) == (10 if measured else 2)


def test_the_usual_way_unless_another_is_clearly_faster():
    assert fastest({"sdpa": 1.0, "eager": 0.96}, "sdpa") == "sdpa"
    assert fastest({"sdpa": 1.0, "eager": 0.94}, "sdpa") == "eager"
    assert fastest({"sdpa": math.inf, "eager": 1.0}, "sdpa") == "eager"


def test_when_compiling_may_earn_back_its_time():
    # A tenth of 9000 steps of 0.1 s is 90 s.
    assert is_worth_trying(0.1, 9001)
    assert not is_worth_trying(0.1, 8999)
    # 0.02 s saved a step: 60 s are earned back by 3000 steps.
    assert pays(0.1, 0.08, 60, 3001)
    assert not pays(0.1, 0.08, 60, 2999)


def test_compiling_is_left_alone_where_training_is_short(tiny_mae):
    bench = Bench(tiny_mae)
    assert choose(StepOptions(compile="auto"), bench, 1000) == Chosen("sdpa", False)
    assert "compiled" not in bench.steps


def test_compiling_is_tried_where_training_is_long_and_then_known(tiny_mae, compile_time):
    compile_time(30)
    bench = Bench(tiny_mae)
    assert choose(StepOptions(compile="auto"), bench, 10_000) == Chosen("sdpa", True)
    # 0.15 s saved a step: 30 s are earned back by 200 steps.
    for n_steps, expected in ((201, True), (199, False)):
        again = Bench(tiny_mae)
        assert choose(StepOptions(compile="auto"), again, n_steps) == Chosen("sdpa", expected)
        assert again.steps == (["compiled"] if expected else [])


def test_what_is_no_faster_compiled_is_not_compiled(tiny_mae, compile_time):
    compile_time(30)
    slow = {**SECONDS, "compiled": 0.3}
    assert choose(StepOptions(compile="auto"), Bench(tiny_mae, slow), 10_000) == Chosen("sdpa", False)
    assert choose(StepOptions(compile="auto"), Bench(tiny_mae, slow), 10**9) == Chosen("sdpa", False)


def classifier_on(family):
    return FractureClassifier(NetworkEncoder(network_of(family), IMAGENET, SIDE))


@pytest.mark.parametrize(("family", "device", "expected"), [
    ("vit", CPU, True), ("efficientnet", CPU, False), ("swin", CPU, False), ("efficientnet", CUDA, True),
])  # fmt: skip
def test_on_the_processor_compiling_is_tried_where_layers_are_alike(family, device, expected, compile_time):
    compile_time(30)
    bench = Bench(classifier_on(family), device=device)
    assert choose(StepOptions(compile="auto"), bench, 10_000) == Chosen("sdpa", expected)
    assert ("compiled" in bench.steps) == expected
    assert choose(StepOptions(compile=True), bench, 1) == Chosen("sdpa", True)  # who asks for it gets it


def test_which_networks_are_soon_compiled():
    assert {family for family in FAMILIES if is_soon_compiled(network_of(family), CPU)} == ALIKE
    assert all(is_soon_compiled(network_of(family), CUDA) for family in FAMILIES)
    assert is_soon_compiled(load("vit-mae-nano"), CPU)  # whose decoder's layers are narrower than its encoder's
    assert not is_soon_compiled(nn.Linear(2, 2), CPU)  # of which nothing is known


@pytest.mark.parametrize("asked", ["auto", True])
def test_without_a_compiler_training_goes_on_with_a_warning(tiny_mae, caplog, asked):
    bench = Bench(tiny_mae, compiler=RuntimeError("No working C++ compiler found.\nmore"))
    assert choose(StepOptions(compile=asked), bench, 10_000) == Chosen("sdpa", False)
    (warning,) = caplog.messages
    assert warning == "torch.compile does not work here (No working C++ compiler found): training goes on without it."


def test_checkpointing_is_switched_on_and_off(tiny_mae):
    for asked in (True, False):
        choose(StepOptions(checkpointing=asked), Bench(tiny_mae), 1)
        assert tiny_mae.network.is_activation_checkpointing == asked


def test_a_step_that_memory_does_not_suffice_for_takes_forever(tiny_mae):
    def too_large():
        raise torch.OutOfMemoryError

    assert StepTimer(tiny_mae, lambda forward: too_large, "", torch.device("cpu")).seconds(too_large) == math.inf


def test_the_key_tells_what_matters_apart(tiny_mae):
    def key(n=2, side=32, precision="fp32", model=tiny_mae, **asked):
        return step_options.key_of(model, (n, side, side), precision, StepOptions(**asked), torch.device("cpu"))

    others = [key(n=3), key(side=64), key(precision="bf16"), key(checkpointing=True), key(model=nn.Linear(2, 2))]
    assert len({key(), *others, key(cuda_graphs=True)}) == 7
    assert key() == key()


def test_what_the_config_asks_for():
    config = FinetuneMae(accumulation=2, checkpointing=True, attention="eager", compile="false", cuda_graphs="false")
    assert StepOptions.of(config) == StepOptions(2, True, "eager", False, False)
    assert StepOptions.of(FinetuneMae()).cuda_graphs
