"""A registered classifier before its judges: loading, predicting every split, comparing with the references."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from accelerate import Accelerator

from fracture_mae.config import Evaluate
from fracture_mae.data.loading import Dataset
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import judging, operating_points, references
from fracture_mae.evaluation.judging import CLASSIFIER, SPLITS
from fracture_mae.evaluation.prediction import predict
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.stages.inputs import SEEN, splits_of, weighed
from fracture_mae.tracking import registry
from fracture_mae.tracking.report import Report


@dataclass(frozen=True)
class Subject:
    """A classifier to be judged.

    Attributes:
        name: its URI or folder, with the version where it is registered.
        version: its number in the registry, where it is registered as `fracture-classifier`.
        seen: sha256 of the files that it was trained or tuned on.
    """

    name: str
    version: str | None
    classifier: FractureClassifier
    decision: Decision
    seen: frozenset[str]

    def check(self, dataset: Dataset) -> None:
        """Refuse data whose classes are not those that it tells apart."""
        if dataset.label_names != self.decision.label_names:
            raise FractureMaeError(
                f"{self.name} tells {' from '.join(self.decision.label_names)}, but the data hold "
                f"{' and '.join(dataset.label_names)}. Evaluate it on data with the same names for the classes, or rename the folders."
            )

    def leakage(self, dataset: Dataset) -> float:
        """Share of the test X-rays of which the classifier was shown a file, or a copy in training, while it was made."""
        test = dataset.test.table
        shown = test.groupby("group")["sha256"].agg(lambda contents: not self.seen.isdisjoint(contents))
        return max(float(shown.mean()), dataset.leakage)


def load(config: Evaluate) -> Subject:
    """The classifier that `config` names.

    Raises:
        FractureMaeError: there is none, or it takes another image size than the one asked for.
    """
    subject = open_subject(config.classifier)
    size = subject.classifier.image_size
    if config.image_size not in ("auto", size):
        raise FractureMaeError(
            f"--image-size {config.image_size}: {subject.name} takes {size} pixels. Leave it at auto, or train another."
        )
    return subject


def open_subject(name: str) -> Subject:
    """The classifier behind models:/NAME@ALIAS, models:/NAME/VERSION or a folder.

    Raises:
        FractureMaeError: there is none.
    """
    name = registry.exact(name)
    folder = registry.fetch(name) if registry.is_model_uri(name) else Path(name).expanduser()
    classifier, decision = classifier_model.load(folder)
    seen = frozenset((folder / SEEN).read_text(encoding="ascii").split()) if (folder / SEEN).exists() else frozenset()
    found = registry.find(name)
    version = str(found.version) if found and found.name == registry.CLASSIFIER else None
    return Subject(name, version, classifier, decision, seen)


def judge(subject: Subject, dataset: Dataset, config: Evaluate, accelerator: Accelerator) -> Report:
    """Judge all splits, and compare the classifier with the references where they are asked for."""
    certainty = judging.Certainty(config.n_draws, config.seed)
    remark = judging.remark_on(dataset.leakage)
    options = {"batch_size": config.batch_size, "accelerator": accelerator}
    predictions = {
        xrays.name: weighed(predict(subject.classifier, xrays, **options), xrays, config)
        for xrays in splits_of(dataset)
    }
    findings = operating_points.judge(predictions, subject.decision, config, remark, certainty)
    for split in SPLITS:
        findings.add(judging.judge_split(predictions[split], subject.decision, split, remark, certainty))
    if config.references:
        logits = references.fit_and_predict(dataset, config.seed)
        for split in SPLITS:
            beside = {name: predictions[split].assign(logit=by_split[split]) for name, by_split in logits.items()}
            models: dict[str, pd.DataFrame] = {CLASSIFIER: predictions[split], **beside}
            findings.add(judging.compare(models, split, remark, certainty))
    return findings


def shortcut_warning(findings: Report) -> str:
    """A sentence if file and border properties clearly tell the label of the test X-rays; "none" or "not tested" else."""
    table = findings.tables.get("test/comparison.csv")
    if table is None:
        return "not tested (--references false)"
    row = table[(table["source"] == "all") & (table["model"] == references.FILE_PROPERTIES)].iloc[0]
    if not row["low"] > 0.5:
        return "none"
    return (
        f"the label can be guessed without looking at a bone: {references.FILE_PROPERTIES} alone reach an AUROC per X-ray on test of "
        f"{row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    )
