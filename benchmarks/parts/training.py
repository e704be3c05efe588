"""Fine-tuning, the training step alone, and how much of the machine it uses."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from benchmarks import ceilings, flops, operators, ours
from benchmarks.alternatives.notebook import Notebook
from benchmarks.alternatives.reference_mae import ReferenceStep
from benchmarks.ceilings import DTYPES, Work
from benchmarks.results import Outcome, Point, Result, Roofline
from benchmarks.subject import Subject
from benchmarks.timing import Sample, rate
from benchmarks.units import FLOPS
from fracture_mae.config import FinetuneMae
from fracture_mae.training.trainer import Trainer

_MOST_IMAGES_ONE_BY_ONE = 32  # whose rate stands for that of all
_STEP, _REFERENCE = "training step", "reference step"


def fine_tuning(subject: Subject) -> Outcome:
    """An epoch of the trainer against the same X-rays in a notebook's loop."""
    trainer, notebook = ours.trainer_of(subject, subject.training), Notebook(subject.mae, subject.device)
    paths = subject.xrays.table["path"].tolist()[:_MOST_IMAGES_ONE_BY_ONE]
    options = {"device": subject.device, "at_least": subject.at_least}
    found = subject.measure(
        {
            "ours": rate(lambda: ours.train_epoch(trainer, subject.xrays), len(subject.xrays), **options),
            "alternative": rate(lambda: notebook.train(paths), len(paths), **options),
        }
    )
    result = Result(
        "fine_tuning",
        "fine-tuning, data loading included",
        f"Trainer on the cache, {subject.precision}, batches of {subject.config.batch_size} · a notebook's loop: Hugging Face in fp32, "
        "Adam, decoding every epoch, one image at a time, loss over all patches",
        "images/s",
        **found,
        ratio=found["ours"].over(found["alternative"]),
        bar=subject.bar(3, waived=waived(subject.device.type, subject.precision)),
    )
    return Outcome([result])


def waived(device: str, precision: str) -> str:
    """Why the bar of fine-tuning does not apply; empty where it does, on a processor that computes in bf16."""
    if device != "cpu":
        return "the bar is one for processors"
    return "" if precision == "bf16" else "no bf16 here"


def step(subject: Subject) -> Outcome:
    """The training step alone, on a batch that is on the device already."""
    trainer = ours.trainer_of(subject, _plain(subject))
    our_step, reference_step = _steps(subject, trainer)
    n_images, options = subject.config.batch_size, {"device": subject.device, "at_least": subject.at_least}
    found = subject.measure(
        {
            "ours": rate(our_step, n_images, **options),
            "alternative": rate(reference_step, n_images, **options),
        }
    )
    result = Result(
        "step",
        "training step alone",
        f"forward, backward, optimizer on a batch of {n_images}, {subject.precision}{_said(trainer.computed_by)} · the step that the "
        "authors of MAE describe, same sizes and precision",
        "images/s",
        **found,
        ratio=found["ours"].over(found["alternative"]),
        bar=subject.bar_by_device(cpu=1.0, gpu=1.3),
    )
    return Outcome([result])


def ceiling(subject: Subject) -> Outcome:
    """The share of the fastest matrix products that a training step reaches, and the roofline it is seen under."""
    # The operators of a step that is compiled or recorded cannot be counted, and one that is begun while they are is neither.
    bytes_of = {_STEP: _traffic(ours.step_of(_unrecorded(subject), subject.xrays, _positions(subject)))}
    works = _works(subject)
    if not _fits(works[_REFERENCE].do):  # it takes much more memory, and is not what this figure is about
        del works[_REFERENCE]
    bytes_of |= {name: _traffic(work.do) for name, work in works.items() if _is_point(name) and name != _STEP}
    found = subject.measure(
        {name: rate(work.do, work.amount, subject.device, subject.at_least) for name, work in works.items()}
    )
    precisions = _precisions(subject)
    matrix = {name: _higher(found[f"square, {name}"], found[f"own, {name}"]) for name in precisions}
    best = matrix[subject.precision]
    square, own = (FLOPS(found[f"{kind}, {subject.precision}"].median) for kind in ("square", "own"))
    unit, scale = ("TFLOP/s", 1e-12) if best.median >= 1e13 else ("GFLOP/s", 1e-9)
    result = Result(
        "ceiling",
        "share of the matrix ceiling",
        f"FLOP/s that a training step needs, {subject.precision} · the faster of a large square product ({square}) and the products of "
        f"the model's own shapes ({own})",
        unit,
        ours=found[_STEP].times(scale),
        alternative=best.times(scale),
        ratio=found[_STEP].over(best),
        bar=subject.bar_by_device(cpu=0.80, gpu=0.45),
        percent=True,
    )
    copy = {name: found[f"copy, {name}"] for name in precisions}
    points = [Point(name, works[name].amount, n_bytes, found[name]) for name, n_bytes in bytes_of.items()]
    return Outcome([result], Roofline(matrix, copy, points))


def _plain(subject: Subject) -> FinetuneMae:
    """Training without augmentation, which the reference's step has not."""
    return subject.training.model_copy(update={"crop_scale": 1.0, "rotation": 0.0, "flip": False, "intensity": 0.0})


def _unrecorded(subject: Subject) -> Trainer:
    """A trainer whose operators are called one by one, so that they can be counted."""
    return ours.trainer_of(subject, _plain(subject).model_copy(update={"compile": False, "cuda_graphs": False}))


def _said(computed_by: Mapping[str, str]) -> str:
    """Such as `, compiled, as a CUDA graph`."""
    ways = {"compile": ", compiled", "cuda_graphs": ", as a CUDA graph"}
    return "".join(words for name, words in ways.items() if computed_by[name] == "true")


def _positions(subject: Subject) -> np.ndarray:
    """Of the X-rays of a batch."""
    return np.resize(np.arange(len(subject.xrays)), subject.config.batch_size)


def _steps(subject: Subject, trainer: Trainer) -> tuple[Callable[[], object], Callable[[], object]]:
    """Our step and the reference's on the same batch."""
    training, positions = _plain(subject), _positions(subject)
    reference = ReferenceStep(
        subject.sizes,
        subject.mae.normalisation,
        learning_rate=training.learning_rate,
        mask_ratio=training.train_mask_ratio,
        accelerator=subject.accelerator,
    )
    pixels = ours.batch_of(subject.xrays, positions, subject.device).pixels
    return ours.step_of(trainer, subject.xrays, positions), lambda: reference(pixels)


def _works(subject: Subject) -> dict[str, Work]:
    """All that is timed for a roofline: the steps, the operators, and the ceilings in each precision."""
    sizes, mask_ratio, n_images = subject.sizes, subject.training.train_mask_ratio, subject.config.batch_size
    needed = flops.step_flops(sizes, mask_ratio, n_images)
    steps = zip((_STEP, _REFERENCE), _steps(subject, ours.trainer_of(subject, _plain(subject))), strict=True)
    works = {name: Work(action, needed) for name, action in steps}
    works |= operators.of(sizes, mask_ratio, n_images, DTYPES[subject.precision], subject.device)
    layers = flops.linear_layers(sizes, mask_ratio)
    for name in _precisions(subject):
        dtype = DTYPES[name]
        works[f"square, {name}"] = ceilings.square_product(_side(subject), dtype, subject.device)
        works[f"own, {name}"] = ceilings.own_products(layers, n_images, dtype, subject.device)
        works[f"copy, {name}"] = ceilings.copy_of_memory(_bytes_copied(subject), dtype, subject.device)
    return works


def _precisions(subject: Subject) -> list[str]:
    """The one that is used, then fp32."""
    return list(dict.fromkeys([subject.precision, "fp32"]))


def _side(subject: Subject) -> int:
    """Of a square matrix that is large for the device."""
    large = 8192 if subject.device.type == "cuda" else 2048
    return large // 4 if subject.config.quick else large


def _bytes_copied(subject: Subject) -> int:
    """More than any cache holds."""
    return 2**25 if subject.config.quick else 2**28


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
