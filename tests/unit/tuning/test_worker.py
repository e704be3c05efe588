"""A worker's whole session, with an MLflow store and a study of its own."""

import dataclasses

import mlflow
import numpy as np
import optuna
import pytest
from click.testing import CliRunner

import entrypoints.tune
from fracture_mae.data import folds
from fracture_mae.errors import FractureMaeError, NonFiniteError
from fracture_mae.metrics.scores import aurocs, equal_group_weight
from fracture_mae.metrics.thresholds import Counts
from fracture_mae.tuning import kept, trials
from fracture_mae.tuning.depths import HeadDepth
from fracture_mae.tuning.kept import Files
from tests import builders
from tests.unit.tuning.test_depths import Poisoned


def children(store, run):
    trials = store.get_experiment_by_name("fracture-mae-trials").experiment_id
    found = store.search_runs([trials], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    return sorted(found, key=lambda child: int(child.data.tags["trial.number"]))


def study_of(tmp_path):
    return optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path}/optuna.db")


def artifacts(store, run, folder):
    return {file.path for file in store.list_artifacts(run.info.run_id, folder)}


@pytest.mark.slow
def test_a_campaign_of_heads_ends_in_a_registered_classifier(session, store, registered, tmp_path):
    run, text = session(n_trials=6, whole=True)
    written = children(store, run)
    assert [child.data.tags["trial.number"] for child in written] == list("012345")
    for child, trial in zip(written, study_of(tmp_path).trials, strict=True):
        assert child.info.status == "FINISHED"
        assert child.data.tags["trial.state"] == "complete"
        assert child.data.params == {name: str(value) for name, value in trial.params.items()}
        assert child.data.metrics["objective/balanced_accuracy"] == trial.value
        assert {"threshold", "slope", "intercept", "sensitivity", "specificity", "seconds"} <= set(child.data.metrics)
    names = ("history", "slices", "importances", "pareto_front", "contributions")
    expected = {f"study/{name}.png" for name in names} | {
        f"study/{name}.csv" for name in ("trials", "contributions", "corrected")
    }
    assert artifacts(store, run, "study") == expected
    place = "out_of_fold_uncorrected/xray"
    assert f"{place}/threshold_sweep.png" in artifacts(store, run, place)

    best = max(study_of(tmp_path).trials, key=lambda trial: (trial.value, -trial.number))
    assert run.data.tags["best.trial"] == str(best.number)
    assert run.data.tags["best.class_weight"] == str(best.params["class_weight"])
    assert "-P freeze=True" in run.data.tags["best.command"]
    assert run.data.tags["study.pruner"] == "none"
    ((_, decision, seen, tags),) = registered
    assert decision.threshold == pytest.approx(float(run.data.tags["best.threshold"]))
    assert (decision.objective, decision.data_fingerprint) == ("balanced_accuracy", "f" * 16)
    shown = folds.joined(builders.dataset())
    assert set(seen.index) == set(shown.table["sha256"])
    assert decision.prevalence == pytest.approx(shown.table.groupby("group")["label"].first().mean())
    assert run.data.tags["calibration"] == f"platt: {decision.calibration}"
    assert tags["recipe"] == "tuned"
    assert (run.data.metrics["uncorrected/balanced_accuracy"], best.value) == (best.value, best.value)
    assert {f"corrected/auroc{end}" for end in ("", "_low", "_high")} <= set(run.data.metrics)
    told = run.data.tags["best.objective.corrected"]
    assert f"{run.data.metrics['corrected/balanced_accuracy']:.3f} [" in told
    assert told in run.data.tags["mlflow.note.content"]
    assert (tags["chosen.among"], tags["chosen.worth"]) == ("6 trials", told)
    assert f"{best.value:.3f} uncorrected (optimistic)" in told
    assert "The best of 6 trials, chosen on the X-rays that judged them: uncorrected (optimistic)." in text
    assert "Trial 0 on the X-rays that it and its threshold were chosen on" in text.replace(
        f"Trial {best.number}", "Trial 0"
    )
    assert "registered as models:/fracture-classifier/1" in text


@pytest.mark.parametrize("objective", ["cost", "pareto", "specificity_at_sensitivity", "average_precision"])
def test_every_kind_of_objective_comes_to_its_end(session, store, registered, objective):
    run, _ = session(n_trials=4, objective=objective)
    assert len(registered) == 1
    assert {child.data.tags["trial.state"] for child in children(store, run)} == {"complete"}


@pytest.mark.slow
def test_a_campaign_of_trainings_prunes_and_gives_the_line_that_repeats_the_best(session, store, registered):
    run, _ = session(n_trials=7, depth="finetune", max_epochs=3, objective="f1")
    states = [child.data.tags["trial.state"] for child in children(store, run)]
    assert set(states) <= {"complete", "pruned"}
    assert states[:4] == ["complete"] * 4
    for child in children(store, run):
        assert child.info.status == ("FINISHED" if child.data.tags["trial.state"] == "complete" else "KILLED")
        by_epoch = store.get_metric_history(child.info.run_id, "validation/xray/auroc")
        assert [metric.step for metric in by_epoch] == list(range(1, len(by_epoch) + 1))
    assert run.data.tags["study.pruner"].startswith("MedianPruner")
    assert f"-P class_weight={run.data.tags['best.class_weight']} " in run.data.tags["best.command"]
    assert "study/learning_curves.png" in artifacts(store, run, "study")
    assert len(registered) == 1


def test_trials_are_in_an_experiment_beside_and_linked_both_ways(session, store, registered):
    first, _ = session(n_trials=2)
    beside = store.get_experiment_by_name("fracture-mae-trials")
    parents = store.get_experiment(first.info.experiment_id)
    assert (parents.name, beside.artifact_location) == ("fracture-mae", f"{parents.artifact_location}-trials")
    assert len(store.search_runs([parents.experiment_id])) == 1
    where = f"(#/experiments/{beside.experiment_id}/runs?searchFilter=tags.%60mlflow.parentRunId%60%20%3D%20%27{first.info.run_id}%27)"
    assert where in first.data.tags["mlflow.note.content"]
    assert first.data.tags["trials.experiment"] == "fracture-mae-trials"
    back = f"(#/experiments/{parents.experiment_id}/runs/{first.info.run_id})"
    assert [back in trial.data.tags["mlflow.note.content"] for trial in children(store, first)] == [True, True]


@pytest.mark.slow
def test_trials_may_be_thrown_away_with_their_experiment(session, store, registered):
    session(n_trials=2)
    store.delete_experiment(store.get_experiment_by_name("fracture-mae-trials").experiment_id)
    run, _ = session(n_trials=1)
    assert len(children(store, run)) == 1


@pytest.mark.slow
def test_no_test_label_changes_anything(session, tmp_path):
    session(n_trials=5)
    values = [trial.value for trial in study_of(tmp_path).trials]
    optuna.delete_study(study_name="study", storage=f"sqlite:///{tmp_path}/optuna.db")
    session(dataclasses.replace(builders.dataset(), test=Poisoned()), n_trials=5)
    assert [trial.value for trial in study_of(tmp_path).trials] == values


@pytest.mark.slow
def test_the_same_command_goes_on_and_another_objective_is_refused(session, store, registered, tmp_path):
    session(n_trials=3)
    run, _ = session(n_trials=2)
    assert [child.data.tags["trial.number"] for child in children(store, run)] == ["3", "4"]
    assert len({tuple(trial.params.values()) for trial in study_of(tmp_path).trials}) == 5
    run, _ = session(n_trials=0)
    assert children(store, run) == []
    assert len(registered) == 3
    with pytest.raises(FractureMaeError, match="objective was balanced_accuracy, now mcc"):
        session(n_trials=1, objective="mcc")
    other = dataclasses.replace(builders.dataset(), split_fingerprint="6" * 16)
    with pytest.raises(FractureMaeError, match=r"data and split was 5{16}, now 6{16}"):
        session(other, n_trials=1)
    other = dataclasses.replace(builders.dataset(), group_by="names")
    with pytest.raises(FractureMaeError, match="group_by was content, now names"):
        session(other, n_trials=1)
    assert len(study_of(tmp_path).trials) == 5


def test_ways_not_to_complete_are_told_apart(session, store, monkeypatch):
    whole = HeadDepth.predict
    ends = {0: NonFiniteError("2 logits are not finite"), 1: ValueError("boom")}
    calls = iter(range(100))

    def predict(self, params, report=None):
        if error := ends.get(next(calls)):
            raise error
        return whole(self, params, report)

    monkeypatch.setattr(HeadDepth, "predict", predict)
    run, _ = session(n_trials=4)
    found = [(child.data.tags["trial.state"], child.info.status) for child in children(store, run)]
    assert found == [("non-finite", "FAILED"), ("failed", "FAILED"), ("complete", "FINISHED"), ("complete", "FINISHED")]
    reasons = [child.data.tags.get("failure_reason") for child in children(store, run)]
    assert reasons == ["2 logits are not finite", "ValueError: boom", None, None]
    assert (run.data.metrics["trials/complete"], run.data.metrics["trials/non_finite"]) == (2, 1)


def test_no_complete_trial_is_an_error_that_says_why(session, monkeypatch):
    def fail(self, params, report=None):
        raise ValueError("boom")

    monkeypatch.setattr(HeadDepth, "predict", fail)
    with pytest.raises(FractureMaeError, match="no trial of the study 'study' completed: it has none"):
        session(n_trials=0)
    with pytest.raises(
        FractureMaeError, match=r"no trial of the study 'study' completed; 2 failed \(ValueError: boom\)"
    ):
        session(n_trials=2)
    with pytest.raises(FractureMaeError, match="no trial of the study 'study' completed"):
        session(n_trials=0)


def test_trials_of_a_version_that_kept_no_predictions_are_said_and_not_corrected(
    session, store, registered, monkeypatch
):
    with monkeypatch.context() as earlier:
        earlier.setattr(kept, "written", lambda predictions, decision: {})
        session(n_trials=1)
    run, text = session(n_trials=2)
    assert "Not corrected: 1 of the 3 trials are of an earlier version" in text
    assert "BBC-CV" not in text
    assert not [name for name in run.data.metrics if name.startswith("corrected/")]
    assert {"uncorrected/balanced_accuracy", "uncorrected/auroc"} <= set(run.data.metrics)
    assert run.data.tags["best.objective.corrected"] == "no"
    assert registered[-1][-1]["chosen.worth"].endswith("uncorrected (optimistic)")


@pytest.mark.parametrize("depth", ["head", "finetune"])
def test_every_complete_trial_keeps_the_predictions_that_it_was_judged_by(session, tmp_path, depth):
    options = {"depth": "finetune", "max_epochs": 1, "objective": "f1"} if depth == "finetune" else {}
    session(n_trials=2, **options)
    files = builders.dataset().validation.table if depth == "finetune" else folds.joined(builders.dataset()).table
    for trial in study_of(tmp_path).trials:
        found = trials.predictions_of(trial, Files.of(files))
        shown = trials.verdict_of(trial)["metrics"]
        weight = equal_group_weight(files["group"])
        label = files["label"].to_numpy()
        assert shown["auroc"] == pytest.approx(float(aurocs(label, found.logit, weight)))
        assert shown["sensitivity"] == pytest.approx(float(Counts.of(label, found.decision, weight).sensitivity))


def test_ctrl_c_ends_with_what_is_there(session, store, registered, monkeypatch):
    whole, calls = HeadDepth.predict, iter(range(100))

    def predict(self, params, report=None):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, params, report)

    monkeypatch.setattr(HeadDepth, "predict", predict)
    run, text = session(n_trials=9)
    assert run.info.status == "FINISHED"
    assert [child.data.tags["trial.state"] for child in children(store, run)] == ["complete", "complete", "interrupted"]
    assert run.data.tags["stopped"] == "True"
    assert "study/trials.csv" in artifacts(store, run, "study")
    assert registered == []
    assert "n_trials=0" in text
    session(n_trials=0)
    assert len(registered) == 1


def test_contributions_hold_the_four_corners(session, tmp_path):
    run, _ = session(n_trials=3)
    table = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/study/contributions.csv").splitlines()
    assert table[0].startswith("class_weight,threshold,score,feasible,sensitivity")
    found = {name: value for name, value in run.data.metrics.items() if name.startswith("contribution/")}
    corners = {f"class_weight_{w}/threshold_{t}" for w in ("none", "found") for t in ("0.5", "chosen")}
    assert {name.removeprefix("contribution/").rpartition("/")[0] for name in found} == corners
    best = study_of(tmp_path).best_value
    assert found["contribution/class_weight_found/threshold_chosen/score"] == pytest.approx(best, abs=1e-9)
    assert np.isfinite(list(found.values())).all()


def test_a_database_of_another_kind_is_refused_before_anything_is_read(store, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    empty = tmp_path / "empty"  # which would be told of as soon as it is read
    empty.mkdir()
    result = CliRunner().invoke(entrypoints.tune.main, ["--storage", "mysql://host/db", "--data-dir", str(empty)])
    assert result.exit_code == 1
    assert "--storage: found 'mysql://host/db', expected sqlite" in result.output
    assert str(empty) not in result.output


def test_a_study_of_held_out_sources_is_one_of_its_own_and_tells_the_folds_beside(session, store):
    whole = builders.of_sources({"A": (6, 6), "B": (6, 6), "C": (5, 5), "D": (3, 0)})
    dataset = builders.split_dataset(whole, validation=range(0, len(whole), 5), test=[])
    run, text = session(dataset, n_trials=2, cross_validate="sources")
    assert "4 sources in 4 folds, one model each: A (12 X-rays); B (12 X-rays); C (10 X-rays); D (3 X-rays" in text
    assert "best trial, uncorrected A 12 " in " ".join(text.split())
    assert "mean of sources" in text
    place = "held_out_sources/xray"
    assert {f"{place}/{name}/all/best_trial__uncorrected" for name in ("auroc", "auroc_folds", "fall")} <= set(
        run.data.metrics
    )
    assert "held_out_sources/comparison.csv" in artifacts(store, run, "held_out_sources")
    with pytest.raises(FractureMaeError, match="sources held out"):
        session(dataset, n_trials=1)
    sources = ["C", *whole.table["source"][1:]]
    other = builders.split_dataset(
        dataclasses.replace(whole, table=whole.table.assign(source=sources)),
        validation=range(0, len(whole), 5),
        test=[],
    )
    with pytest.raises(FractureMaeError, match="sources held out"):  # the same X-rays of other sources
        session(other, n_trials=1, cross_validate="sources")


def test_what_cannot_be_assured_ends_before_the_first_trial(session, tmp_path):
    with pytest.raises(
        FractureMaeError, match=r"--assurance 0\.95: .* needs 59 patients with a fracture, none of them missed; found"
    ):
        session(n_trials=2, objective="specificity_at_sensitivity", assurance=0.95)
    assert not (tmp_path / "optuna.db").exists() or not optuna.get_all_study_names(f"sqlite:///{tmp_path}/optuna.db")


def test_an_assured_threshold_is_registered_with_what_it_keeps(session, registered):
    session(n_trials=2, objective="specificity_at_sensitivity", min_sensitivity=0.2, assurance=0.5)
    ((_, decision, *_),) = registered
    assert decision.objective == "specificity_at_sensitivity (min_sensitivity 0.2, assurance 0.5)"
    assert decision.chosen_on.startswith("assured on ")
    assert "out of fold X-rays" in decision.chosen_on
