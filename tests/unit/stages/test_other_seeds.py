import pytest
import torch
from matplotlib.figure import Figure

from fracture_mae.config import TrainClassifier
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.evaluation.training_seeds import OtherSeeds
from fracture_mae.stages import other_seeds
from fracture_mae.tracking import runs
from fracture_mae.training import learning_curves
from fracture_mae.training.trainer import Trainer

CONFIG = TrainClassifier(seed=5, seeds=3, epochs=1, batch_size=4).settled("random")


@pytest.fixture
def trained(dataset, tiny_encoder, accelerator, store, monkeypatch):
    monkeypatch.setattr(
        learning_curves.plots, "learning_curves", lambda *args: Figure(figsize=(1, 1))
    )  # tested elsewhere

    def train(config=CONFIG):
        with runs.run("train_classifier", config) as run:
            options = {"accelerator": accelerator, "run": run, "out_of_fold": None}
            return run, other_seeds.train_others(tiny_encoder, dataset, config, **options)

    return train


def children(store, parent):
    found = store.search_runs([store.get_run(parent.id).info.experiment_id], order_by=["attributes.start_time ASC"])
    return [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.id]


def test_each_further_seed_is_a_child_run_and_a_network_of_its_own(trained, store, dataset):
    run, found = trained()
    assert [child.info.run_name for child in children(store, run)] == ["seed 6", "seed 7"]
    assert all({"validation/xray/auroc", "threshold"} <= set(child.data.metrics) for child in children(store, run))
    assert set(found.kept.trained) == {6, 7}
    first, second = (network.head.weight for network, _ in found.kept.trained.values())
    assert not torch.equal(first, second)
    for seed, (table, decision) in found.predictions.items():
        assert len(table) == len(dataset.validation)
        assert decision == found.kept.trained[seed][1]


def test_it_is_the_training_of_that_seed(trained, dataset, tiny_encoder, accelerator):
    _, found = trained()
    _, alone = trained(CONFIG.model_copy(update={"seed": 6, "seeds": 2}))
    assert set(alone.kept.trained) == {7}
    both = [each.kept.trained[7][0].state_dict() for each in (found, alone)]
    assert all(torch.equal(value, both[1][name]) for name, value in both[0].items())


def test_what_a_killed_run_has_trained_is_not_trained_again(trained, monkeypatch):
    _, before = trained()
    monkeypatch.setattr(Trainer, "_train_epoch", None)
    _, again = trained()
    pair = [each.kept.trained[6][0].head.weight for each in (before, again)]
    assert torch.equal(*pair)
    again.forget()
    assert not list((cache_root() / "checkpoints").glob("*/*"))


def test_one_seed_asks_for_nothing_more(trained, store):
    run, found = trained(CONFIG.model_copy(update={"seeds": 1}))
    assert not children(store, run)
    assert found == other_seeds.Trained(OtherSeeds({}), {}, [])
