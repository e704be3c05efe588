"""The same training with other seeds, each a child run, to tell later how much of a figure is the seed."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from accelerate import Accelerator
from tqdm import tqdm

from fracture_mae.config import TrainClassifier
from fracture_mae.data.types import Dataset
from fracture_mae.evaluation.prediction import settle_arithmetic, weighed
from fracture_mae.evaluation.training_seeds import OtherSeeds
from fracture_mae.metrics.decision import Decision
from fracture_mae.models.encoders import Encoder
from fracture_mae.processes import ranks
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.tracking.runs import Run
from fracture_mae.training import learning_curves
from fracture_mae.training.checkpoints import Checkpoints, open_checkpoints


@dataclass(frozen=True)
class Trained:
    """What the other seeds led to.

    Attributes:
        kept: the classifiers.
        predictions: of each for validation, a row per file, and its decision.
        checkpoints: where the weights of each are kept in the meantime.
    """

    kept: OtherSeeds
    predictions: Mapping[int, tuple[pd.DataFrame, Decision]]
    checkpoints: list[Checkpoints]

    def forget(self) -> None:
        """Remove the checkpoints, once the classifiers are registered with the one that they stand beside."""
        for each in self.checkpoints:
            with each as kept:
                kept.remove()


def train_others(
    start: Encoder,
    dataset: Dataset,
    config: TrainClassifier,
    *,
    accelerator: Accelerator,
    run: Run,
    out_of_fold: pd.DataFrame | None,
) -> Trained:
    """Train a classifier with each further seed that `config.seeds` asks for, from the same encoder on the same split.

    One that an earlier, killed run has trained is not trained again.

    Args:
        out_of_fold: what thresholds are chosen on instead of validation, see `classifier.decide`.

    Raises:
        FractureMaeError: another process is at the same training.
    """
    seeds = range(config.seed + 1, config.seed + config.seeds)
    if seeds and ranks.is_first():
        tqdm.write(
            f"Trained {config.seeds} times, with seeds {config.seed} to {seeds[-1]}: the registered one comes last"
        )
    trained, predictions, checkpoints = {}, {}, []
    for seed in tqdm(seeds, desc="Other seeds", unit="seed", disable=not seeds):
        own = config.model_copy(update={"seed": seed})
        classifier = classifier_stage.build(copy.deepcopy(start), own)
        with run.child(f"seed {seed}") as child, open_checkpoints(classifier, dataset, own, child.id) as kept:
            child.tags({"seed": seed, "split.fingerprint": dataset.split_fingerprint})
            options = {"accelerator": accelerator, "checkpoints": kept, "log": child.metrics}
            choice = classifier_stage.train_and_choose(classifier, dataset, own, **options, out_of_fold=out_of_fold)
            options = {"config": own, "accelerator": accelerator, "exact": choice.predictions}
            settle_arithmetic(classifier, choice.decision, dataset.validation, **options)
            accelerator.free_memory()  # or the next one's checkpoints would hold this one's model too
            validation = weighed(choice.predictions, dataset.validation, own)
            if ranks.is_first():
                child.report(learning_curves.report(choice.progress))
                child.metrics(choice.decision.metrics)
        trained[seed] = (classifier.to("cpu"), choice.decision)
        predictions[seed] = (validation, choice.decision)
        checkpoints.append(kept)
    return Trained(OtherSeeds(trained), predictions, checkpoints)
