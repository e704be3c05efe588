"""The end of a campaign: tables and figures of its study, and the best trial as a registered classifier."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
from accelerate import Accelerator
from matplotlib.figure import Figure
from optuna import Study
from optuna.trial import FrozenTrial

from fracture_mae.config import Tune
from fracture_mae.data import folds
from fracture_mae.data.shown import WITH_LABEL
from fracture_mae.data.types import Dataset
from fracture_mae.evaluation import gate_fitting, held_out_sources, judging
from fracture_mae.evaluation.chosen_on import ChosenOn
from fracture_mae.evaluation.judging import Certainty
from fracture_mae.evaluation.own_data import OwnData
from fracture_mae.evaluation.prediction import ANSWERS, settle_arithmetic
from fracture_mae.metrics.decision import Decision
from fracture_mae.stages import classifier as classifier_stage
from fracture_mae.stages import inputs
from fracture_mae.tracking.registered_models import made_from, register_classifier
from fracture_mae.tracking.registry import CHALLENGER, CLASSIFIER
from fracture_mae.tracking.report import Report
from fracture_mae.tracking.runs import Run
from fracture_mae.tuning import figures, optimism, results, trials
from fracture_mae.tuning.depths import FinetuneDepth, HeadDepth
from fracture_mae.tuning.objectives import Objective, judge
from fracture_mae.tuning.optimism import UNCORRECTED, Worth

_UNCORRECTED = "uncorrected"  # in names of metrics, tags and artifacts


@dataclass(frozen=True)
class Conclusion:
    """What a study has come to, and what is made of it.

    Attributes:
        study: with all its trials.
        depth, objective: what they were made with.
        dataset: the X-rays; those of test are not touched.
        encoder: the name of the model that all trials started from.
        accelerator: that the registered classifier computes on.
    """

    study: Study
    depth: HeadDepth | FinetuneDepth
    objective: Objective
    dataset: Dataset
    config: Tune
    encoder: str
    accelerator: Accelerator

    def report(self, run: Run) -> tuple[FrozenTrial, Worth]:
        """Log the study's table and figures, and the best trial as tags; returns it, and what it is worth.

        Raises:
            FractureMaeError: no trial completed.
        """
        table = results.table(self.study, self.objective)
        run.table(table, "study/trials.csv")
        counts = table["state"].value_counts()
        run.metrics({f"trials/{state.replace('-', '_')}": count for state, count in counts.items()})
        best = results.best_trial(self.study, self.objective)
        worth = optimism.worth_of(self.study, self.objective, best, self.depth.files, seed=self.config.seed)
        run.table(worth.table.reset_index(), "study/corrected.csv")
        run.metrics(worth.metrics)
        run.add_note(
            f"Best of {worth.n_trials:,} trials, number {best.number}: {worth.of(self.objective.value_names)}."
        )
        run.figures(self._figures(best, worth))
        run.tags(self._tags(best, worth))
        return best, worth

    def register(
        self, best: FrozenTrial, worth: Worth, run: Run, check: Callable[[], None] = lambda: None
    ) -> tuple[str, str]:
        """Judge, refit and register the best trial; the version, and what was found in a few lines to print.

        Args:
            check: called when all else is done, before it is registered; what it raises ends this.
        """
        predictions = self.depth.predict(best.params)
        verdict = judge(predictions, self.objective, best.params)
        decision = replace(
            classifier_stage.calibrated(predictions, "platt", self.dataset),
            threshold=verdict.threshold,
            objective=str(self.objective),
        )
        told = self.objective.told(predictions, decision, self.depth.judged_on.replace("_", " "))
        decision = replace(decision, chosen_on=told)
        run.metrics(decision.metrics)
        run.tags({"calibration": f"platt: {decision.calibration}", "threshold.choice": str(decision)})
        findings = self._judged(predictions, decision)
        run.report(findings)
        digests = [
            f"Trial {best.number} on the X-rays that it and its threshold were chosen on, {UNCORRECTED}:",
            judging.digest(findings, [self._place]).to_string(),
            str(decision),
            *self._beside_folds(best, predictions, run),
        ]
        contributed = results.contributions(self.depth, self.objective, best.params, predictions)
        self._log_contributions(contributed, best, run)
        classifier = self.depth.refit(best.params)
        answers = settle_arithmetic(classifier, decision, self.dataset.validation, self.config, self.accelerator)
        if matching := self.depth.matching(best.params):
            run.report(matching.report())
            digests.append(f"matched: {matching}")
        shown = made_from(self.encoder, self.dataset, WITH_LABEL)
        refitted = replace(self.dataset, train=folds.joined(self.dataset))
        options = {"batch_size": self.config.batch_size, "accelerator": self.accelerator, "seed": self.config.seed}
        frozen, told = inputs.load_reference(self.config, self.accelerator)
        run.tags(told)
        chosen_on = ChosenOn(predictions, self.depth.judged_on.replace("_", " "))
        own = OwnData.of(classifier, refitted, chosen_on, frozen=frozen, **options)
        gate = gate_fitting.fit(classifier, refitted.train, self.dataset.validation, **options)
        run.tags({"gate": gate, ANSWERS: answers})
        tags = self._version_tags(worth)
        check()
        version = register_classifier(classifier, decision, (shown, own, gate), self.dataset, self.config, run, tags)
        corners = results.corners(contributed, best.params["class_weight"])
        table = corners[["score", "sensitivity", "specificity"]].round(3).to_string()
        digests.append(f"What class weight and threshold add, {UNCORRECTED}:\n{table}")
        version = f"models:/{CLASSIFIER}/{version}"
        return version, "\n".join([*digests, f"registered as {version}, alias {CHALLENGER}"])

    def _beside_folds(self, best: FrozenTrial, predictions: pd.DataFrame, run: Run) -> list[str]:
        """Log what sources that are held out leave of the best trial's AUROC in ordinary folds; to print, nothing where none are."""
        if not isinstance(self.depth, HeadDepth) or self.depth.held is None:
            return []
        held, certainty = self.depth.held, Certainty(n_draws=1000, seed=self.config.seed)
        answers = held_out_sources.answers(predictions, self.depth.predict_in_folds(best.params))
        remark = judging.remark_on(self.dataset.leakage)
        found = held_out_sources.judge(
            {f"best trial, {_UNCORRECTED}": answers}, held.xrays.table, held.sources, certainty, remark
        )
        run.report(found)
        return [str(held), held_out_sources.digest(found)]

    def _judged(self, predictions: pd.DataFrame, decision: Decision) -> Report:
        """The report on X-rays that the models behind `predictions` were not trained on; the threshold was chosen on them."""
        remark = (
            f"{UNCORRECTED}: trial and threshold chosen on these\n{judging.remark_on(self.dataset.leakage)}".strip()
        )
        certainty = Certainty(n_draws=1000, seed=self.config.seed)
        table = predictions.drop(columns="fold")
        return judging.judge_split(table, decision, self._place, remark, certainty)

    @property
    def _place(self) -> str:
        """Where figures stand that the choice flatters."""
        return f"{self.depth.judged_on}_{_UNCORRECTED}"

    def _log_contributions(self, contributed: pd.DataFrame, best: FrozenTrial, run: Run) -> None:
        run.table(contributed, "study/contributions.csv")
        shown = results.scored_as(self.objective)
        weight = best.params["class_weight"]
        title = self._title(f"What class weight and threshold add to trial {best.number}, {UNCORRECTED}")
        run.figure(figures.contributions(contributed, weight, shown, title), "study/contributions.png")
        for (weight_name, kind), row in results.corners(contributed, weight).iterrows():
            place = f"contribution/class_weight_{'none' if weight_name == 'none' else 'found'}/threshold_{kind}"
            run.metrics({f"{place}/{name}": row[name] for name in ("score", "sensitivity", "specificity")})

    def _figures(self, best: FrozenTrial, worth: Worth) -> dict[str, Figure]:
        study, objective, title = self.study, self.objective, self._title
        first = objective.value_names[0]
        found = {
            "history": figures.history(study, objective, title("Trials"), worth.table.loc[first]),
            "slices": figures.slices(study, objective, title("Parameters")),
            "importances": figures.importances(study, objective, title("Importances")),
            "pareto_front": figures.pareto_front(study, best, title("Sensitivity and specificity")),
        }
        if isinstance(self.depth, FinetuneDepth):
            found["learning_curves"] = figures.learning_curves(study, self.depth.monitor, title("Trials by epoch"))
        return {f"study/{name}.png": figure for name, figure in found.items() if figure}

    def _title(self, what: str) -> str:
        return f"{what} · {self.study.study_name}"

    def _tags(self, best: FrozenTrial, worth: Worth) -> dict[str, object]:
        tags: dict[str, object] = {f"best.{name}": value for name, value in best.params.items()}
        values = zip(self.objective.value_names, best.values, strict=True)
        tags |= {
            "best.trial": best.number,
            **{f"best.objective.{_UNCORRECTED}.{name}": value for name, value in values},
        }
        tags |= {"best.objective.corrected": worth.of(self.objective.value_names) if not worth.reason else "no"}
        tags |= {"best.threshold": trials.verdict_of(best)["threshold"], "best.feasible": trials.is_feasible(best)}
        tags["best.command"] = results.command(self.depth.training(best.params), tags["best.threshold"])
        return tags

    def _version_tags(self, worth: Worth) -> dict[str, object]:
        """What a version carries of how it was chosen."""
        return {
            "chosen.among": f"{worth.n_trials} trials",
            "chosen.worth": worth.of(self.objective.value_names),
        }
