"""What an audit found, in words: the table in the terminal, the run's note and tags, and one document of all numbers."""

import math
from dataclasses import asdict
from typing import Any

import pandas as pd

from fracture_mae.audit import leakage, places
from fracture_mae.audit.claims import HONEST, LEAKY, PUBLISHED
from fracture_mae.audit.exposures import Exposures
from fracture_mae.audit.folds import Score
from fracture_mae.audit.honesty import FoundCopies, Honesty
from fracture_mae.audit.overlays import Overlays
from fracture_mae.audit.shortcuts import VISIBLE
from fracture_mae.data import splits
from fracture_mae.data.types import Files
from fracture_mae.plots import interval_text

_NO_SPLITS = "no published splits: nothing can leak between them"
_CLAIMS = {
    LEAKY: "random split by file",
    PUBLISHED: "published split",
    HONEST: "grouped split",
}


def tags(copies: FoundCopies, files: Files, fingerprint: str) -> dict[str, str]:
    """What tells runs on other data apart, and the main finding of copies."""
    return {
        "data": copies.name,
        "data.fingerprint": fingerprint,
        "data.rejected": str(len(files.rejected)),
        "leakage": _leakage_tag(copies.table),
    }


def _leakage_tag(table: pd.DataFrame) -> str:
    """The leakage of the published split as other runs state it: the share of test X-rays that are elsewhere too."""
    if not len(leakage.between_splits(table)) or "test" not in leakage.splits_in(table):
        return _NO_SPLITS
    published = table[table["split_published"] != ""]
    return str(splits.leakage(published.assign(split=published["split_published"])))


def leaks(copies: FoundCopies) -> str:
    """The published test files that stand in training or validation too, in a sentence."""
    table = copies.table
    test = table[table["split_published"] == "test"]
    others = table[table["split_published"].isin(["train", "validation"])]
    if test.empty or others.empty:
        return _NO_SPLITS
    bytes_, xrays = (test[column].isin(others[column]).mean() for column in ("sha256", "group"))
    return f"{xrays:.1%} of the test files show an X-ray that is in training or validation too, {bytes_:.1%} are byte-identical"


def summary(copies: FoundCopies, files: Files) -> str:
    """What is known of copies and of leakage, to be printed."""
    conflicts = leakage.label_conflicts(copies.table)
    parts = [
        f"{copies.name}: {len(copies.table):,} readable files, {len(files.rejected):,} rejected",
        leakage.independent_xrays(copies.table).to_string(index=False),
        "independent after: " + ", ".join(f"{name} {n:,}" for name, n in copies.grouping.counts.items()),
        f"label conflicts: {conflicts['xray'].nunique():,} X-rays ({len(conflicts):,} files) stand under both labels",
        f"leakage: {leaks(copies)}",
    ]
    between = leakage.between_splits(copies.table)
    if len(between):
        shares = between.filter(regex="^(split|other|files|share, .*)$")
        parts.append(shares.to_string(index=False, float_format="{:.1%}".format))
    return "\n".join(parts)


def verdict(honesty: Honesty) -> str:
    """What is known of shortcuts and claims, to be printed."""
    return f"\n{scores(honesty).to_string()}\nshortcut warning: {honesty.probe.warning_or_none}"


def scores(honesty: Honesty) -> pd.DataFrame:
    """AUROC with intervals, as text: a row per set of properties and per kind of split."""
    told = {VISIBLE: f"{VISIBLE} ({honesty.preprocess})"}
    rows = {f"label told from {told.get(name, name)}": levels for name, levels in honesty.probe.scores.items()}
    rows |= {f"gradient histograms, {_CLAIMS[name]}": levels for name, levels in honesty.claims.items()}
    texts = {name: {level: _text(score) for level, score in levels.items()} for name, levels in rows.items()}
    return pd.DataFrame.from_dict(texts, orient="index").rename(
        columns={"image": "AUROC per file", "xray": "per X-ray"}
    )


def note(copies: FoundCopies, honesty: Honesty | None = None) -> str:
    """The run's description, Markdown."""
    n_files, n_xrays = len(copies.table), len(copies.sizes)
    text = f"Audit of `{copies.name}`: {n_files:,} files show **{n_xrays:,} independent X-rays**. {_sentence(leaks(copies))}"
    if honesty is None:
        return text
    leaky, honest = (honesty.claims[name]["image"] for name in (LEAKY, HONEST))
    warning = f" **Warning: {honesty.probe.warning}.**" if honesty.probe.warning else ""
    return f"{text} A quick classifier scores {_text(leaky)} by a random split and **{_text(honest)}** by a grouped one.{warning}"


def document(
    copies: FoundCopies,
    files: Files,
    fingerprint: str,
    exposures: Exposures,
    overlays: Overlays,
    honesty: Honesty,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """All numbers, for JSON."""
    conflicts = leakage.label_conflicts(copies.table)
    probe = honesty.probe
    return _finite(
        {
            "data": {"name": copies.name, "fingerprint": fingerprint, "label_names": list(files.label_names)},
            "settings": settings,
            "files": {
                "readable": len(copies.table),
                "rejected": len(files.rejected),
                "contents": copies.table["sha256"].nunique(),
                "xrays": len(copies.sizes),
            },
            "independent_after": copies.grouping.counts,
            "independent_xrays": leakage.independent_xrays(copies.table).to_dict("records"),
            "group_sizes": copies.sizes["files"].value_counts().sort_index().to_dict(),
            "leakage": leakage.between_splits(copies.table).to_dict("records"),
            "boxes": places.counts(copies.table),
            "label_conflicts": {"xrays": conflicts["xray"].nunique(), "files": len(conflicts)},
            "same_marker": {
                "pairs": exposures.pairs[["a", "b", "inliers", "correlation"]].to_dict("records"),
                "left_out_as_common": exposures.n_common,
            },
            "overlays": {"tells_the_label": overlays.told, "by_source": overlays.by_source.to_dict("records")},
            "shortcuts": {
                "warning": probe.warning,
                "scores": {
                    name: {level: asdict(score) for level, score in levels.items()}
                    for name, levels in probe.scores.items()
                },
                "properties": probe.properties.to_dict("records"),
            },
            "claims": {
                name: {level: asdict(score) for level, score in levels.items()}
                for name, levels in honesty.claims.items()
            },
        }
    )


def _text(score: Score) -> str:
    return interval_text(score.auroc, score.low, score.high)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not know, and text for keys."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
