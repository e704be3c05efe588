"""Fine-tuning, the training step alone, and how much of the machine it uses."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from benchmarks import ceilings, flops, operators, ours
from benchmarks.alternatives.notebook import Notebook
from benchmarks.alternatives.reference_mae import ReferenceStep
from benchmarks.ceilings import DTYPES, Work
from benchmarks.results import Outcome, Point, Result, Roofline
from benchmarks.timing import Sample, rate
from benchmarks.units import FLOPS
from benchmarks.workload import Workload
from fracture_mae.config import FinetuneMae
from fracture_mae.training.trainer import Trainer

_MOST_IMAGES_ONE_BY_ONE = 32  # whose rate stands for that of all
_STEP, _REFERENCE = "training step", "reference step"


def fine_tuning(workload: Workload) -> Outcome:
    """An epoch of the trainer against the same X-rays in a notebook's loop."""
    trainer, notebook = ours.trainer_of(workload, workload.training), Notebook(workload.mae, workload.device)
    paths = workload.xrays.table["path"].tolist()[:_MOST_IMAGES_ONE_BY_ONE]
    options = {"device": workload.device, "at_least": workload.at_least}
    found = workload.measure(
        {
            "ours": rate(lambda: ours.train_epoch(trainer, workload.xrays), len(workload.xrays), **options),
            "alternative": rate(lambda: notebook.train(paths), len(paths), **options),
        }
    )
    result = Result(
        "fine_tuning",
        "fine-tuning, data loading included",
        f"Trainer on the cache, {workload.precision}, batches of {workload.config.batch_size} · a notebook's loop: Hugging Face, fp32, "
        "Adam, decoding every epoch, one image at a time, loss over all patches",
        "images/s",
        **found,
        ratio=found["ours"].over(found["alternative"]),
        bar=workload.bar(3, waived=waived(workload.device.type, workload.precision)),
    )
    return Outcome([result])


def waived(device: str, precision: str) -> str:
    """Why the bar of fine-tuning does not apply; empty where it does, on a processor that computes in bf16."""
    if device != "cpu":
        return "the bar is one for processors"
    return "" if precision == "bf16" else "no bf16 here"


def step(workload: Workload) -> Outcome:
    """The training step alone, on a batch that is on the device already."""
    trainer = ours.trainer_of(workload, _plain(workload))
    our_step, reference_step = _steps(workload, trainer)
    n_images, options = workload.config.batch_size, {"device": workload.device, "at_least": workload.at_least}
    found = workload.measure(
        {
            "ours": rate(our_step, n_images, **options),
            "alternative": rate(reference_step, n_images, **options),
        }
    )
    result = Result(
        "step",
        "training step alone",
        f"forward, backward, optimizer on a batch of {n_images}, {workload.precision}{_said(trainer.computed_by)} · the step that the "
        "authors of MAE describe, same sizes and precision",
        "images/s",
        **found,
        ratio=found["ours"].over(found["alternative"]),
        bar=workload.bar_by_device(cpu=1.0, gpu=1.3),
    )
    return Outcome([result])


def forward(workload: Workload) -> Outcome:
    """The forward pass alone, as evaluations compute it, on a batch that is on the device already."""
    n_images, options = workload.config.batch_size, {"device": workload.device, "at_least": workload.at_least}
    reference = _reference(workload)
    pixels = ours.batch_of(workload.xrays, _positions(workload), workload.device).pixels
    found = workload.measure(
        {
            "ours": rate(ours.forward_of(workload, pixels), n_images, **options),
            "alternative": rate(lambda: reference.evaluate(pixels), n_images, **options),
        }
    )
    result = Result(
        "forward",
        "forward pass alone",
        f"a batch of {n_images}, {workload.precision}, no gradients · the network that the authors of MAE describe, same sizes and "
        "precision",
        "images/s",
        **found,
        ratio=found["ours"].over(found["alternative"]),
        bar=workload.bar(1.0, waived="" if workload.device.type == "cpu" else "the bar is one for processors"),
    )
    return Outcome([result])


def ceiling(workload: Workload) -> Outcome:
    """The share of the fastest matrix products that a training step reaches, and the roofline it is seen under."""
    # The operators of a step that is compiled or recorded cannot be counted, and one that is begun while they are is neither.
    bytes_of = {_STEP: _traffic(ours.step_of(_unrecorded(workload), workload.xrays, _positions(workload)))}
    works = _works(workload)
    if not _fits(works[_REFERENCE].do):  # it takes much more memory, and is not what this figure is about
        del works[_REFERENCE]
    bytes_of |= {name: _traffic(work.do) for name, work in works.items() if _is_point(name) and name != _STEP}
    found = workload.measure(
        {name: rate(work.do, work.amount, workload.device, workload.at_least) for name, work in works.items()}
    )
    precisions = _precisions(workload)
    matrix = {name: _higher(found[f"square, {name}"], found[f"own, {name}"]) for name in precisions}
    best = matrix[workload.precision]
    square, own = (FLOPS(found[f"{kind}, {workload.precision}"].median) for kind in ("square", "own"))
    unit, scale = ("TFLOP/s", 1e-12) if best.median >= 1e13 else ("GFLOP/s", 1e-9)
    result = Result(
        "ceiling",
        "share of the matrix ceiling",
        f"FLOP/s that a training step needs, {workload.precision} · the faster of a large square product ({square}) and products of "
        f"the model's own shapes ({own})",
        unit,
        ours=found[_STEP].times(scale),
        alternative=best.times(scale),
        ratio=found[_STEP].over(best),
        bar=workload.bar_by_device(cpu=0.80, gpu=0.45),
        percent=True,
    )
    copy = {name: found[f"copy, {name}"] for name in precisions}
    points = [Point(name, works[name].amount, n_bytes, found[name]) for name, n_bytes in bytes_of.items()]
    return Outcome([result], Roofline(matrix, copy, points))


def _plain(workload: Workload) -> FinetuneMae:
    """Training without augmentation, which the reference's step has not."""
    return workload.training.model_copy(
        update={"crop_scale": 1.0, "rotation": 0.0, "flip": False, "intensity": 0.0, "source_augmentation": 0.0}
    )


def _unrecorded(workload: Workload) -> Trainer:
    """A trainer whose operators are called one by one, so that they can be counted."""
    return ours.trainer_of(workload, _plain(workload).model_copy(update={"compile": False, "cuda_graphs": False}))


def _said(computed_by: Mapping[str, str]) -> str:
    """Such as `, compiled, as a CUDA graph`."""
    ways = {"compile": ", compiled", "cuda_graphs": ", as a CUDA graph"}
    return "".join(words for name, words in ways.items() if computed_by[name] == "true")


def _positions(workload: Workload) -> np.ndarray:
    """Of the X-rays of a batch."""
    return np.resize(np.arange(len(workload.xrays)), workload.config.batch_size)


def _steps(workload: Workload, trainer: Trainer) -> tuple[Callable[[], object], Callable[[], object]]:
    """Our step and the reference's on the same batch."""
    reference, positions = _reference(workload), _positions(workload)
    pixels = ours.batch_of(workload.xrays, positions, workload.device).pixels
    return ours.step_of(trainer, workload.xrays, positions), lambda: reference(pixels)


def _reference(workload: Workload) -> ReferenceStep:
    training = workload.training
    return ReferenceStep(
        workload.sizes,
        workload.mae.normalisation,
        learning_rate=training.learning_rate,
        mask_ratio=training.train_mask_ratio,
        accelerator=workload.accelerator,
    )


def _works(workload: Workload) -> dict[str, Work]:
    """All that is timed for a roofline: the steps, the operators, and the ceilings in each precision."""
    sizes, mask_ratio, n_images = workload.sizes, workload.training.train_mask_ratio, workload.config.batch_size
    needed = flops.step_flops(workload.mae, mask_ratio, n_images)
    steps = zip((_STEP, _REFERENCE), _steps(workload, ours.trainer_of(workload, _plain(workload))), strict=True)
    works = {name: Work(action, needed) for name, action in steps}
    works |= operators.of(sizes, mask_ratio, n_images, DTYPES[workload.precision], workload.device)
    layers = flops.linear_layers(sizes, mask_ratio)
    for name in _precisions(workload):
        dtype = DTYPES[name]
        works[f"square, {name}"] = ceilings.square_product(_side(workload), dtype, workload.device)
        works[f"own, {name}"] = ceilings.own_products(layers, n_images, dtype, workload.device)
        works[f"copy, {name}"] = ceilings.copy_of_memory(_bytes_copied(workload), dtype, workload.device)
    return works


def _precisions(workload: Workload) -> list[str]:
    """The one that is used, then fp32."""
    return list(dict.fromkeys([workload.precision, "fp32"]))


def _side(workload: Workload) -> int:
    """Of a square matrix that is large for the device."""
    large = 8192 if workload.device.type == "cuda" else 2048
    return large // 4 if workload.config.quick else large


def _bytes_copied(workload: Workload) -> int:
    """More than any cache holds."""
    return 2**25 if workload.config.quick else 2**28


def _is_point(name: str) -> bool:
    return not name.startswith(("square", "own", "copy"))


def _fits(action: Callable[[], object]) -> bool:
    """Whether memory suffices for it."""
    try:
        action()
    except torch.OutOfMemoryError:
        return False
    return True


def _traffic(action: Callable[[], object]) -> int:
    with flops.Traffic() as traffic:
        action()
    return traffic.n_bytes


def _higher(one: Sample, other: Sample) -> Sample:
    """The one with the higher median."""
    return max(one, other, key=lambda sample: sample.median)
