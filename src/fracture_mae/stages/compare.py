"""Encoders side by side: frozen features, the same folds, the same head, on training and validation X-rays. Test is not read."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from accelerate import Accelerator

from fracture_mae import plots
from fracture_mae.config import Compare
from fracture_mae.data import folds
from fracture_mae.data.held_out_sources import HeldOutSources
from fracture_mae.data.types import PREDICTED, XRays
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import differences, frozen_features, held_out_sources, linear_probe, references
from fracture_mae.evaluation.frozen_features import Embedder, PooledEncoder
from fracture_mae.evaluation.judging import Certainty, drawn, levels, slug, within_strata
from fracture_mae.evaluation.matching import match_properties
from fracture_mae.evaluation.strata import NO_REFERENCES, WITHIN, Strata
from fracture_mae.metrics.calibration import apply
from fracture_mae.metrics.intervals import metric_intervals
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import inputs
from fracture_mae.tracking import registry
from fracture_mae.tracking.registered_models import load_encoder
from fracture_mae.tracking.report import Report
from fracture_mae.tracking.runs import Run

METRICS = ("auroc", "average_precision", "balanced_accuracy", "sensitivity", "specificity")
THRESHOLD = 0.5  # fair, because the head weighs both classes the same
DIFFERENCE = "auroc_difference"
_DIFFERENCE_COLUMNS = {
    "difference": DIFFERENCE,
    "low": f"{DIFFERENCE}_low",
    "high": f"{DIFFERENCE}_high",
    "p_holm": f"{DIFFERENCE}_p_holm",
    "verdict": f"{DIFFERENCE}_verdict",
}


@dataclass(frozen=True)
class ComparedEncoder:
    """An encoder to be compared.

    Attributes:
        name: as it was given, with its version where it is registered.
        embedder: pixels → features by pooling.
        image_size: side of the images that it takes [pixels].
        preprocess: how X-rays become these.
    """

    name: str
    embedder: Embedder
    image_size: int
    preprocess: str

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.embedder.parameters())


def compare(config: Compare, run: Run) -> str:
    """Compare encoders, a child run for each; what came of it, to print."""
    accelerator = make_accelerator(config.precision, config.device)
    names = names_of(config.encoders)
    all_compared = [open_encoder(name, config) for name in names]  # before hours go into the first
    frozen, told_of_reference = inputs.load_reference(config, accelerator) if config.references else (None, {})
    run.tags(told_of_reference)
    load = cache(lambda image_size, preprocess: inputs.load_data(config, image_size, preprocess=preprocess))
    dataset = load(all_compared[0].image_size, all_compared[0].preprocess)
    run.dataset(dataset)
    judged = f"{config.n_folds} folds" + (", and each source held out" if config.cross_validate == "sources" else "")
    run.note(f"Frozen features, linear head, {judged}: {', '.join(names)}. {inputs.describe(dataset)}")
    first = folds.joined(dataset)
    folds.check_enough(first, config.n_folds, f"--n-folds {config.n_folds}")
    fold, *dealt_anew = dealings(first.table, config)
    held = HeldOutSources.of(dataset) if config.cross_validate == "sources" else None
    certainty = Certainty(config.n_draws, config.seed)

    matched = _matched(config)
    predictions, by_source = {}, {}
    aurocs: dict[str, list[pd.Series]] = {}
    for compared in all_compared:
        xrays = folds.joined(load(compared.image_size, compared.preprocess))
        with run.child(compared.name) as child:
            features = features_of(compared, xrays, config, accelerator)
            predictions[compared.name], told = probe(features, xrays, fold, config, matched)
            again = (probe(features, xrays, each, config, matched)[0] for each in dealt_anew)
            aurocs[compared.name] = [differences.of_folds(files) for files in (predictions[compared.name], *again)]
            if held:
                xrays = with_sources(xrays, held)
                by_source[compared.name], _ = probe(features, xrays, held.fold, config, matched, by_source=True)
            child.tags(told_of(compared) | told | inputs.check_encoder_split(compared.name, dataset))
            measured = measure(levels(predictions[compared.name])["xray"], certainty)
            child.metrics({f"xray/{name}": value for name, value in measured.items()})
    if config.references:
        found, *again = references.in_each_dealing(first, [fold, *dealt_anew], config.seed, frozen)
        predictions |= found
        aurocs |= {name: [differences.of_folds(each[name]) for each in (found, *again)] for name in found}
        by_source |= references.out_of_fold(held.xrays, held.fold, config.seed, frozen) if held else {}
    what = f"{config.n_folds}-fold cross-validation per X-ray"
    strata = Strata.of(predictions[references.FILE_PROPERTIES]) if config.references else None
    title = plots.heading(what, first.name, len(first), len(set(first.group)))
    report = judge(predictions, in_one_table(aurocs), title, certainty, strata, encoders=names)
    digests = [digest(report), str(strata) if strata else NO_REFERENCES]
    if held:
        found = judge_sources(by_source, predictions, held, certainty, strata, encoders=names)
        report.add(found)
        digests.append(f"{held}\n{held_out_sources.digest(found)}\n{sources_digest(found)}")
    run.report(report)
    return "\n\n".join(digests)


def names_of(encoders_given: str) -> list[str]:
    """The names in a comma-separated list.

    Raises:
        FractureMaeError: one is empty, or stands there twice.
    """
    names = [registry.exact(name.strip()) for name in encoders_given.split(",")]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not all(names) or twice:
        raise FractureMaeError(
            f"--encoders {encoders_given!r}: found {'an empty name' if not all(names) else ' and '.join(twice) + ' twice'}, expected "
            "different names with commas between them, such as facebook/vit-mae-base,models:/xray-mae/latest."
        )
    return names


def open_encoder(name: str, config: Compare) -> ComparedEncoder:
    """An encoder by any of its names: MLflow's, a preset's, a folder's or the hub's.

    Raises:
        FractureMaeError: as in `load_encoder`, or it has no token to be pooled so.
    """
    encoder = load_encoder(name, config)
    if config.pool == "cls" and not encoder.has_cls:
        raise FractureMaeError(
            f"--pool cls: {encoder.named} has no CLS token. Take --pool mean, or leave this encoder out."
        )
    return ComparedEncoder(name, PooledEncoder(encoder), encoder.image_size, encoder.preprocess)


def _matched(config: Compare) -> Callable[[XRays], np.ndarray] | None:
    """The weights of X-rays by `config.match`, worked out once for the same files, whatever encoders look at them."""
    if config.match == "none":
        return None
    known: dict[str, np.ndarray] = {}

    def weight(xrays: XRays) -> np.ndarray:
        files = " ".join(xrays.table["sha256"])
        if files not in known:
            known[files] = match_properties(xrays, config.seed).weight
        return known[files]

    return weight


def with_sources(xrays: XRays, held: HeldOutSources) -> XRays:
    """The same X-rays at another image size or preprocessed otherwise, with the sources that are held out."""
    return XRays(xrays.name, xrays.table.assign(source=held.xrays.table["source"]), xrays.pixels, xrays.rows)


def dealings(table: pd.DataFrame, config: Compare) -> list[np.ndarray]:
    """The folds of each dealing, int64 [n] each; the first is the one whose predictions are kept."""
    return [folds.assign(table, config.n_folds, config.seed + number) for number in range(config.n_repeats)]


def features_of(compared: ComparedEncoder, xrays: XRays, config: Compare, accelerator: Accelerator) -> np.ndarray:
    """What an encoder's heads read, float32 [n, d]; xrays: at its image size."""
    options = {"batch_size": config.batch_size, "accelerator": accelerator}
    return frozen_features.features(compared.embedder, xrays, **options)[config.pool]


def told_of(compared: ComparedEncoder) -> dict[str, object]:
    """What there is to tell of an encoder."""
    return {
        "encoder": compared.name,
        "image_size": compared.image_size,
        "preprocess": compared.preprocess,
        "n_parameters": compared.n_parameters,
    }


def probe(
    features: np.ndarray,
    xrays: XRays,
    fold: np.ndarray,
    config: Compare,
    matched: Callable[[XRays], np.ndarray] | None = None,
    *,
    by_source: bool = False,
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Out-of-fold predictions of a head on an encoder's features, and what there is to tell of it.

    Args:
        features: [n, d].
        fold: [n], of each file.
        matched: from training X-rays to how much each file counts besides; None: the same.
        by_source: see `linear_probe.out_of_fold`.
    """
    counts = matched and (lambda training: matched(xrays.subset(training)))
    probed = linear_probe.out_of_fold(
        features, xrays.table, fold, seed=config.seed, by_source=by_source, matched=counts
    )
    told = {
        "n_features": features.shape[1],
        "inverse_penalties": " ".join(f"{value:g}" for value in probed.inverse_penalties),
    }
    return xrays.table[PREDICTED].assign(fold=fold, logit=probed.logit), told


def in_one_table(aurocs: Mapping[str, Sequence[pd.Series]]) -> pd.DataFrame:
    """The AUROC of each model (columns) in each fold of each dealing (index: dealing, fold, from 0)."""
    of_model = {name: pd.concat(dict(enumerate(each)), names=["dealing"]) for name, each in aurocs.items()}
    return pd.DataFrame(of_model)


def judge(
    predictions: Mapping[str, pd.DataFrame],
    aurocs: pd.DataFrame,
    title: str,
    certainty: Certainty,
    strata: Strata | None = None,
    *,
    encoders: Collection[str] | None = None,
) -> Report:
    """All models in one table, the first one the yardstick, with the figure of it.

    Args:
        predictions: name of the model → its out-of-fold predictions for the same files.
        aurocs: of `in_one_table`, of the same models; the differences are told from them.
        strata: of their X-rays; None, or too few pairs in them: nothing is judged within strata.
        encoders: those of the models that are no references; None: all.
    """
    within = strata if strata and strata.is_enough else None
    per_xray = {name: levels(files)["xray"] for name, files in predictions.items()}
    table = pd.DataFrame({name: measure(rows, certainty, within) for name, rows in per_xray.items()}).T.rename_axis(
        "model"
    )
    n_folds = aurocs.index.get_level_values("fold").nunique()
    others = [] if encoders is None else [name for name in predictions if name not in encoders]
    found = differences.from_first(aurocs[list(predictions)], 1 / max(n_folds - 1, 1), others)
    table = table.join(found.rename(columns=_DIFFERENCE_COLUMNS)[list(_DIFFERENCE_COLUMNS.values())])
    return Report(
        tables={"comparison.csv": table.reset_index(), "folds.csv": aurocs.reset_index()}
        | {f"predictions/{slug(name)}.csv": files for name, files in predictions.items()},
        figures={"comparison.png": plots.encoders(table, _shown(table)[:3], DIFFERENCE, title)},
        metrics={
            f"{slug(name)}/xray/{column}": float(value)
            for name, row in table.drop(columns=_DIFFERENCE_COLUMNS["verdict"]).iterrows()
            for column, value in row.items()
            if np.isfinite(value)
        },
    )


def judge_sources(
    by_source: Mapping[str, pd.DataFrame],
    predictions: Mapping[str, pd.DataFrame],
    held: HeldOutSources,
    certainty: Certainty,
    strata: Strata | None = None,
    *,
    encoders: Collection[str] | None = None,
) -> Report:
    """What is left of each model's figures where sources are held out, and which differ there from the first.

    Args:
        by_source: name of the model → its predictions with each source held out.
        predictions: the same for the same files in ordinary folds.
        encoders: see `judge`.
    """
    models = {name: held_out_sources.answers(files, predictions[name]) for name, files in by_source.items()}
    report = held_out_sources.judge(models, held.xrays.table, held.sources, certainty, strata=strata)
    measured = report.tables[f"{held_out_sources.PLACE}/comparison.csv"]
    alone = measured[measured["source"].isin(held.alone)]
    aurocs = alone.pivot(index="source", columns="model", values="auroc").reindex(columns=list(by_source))
    others = [] if encoders is None else [name for name in by_source if name not in encoders]
    found = differences.from_first(aurocs, 1 / max(held.n_folds - 1, 1), others)
    report.tables |= {
        f"{held_out_sources.PLACE}/predictions/{slug(name)}.csv": files for name, files in by_source.items()
    }
    report.tables[f"{held_out_sources.PLACE}/differences.csv"] = found.reset_index()
    report.metrics |= {
        f"{held_out_sources.PLACE}/xray/{_DIFFERENCE_COLUMNS[column]}/{slug(name)}": float(row[column])
        for name, row in found.iterrows()
        for column in ("difference", "low", "high", "p_holm")
        if np.isfinite(row[column])
    }
    return report


def measure(rows: pd.DataFrame, certainty: Certainty, strata: Strata | None = None) -> dict[str, float]:
    """The metrics of a model, each with its interval: METRIC, METRIC_low, METRIC_high.

    Args:
        rows: a row per X-ray: group, label, logit and patient.
        strata: for the AUROC within them besides.
    """
    options = {"n_draws": certainty.n_draws, "seed": certainty.seed}
    found = metric_intervals(rows["label"], apply(rows["logit"], 1.0), drawn(rows), THRESHOLD, **options)
    found = pd.concat([found, *within_strata(rows, strata, certainty)])
    ends = {"": "estimate", "_low": "low", "_high": "high"}
    return {f"{name}{end}": float(found.loc[name, column]) for name in _shown(found.T) for end, column in ends.items()}


def _shown(table: pd.DataFrame) -> list[str]:
    """The metrics in a table (columns): METRICS and, where it is there, the AUROC within strata after the plain one."""
    return [name for name in (METRICS[0], WITHIN, *METRICS[1:]) if name in table]


def digest(report: Report) -> str:
    """The table to print, and how its differences were told."""
    table = report.tables["comparison.csv"].set_index("model")
    columns: dict[str, Callable[[pd.Series], str]] = {
        name.replace("_", " "): lambda row, name=name: _with_ends(row, name) for name in _shown(table)
    }
    shown = {name: {column: text(row) for column, text in columns.items()} for name, row in table.iterrows()}
    found = table.rename(columns={column: name for name, column in _DIFFERENCE_COLUMNS.items()})
    whole = pd.DataFrame.from_dict(shown, orient="index").join(_told(found)).rename_axis("model")
    dealt = report.tables["folds.csv"]
    n_dealings, n_folds = dealt["dealing"].nunique(), dealt["fold"].nunique()
    how = f"mean over {n_folds} folds" + (f", dealt {n_dealings} times" if n_dealings > 1 else "")
    return f"AUROC minus the first's: {how}; {_HOW}.\n{whole.to_string()}"


_HOW = "interval and p by the corrected resampled t test, p by Holm over encoders, and over references; told apart below 0.05"


def sources_digest(found: Report) -> str:
    """The differences from the first model over sources that were held out, to print."""
    table = found.tables[f"{held_out_sources.PLACE}/differences.csv"].set_index("model")
    return f"AUROC minus the first's: mean of sources held out; {_HOW}.\n{_told(table).to_string()}"


def _told(found: pd.DataFrame) -> pd.DataFrame:
    """The differences in words; nothing in the line of the first."""
    rows = {
        name: {
            "AUROC minus the first's": _difference(row),
            "p (Holm)": "" if np.isnan(row["p_holm"]) else f"{row['p_holm']:.3f}",
            "than the first": row["verdict"],
        }
        for name, row in found.iterrows()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def _difference(row: pd.Series) -> str:
    value, low, high = row["difference"], row["low"], row["high"]
    if np.isnan(value):
        return ""
    return f"{value:+.3f}" + ("" if np.isnan(low) else f" [{low:+.3f}, {high:+.3f}]")


def _with_ends(row: pd.Series, name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return "" if np.isnan(value) else plots.interval_text(value, low, high)
