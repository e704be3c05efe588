"""A worker's session: it opens or joins a study, takes its share of the trials, and concludes the campaign if it is to."""

import hashlib
import json
from datetime import datetime
from typing import Any

import psutil
from accelerate import Accelerator
from optuna import Study
from optuna.trial import FrozenTrial
from tqdm import tqdm

from fracture_mae.config import Tune
from fracture_mae.data import boxes
from fracture_mae.data.reading import preprocessing
from fracture_mae.data.types import Dataset
from fracture_mae.errors import FractureMaeError
from fracture_mae.models.encoders import Encoder
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import inputs, start
from fracture_mae.tracking import registry
from fracture_mae.tracking.registered_models import load_encoder, with_leakage_of
from fracture_mae.tracking.runs import Run, database_folder
from fracture_mae.tracking.stores import sqlite_uri
from fracture_mae.tuning import results
from fracture_mae.tuning.campaign import Campaign, Tally
from fracture_mae.tuning.concluder import Concluder, TakenOverError
from fracture_mae.tuning.depths import Depth, HeadDepth, depth_of
from fracture_mae.tuning.ending import FAILED, REGISTERED, STOPPED, Ending
from fracture_mae.tuning.interruption import Interruption
from fracture_mae.tuning.objectives import Objective
from fracture_mae.tuning.optimism import Worth
from fracture_mae.tuning.pruning import pruner_of
from fracture_mae.tuning.register_best import Conclusion
from fracture_mae.tuning.sampling import NumberedSampler
from fracture_mae.tuning.space import Space, described, space_of
from fracture_mae.tuning.storage import PatientStorage, hidden
from fracture_mae.tuning.study import Lock, open_storage, open_study
from fracture_mae.tuning.trial_runs import TrialRuns
from fracture_mae.tuning.trials import evaluator


def open_database(config: Tune) -> PatientStorage:
    """The database of the campaign's study; worth opening before anything that takes long, since it may be out of reach.

    Raises:
        FractureMaeError: it cannot be used; says why.
    """
    url = sqlite_uri(database_folder() / "optuna.db") if config.storage == "auto" else config.storage
    return open_storage(url, config.heartbeat)


def tune(config: Tune, run: Run) -> str:
    """Search with a study's other workers, and register the best if this one is the last; what came of it, to print."""
    storage = open_database(config)
    accelerator = make_accelerator(config.precision, config.device)
    encoder = load_encoder(config.encoder, config)
    found = inputs.load_data(config, encoder.image_size, preprocess=encoder.preprocess)
    dataset = with_leakage_of(encoder.source, found)
    run.dataset(dataset)
    run.tags({"encoder": encoder.source, "start": encoder.start} | inputs.check_encoder_split(config.encoder, dataset))
    run.note(
        f"Tuning for **{config.objective}**, depth `{config.depth}`, on the encoder of **{encoder.source}**. "
        f"{inputs.describe(dataset)}"
    )
    return take_part(encoder, dataset, config, storage=storage, accelerator=accelerator, run=run)


def take_part(
    encoder: Encoder, dataset: Dataset, config: Tune, *, storage: PatientStorage, accelerator: Accelerator, run: Run
) -> str:
    """Take part in a campaign; what came of it in a few lines to print. Test X-rays are not touched.

    Args:
        storage: as `open_database` gives it.

    Raises:
        FractureMaeError: the study holds other trials, or no trial completed.
    """
    objective, space = Objective.of(config), space_of(config, encoder.start, encoder)
    depth = depth_of(encoder, dataset, config, accelerator)
    objective.check((depth.xrays if isinstance(depth, HeadDepth) else dataset.validation).table, depth.fold)
    if config.depth == "finetune":
        rates = space["learning_rate"]
        tqdm.write(f"start: {start.described(encoder)} → learning rates from {rates.low:g} to {rates.high:g}")
    study, lock = _open(storage, config, objective, _signature(depth, objective, space, dataset, config), run)
    campaign = Campaign(study, lock, config.n_trials, run.id, started=_process_start())
    intermediate = f"validation/xray/{depth.monitor}" if config.depth == "finetune" else ""
    conclusion = Conclusion(study, depth, objective, dataset, config, encoder=encoder.source, accelerator=accelerator)
    with TrialRuns(campaign, objective.value_names, intermediate) as runs:
        stopped = _work(campaign, depth, objective, space, runs)
        runs.drain()  # a worker that cannot log must not be the one to conclude
        if not stopped:
            return _conclude(Concluder(campaign), conclusion, runs, run)
        runs.write_missing(study)
    *_, summary = _report(conclusion, run)
    run.tags({"stopped": True})
    return f"{summary}\nStopped. The same command goes on; with -P n_trials=0 it registers the best of what is there."


def _conclude(concluder: Concluder, conclusion: Conclusion, runs: TrialRuns, run: Run) -> str:
    """Register the best if it is this worker's turn, else wait until another has; what came of it, to print."""
    study = conclusion.study
    try:
        with Interruption() as interruption:
            ending = concluder.turn(interruption)
    except KeyboardInterrupt:
        run.tags({"stopped": True})
        return (
            f"{_in_short(conclusion)}\nStopped before the best was registered: that is left to another worker of the campaign, or else "
            "to the same command, started again."
        )
    if not concluder.is_ours(ending):
        return _told(ending, conclusion, run)
    try:
        with concluder.at_it():
            runs.write_missing(study)
            runs.drain()
            if version := _registered_by(concluder.predecessor):
                concluder.registered(version, by=concluder.predecessor)
                return _told(Ending(REGISTERED, concluder.predecessor, told=version), conclusion, run)
            best, worth, summary = _report(conclusion, run)
            version, text = conclusion.register(best, worth, run, concluder.check)
            concluder.registered(version)
            return f"{summary}\n{text}"
    except TakenOverError:
        return _conclude(concluder, conclusion, runs, run)


def _report(conclusion: Conclusion, run: Run) -> tuple[FrozenTrial, Worth, str]:
    """The best trial, what it is worth, and both to print; tables and figures are logged."""
    best, worth = conclusion.report(run)
    return best, worth, f"{_in_short(conclusion)}\n{worth.digest()}"


def _in_short(conclusion: Conclusion) -> str:
    best = results.best_trial(conclusion.study, conclusion.objective)
    return f"study {conclusion.study.study_name}: {Tally.of(conclusion.study).taken} trials, the best is number {best.number}"


def _told(ending: Ending, conclusion: Conclusion, run: Run) -> str:
    """What another worker's conclusion came to, to print.

    Raises:
        FractureMaeError: it failed.
    """
    name = conclusion.study.study_name
    if ending.state == REGISTERED:
        run.tags({"study.registered": ending.told})
        return f"{_in_short(conclusion)}\nregistered as {ending.told} by another worker, {ending}, whose run has table and figures"
    if ending.state == FAILED:
        raise FractureMaeError(
            f"{ending.told.rstrip('.')}. So ended the worker that concluded the campaign of the study {name}, {ending}: nothing is "
            "registered, and the trials are kept. Once that is mended, the same command with -P n_trials=0 registers the best."
        )
    if ending.state == STOPPED:
        return (
            f"The campaign of the study {name} was stopped in another worker, {ending}. The same command goes on; with -P n_trials=0 "
            "it registers the best of what is there."
        )
    return f"Nothing is left to do in the study {name}: another worker, {ending}, concludes its campaign."


def _registered_by(run_id: str) -> str:
    """The version that a run has registered; empty where it has none."""
    return registry.run_tags(f"runs:/{run_id}/").get("registered", "") if run_id else ""


def _open(
    storage: PatientStorage, config: Tune, objective: Objective, signature: dict[str, Any], run: Run
) -> tuple[Study, Lock]:
    name = config.study_name
    if name == "auto":
        digest = hashlib.sha256(json.dumps(signature, sort_keys=True).encode()).hexdigest()[:8]
        name = f"{config.depth}-{config.objective}-{digest}"
    pruner, pruning = pruner_of(config)
    lock = Lock(storage, name)
    with lock:
        sampler = NumberedSampler(config.seed)
        study = open_study(
            storage, name, directions=objective.directions, signature=signature, sampler=sampler, pruner=pruner
        )
    run.tags({"study": name, "study.storage": hidden(storage.url), "study.sampler": "TPE", "study.pruner": pruning})
    return study, lock


def _signature(depth: Depth, objective: Objective, space: Space, dataset: Dataset, config: Tune) -> dict[str, Any]:
    """What trials must have in common to be compared."""
    signature = {"depth": config.depth, **objective.described(), "search space": described(space)}
    signature |= {
        "data and split": dataset.split_fingerprint,
        "group_by": dataset.group_by,
        "encoder": depth.encoder_fingerprint,
        "threshold": "mean over bootstrap draws",
        "calibration": "platt",
    }
    if made := preprocessing.suffix(dataset.preprocess):
        signature["preprocess"] = made
    held = depth.held if isinstance(depth, HeadDepth) else None
    signature |= {"sources held out": held.fingerprint} if held else {"n_folds": config.n_folds}
    signature |= {"match": config.match} if config.match != "none" else {}  # older studies were not asked
    if config.depth == "head":
        return signature
    known = boxes.fingerprint(dataset.index)
    return signature | {"batch_size": config.batch_size} | ({"boxes": known} if known else {})


def _work(campaign: Campaign, depth: Depth, objective: Objective, space: Space, runs: TrialRuns) -> bool:
    """Take trials to the end; whether the user stopped it before."""
    with Interruption() as interruption:
        try:
            campaign.work(evaluator(depth, objective, space, interruption), runs.write, interruption)
        except KeyboardInterrupt:
            campaign.stop()
            return True
    return False


def _process_start() -> datetime:
    return datetime.fromtimestamp(psutil.Process().create_time())
