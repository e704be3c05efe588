"""Sources held out: every X-ray is judged by a model that saw none of its source, as a hospital's are by a model from elsewhere.

Leave-one-source-out, also called internal-external cross-validation (Steyerberg & Harrell, J. Clin. Epidemiol. 69, 2016). X-rays of one
source have more in common than bones: film, marks, crop, file format. Folds that mix sources let a model profit from that.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fracture_mae.data import folds
from fracture_mae.data.types import Dataset, XRays
from fracture_mae.errors import FractureMaeError

MOST_FOLDS = 10  # as many models; where there are more sources, small ones share a fold
FEWEST_XRAYS = 5  # of each label, for a source to be judged alone
_FEWEST_TRAINED = 2  # of each label in every training part: one is for validation
_MOST_VALIDATED = 1 / 3  # share of each label's X-rays that validation may take from training
_FEWEST_TO_CHOOSE_FROM = 3  # sources with enough X-rays of both labels, for validation to be made of whole sources
_MOST_NAMED = 3  # of sources that count as one


@dataclass(frozen=True)
class HeldOutSources:
    """Who is judged by which model.

    Attributes:
        xrays: of training and validation, each file once; column source names what is held out as one.
        sources: index source; columns n_files, n_xrays, n_negative, n_positive, fold, and not_alone: why a source cannot be judged by
            itself, empty where it can.
        fold: int64 [n], of each file, 0 …; all files of a source are in one.
    """

    xrays: XRays
    sources: pd.DataFrame
    fold: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> "HeldOutSources":
        """The training and validation X-rays of `dataset`, its test X-rays not read.

        Raises:
            FractureMaeError: there is one source only, or without some source a label has no X-rays to learn from.
        """
        xrays = _with_whole_sources(dataset)
        sources = _described(xrays)
        if len(sources) < 2:
            raise FractureMaeError(
                f"--cross-validate sources: all X-rays found in {xrays.name} are of one source, {sources.index[0]!r}. Expected: two "
                "or more that share no X-ray and no patient, from the column source of a CSV or else from styles of file names. Name "
                "them in a CSV, or take folds that do not heed sources."
            )
        fold = gather(xrays.table, MOST_FOLDS)
        of_source = pd.Series(fold).groupby(xrays.table["source"]).first()
        _check_trainable(xrays, fold)
        return cls(xrays, sources.assign(fold=of_source), fold)

    @property
    def n_folds(self) -> int:
        return int(self.fold.max()) + 1

    @property
    def alone(self) -> list[str]:
        """The sources that can be judged by themselves."""
        return self.sources.index[self.sources["not_alone"] == ""].tolist()

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of which contents are in which fold."""
        lines = sorted(f"{content} {fold}" for content, fold in zip(self.xrays.table["sha256"], self.fold, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def named(self, fold: int) -> str:
        """The sources of a fold, for a run's name."""
        return ", ".join(sorted(self.sources.index[self.sources["fold"] == fold]))

    def sets(self, dataset: Dataset, seed: int) -> list[Dataset]:
        """The data of each fold's model: its `test` is the sources held out, `train` and `validation` are the other sources.

        Raises:
            FractureMaeError: a side would lack a label.
        """
        made = []
        for number in range(self.n_folds):
            held_out = self.fold == number
            validation = choose_validation(self.xrays.table[~held_out], seed)
            made.append(folds.hold_out(dataset, self.xrays, held_out=held_out, validation=validation))
            for side in made[-1].sides[:2]:
                if side.table["label"].nunique() < 2:
                    raise _lacks_a_label(self.xrays, held_out)
        return made

    def __str__(self) -> str:
        """How many there are, and how many models that takes."""
        names = "; ".join(
            f"{name} ({row.n_xrays:,} X-rays{'' if not row.not_alone else ', ' + row.not_alone})"
            for name, row in self.sources.iterrows()
        )
        return f"{len(self.sources)} sources in {self.n_folds} folds, one model each: {names}"


def gather(table: pd.DataFrame, n_folds: int) -> np.ndarray:
    """The fold of each file, int64 [n], such that no source is parted: one for each source or, of more sources, at most `n_folds`.

    The largest source comes first, and each goes to the fold that holds fewest X-rays by then.

    Args:
        table: columns source and group.
    """
    sizes = table.groupby("source")["group"].nunique().reset_index(name="size")
    sizes = sizes.sort_values(["size", "source"], ascending=[False, True])
    held = np.zeros(min(n_folds, len(sizes)), dtype=np.int64)
    fold = {}
    for source, size in sizes.itertuples(index=False):
        fold[source] = int(np.argmin(held))
        held[fold[source]] += size
    return table["source"].map(fold).to_numpy(np.int64)


def inner_folds(table: pd.DataFrame, n_folds: int, seed: int) -> np.ndarray:
    """Folds [n] within a training part to choose a setting by: of whole sources where that can be, else of whole X-rays.

    Sources it can be where three or more of them have enough X-rays of both labels, and no fold takes all X-rays of a label.
    """
    if _can_choose_from(table):
        fold = gather(table, n_folds)
        if all(table["label"][fold != number].nunique() == 2 for number in range(fold.max() + 1)):
            return fold
    return folds.assign(table, n_folds, seed)


def choose_validation(table: pd.DataFrame, seed: int) -> np.ndarray:
    """Which files of a training part are for validation, bool [n]: whole sources where that can be, else whole X-rays.

    A model for X-rays from elsewhere is best chosen on X-rays from elsewhere. Where three or more sources of the training part have
    enough X-rays of both labels, its sources are gathered in sixths; of those sixths that have enough of both labels and leave
    two thirds of each to training, the one nearest to a sixth of the X-rays is for validation.
    """
    if not _can_choose_from(table):
        return folds.grouped_validation(table, seed)
    fold = gather(table, folds.N_INNER_FOLDS)
    counts = table.groupby([fold, "label"])["group"].nunique().unstack(fill_value=0)
    share = counts / counts.sum()
    fit = (counts.min(axis=1) >= FEWEST_XRAYS) & (share.max(axis=1) <= _MOST_VALIDATED)
    if not fit.any():
        return folds.grouped_validation(table, seed)
    distance = (counts.sum(axis=1) / counts.to_numpy().sum() - 1 / folds.N_INNER_FOLDS).abs()
    return fold == distance[fit].idxmin()


def _can_choose_from(table: pd.DataFrame) -> bool:
    counts = (
        table.groupby(["source", "label"])["group"]
        .nunique()
        .unstack(fill_value=0)
        .reindex(columns=[0, 1], fill_value=0)
    )
    return int((counts.min(axis=1) >= FEWEST_XRAYS).sum()) >= _FEWEST_TO_CHOOSE_FROM


def _with_whole_sources(dataset: Dataset) -> XRays:
    """The X-rays of training and validation; sources that share an X-ray or a patient count as one, named `A + B`.

    Otherwise a model could be trained on a copy of what it is judged on, or an X-ray would have to be parted.
    """
    xrays = folds.joined(dataset)
    known = dataset.index[dataset.index["sha256"].isin(xrays.table["sha256"])]
    given = known.get("given_source", known["source"])
    own = given.where(given != "", known["source"])  # `source` is one for all copies, also where a CSV says two
    source = xrays.table["patient"].map(_whole(known["patient"], own))
    return XRays(xrays.name, xrays.table.assign(source=source), xrays.pixels, xrays.rows)


def _whole(patient: pd.Series, source: pd.Series) -> pd.Series:
    """Name of the source, or of the sources that count as one, by patient."""
    units, unit_of = np.unique(patient.to_numpy(str), return_inverse=True)
    names, source_of = np.unique(source.to_numpy(str), return_inverse=True)
    edges = (np.ones(len(unit_of), bool), (source_of, len(names) + unit_of))
    n_nodes = len(names) + len(units)
    _, component = connected_components(coo_array(edges, shape=(n_nodes, n_nodes)), directed=False)
    name_of = {number: _as_one(names[component[: len(names)] == number]) for number in set(component)}
    return pd.Series([name_of[number] for number in component[len(names) :]], index=units)


def _as_one(names: np.ndarray) -> str:
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return " + ".join([*names[:_MOST_NAMED], *more])


def _described(xrays: XRays) -> pd.DataFrame:
    by_source = xrays.table.groupby("source", sort=True)
    counts = xrays.table.groupby(["source", "label"])["group"].nunique().unstack(fill_value=0)
    counts = counts.reindex(columns=[0, 1], fill_value=0)
    found = pd.DataFrame({"n_files": by_source.size(), "n_xrays": counts.sum(axis=1)})
    found["n_negative"], found["n_positive"] = counts[0], counts[1]
    found["not_alone"] = [_why_not_alone(row) for row in found.itertuples()]
    return found


def _why_not_alone(row: tuple) -> str:
    if min(row.n_negative, row.n_positive) == 0:
        return f"{'negative' if row.n_negative else 'positive'} ones alone"
    if min(row.n_negative, row.n_positive) < FEWEST_XRAYS:
        return f"{row.n_negative} negative and {row.n_positive} positive, fewer than {FEWEST_XRAYS} of one"
    return ""


def _check_trainable(xrays: XRays, fold: np.ndarray) -> None:
    for number in range(fold.max() + 1):
        rest = xrays.table[fold != number]
        if rest.groupby("label")["patient"].nunique().reindex([0, 1], fill_value=0).min() < _FEWEST_TRAINED:
            raise _lacks_a_label(xrays, fold == number)


def _lacks_a_label(xrays: XRays, held_out: np.ndarray) -> FractureMaeError:
    names = sorted(xrays.table["source"][held_out].unique())
    counts = xrays.table[~held_out].groupby("label_name")["patient"].nunique()
    counts = counts.reindex(sorted(xrays.table["label_name"].unique()), fill_value=0)
    left = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    return FractureMaeError(
        f"--cross-validate sources: without {', '.join(names)} there are in {xrays.name}: {left}, the copies of one X-ray and the "
        f"X-rays of one patient counted once. Expected: {_FEWEST_TRAINED} or more of each label beside every source held out, to "
        "train and to choose on. Add a source that holds both labels, or take folds that do not heed sources."
    )
