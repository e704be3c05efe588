"""A worker whose trials and conclusion cost nothing but time:

`python -m tests.unit.tuning.worker STORAGE N_TRIALS NAME SECONDS CONCLUDING`, the seconds of a trial and of the conclusion.
"""

import sys
import time
from datetime import datetime

import numpy as np
import pandas as pd
import psutil
from optuna import Study, Trial
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial

from fracture_mae.tuning import kept
from fracture_mae.tuning.campaign import Campaign
from fracture_mae.tuning.concluder import Concluder
from fracture_mae.tuning.ending import Ending, read
from fracture_mae.tuning.interruption import Interruption
from fracture_mae.tuning.sampling import NumberedSampler
from fracture_mae.tuning.study import Lock, open_storage, open_study

HEARTBEAT = 1  # seconds


def open_campaign(url: str, n_trials: int, name: str, started: datetime) -> Campaign:
    storage = open_storage(url, HEARTBEAT)
    lock = Lock(storage, "study")
    options = {"directions": ("maximize",), "signature": {"what": "test"}}
    with lock:
        study = open_study(storage, "study", sampler=NumberedSampler(0), pruner=NopPruner(), **options)
    return Campaign(study, lock, n_trials, name, started)


def conclude(campaign: Campaign, seconds: float = 0) -> Ending:
    """A worker's part in the conclusion, which registers a version of its name; how the campaign ended."""
    concluder = Concluder(campaign)
    with Interruption() as interruption:
        ending = concluder.turn(interruption)
    if not concluder.is_ours(ending):
        return ending
    with concluder.at_it():
        time.sleep(seconds)
        concluder.check()
        concluder.registered(f"version of {campaign.run_id}")
    return read(campaign.study, campaign.record.number)


LABEL = np.tile([0, 1], 20)
FILES = pd.DataFrame({"sha256": [f"{i:03d}" for i in range(40)], "label": LABEL, "group": [f"x{i}" for i in range(40)]})


def keep_predictions(trial: Trial, x: float, is_reversed: bool) -> None:
    """As a trial of `tune` does; a worker may have read the same files in another order."""
    logit = np.random.default_rng(int(x * 1e9)).normal(size=40)
    files = FILES.assign(logit=logit)
    files = files[::-1] if is_reversed else files
    trial.set_user_attr("predictions", kept.written(files, (files["logit"] > 0).to_numpy()))


def main(url: str, n_trials: str, name: str, seconds: str, concluding: str) -> None:
    done = []

    def evaluate(trial) -> tuple[float]:
        x = trial.suggest_float("x", 0, 1)
        trial.set_user_attr("worker", name)
        keep_predictions(trial, x, is_reversed=name.endswith("1"))
        time.sleep(float(seconds))
        return (x,)

    def on_trial(study: Study, trial: FrozenTrial) -> None:
        done.append(trial.number)

    started = datetime.fromtimestamp(psutil.Process().create_time())
    campaign = open_campaign(url, int(n_trials), name, started)
    with Interruption() as interruption:
        campaign.work(evaluate, on_trial, interruption)
    ending = conclude(campaign, float(concluding))
    print("concludes" if ending.by == name else "leaves", *done)


if __name__ == "__main__":
    main(*sys.argv[1:])
