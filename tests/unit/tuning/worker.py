"""A worker with trials that cost nothing but time: `python -m tests.unit.tuning.worker STORAGE N_TRIALS NAME SECONDS`."""

import sys
import time
from datetime import datetime

import psutil
from optuna import Study
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial

from fracture_mae.tuning.campaign import Campaign
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


def main(url: str, n_trials: str, name: str, seconds: str) -> None:
    done = []

    def evaluate(trial) -> tuple[float]:
        x = trial.suggest_float("x", 0, 1)
        trial.set_user_attr("worker", name)
        time.sleep(float(seconds))
        return (x,)

    def on_trial(study: Study, trial: FrozenTrial) -> None:
        done.append(trial.number)

    started = datetime.fromtimestamp(psutil.Process().create_time())
    campaign = open_campaign(url, int(n_trials), name, started)
    with Interruption() as interruption:
        campaign.work(evaluate, on_trial, interruption)
    print("concludes" if campaign.may_conclude() else "leaves", *done)


if __name__ == "__main__":
    main(*sys.argv[1:])
