"""Whether the time for an X-ray stays the same when there are many more of them, and what memory that takes."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks import ours
from benchmarks.memory import PeakMemory
from benchmarks.results import Outcome, Result, Skipped
from benchmarks.timing import Measure, Sample, rate
from benchmarks.workload import Workload
from fracture_mae.data.copies import groups, search
from fracture_mae.data.loading import read_picture
from fracture_mae.data.reading import index
from fracture_mae.data.reading.cache import ImageStore
from fracture_mae.data.reading.hashes import sha256_of
from fracture_mae.data.types import XRays
from fracture_mae.metrics.intervals import metric_intervals

KEY, NAME = "growth", "growth"
_N_DRAWS = 1000
_MOST_TIMES_AS_LONG = 1.2
_QUICK_SECONDS = 5.0


@dataclass(frozen=True)
class Stage:
    """Something that is done with every X-ray of a set.

    Attributes:
        key: its name as a metric.
        name: its name in tables.
        action: from a set to what does it.
        warm_up: whether it is done once before it counts; not where every time is the first.
    """

    key: str
    name: str
    action: Callable[[XRays], Callable[[], object]]
    warm_up: bool = True


def growth(workload: Workload) -> Outcome:
    """Time and memory for an X-ray in sets of rising size, stage by stage."""
    table = _files(workload)
    sizes = [size for size in workload.config.sizes if size <= len(table)]
    if len(sizes) < 2:
        reason = f"{len(table):,} X-ray files are too few for --growth-sizes {workload.config.growth_sizes}"
        return Outcome([Skipped(KEY, NAME, reason)])
    sets = {size: _whole_xrays(table, size) for size in sizes}
    xrays = _decoded(workload, sets)
    outcome = Outcome()
    for stage in _stages(workload):
        outcome.add(_measure(workload, stage, xrays))
    return outcome


def _files(workload: Workload) -> pd.DataFrame:
    """Columns path, sha256, label, group; each content once. Synthetic X-rays are made, as many as the largest set needs."""
    data_dir, config = workload.config.data_dir, workload.config
    if data_dir.partition(":")[0] != "synthetic":
        return workload.dataset.index.drop_duplicates("sha256")
    more = f"{data_dir}{',' if ':' in data_dir else ':'}n_xrays={config.sizes[-1]}"
    table, _ = index.read(more, config.positive_label)
    hashes = workload.folder / "hashes.csv"
    table["sha256"] = sha256_of(table["path"], hashes, config.num_workers or None)
    table["group"] = groups.assign(table)
    return table.drop_duplicates("sha256")


def _whole_xrays(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """`n` files of X-rays drawn at random but always the same, each with all its copies; a smaller set is part of a larger one."""
    names = table["group"].unique()
    rank = pd.Series(np.random.default_rng(0).permutation(len(names)), index=names)
    return table.iloc[np.argsort(table["group"].map(rank).to_numpy(), kind="stable")[:n]].reset_index(drop=True)


def _decoded(workload: Workload, sets: dict[int, pd.DataFrame]) -> dict[int, XRays]:
    """The sets with their pixels."""
    largest = max(sets)
    store = ImageStore(workload.temporary(), workload.mae.image_size)
    listed = store.add(_paths(sets[largest]), workload.config.num_workers or None)
    pixels = store.pixels()
    xrays = {}
    for size, table in sets.items():
        rows = listed["row"].loc[table["sha256"]].to_numpy()
        xrays[size] = XRays(f"{size:,} files", table[rows >= 0].reset_index(drop=True), pixels, rows[rows >= 0])
    return xrays


def _paths(table: pd.DataFrame) -> pd.Series:
    """sha256 → path."""
    return table.set_index("sha256")["path"]


def _stages(workload: Workload) -> list[Stage]:
    config, workers = workload.config, workload.config.num_workers or None

    def decode(xrays: XRays) -> Callable[[], object]:
        def into_new_cache() -> None:
            folder = workload.temporary()
            ImageStore(folder, workload.mae.image_size).add(_paths(xrays.table), workers)
            shutil.rmtree(folder)

        return into_new_cache

    def load(xrays: XRays) -> Callable[[], object]:
        return ours.epoch_reader(xrays, config.batch_size, workload.device)

    def copies(xrays: XRays) -> Callable[[], object]:
        path = _paths(xrays.table)
        return lambda: search.find(lambda content: read_picture(path[content]), list(path.index), num_workers=workers)

    def evaluate(xrays: XRays) -> Callable[[], object]:
        probability = np.random.default_rng(0).random(len(xrays))
        return lambda: metric_intervals(xrays.label, probability, xrays.group, 0.5, n_draws=_N_DRAWS)

    return [
        Stage("cache", "decoding into the cache", decode, warm_up=False),
        Stage("loading", "loading an epoch", load),
        Stage("copies", "search for copies", copies, warm_up=False),
        Stage("evaluation", f"intervals, {_N_DRAWS:,} draws", evaluate),
    ]


def _measure(workload: Workload, stage: Stage, xrays: dict[int, XRays]) -> Outcome:
    held = {size: Held() for size in xrays}
    found = workload.measure(
        {
            str(size): held[size].watching(_milliseconds(workload, stage.action(each), len(each)))
            for size, each in xrays.items()
        },
        warm_up=stage.warm_up,
        least=1,
        **({"most_seconds": _QUICK_SECONDS} if workload.config.quick else {}),
    )
    small, large = (found[str(size)] for size in (min(xrays), max(xrays)))
    result = Result(
        f"{KEY}_{stage.key}",
        f"growth: {stage.name}",
        f"time for an X-ray among {max(xrays):,} · among {min(xrays):,}",
        "ms/X-ray",
        ours=large,
        alternative=small,
        ratio=large.over(small),
        bar=workload.bar(_MOST_TIMES_AS_LONG, at_most=True),
    )
    return Outcome([result], growth=[_row(stage, size, found[str(size)], held[size]) for size in xrays])


def _milliseconds(workload: Workload, action: Callable[[], object], n: int) -> Measure:
    """What measures the milliseconds that an X-ray takes."""
    per_second = rate(action, n, workload.device, workload.at_least)
    return lambda: 1e3 / per_second()


@dataclass
class Held:
    """The most memory held in any round [bytes]."""

    anonymous: float = 0.0
    file_backed: float = 0.0

    def watching(self, measure: Measure) -> Measure:
        def watched() -> float:
            with PeakMemory() as peak:
                value = measure()
            self.anonymous = max(self.anonymous, peak.anonymous)
            self.file_backed = max(self.file_backed, peak.file_backed)
            return value

        return watched


def _row(stage: Stage, size: int, sample: Sample, held: Held) -> dict[str, object]:
    return {
        "stage": stage.key,
        "n_files": size,
        "ms_per_xray": sample.median,
        "low": sample.low,
        "high": sample.high,
        "peak_anonymous_mb": held.anonymous / 1e6,
        "peak_file_backed_mb": held.file_backed / 1e6,
    }
