import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial

from fracture_mae.tuning import kept, optimism, results
from fracture_mae.tuning.kept import Files
from fracture_mae.tuning.objectives import Objective, judge

N = 40
LABEL = np.tile([0, 1], N // 2)
FILES = pd.DataFrame({"sha256": [f"{i:03d}" for i in range(N)], "label": LABEL, "group": [f"x{i}" for i in range(N)]})


def study_of(objective, logits, **options):
    """A study with a complete trial for each array of logits [N], that it keeps."""
    study = optuna.create_study(study_name="wrist", directions=objective.directions)
    for logit in logits:
        table = FILES.assign(logit=logit, fold=np.arange(N) // 4 % 2)
        verdict = judge(table, objective, {"aimed_sensitivity": 0.8})
        attributes = {"verdict": verdict.described(), "predictions": kept.written(table, verdict.decision)}
        study.add_trial(
            create_trial(values=verdict.values, constraints=verdict.constraints, user_attrs=attributes | options)
        )
    return study


def worth(study, objective, **options):
    best = results.best_trial(study, objective)
    return best, optimism.worth_of(study, objective, best, FILES, seed=0, n_draws=200, **options)


NAMES = [
    "balanced_accuracy",
    "f1",
    "cost",
    "average_precision",
    "specificity_at_sensitivity",
    "pareto",
    "weighted_youden",
]


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(3).normal(size=(12, N))


@pytest.mark.parametrize("name", NAMES)
def test_the_best_of_noise_is_worth_less_than_it_seems_by_every_objective(name, noise):
    objective = Objective(name, min_sensitivity=0.5)
    best, found = worth(study_of(objective, noise), objective)
    row = found.table.loc[list(objective.value_names)]
    assert row["uncorrected"].tolist() == pytest.approx(best.values, abs=1e-6)
    uncorrected, corrected = (float(objective.total(row[name])) for name in ("uncorrected", "corrected"))
    assert corrected < uncorrected - 0.03
    assert (row["low"] < row["corrected"]).all()
    assert (row["corrected"] < row["high"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_on_all_xrays_the_choice_is_that_of_the_study(name, noise):
    objective = Objective(name, min_sensitivity=0.7)
    study = study_of(objective, noise)
    of_trials = [kept.read(trial.user_attrs["predictions"], Files.of(FILES)) for trial in study.trials]
    (chosen,) = optimism._best(objective, LABEL, of_trials, np.ones((1, N)))
    assert chosen == results.best_trial(study, objective).number


def test_pruned_and_failed_trials_are_no_candidates(noise):
    objective = Objective("balanced_accuracy")
    study = study_of(objective, noise)
    _, before = worth(study, objective)
    for state in (TrialState.PRUNED, TrialState.FAIL):
        study.add_trial(create_trial(state=state, user_attrs={"outcome": {"state": "pruned", "reason": ""}}))
    _, after = worth(study, objective)
    assert after.n_trials == 12
    pd.testing.assert_frame_equal(after.table, before.table)


def test_a_truly_good_trial_among_noise_keeps_its_figures(noise):
    objective = Objective("balanced_accuracy")
    knows = 4.0 * LABEL - 2 + noise[0]
    _, found = worth(study_of(objective, [*noise, knows]), objective)
    assert found.table.loc["auroc", "corrected"] == pytest.approx(found.table.loc["auroc", "uncorrected"], abs=0.01)


def test_without_the_predictions_of_a_trial_nothing_is_corrected_and_it_is_said(noise):
    objective = Objective("balanced_accuracy")
    study = study_of(objective, noise[:3])
    study.add_trial(create_trial(values=[0.9], user_attrs={"verdict": {"metrics": {"auroc": 0.95}}}))
    _, found = worth(study, objective)
    assert found.metrics == {"uncorrected/balanced_accuracy": 0.9, "uncorrected/auroc": 0.95}
    assert found.of(["balanced_accuracy"]) == "balanced_accuracy 0.900 uncorrected (optimistic)"
    assert "Not corrected: 1 of the 4 trials are of an earlier version" in found.digest()
    assert "BBC-CV" not in found.digest()


def test_both_figures_are_named_wherever_they_stand(noise):
    objective = Objective("f1")
    _, found = worth(study_of(objective, noise), objective)
    first, header, line, *_ = found.digest().splitlines()
    assert first.startswith("The best of 12 trials, chosen on the X-rays that judged them: uncorrected (optimistic).")
    assert "corrected (BBC-CV)" in header
    row = found.table.loc["f1"]
    assert line.split() == [
        "f1",
        f"{row.corrected:.3f}",
        f"[{row.low:.3f},",
        f"{row.high:.3f}]",
        f"{row.uncorrected:.3f}",
    ]
    assert found.metrics["corrected/f1"] == row.corrected
    assert found.metrics["uncorrected/f1"] == row.uncorrected
