"""Which version of the classifier is champion: the better one on X-rays that neither was shown, see `challenge`. And the way back."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
from accelerate import Accelerator

from fracture_mae.config import Evaluate
from fracture_mae.data import loading
from fracture_mae.data.shown import WITH_LABEL, leakage_of
from fracture_mae.data.types import Dataset
from fracture_mae.errors import FractureMaeError, first_line
from fracture_mae.evaluation.judging import slug
from fracture_mae.evaluation.prediction import predict
from fracture_mae.stages import challenge, inputs
from fracture_mae.tracking import registered_models, registry
from fracture_mae.tracking.registered_models import LoadedClassifier
from fracture_mae.tracking.report import Report

JUDGED_ON, TEST_AUROC = "evaluation.split_fingerprint", "evaluation.test_xray_auroc"
PREVIOUS = "promotion.previous_champion"
_JUDGED_IN = "evaluation.run"
_MOST_DRAWS = 100_000
_LEAST_COMMON = 0.5  # share of the test X-rays that neither was shown, and of the X-rays that each was made from


@dataclass(frozen=True)
class Promotion:
    """What became of a challenger.

    Attributes:
        promoted: whether it is champion now.
        reason: the rest of the sentence.
        challenger, champion: version numbers, the champion's as it was before; None where there is none.
        comparison: what was measured; empty where nothing could be.
    """

    promoted: bool
    reason: str
    challenger: str | None = None
    champion: str | None = None
    comparison: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{registry.PROMOTED if self.promoted else 'not promoted'}: {self.reason}"

    def report(self) -> Report:
        """The decision as `promotion.json`, and its numbers as metrics."""
        names = ("difference", "difference_low", "difference_high", "share_above_margin", "challenger", "champion")
        numbers = {f"promotion/{name}": self.comparison[name] for name in names if name in self.comparison}
        return Report(
            metrics={name: value for name, value in numbers.items() if value is not None},
            documents={"promotion.json": asdict(self) | {"winner": self.winner, "loser": self.loser}},
            tags={
                registry.PROMOTION: str(self),
                "promotion.winner": str(self.winner),
                "promotion.loser": str(self.loser),
            },
        )

    @property
    def winner(self) -> str | None:
        return self.challenger if self.promoted else self.champion

    @property
    def loser(self) -> str | None:
        return self.champion if self.promoted else self.challenger


def consider(
    loaded: LoadedClassifier, report: Report, dataset: Dataset, config: Evaluate, accelerator: Accelerator
) -> Promotion:
    """Decide whether a classifier becomes champion; nothing in the registry is changed.

    Args:
        report: of it, with its predictions for test.
        dataset: whose leakage counts what it was shown.
    """
    split = dataset.test.name
    if loaded.version is None:
        return Promotion(False, f"the classifier is not registered as {registry.CLASSIFIER}")
    found = registry.find(f"models:/{registry.CLASSIFIER}@{registry.CHAMPION}")
    champion_version = str(found.version) if found else None  # MLflow gives numbers or text, as its store is made
    is_champion = loaded.version == champion_version
    versions = {"challenger": None if is_champion else loaded.version, "champion": champion_version}
    if split == "external" and config.promote_on == "test":
        return Promotion(False, "external X-rays promote nobody, unless promote_on=external lets them", **versions)
    if dataset.leakage and config.promote == "auto":
        return Promotion(False, f"{dataset.leakage}, so its figures prove nothing", **versions)
    if is_champion:
        return Promotion(False, f"version {loaded.version} is the champion already", **versions)
    if config.promote != "auto":
        shown = f" ({dataset.leakage})" if dataset.leakage else ""
        return Promotion(config.promote == "always", f"--promote {config.promote}{shown}", **versions)
    if obstacle := challenge.below_floor(report, split):
        return Promotion(False, obstacle, **versions)
    beaten = challenge.beaten_by(report, split)
    gone = ""
    if found is None:
        found = registry.former_champion(but=loaded.version)
        gone = "there is no champion any more, so it was compared with the last one that is left: " if found else ""
    if found is None:
        auroc = report.metrics[f"{split}/xray/auroc"]
        return Promotion(True, f"the first one; AUROC per X-ray on {split} {auroc:.3f}{beaten}", **versions)
    try:
        champion = registered_models.open_classifier(f"models:/{registry.CLASSIFIER}/{found.version}", config.precision)
        common = _common(loaded, champion, dataset)
    except FractureMaeError as obstacle:
        reason = f"{gone}no comparison with the champion, version {found.version}: {obstacle}"
        return Promotion(False, reason, **versions)
    mine = report.tables[f"{split}/predictions.csv"]
    mine = mine[mine["group"].isin(common)]
    theirs = _predictions(champion, mine, dataset, config, accelerator)
    test = loading.fingerprint(mine)
    look = len(registry.looks_at(test) - {loaded.version}) + 1
    confidence = challenge.wanted_confidence(config.promote_confidence, look)
    enough = min(_MOST_DRAWS, math.ceil(1 / (1 - confidence)))  # else no share of draws could tell
    config = config.model_copy(update={"promote_confidence": confidence, "n_draws": max(config.n_draws, enough)})
    comparison = challenge.compare(mine, loaded.decision, theirs, champion.decision, config)
    comparison |= {"look": look, "split": split, "test_fingerprint": test}
    better = challenge.is_better(comparison, config.promote_margin, confidence, config.promote_floor)
    reason = gone + challenge.in_words(comparison, str(found.version), config) + beaten
    return Promotion(better, reason, **versions, comparison=comparison)


def carry_out(promotion: Promotion, loaded: LoadedClassifier, report: Report, dataset: Dataset, run_id: str) -> None:
    """Move the alias if it won, and tag both versions with what was decided, where, and the way back."""
    if loaded.version is None:
        return
    tags = _judged(loaded, report, dataset, run_id)
    if promotion.challenger:
        tags |= {registry.PROMOTION: promotion, "promotion.run": run_id}
    if promotion.promoted:
        tags[PREVIOUS] = promotion.champion or "none"
    registry.tag_version(registry.CLASSIFIER, loaded.version, tags)
    if promotion.comparison:
        registry.add_look(promotion.comparison["test_fingerprint"], promotion.challenger)
    if promotion.challenger and promotion.champion:
        fate = "lost to" if promotion.promoted else "kept against"
        tags = {"promotion.last_challenge": f"{fate} version {promotion.challenger}: {promotion.reason}"}
        registry.tag_version(registry.CLASSIFIER, promotion.champion, tags | {"promotion.last_challenge.run": run_id})
    if promotion.promoted:
        registry.promote(promotion.challenger)


def _judged(loaded: LoadedClassifier, report: Report, dataset: Dataset, run_id: str) -> dict[str, object]:
    """Tags that say where a version was judged, and with what result."""
    split = dataset.test.name
    auroc = report.metrics.get(f"{split}/xray/auroc", "undefined")
    if split == "external":
        return {f"external.{slug(dataset.name)}.xray_auroc": auroc, f"external.{slug(dataset.name)}.run": run_id}
    tags = {JUDGED_ON: dataset.split_fingerprint, TEST_AUROC: auroc}
    is_own = loaded.decision.split_fingerprint == dataset.split_fingerprint
    return tags | ({_JUDGED_IN: run_id} if is_own else {})


def judged_in(loaded: LoadedClassifier) -> str | None:
    """The run that judged a registered version on its own test last; None where there is none."""
    if loaded.version is None:
        return None
    return registry.version_tags(f"models:/{registry.CLASSIFIER}/{loaded.version}").get(_JUDGED_IN)


def roll_back(version: str | None = None) -> str:
    """Make an earlier version champion again; what was done, in a sentence.

    Args:
        version: its number, also where there is no champion any more; None: the one that the present champion replaced.

    Raises:
        FractureMaeError: no way back is known, there is no such version, or it cannot be loaded; the alias stays where it is.
    """
    champion = registry.find(f"models:/{registry.CLASSIFIER}@{registry.CHAMPION}")
    if champion is None and version is None:
        raise FractureMaeError(
            f"{registry.CLASSIFIER} has no champion, so there is nothing to roll back. Name the version that is to be it, such as "
            "-P version=1."
        )
    target = version or champion.tags.get(PREVIOUS, "none")
    if target == "none":
        raise FractureMaeError(
            f"the champion, version {champion.version}, replaced none that is known. Name the one to return to, such as "
            "-P version=1; the UI lists them."
        )
    if champion and target == str(champion.version):
        raise FractureMaeError(f"version {target} is the champion already. Name another one with version.")
    if registry.find(f"models:/{registry.CLASSIFIER}/{target}") is None:
        raise FractureMaeError(f"{registry.CLASSIFIER} has no version {target}. Name one that there is with version.")
    _check_that_it_loads(target, str(champion.version) if champion else None)
    registry.promote(target)
    if champion is None:
        return f"champion is version {target}, where there was none"
    registry.tag_version(registry.CLASSIFIER, str(champion.version), {"promotion.rolled_back": f"to version {target}"})
    return f"champion is version {target} again, instead of version {champion.version}"


def _check_that_it_loads(version: str, champion: str | None) -> None:
    try:
        registered_models.open_classifier(f"models:/{registry.CLASSIFIER}/{version}")
    except Exception as error:  # whatever a file that is gone or damaged brings about
        stays = f"Version {champion} stays champion" if champion else "There is still no champion"
        raise FractureMaeError(
            f"version {version} cannot be loaded, so it cannot answer: {first_line(error)}. {stays}. Name another, or bring its "
            "files back."
        ) from error


def _common(loaded: LoadedClassifier, champion: LoadedClassifier, dataset: Dataset) -> set[str]:
    """The test X-rays that neither was shown.

    Raises:
        FractureMaeError: they are too few, or one of the two was made from other data, so that the other is at home there.
    """
    champion.check(dataset)
    shown = champion.shown_of(dataset)
    common = set(shown.index[shown == ""])
    ways_out = "Train a challenger on the champion's data with its split and split_seed, or decide by hand with promote=always."
    if dataset.test.name != "external":
        for name, each in (("the champion", champion), ("the challenger", loaded)):
            if not _is_at_home(each, dataset):
                raise FractureMaeError(
                    f"{name} was made from another split or other data ({each.decision.split_fingerprint}) than these "
                    f"({dataset.split_fingerprint}). {ways_out}"
                )
    if len(common) < _LEAST_COMMON * len(shown):
        leakage = leakage_of(shown, dataset)
        raise FractureMaeError(f"while it was made, {leakage}, which would favour it. {ways_out}")
    test = dataset.test.table
    labels = test.loc[test["group"].isin(common), "label"]
    if labels.nunique() < 2:
        raise FractureMaeError(f"of the {len(common):,} X-rays that neither was shown all have one label. {ways_out}")
    return common


def _is_at_home(loaded: LoadedClassifier, dataset: Dataset) -> bool:
    """Whether it was made from these data, to which others may have been added since."""
    if loaded.decision.split_fingerprint == dataset.split_fingerprint:
        return True
    own = loaded.shown.contents.index[loaded.shown.contents == WITH_LABEL]
    return len(own) > 0 and own.isin(dataset.index["sha256"]).mean() >= _LEAST_COMMON


def _predictions(
    champion: LoadedClassifier, mine: pd.DataFrame, dataset: Dataset, config: Evaluate, accelerator: Accelerator
) -> pd.DataFrame:
    """The champion's predictions for the files of `mine`, in their order, from pictures of its own size and preprocessing."""
    test = dataset.test
    network = champion.classifier
    if (test.pixels.shape[1], test.preprocess) != (network.image_size, network.preprocess):
        names = champion.decision.label_names if test.name == "external" else None
        test = inputs.load_data(config, network.image_size, names, preprocess=network.preprocess).test
    theirs = predict(champion.classifier, test, batch_size=config.batch_size, accelerator=accelerator)
    return theirs.set_index("sha256").loc[mine["sha256"]].reset_index()
