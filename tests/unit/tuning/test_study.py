import logging

import optuna
import pytest
from optuna.pruners import NopPruner

from fracture_mae.config import Tune
from fracture_mae.errors import FractureMaeError
from fracture_mae.tuning.sampling import NumberedSampler
from fracture_mae.tuning.space import described, space_of
from fracture_mae.tuning.storage import hidden
from fracture_mae.tuning.study import Lock, open_storage, open_study


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return open_storage(f"sqlite:///{tmp_path_factory.mktemp('study')}/optuna.db", heartbeat=30)


def opened(storage, name, signature):
    options = {"directions": ("maximize",), "sampler": NumberedSampler(0), "pruner": NopPruner()}
    with Lock(storage, name):
        return open_study(storage, name, signature=signature, **options)


def signature(objective="f1", **changes):
    space = described(space_of(Tune(objective=objective, depth="finetune", **changes), "random"))
    return {"objective": objective, "search space": space, "data and split": "a1"}


def test_the_same_study_is_opened_again(storage):
    study = opened(storage, "same", signature())
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert [trial.number for trial in opened(storage, "same", signature()).trials] == [0]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (signature("f2"), "objective was f1, now f2"),
        (signature() | {"data and split": "b2"}, "data and split was a1, now b2"),
        (signature() | {"min_sensitivity": 0.9}, "min_sensitivity was not set, now 0.9"),
        (signature(max_epochs=30), "search space was .*epochs \\[4, 12\\].*, now .*epochs \\[10, 30\\]"),
    ],
)
def test_other_trials_are_refused_and_the_difference_is_named(storage, now, words):
    opened(storage, "one", signature())
    with pytest.raises(
        FractureMaeError, match=f"'one' holds trials that cannot be compared with these: {words}.*study-name"
    ):
        opened(storage, "one", now)


def test_a_study_made_by_other_means_is_refused(storage):
    optuna.create_study(study_name="foreign", storage=storage)
    with pytest.raises(FractureMaeError, match="'foreign' was not made by this entry point"):
        opened(storage, "foreign", signature())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/db", "found 'mysql://host/db', expected sqlite:///FILE .* or postgresql"),
        ("optuna.db", "found 'optuna.db', expected"),
        ("sqlite://", "names no file"),
        ("postgresql+psycopg://127.0.0.1:1/db", "cannot be opened: .*refused"),
        ("postgresql+psycopg://127.0.0.1:port/db", "cannot be read as a URL"),
        ("sqlite:////proc/no/such/folder/optuna.db", "cannot be opened"),
    ],
)
def test_storage_that_cannot_be_used_is_refused(url, words):
    with pytest.raises(FractureMaeError, match=f"--storage.*{words}"):
        open_storage(url, heartbeat=30)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "optuna.db").write_text("not a database, but long enough to be looked at as one" * 100)
    with pytest.raises(FractureMaeError, match="cannot be opened"):
        open_storage(f"sqlite:///{tmp_path}/optuna.db", heartbeat=30)


def test_passwords_are_not_shown_and_warned_of(caplog):
    url = "postgresql+psycopg://me:secret@127.0.0.1:1/db"
    assert "secret" not in hidden(url)
    with caplog.at_level(logging.WARNING), pytest.raises(FractureMaeError) as refused:
        open_storage(url, heartbeat=30)
    assert "secret" not in str(refused.value)
    assert "PGPASSWORD" in caplog.text
