"""Versions of the classifier that challenge each other, without their files."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.special import logit

from fracture_mae.config import Evaluate
from fracture_mae.metrics.decision import Decision
from fracture_mae.stages import promote
from fracture_mae.tracking import registered_models, registry
from fracture_mae.tracking.registered_models import LoadedClassifier
from fracture_mae.tracking.report import Report
from tests import builders

NAMES = ("not fractured", "fractured")
DECISION = Decision(NAMES, split_fingerprint="5" * 16)
NAME = registry.CLASSIFIER
# Of a classifier that is better than chance and than the references.
SOUND = {
    "auroc": 0.9,
    "auroc_low": 0.8,
    "auroc/all/file_and_border_properties": 0.79,
    "auroc/all/gradient_histograms": 0.9,
}


class Registry:
    """Versions of the classifier without files; each answers with the probabilities that it is given."""

    def __init__(self, store, dataset, monkeypatch):
        self.store, self.dataset = store, dataset
        self.subjects, self.answers = {}, {}
        store.create_registered_model(NAME)
        monkeypatch.setattr(registered_models, "open_classifier", self.open)
        monkeypatch.setattr(promote, "predict", self.predict)
        self.shown = []

    def open(self, uri, precision="auto"):
        return self.subjects[uri.rpartition("/")[2]]

    def add(
        self,
        probability,
        *,
        image_size=builders.SIDE,
        preprocess="letterbox",
        seen=(),
        decision=DECISION,
        data_fingerprint="f" * 16,
    ):
        version = str(self.store.create_model_version(NAME, source="/nowhere").version)
        self.store.set_model_version_tag(NAME, version, "data.fingerprint", data_fingerprint)
        network = SimpleNamespace(image_size=image_size, preprocess=preprocess, version=version)
        self.subjects[version] = LoadedClassifier(
            f"models:/{NAME}/{version}", version, network, decision, builders.shown(seen), Path()
        )
        self.answers[version] = np.asarray(probability)
        return version

    def predict(self, network, xrays, **options):
        self.shown.append(xrays.pixels.shape[1])
        answers = dict(zip(self.dataset.test.table["sha256"], self.answers[network.version], strict=True))
        columns = xrays.table[["sha256", "group", "label"]]
        return columns.assign(logit=logit(xrays.table["sha256"].map(answers).to_numpy(float)))

    def evaluate(self, version, dataset=None, floor=None, **options):
        """Evaluate a version; the verdict, after it was carried out."""
        dataset = dataset or self.dataset
        subject = self.subjects[version]
        table = self.predict(subject.classifier, dataset.test)
        split = dataset.test.name
        findings = Report(
            metrics={f"{split}/xray/{name}": value for name, value in (SOUND | (floor or {})).items()},
            tables={f"{split}/predictions.csv": table},
        )
        verdict = promote.consider(subject, findings, dataset, Evaluate(n_draws=200, **options), None)
        promote.carry_out(verdict, subject, findings, dataset, "r" * 32)
        return verdict

    def tags(self, version):
        return self.store.get_model_version(NAME, version).tags

    @property
    def champion(self):
        found = registry.find(f"models:/{NAME}@{registry.CHAMPION}")
        return found and str(found.version)
