import dataclasses
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from mlflow import MlflowClient
from scipy.special import expit

from fracture_mae.config import Predict
from fracture_mae.data.reading import identities
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.data.reading.decoding import decode
from fracture_mae.data.reading.preprocessing import preprocess
from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier as classifier_model
from fracture_mae.models import gate
from fracture_mae.models.gate import Gate
from fracture_mae.models.pixels import to_unit
from fracture_mae.stages import predict as stage
from fracture_mae.tracking import lineage, runs
from tests import dicom_files

DECISION = Decision(("healthy", "broken"), threshold=0.5, slope=2.0, intercept=-0.1, prevalence=0.4)
N = 12


@pytest.fixture
def network(tmp_path, tiny_mae):
    network = classifier_model.from_mae(tiny_mae, pool="mean", seed=0)
    network.head.weight.data.mul_(30)  # or all logits are about the same
    network.preprocess = "film_squares"
    classifier_model.save(network, DECISION, tmp_path / "classifier")
    return network.eval()


@pytest.fixture
def folder(tmp_path, network):
    """Twelve X-rays in three folders, and one file that is none."""
    rng = np.random.default_rng(0)
    for number in range(N):
        place = tmp_path / "archive" / f"patient {number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{number}.png"), rng.integers(0, 256, (40, 30 + number), np.uint8))
    (tmp_path / "archive" / "notes").write_text("no picture")
    return tmp_path / "archive"


@pytest.fixture
def predicted(folder, tmp_path, store, monkeypatch):
    """The tables of a run, and what it printed."""
    monkeypatch.setattr(stage.plots, "maps", lambda *args, **options: Figure(figsize=(1, 1)))

    def predict(**options):
        given = {"data_dir": str(folder), "classifier": str(tmp_path / "classifier"), "precision": "fp32"}
        config = Predict(**given | {"device": "cpu", "batch_size": 5} | options)
        with runs.run("predict", config) as run:
            printed = stage.predict(config, run)
        return {name: lineage.read_table(run.id, name) for name in (stage.PREDICTIONS, stage.REJECTED)}, printed, run

    return predict


def test_every_file_is_answered_as_the_network_says(predicted, network, folder):
    tables, _, _ = predicted()
    found = tables[stage.PREDICTIONS].set_index("file")
    assert len(found) == N
    for name, row in found.iterrows():
        squares, _ = preprocess(decode((folder / name).read_bytes()), network.image_size, network.preprocess)
        logit = network(to_unit(torch.from_numpy(squares))).mean().item()
        assert row["probability"] == pytest.approx(expit(2 * logit - 0.1), abs=1e-5)  # fp32 in batches of another size
        assert row["label"] == ("broken" if row["probability"] >= 0.5 else "healthy")
    tables, printed, _ = predicted(threshold=float(found["probability"].median()))
    found = tables[stage.PREDICTIONS]
    assert (found["label"] == "broken").sum() == N / 2
    assert tables[stage.REJECTED].to_dict("records") == [{"file": "notes", "reason": "not an image file"}]
    assert "6 of 12 (50.0%) X-rays are broken" in printed
    assert "1 cannot be read, of 13 files" in printed


def test_what_is_unlike_its_xrays_is_answered_and_not_accepted(predicted, network, folder, tmp_path):
    assert predicted()[0][stage.PREDICTIONS]["accepted"].all()  # without a gate
    names = predicted()[0][stage.PREDICTIONS]["file"]
    squares = np.stack([preprocess(decode((folder / name).read_bytes()), 32, "film_squares")[0] for name in names])
    with torch.inference_mode():
        features = network.features(to_unit(torch.from_numpy(squares.reshape(-1, 32, 32)))).numpy()
    numbers = gate.describe(squares, features.reshape(len(names), 3, -1).mean(axis=1), "film_squares")
    d = numbers.shape[-1]
    made = Gate(
        *(np.zeros(d, np.float32), np.ones(d, np.float32), numbers[0, :1], np.ones(1, np.float32)),
        constant=-9.0,
        gamma=0.1 / d,
        distances=np.zeros(1),
        where="",
    )
    distance = made.distance(numbers)
    nearest = np.sort(distance)
    # Or batches of another size, rounded otherwise, would decide of the last one.
    half_way = (nearest[N // 2] - nearest[N // 2 - 1]) / 2
    made = dataclasses.replace(made, distances=nearest[: N // 2] + half_way)
    made.save(tmp_path / "classifier")
    tables, printed, run = predicted()
    found = tables[stage.PREDICTIONS]
    assert found["accepted"].tolist() == made.accepts(distance).tolist()
    assert found["accepted"].sum() == N / 2
    assert found["reason"].fillna("").tolist() == made.reasons(distance)
    assert found["probability"].notna().all()
    assert "; 6 are unlike the X-rays it was made from; 1 cannot be read" in printed
    assert store_of(run)["n_refused"] == 6


def store_of(run):
    return MlflowClient().get_run(run.id).data.metrics


def test_threshold_and_prevalence_change_answers_as_a_server_does(predicted):
    plain = predicted()[0][stage.PREDICTIONS]
    moved = predicted(prevalence=0.1)[0][stage.PREDICTIONS]
    odds = plain["probability"] / (1 - plain["probability"]) * (0.1 / 0.9) / (0.4 / 0.6)
    assert moved["probability"].to_numpy() == pytest.approx((odds / (1 + odds)).to_numpy())
    assert moved["label"].tolist() == plain["label"].tolist()  # the threshold moves along
    all_of_them = predicted(threshold=0)[0][stage.PREDICTIONS]
    assert set(all_of_them["label"]) == {"broken"}
    assert set(all_of_them["threshold"]) == {0}


def test_shards_share_the_files_out(predicted):
    whole = predicted()[0][stage.PREDICTIONS]
    parts = [predicted(shard=f"{number}/3")[0][stage.PREDICTIONS] for number in (1, 2, 3)]
    assert all(0 < len(part) < N for part in parts)
    together = pd.concat(parts).sort_values("file", ignore_index=True)
    pd.testing.assert_frame_equal(together, whole.sort_values("file", ignore_index=True), atol=1e-5)


def test_what_was_interrupted_goes_on(predicted, monkeypatch):
    whole = predicted()[0][stage.PREDICTIONS]
    asked = []
    read = stage.streaming.read

    def recorded(paths, *args, fails=None, **options):
        asked.append([Path(path).name for path in paths])
        for number, batch in enumerate(read(paths, *args, **options)):
            if number == fails:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(stage.streaming, "read", lambda *args, **options: recorded(*args, fails=2, **options))
    with pytest.raises(KeyboardInterrupt):
        predicted()
    monkeypatch.setattr(stage.streaming, "read", recorded)
    tables, printed, _ = predicted()
    assert len(asked[0]) == N + 1
    assert asked[1] == asked[0][10:]  # two batches of five were answered
    assert "10 files were answered before" in printed
    pd.testing.assert_frame_equal(tables[stage.PREDICTIONS], whole, atol=1e-5)


def test_files_that_changed_since_are_answered_anew(predicted, folder, monkeypatch):
    read = stage.streaming.read
    asked = []

    def once(paths, *args, **options):
        asked.append(list(paths))
        yield from read(paths, *args, **options)
        if len(asked) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(stage.streaming, "read", once)
    with pytest.raises(KeyboardInterrupt):
        predicted(n_shown=0)
    changed = folder / "patient 0" / "0.png"
    cv2.imwrite(str(changed), np.full((30, 30), 7, np.uint8))
    tables, _, _ = predicted(n_shown=0)
    assert asked[1] == [str(changed)]
    assert len(tables[stage.PREDICTIONS]) == N


def test_another_network_gate_or_folder_is_another_work(network, folder, tmp_path, monkeypatch):
    loaded = SimpleNamespace(folder=tmp_path / "classifier", classifier=network)

    def work(**options):
        return stage._journal(loaded, Predict(**{"data_dir": str(folder)} | options))._path

    first = work()
    assert work(threshold=0.9, prevalence=0.1, n_shown=0) == first
    monkeypatch.chdir(folder.parent)
    assert work(data_dir="archive") == first
    assert len({first, work(data_dir=str(folder / "patient 0")), work(shard="1/2"), work(precision="fp32")}) == 4
    (loaded.folder / "gate.npz").write_bytes(b"another")
    with_gate = work()
    (loaded.folder / "model.safetensors").write_bytes(b"another")
    assert len({first, with_gate, work()}) == 3


def test_a_sheet_shows_the_most_probable_first(predicted, store, monkeypatch):
    shown = []
    monkeypatch.setattr(
        stage.plots,
        "maps",
        lambda pictures, logits, captions, *_, **__: shown.append(captions) or Figure(figsize=(1, 1)),
    )
    monkeypatch.setattr(stage, "_ON_A_SHEET", 4)
    tables, _, run = predicted(n_shown=6)
    probability = tables[stage.PREDICTIONS].nlargest(6, "probability")["probability"]
    told = [float(caption.rpartition(" ")[2]) for captions in shown for caption in captions]
    assert told == pytest.approx(probability.tolist(), abs=6e-4)
    names = {item.path for item in store.list_artifacts(run.id)}
    assert {"contact_sheet_1.png", "contact_sheet_2.png"} <= names


def test_what_cannot_be_answered_is_a_sentence(predicted, tmp_path, folder):
    with pytest.raises(FractureMaeError, match="none of the 13 files"):
        [predicted(shard=f"{number}/200") for number in range(1, 30)]
    with pytest.raises(FractureMaeError, match="holds no classifier"):
        predicted(classifier=str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FractureMaeError, match="holds no X-rays"):
        predicted(data_dir=str(tmp_path / "empty"))


def test_where_nothing_can_be_read_all_of_it_is_rejected(predicted, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a").write_text("no picture")
    tables, printed, _ = predicted(data_dir=str(tmp_path / "none"))
    assert tables[stage.PREDICTIONS].empty
    assert len(tables[stage.REJECTED]) == 1
    assert "0 of 0 X-rays are broken; 1 cannot be read" in printed


def test_of_dicom_files_nobody_is_named(predicted, tmp_path):
    uid = f"{dicom_files.ROOT}77.1"
    place = tmp_path / "studies" / "Quux_Zebedee" / uid
    place.parent.mkdir(parents=True)
    told = {"PatientName": "Quux^Zebedee", "PatientID": "47114711", "SOPInstanceUID": uid}
    place.write_bytes(dicom_files.dicom_bytes(dicom_files.RAMP, **told))
    tables, printed, _ = predicted(data_dir=str(tmp_path / "studies"))
    (row,) = tables[stage.PREDICTIONS].to_dict("records")
    assert row["patient"] == identities.hashed("patient 47114711")
    assert row["instance"] == identities.hashed(f"instance {uid}")
    assert not any(word in f"{row}{printed}" for word in ("Quux", "Zebedee", "47114711", uid))


def test_a_journal_names_nobody_either(predicted, tmp_path, monkeypatch):
    place = tmp_path / "studies" / f"{dicom_files.ROOT}77.1.dcm"
    place.parent.mkdir()
    place.write_bytes(dicom_files.dicom_bytes(dicom_files.RAMP, PatientID="47114711"))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "_report", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predicted(data_dir=str(tmp_path / "studies"))
    (journal,) = (cache_root() / "predictions").glob("*.jsonl")
    text = journal.read_text()
    assert "logit" in text
    assert dicom_files.ROOT not in text
    assert "47114711" not in text
