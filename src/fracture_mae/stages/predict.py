"""A registered classifier's answers for X-rays without labels, as many as there are: a table, a contact sheet and a summary."""

import hashlib
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from tqdm import tqdm

from fracture_mae import plots
from fracture_mae.config import Predict
from fracture_mae.data.reading import decoding, index, preprocessing, streaming
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.data.reading.identities import real_path
from fracture_mae.data.reading.streaming import Read
from fracture_mae.errors import FractureMaeError, legible
from fracture_mae.evaluation.prediction import mean_of_squares
from fracture_mae.metrics import thresholds
from fracture_mae.metrics.decision import Decision
from fracture_mae.models import explanation, gate_statistics
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.models.gate import FILE as GATE_FILE
from fracture_mae.models.gate import Gate, with_features
from fracture_mae.models.pixels import to_unit
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages.journal import Journal
from fracture_mae.tracking.registered_models import LoadedClassifier, open_classifier
from fracture_mae.tracking.report import Report
from fracture_mae.tracking.runs import Run
from fracture_mae.training.batches import to_device
from fracture_mae.training.sending import sent

_ON_A_SHEET = 24
_VERSION = 1  # of the journal: raised when a row says something else
_ROW = ["path", "n_bytes", "changed", "sha256", "reason", "logit", "distance"]
PREDICTIONS, REJECTED = "predictions.csv", "rejected.csv"


def predict(config: Predict, run: Run) -> str:
    """Answer for all files, or those of the shard; what came of it, to print."""
    accelerator = make_accelerator(config.precision, config.device)
    loaded = open_classifier(config.classifier, config.precision)
    gate, decision = Gate.load(loaded.folder), _decision(loaded, config)
    files = _files(config)
    run.tags({"classifier": loaded.name, "threshold": decision.threshold, "data": config.data_dir})
    with _journal(loaded, config) as journal:
        started = time.perf_counter()
        n_new = _answer(loaded.classifier, gate, files, journal, config, accelerator)
        seconds = time.perf_counter() - started
        table = _told(files, journal)
        report = _report(table, loaded, gate, decision, config, accelerator)
        if n_new:
            report.metrics["files_per_second"] = n_new / seconds
        run.report(report)
        journal.remove()
    summary = _summary(report, loaded, decision)
    resumed = f" {len(files) - n_new:,} files were answered before." if n_new < len(files) else ""
    run.note(f"{summary}{resumed} The tables: `{PREDICTIONS}`, `{REJECTED}`.")
    return f"{summary}{resumed}\nrows: mlflow artifacts download --run-id {run.id} --artifact-path {PREDICTIONS} --dst-path ."


def _decision(loaded: LoadedClassifier, config: Predict) -> Decision:
    """The classifier's own, as the threshold and the prevalence that are asked for change it.

    Raises:
        FractureMaeError: it is not known at which prevalence its probabilities come true.
    """
    decision = loaded.decision
    if config.prevalence != "auto":
        decision.at_prevalence(decision.threshold, config.prevalence)  # refuses, where `moved` leaves it as it is
        decision = decision.moved(config.prevalence)
    return decision if config.threshold == "auto" else replace(decision, threshold=config.threshold)


def _files(config: Predict) -> pd.DataFrame:
    """What there is to answer for.

    Returns:
        Columns path, as it may be shown, file (the same below data_dir), n_bytes and changed (-1 where it cannot be looked at), and
        of DICOM files patient and instance, hashed.

    Raises:
        FractureMaeError: there are none, or none in this shard.
    """
    root = index.root_of(config.data_dir)
    folder = Path(legible(str(root if root.is_dir() else root.parent)))
    found = index.read_unlabelled(config.data_dir).drop_duplicates("path", ignore_index=True)
    files = pd.DataFrame({"path": found["path"], "file": [_below(folder, path) for path in found["path"]]})
    if (found["given_uid"] != "").any():
        files = files.assign(patient=found["given_patient"], instance=found["given_uid"])
    number, n_shards = map(int, config.shard.split("/"))
    # By the name that a file really has: what is shown of it hangs on a key of this machine.
    real = [_below(root if root.is_dir() else root.parent, real_path(path)) for path in files["path"]]
    own = files[[zlib.crc32(os.fsencode(name)) % n_shards == number - 1 for name in real]]
    if own.empty:
        raise FractureMaeError(
            f"--shard {config.shard}: none of the {len(files):,} files of {config.data_dir} is in this part. Take fewer parts."
        )
    status = np.array([_status(path) for path in tqdm(own["path"], desc="Files", unit="file", leave=False)])
    return own.assign(n_bytes=status[:, 0], changed=status[:, 1]).reset_index(drop=True)


def _below(folder: Path, path: str) -> str:
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path


def _status(path: str) -> tuple[int, int]:
    try:
        found = Path(real_path(path)).stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _journal(loaded: LoadedClassifier, config: Predict) -> Journal:
    """Of this network and gate on these files: thresholds, and how many X-rays are shown, change nothing of what they say."""
    made = [
        hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""
        for file in (loaded.folder / "model.safetensors", loaded.folder / GATE_FILE)
    ]
    pixels = decoding.VERSION, loaded.classifier.preprocess, preprocessing.suffix(loaded.classifier.preprocess)
    told = (_VERSION, made, pixels, config.precision, str(index.root_of(config.data_dir)), config.shard)
    name = hashlib.sha256(repr(told).encode()).hexdigest()[:24]
    return Journal(cache_root() / "predictions" / f"{name}.jsonl", resume=config.resume == "auto")


def _answer(
    classifier: FractureClassifier,
    gate: Gate | None,
    files: pd.DataFrame,
    journal: Journal,
    config: Predict,
    accelerator: Accelerator,
) -> int:
    """Add what network and gate say of the files that the journal does not know; how many these were."""
    known = _told(files, journal)["sha256"].fillna("") != ""  # what could not be read is tried again
    new = files[~known.to_numpy()]
    bar = tqdm(total=len(files), initial=int(known.sum()), desc="Classifying X-rays", unit="file")
    with bar:
        position = 0
        processes = config.num_workers or None
        for batch, answered in answers(
            classifier, gate, new["path"].tolist(), config.batch_size, processes, accelerator
        ):
            rows = new.iloc[position : position + len(batch.sha256)]
            given = iter(answered)
            journal.add(
                {
                    "path": row.path,
                    "n_bytes": row.n_bytes,
                    "changed": row.changed,
                    "sha256": sha256,
                    "reason": reason,
                    **({"logit": None, "distance": None} if reason else next(given)),
                }
                for row, sha256, reason in zip(rows.itertuples(), batch.sha256, batch.reason, strict=True)
            )
            position += len(rows)
            bar.update(len(rows))
    return len(new)


@torch.inference_mode()
def answers(
    classifier: FractureClassifier,
    gate: Gate | None,
    paths: list[str],
    batch_size: int,
    num_processes: int | None,
    accelerator: Accelerator,
) -> Iterator[tuple[Read, list[dict[str, float | None]]]]:
    """Yields batches of files, and logit and distance of each that is a picture; no distance where there is no gate.

    Args:
        num_processes: that decode, see `streaming.read`.
    """
    to_device(classifier, accelerator.device).eval()
    options = {"batch_size": batch_size, "num_processes": num_processes}
    options["numbers"] = None if gate is None else gate_statistics.of_pictures
    files = list(map(real_path, paths))
    for batch in streaming.read(files, classifier.image_size, classifier.preprocess, **options):
        if not len(batch.squares):
            yield batch, []
            continue
        pixels = sent(batch.squares.flatten(0, 1), accelerator.device)
        with accelerator.autocast():
            found = classifier.with_features(to_unit(pixels))
        logit, features = (
            mean_of_squares(each.float().cpu().numpy().astype(np.float64), len(batch.squares))
            for each in (found[0][:, None], found[1])
        )
        distance = [None] * len(logit)
        if gate is not None:
            distance = gate.distance(with_features(batch.numbers, features)).tolist()
        yield (
            batch,
            [{"logit": one, "distance": other} for one, other in zip(logit[:, 0].tolist(), distance, strict=True)],
        )


def _told(files: pd.DataFrame, journal: Journal) -> pd.DataFrame:
    """The files with what the journal knows of those that have not changed since; NaN of the others."""
    rows = pd.DataFrame(journal.rows(), columns=_ROW)
    rows = rows.drop_duplicates("path", keep="last")
    return files.merge(rows, on=["path", "n_bytes", "changed"], how="left").astype({"logit": float, "distance": float})


def _report(
    table: pd.DataFrame,
    loaded: LoadedClassifier,
    gate: Gate | None,
    decision: Decision,
    config: Predict,
    accelerator: Accelerator,
) -> Report:
    """predictions.csv, rejected.csv, contact sheets, and numbers of files."""
    answered = table[table["logit"].notna()]
    probability = decision.probability(answered["logit"])
    fractured = thresholds.decide(probability, decision.threshold)
    told = [name for name in ("file", "sha256", "patient", "instance") if name in answered]
    predictions = answered[told].assign(
        label=np.array(decision.label_names)[fractured.astype(int)],
        probability=probability,
        threshold=decision.threshold,
        **_gated(answered["distance"].to_numpy(), gate),
        model_version=loaded.name,
    )
    n_refused = len(predictions) - int(predictions["accepted"].sum())
    counts = {"n_files": len(table), "n_answered": len(answered), "n_rejected": len(table) - len(answered)}
    shown = answered.assign(probability=probability, accepted=predictions["accepted"])
    shown = shown.nlargest(config.n_shown, "probability")
    return Report(
        metrics=counts | {"n_flagged": int(fractured.sum()), "n_refused": n_refused},
        tables={PREDICTIONS: predictions, REJECTED: table.loc[table["logit"].isna(), ["file", "reason"]]},
        figures=_contact_sheets(shown, len(answered), loaded.classifier, decision, accelerator),
    )


def _gated(distance: np.ndarray, gate: Gate | None) -> dict[str, ArrayLike]:
    """accepted and reason, as a server gives them."""
    if gate is None:
        return {"accepted": True, "reason": ""}
    return {"accepted": gate.accepts(distance), "reason": gate.reasons(distance)}


@torch.inference_mode()
def _contact_sheets(
    shown: pd.DataFrame, n_answered: int, classifier: FractureClassifier, decision: Decision, accelerator: Accelerator
) -> dict[str, Figure]:
    """X-rays in the order of their probability, each with its map: of the square with the hottest patch."""
    sheets = {}
    pages = range(0, len(shown), _ON_A_SHEET)
    for number, start in enumerate(pages, start=1):
        rows = shown.iloc[start : start + _ON_A_SHEET]
        options = {"batch_size": _ON_A_SHEET, "num_processes": 0}
        (batch,) = streaming.read(
            list(map(real_path, rows["path"])), classifier.image_size, classifier.preprocess, **options
        )
        if any(batch.reason):
            raise FractureMaeError(f"{rows['path'].iloc[0]} or another file changed while it was predicted. Run again.")
        pixels = sent(batch.squares.flatten(0, 1), accelerator.device)
        with accelerator.autocast():
            maps = explanation.maps(classifier, to_unit(pixels))[1].float().cpu().numpy()
        maps = maps.reshape(len(rows), -1, *maps.shape[1:])
        hottest = maps.max(axis=(2, 3)).argmax(axis=1)
        each = np.arange(len(rows))
        captions = [
            f"{Path(row.file).name[:28]}\n{decision.label_names[1]}: {row.probability:.3f}" for row in rows.itertuples()
        ]
        title = f"{start + 1} to {start + len(rows)} of {n_answered:,} X-rays, the most probably fractured first"
        sheets[f"contact_sheet_{number}.png"] = plots.maps(
            batch.squares.numpy()[each, hottest],
            maps[each, hottest],
            captions,
            np.full((len(rows), 1, 4), np.nan),
            title=title,
            meaning=explanation.meaning(classifier),
        )
    return sheets


def _summary(report: Report, loaded: LoadedClassifier, decision: Decision) -> str:
    n_files, n_answered, n_rejected, n_flagged, n_refused = (
        report.metrics[f"n_{name}"] for name in ("files", "answered", "rejected", "flagged", "refused")
    )
    share = f" ({n_flagged / n_answered:.1%})" if n_answered else ""
    refused = f"; {n_refused:,} are unlike the X-rays it was made from" if n_refused else ""
    rejected = f"; {n_rejected:,} cannot be read" if n_rejected else ""
    return (
        f"{loaded.name}, threshold {decision.threshold:.3f}: {n_flagged:,} of {n_answered:,}{share} X-rays are "
        f"{decision.label_names[1]}{refused}{rejected}, of {n_files:,} files."
    )
