"""A registered classifier before its judges: loading, predicting every split, comparing, promoting."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from accelerate import Accelerator

from fracture_mae import evaluation, references, registry
from fracture_mae.config import Evaluate
from fracture_mae.data import Dataset
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import CLASSIFIER, SPLITS, Findings
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models.classifier import Decision, FractureClassifier
from fracture_mae.pipeline import SEEN, splits_of
from fracture_mae.prediction import predict

JUDGED_ON, TEST_AUROC = "evaluation.split_fingerprint", "evaluation.test_xray_auroc"


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
    name = registry.exact(config.classifier)
    folder = registry.fetch(name) if registry.is_model_uri(name) else Path(name).expanduser()
    classifier, decision = classifier_model.load(folder)
    if config.image_size not in ("auto", classifier.image_size):
        raise FractureMaeError(
            f"--image-size {config.image_size}: {name} takes {classifier.image_size} pixels. Leave it at auto, or train another."
        )
    seen = frozenset((folder / SEEN).read_text(encoding="ascii").split()) if (folder / SEEN).exists() else frozenset()
    found = registry.find(name)
    version = str(found.version) if found and found.name == registry.CLASSIFIER else None
    return Subject(name, version, classifier, decision, seen)


def judge(subject: Subject, dataset: Dataset, config: Evaluate, accelerator: Accelerator) -> Findings:
    """Judge all splits, and compare the classifier with the references where they are asked for."""
    certainty = evaluation.Certainty(config.n_draws, config.seed)
    remark = evaluation.remark_on(dataset.leakage)
    options = {"batch_size": config.batch_size, "accelerator": accelerator}
    predictions = {xrays.name: predict(subject.classifier, xrays, **options) for xrays in splits_of(dataset)}
    findings = Findings()
    for split in SPLITS:
        findings.add(evaluation.judge_split(predictions[split], subject.decision, split, remark, certainty))
    if config.references:
        logits = references.fit_and_predict(dataset, config.seed)
        for split in SPLITS:
            beside = {name: predictions[split].assign(logit=by_split[split]) for name, by_split in logits.items()}
            models: dict[str, pd.DataFrame] = {CLASSIFIER: predictions[split], **beside}
            findings.add(evaluation.compare(models, split, remark, certainty))
    return findings


def shortcut_warning(findings: Findings) -> str:
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


def promote(subject: Subject, findings: Findings, dataset: Dataset, mode: str) -> str:
    """Move the alias `champion` to the subject if it is the better one; what was decided, and why, in a sentence.

    Args:
        mode: "auto" (if its test AUROC per X-ray is higher on the very same split, or there is no champion yet), "always" or
            "never".
    """
    if subject.version is None:
        return f"not promoted: the classifier is not registered as {registry.CLASSIFIER}"
    auroc = findings.metrics["test/xray/auroc"]
    champion = registry.find(f"models:/{registry.CLASSIFIER}@{registry.CHAMPION}")
    registry.tag_version(
        registry.CLASSIFIER, subject.version, {JUDGED_ON: dataset.split_fingerprint, TEST_AUROC: auroc}
    )
    promoted, reason = _is_better(subject, auroc, champion, dataset, mode)
    if promoted:
        registry.promote(subject.version)
    return f"{'promoted to champion' if promoted else 'not promoted'}: {reason}"


def _is_better(
    subject: Subject, auroc: float, champion: registry.ModelVersion | None, dataset: Dataset, mode: str
) -> tuple[bool, str]:
    if mode != "auto":
        return mode == "always", f"--promote {mode}"
    if dataset.leakage:
        return False, (
            f"{dataset.leakage:.0%} of the test X-rays were seen in training, so its AUROC {auroc:.3f} proves nothing"
        )
    if champion is None:
        return True, f"the first one; AUROC per X-ray on test {auroc:.3f}"
    if str(champion.version) == subject.version:  # MLflow gives numbers or text, as its store is made
        return False, f"version {subject.version} is the champion already"
    if champion.tags.get(JUDGED_ON) != dataset.split_fingerprint:
        return False, (
            f"the champion, version {champion.version}, was judged on other data or another split, so they cannot be compared; "
            f"evaluate it on these (-P classifier=models:/{registry.CLASSIFIER}@{registry.CHAMPION}), or use promote=always"
        )
    other = float(champion.tags[TEST_AUROC])
    verdict = "higher than" if auroc > other else "not higher than"
    return (
        auroc > other,
        f"AUROC per X-ray on test {auroc:.3f}, {verdict} {other:.3f} of the champion, version {champion.version}",
    )
