"""How much of the best trial's figures is luck: the same choice on X-rays drawn anew, judged on those that were left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from fracture_mae import plots
from fracture_mae.evaluation.judging import drawn
from fracture_mae.metrics import scores, selection
from fracture_mae.metrics.thresholds import TIE, Counts
from fracture_mae.tuning import trials
from fracture_mae.tuning.kept import Files, Kept
from fracture_mae.tuning.objectives import Objective

UNCORRECTED, CORRECTED = "uncorrected (optimistic)", "corrected (BBC-CV)"
_FEWEST_DRAWS, _MOST_JUDGED = 200, 2 * 10**8  # draws, where trials · files · draws would be more than that
_RATES = ("sensitivity", "specificity", "balanced_accuracy")


@dataclass(frozen=True)
class Worth:
    """What the best trial is worth.

    Attributes:
        table: index metric, those of the objective first; columns uncorrected (of the best trial on the X-rays it was chosen on),
            corrected, low and high (NaN where `reason` says why there are none).
        n_trials: complete ones, which the best was chosen among.
        reason: why nothing could be corrected; empty where it was.
    """

    table: pd.DataFrame
    n_trials: int
    reason: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """By the names under which a run has them: corrected/METRIC, _low and _high, and uncorrected/METRIC."""
        ends = {"": "corrected", "_low": "low", "_high": "high"}
        flat = {f"uncorrected/{name}": row["uncorrected"] for name, row in self.table.iterrows()}
        for name, row in self.table.iterrows():
            flat |= {f"corrected/{name}{end}": row[column] for end, column in ends.items()}
        return {name: float(value) for name, value in flat.items() if np.isfinite(value)}

    def of(self, names: Sequence[str]) -> str:
        """The figures of some metrics in a line, both named."""
        return "; ".join(f"{name} {self._in_words(self.table.loc[name])}" for name in names)

    def digest(self) -> str:
        """The table to print, and what its columns mean."""
        told = f"The best of {self.n_trials:,} trials, chosen on the X-rays that judged them: {UNCORRECTED}."
        if self.reason:
            shown = pd.DataFrame({UNCORRECTED: self.table["uncorrected"].map("{:.3f}".format)})
            return f"{told}\n{shown.rename_axis(None).to_string()}\nNot corrected: {self.reason}."
        texts = [plots.interval_text(*row) for row in self.table[["corrected", "low", "high"]].to_numpy(float)]
        shown = pd.DataFrame({CORRECTED: texts, UNCORRECTED: self.table["uncorrected"].map("{:.3f}".format)})
        return f"{told} {CORRECTED}: chosen in bootstrap draws, judged on what they leave out.\n{shown.rename_axis(None).to_string()}"

    def _in_words(self, row: pd.Series) -> str:
        if self.reason:
            return f"{row['uncorrected']:.3f} {UNCORRECTED}"
        found = plots.interval_text(row["corrected"], row["low"], row["high"])
        return f"{found} {CORRECTED}, {row['uncorrected']:.3f} {UNCORRECTED}"


def worth_of(
    study: Study,
    objective: Objective,
    best: FrozenTrial,
    files: pd.DataFrame,
    *,
    seed: int,
    n_draws: int | None = None,
) -> Worth:
    """What the best trial of a study is worth, of all its complete trials; pruned and failed ones were never to be chosen.

    Args:
        best: `results.best_trial` of the study.
        files: a row per file that trials are judged by: sha256, label, group and patient, where it is known.
        seed, n_draws: of the bootstrap; None: 1,000 draws, fewer where trials and files are many.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    order = Files.of(files)
    kept = [trials.predictions_of(trial, order) for trial in complete]
    without = sum(each is None for each in kept)
    if without:
        known = trials.verdict_of(best).get("metrics", {})
        known = dict(zip(objective.value_names, best.values, strict=True)) | known
        table = pd.DataFrame({"uncorrected": known}).assign(corrected=np.nan, low=np.nan, high=np.nan)
        reason = (
            f"{without:,} of the {len(complete):,} trials are of an earlier version, or of another, which kept no predictions of these "
            "X-rays; a new --study-name makes trials that can be corrected"
        )
        return Worth(table.rename_axis("metric"), len(complete), reason)
    number = [trial.number for trial in complete].index(best.number)
    return judged(kept, number, objective, files, seed=seed, n_draws=n_draws)


def judged(
    kept: Sequence[Kept],
    best: int,
    objective: Objective,
    files: pd.DataFrame,
    *,
    seed: int,
    n_draws: int | None = None,
) -> Worth:
    """The same of the predictions of trials, in the order of their numbers, the best of which is number `best` among them."""
    label, weight = files["label"].to_numpy(), scores.equal_group_weight(files["group"])

    def choose(weights: np.ndarray) -> np.ndarray:
        return _best(objective, label, kept, weights)

    def measure(number: int, weights: np.ndarray) -> dict[str, np.ndarray]:
        return _measured(objective, label, kept[number], weights)

    uncorrected = {name: float(value) for name, value in measure(best, weight).items()}
    n_draws = n_draws or int(np.clip(_MOST_JUDGED // (len(kept) * len(files)), _FEWEST_DRAWS, selection.N_DRAWS))
    table = selection.corrected(choose, measure, label, drawn(files), weight, seed=seed, n_draws=n_draws)
    table = table.rename(columns={"estimate": "corrected"})
    table.insert(0, "uncorrected", pd.Series(uncorrected))
    return Worth(table, len(kept))


def _best(objective: Objective, label: np.ndarray, kept: Sequence[Kept], weights: np.ndarray) -> np.ndarray:
    """The number of the best trial under each of the weightings [m, n], int64 [m], by the rule of `results.best_trial`."""
    violation = np.stack([objective.violation(label, each.decision, weights) for each in kept])
    worth = np.stack(
        [objective.total(objective.values_under(label, each.logit, each.decision, weights)) for each in kept]
    )
    allowed = violation <= violation.min(axis=0) + TIE
    return np.argmax(np.where(allowed & ~np.isnan(worth), worth, -np.inf), axis=0)


@np.errstate(invalid="ignore", divide="ignore")
def _measured(objective: Objective, label: np.ndarray, kept: Kept, weights: np.ndarray) -> Mapping[str, np.ndarray]:
    """Name of each metric → its values [...] under weights [..., n]."""
    values = objective.values_under(label, kept.logit, kept.decision, weights)
    counts = Counts.of(label, kept.decision, weights)
    return dict(zip(objective.value_names, values, strict=True)) | {
        **{name: getattr(counts, name) for name in _RATES},
        "average_precision": scores.average_precisions(label, kept.logit, weights),
        "auroc": scores.aurocs(label, kept.logit, weights),
    }
