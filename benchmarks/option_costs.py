"""What options of a classifier's training cost: X-rays per second in training and in answering, and memory, beside the default.

    python -m benchmarks.option_costs --data-dir synthetic:n_xrays=300,boxes=true --encoder vit-mae-tiny --rounds 3

Every training is a process of its own, with nothing left of the one before, and all options are measured in turn, round by round.
Reading and decoding the X-rays is not counted: that is done once and kept in the cache.
"""

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import click
import pandas as pd
from tqdm import tqdm

from benchmarks.memory import PeakMemory
from benchmarks.timing import Sample
from fracture_mae.config import TrainClassifier
from fracture_mae.config.command_line import parse
from fracture_mae.data.types import Dataset
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation.prediction import predict
from fracture_mae.models.encoders import Encoder
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages import inputs
from fracture_mae.tracking.registered_models import load_encoder
from fracture_mae.training.checkpoints import NoCheckpoints

DEFAULT = "default"
OPTIONS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "preprocess=letterbox": {"preprocess": "letterbox"},
    "preprocess=film": {"preprocess": "film"},
    "preprocess=film_equalised": {"preprocess": "film_equalised"},
    "source_augmentation=0.5": {"source_augmentation": 0.5},
    "source_augmentation=1": {"source_augmentation": 1.0},
    "match=properties": {"match": "properties"},
    "head_init=probe": {"head_init": "probe"},
    "freeze=true": {"freeze": True},
    "pool=lse": {"pool": "lse"},
    "pool=topk": {"pool": "topk"},
    "pool=attention": {"pool": "attention"},
    "pool=lse, place_weight=1": {"pool": "lse", "place_weight": 1.0},
    "image_size=320": {"image_size": 320},
    "accumulation=4": {"accumulation": 4},
    "checkpointing=true": {"checkpointing": True},
}
_SHARED = {"epochs": 2, "selection": "last", "compile": False, "image_size": 224}
_TRAINING, _ANSWERING, _MEMORY, _BEFORE = "training [X-rays/s]", "answering [X-rays/s]", "memory [MB]", "before [s]"


def measure(options: dict[str, Any]) -> dict[str, float]:
    """A training under these options, in this process.

    Returns:
        X-rays per second of the last epoch's steps and of answers for the training files; megabytes that the process came to hold
        beyond what it had with model and X-rays loaded; seconds before the first step.
    """
    config = parse(TrainClassifier, _SHARED | options)
    accelerator = make_accelerator(config.precision, config.device)
    config, encoder, dataset = _loaded(config)
    classifier = classifier_stage.build(encoder, config)
    rows: list[dict[str, float]] = []
    with PeakMemory() as nothing_yet:
        pass
    with PeakMemory() as peak:
        start = time.perf_counter()
        settings = {"accelerator": accelerator, "checkpoints": NoCheckpoints()}
        matching = classifier_stage.matched(dataset.train, config)

        def log(row: dict[str, float], _: int) -> None:
            rows.append(row | {"at": time.perf_counter()})

        classifier_stage.train(classifier, dataset, config, **settings, log=log, matching=matching)
        before = rows[0]["at"] - start - (rows[1]["at"] - rows[0]["at"])
        start = time.perf_counter()
        predict(classifier, dataset.train, batch_size=config.batch_size, accelerator=accelerator)
        answering = len(dataset.train) / (time.perf_counter() - start)
    return {
        _TRAINING: rows[-1]["train/images_per_second"],
        _ANSWERING: answering,
        _MEMORY: (peak.anonymous - nothing_yet.anonymous) / 1e6,
        _BEFORE: max(before, 0.0),
    }


def _loaded(config: TrainClassifier) -> tuple[TrainClassifier, Encoder, Dataset]:
    encoder = load_encoder(config.encoder, config)
    config = classifier_stage.obeyable(config, encoder)[0].settled(encoder.start)
    return config, encoder, inputs.load_training_data(config, encoder.image_size, preprocess=encoder.preprocess)


def measured(options: dict[str, dict[str, Any]], rounds: int) -> dict[str, list[dict[str, float]]]:
    """What `measure` gives for each of the options, round by round, each time in a process of its own."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in options}
    fresh = {"mp_context": multiprocessing.get_context("spawn"), "max_tasks_per_child": 1}
    with ProcessPoolExecutor(1, **fresh) as processes:
        for name in tqdm(list(options) * rounds, desc="Options", unit="training"):
            found[name].append(processes.submit(measure, options[name]).result())
            values = ", ".join(f"{what} {value:.1f}" for what, value in found[name][-1].items())
            tqdm.write(f"{name}: {values}")  # or whoever stops it would have nothing
    return found


def tabulate(found: dict[str, list[dict[str, float]]]) -> pd.DataFrame:
    """Medians and ranges over rounds, and ratios to the default of the same round."""
    samples = {
        name: {what: Sample(tuple(each[what] for each in rounds)) for what in rounds[0]}
        for name, rounds in found.items()
    }
    return pd.DataFrame(
        {
            name: {what: _text(sample, ".0f" if what != _BEFORE else ".1f") for what, sample in row.items()}
            | {
                f"{what.split(' ')[0]}, beside {DEFAULT}": _text(row[what].over(samples[DEFAULT][what]), ".2f", "x")
                for what in (_TRAINING, _ANSWERING, _MEMORY)
            }
            for name, row in samples.items()
        }
    ).T


def _text(sample: Sample, form: str, unit: str = "") -> str:
    return f"{sample.median:{form}}{unit} [{sample.low:{form}}, {sample.high:{form}}]"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", default="synthetic:n_xrays=300,boxes=true", help="X-rays, as for train_classifier"
    )
    parser.add_argument("--encoder", default="vit-mae-tiny", help="as for train_classifier")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=OPTIONS, default=list(OPTIONS), help="these beside the default")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error(f"--rounds: found {given.rounds}, expected 1 or more")
    shared = {"data_dir": given.data_dir, "encoder": given.encoder, "batch_size": given.batch_size}
    options = {name: shared | OPTIONS[name] for name in OPTIONS if name in {DEFAULT, *given.only}}
    os.environ["TQDM_DISABLE"] = "1"  # in the trainings
    try:
        for each in options.values():
            _loaded(parse(TrainClassifier, _SHARED | each))  # whatever is to be decoded is in the cache then
        table = tabulate(measured(options, given.rounds))
    except (FractureMaeError, click.UsageError) as error:
        raise SystemExit(f"Error: {error}") from None
    print(table.to_string())


if __name__ == "__main__":
    main()
