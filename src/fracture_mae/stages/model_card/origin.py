"""What a classifier is, what it was made from, and how: sections of a card, each as lines of Markdown."""

from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd

from fracture_mae.data.types import XRays
from fracture_mae.stages.model_card.facts import NOT_MEASURED, Facts
from fracture_mae.stages.model_card.markdown import run, table
from fracture_mae.tracking import lineage

MUST_NOT = (
    "**No medical device.** It must not be used to diagnose, to triage, or to leave a radiologist out; nor on X-rays of other body "
    "parts, ages, devices or hospitals than those below, on which nobody knows how good it is."
)
_TOLD = (  # parameters of a training that a reader looks for
    *("recipe", "epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "freeze", "pool", "layer_decay"),
    *("drop_path", "patch_dropout", "label_smoothing", "class_weight", "sampler", "match", "source_augmentation"),
    *("place_weight", "selection", "monitor", "calibrate", "threshold", "cross_validate", "seed"),
    *("depth", "objective", "n_trials"),  # of tune
)


def use(facts: Facts) -> list[str]:
    negative, positive = facts.loaded.decision.label_names
    network = facts.loaded.classifier
    decision = facts.loaded.decision
    return [
        "A deep neural network that is given one X-ray, as grey pixels and nothing else, and answers with a probability of "
        f"{positive!r} (against {negative!r}) and, from the threshold {decision.threshold:.3f} on, with that word. An X-ray with "
        "several files has the mean of their log-odds.",
        "",
        MUST_NOT,
        "",
        f"Input: {network.image_size} × {network.image_size} pixels, preprocessed by `{network.preprocess}`. Chosen: {decision}.",
    ]


def data(facts: Facts) -> list[str]:
    if not facts.is_own_split:
        return _data_of_training(facts)
    dataset = facts.dataset
    rows = {side.name: _sizes(side) for side in dataset.sides}
    sources = pd.concat([side.table.assign(side=side.name) for side in dataset.sides])
    counts = sources.groupby(["source", "side"])["group"].nunique().unstack(fill_value=0)
    return [
        f"`{dataset.name}` (fingerprint {dataset.fingerprint}), preprocessed by `{dataset.preprocess}`. Where these X-rays come from "
        "and who labelled them, a person must say.",
        "",
        *table(pd.DataFrame.from_dict(rows, orient="index").rename_axis("split").reset_index()),
        "",
        f"Not used: {len(dataset.rejected):,} files (unreadable, or copies under both labels; `data/rejected.csv`). What a CSV leaves "
        "empty is a group of its own in subgroups; nothing is filled in.",
        "",
        "X-rays by source:",
        "",
        *table(_largest(counts.reindex(columns=[each for each in rows if each in counts]))),
    ]


def _data_of_training(facts: Facts) -> list[str]:
    """What the run that made it has logged, where other data are at hand."""
    made = facts.training
    if made is None:
        return ["Not known: the run that made it is not at hand."]
    counts = [
        f"{side} {made.metrics[f'{side}/n_xrays']:,.0f} X-rays ({made.metrics.get(f'{side}/n_images', np.nan):,.0f} files)"
        for side in ("train", "validation", "test")
        if f"{side}/n_xrays" in made.metrics
    ]
    named = f"`{made.tags.get('data', 'unknown')}` (fingerprint {made.tags.get('data.fingerprint', 'unknown')})"
    return [f"{named}: {', '.join(counts) or NOT_MEASURED}."]


def _sizes(side: XRays) -> dict[str, int]:
    rows = side.table.drop_duplicates("group")
    sizes = {
        "X-rays": len(rows),
        "fractured": int((rows["label"] == 1).sum()),
        "other": int((rows["label"] == 0).sum()),
    }
    return sizes | {"files": len(side), "patients": side.table["patient"].nunique()}


def _largest(counts: pd.DataFrame, most: int = 12) -> pd.DataFrame:
    """The sources with most X-rays, the others together."""
    ranked = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    shown = ranked.head(most)
    if len(ranked) > most:
        rest = ranked.iloc[most:].sum().rename(f"{len(ranked) - most:,} others")
        shown = pd.concat([shown, rest.to_frame().T])
    return shown.rename_axis("source").reset_index()


def split(facts: Facts) -> list[str]:
    made, fingerprint = facts.training, facts.loaded.decision.split_fingerprint or "unknown"
    how = "unknown" if made is None else made.params.get("split", "unknown")
    told = {
        "grouped": "by a keyed hash of the patient, or of the X-ray where patients are not known, balanced by label: 70 / 15 / 15 %",
        "published": "as folders or CSV say, **leaks and all**",
    }
    elsewhere = "external X-rays" if facts.is_external else "**another split than its own**"
    judged = "the same split" if facts.is_own_split else elsewhere
    lines = [
        f"Split `{how}` ({told.get(how, 'not known')}); fingerprint {fingerprint}; judged just now: {judged}.",
        "Copies, found by the picture itself, and X-rays of one patient stand on one side of a grouped split. Epoch, calibration and "
        "threshold are chosen on validation; test is read by evaluations alone.",
        "",
        f"Of the X-rays that it was judged on just now, shown before: **{facts.dataset.leakage}**.",
    ]
    if made is not None and "leakage" in made.tags:
        lines.append(f"When it was trained: {made.tags['leakage']}.")
    return lines


def training(facts: Facts) -> list[str]:
    network = facts.loaded.classifier
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    lines = [
        f"{network.encoder.named}, {n_parameters / 1e6:,.1f} million parameters, head on `{network.pool}`; one network, no ensemble. "
        "The weights are the model version itself.",
    ]
    if facts.training is None:
        return [*lines, "How it was trained is not known: the run that made it is not at hand."]
    params = facts.training.params
    told = ", ".join(f"{name} {params[name]}" for name in _TOLD if name in params)
    return [
        *lines,
        f"Made by `{facts.training.entry_point}` ({run(facts.training.run_id, facts.training.page)}): {told}.",
    ]


def provenance(facts: Facts) -> list[str]:
    if not facts.steps:
        return ["Not known: it is a folder."]
    lines = []
    for step in reversed(facts.steps):
        made = "from elsewhere; what it was shown is not known here"
        if step.run is not None:
            tags = step.run.tags
            on = f"on `{tags.get('data', 'unknown')}` ({tags.get('data.fingerprint', 'unknown')})"
            made = f"`{step.run.entry_point}`, recipe `{tags.get('recipe', 'unknown')}`, {on}, {run(step.run.run_id, step.run.page)}"
        elif step.name.startswith("preset "):
            made = "saw no X-ray"
        lines.append(f"{len(lines) + 1}. `{step.name}`: {made}")
    return lines


def software(facts: Facts) -> list[str]:
    commit = facts.training.tags.get(lineage.COMMIT, "") if facts.training else ""
    own = f"fracture-mae {_version('fracture-mae')}, code at training: {commit or 'commit not known'}"
    return [f"{own}; {_libraries()}. MIT license."]


def _libraries() -> str:
    return ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "mlflow"))


def _version(package: str) -> str:
    """Of an installed package; this project itself is not installed in the environments that MLflow makes."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
