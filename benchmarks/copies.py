"""How the index that finds copies grows: its time and memory for each of many pictures, and what of disturbed copies it still finds.

    python -m benchmarks.copies --sizes 1000 20000 100000

So many X-rays are not at hand: pictures are simulated, each of 128 descriptors of its own, every one mixed from two that were
drawn from those of the X-rays in --data-dir, and as far from the mean as these are. Some pictures are copies of others: a third
of their descriptors are another picture's, and noise is added to all. Describing X-rays and comparing candidates, which take as
long for each of them however many there are, are left out.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.memory import PeakMemory
from benchmarks.workspace import workspace
from fracture_mae.data.copies.candidates import Index
from fracture_mae.data.copies.keypoints import Features, describe
from fracture_mae.data.loading import read_picture
from fracture_mae.data.reading import index
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.errors import FractureMaeError

_KEYPOINTS, _D = 128, 128
_OTHERS = 1 / 3  # share of a copy's descriptors that are another picture's
_LOOKED_FOR = 1000  # pictures, whose time is taken
_NOTHING = np.zeros((1, 1), np.uint8)  # a thumbnail, which the index does not look at


class Simulated(Sequence[Features]):
    """Pictures, in a file, the last of them copies of some before.

    Args:
        file: to be written, 16 kB for each picture.
        pool: descriptors, uint8 [m, 128], at least two.
        n: pictures, copies among them.
        n_copies: fewer than half of them.
        noise: standard deviation of what is added to values of 0 to 255.

    Attributes:
        copies: [n_copies, 2], the position of each copy and of its original.
    """

    def __init__(self, file: Path, pool: np.ndarray, n: int, n_copies: int, noise: float, seed: int = 0):
        rng = np.random.default_rng(seed)
        self._descriptors = np.lib.format.open_memmap(file, "w+", np.uint8, (n, _KEYPOINTS, _D))
        n_originals = n - n_copies
        centre = pool.mean(axis=0, dtype=np.float32)
        for place in tqdm(range(n_originals), desc="Simulating", unit="picture", leave=False):
            first = rng.integers(len(pool), size=_KEYPOINTS)
            second = (first + rng.integers(1, len(pool), size=_KEYPOINTS)) % len(pool)  # another one
            angle = rng.uniform(0.2, 0.8, (_KEYPOINTS, 1)) * np.pi / 2  # a mean of two would lie nearer to the centre
            mixed = centre + np.cos(angle) * (pool[first] - centre) + np.sin(angle) * (pool[second] - centre)
            self._descriptors[place] = mixed.round().clip(0, 255)
        originals = rng.choice(n_originals, n_copies, replace=False)
        self.copies = np.stack([np.arange(n_originals, n), originals], axis=1)
        for place, original in self.copies:
            copy, stranger = self._descriptors[[original, rng.integers(n_originals)]].astype(np.float32)
            other = rng.permutation(_KEYPOINTS)[: round(_KEYPOINTS * _OTHERS)]
            copy[other] = stranger[other]
            self._descriptors[place] = (copy + rng.normal(0, noise, copy.shape)).round().clip(0, 255)

    def __len__(self) -> int:
        return len(self._descriptors)

    def __getitem__(self, place: int) -> Features:
        return Features(np.zeros((_KEYPOINTS, 2), np.float32), np.array(self._descriptors[place]), _NOTHING, (1, 1))


def pool_of(data_dir: str) -> np.ndarray:
    """The descriptors of X-rays, uint8 [m, 128]; files that cannot be read are told and left out.

    Raises:
        FractureMaeError: there are hardly any.
    """
    table, _ = index.read(data_dir, "fractured")
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        described = threads.map(_descriptors, table["path"])
        pool = np.concatenate(list(tqdm(described, "Describing X-rays", len(table), leave=False)))
    if len(pool) < 2:
        raise FractureMaeError(
            f"--data-dir {data_dir}: found {len(pool)} keypoints in {len(table)} files, expected 2 or more"
        )
    return pool


def _descriptors(path: str) -> np.ndarray:
    try:
        return describe(read_picture(path)).descriptors
    except FractureMaeError as error:
        tqdm.write(f"left out: {error}", file=sys.stderr)
        return np.zeros((0, _D), np.uint8)


def measure(pictures: Simulated) -> dict[str, float]:
    """Milliseconds of a core for each picture, the process's peak memory, and how many copies have their original as candidate."""
    copies = dict(pictures.copies.tolist())
    others = [place for place in range(len(pictures)) if place not in copies]
    asked = [*copies, *others[: max(0, _LOOKED_FOR - len(copies))]]
    with ThreadPoolExecutor(os.cpu_count()) as threads, PeakMemory() as peak:
        started = time.process_time()
        built = Index(pictures, threads)
        made = time.process_time()
        found = dict(zip(asked, built.candidates(asked), strict=True))
        ended = time.process_time()
    alike = [any(each.b == original for each in found[copy]) for copy, original in copies.items()]
    making, looking = (made - started) / len(pictures), (ended - made) / len(asked)
    return {
        "made [ms]": 1000 * making,
        "looked for [ms]": 1000 * looking,
        "both [ms]": 1000 * (making + looking),
        "memory [GB]": peak.anonymous / 1e9,
        "copies": len(copies),
        "found": sum(alike),
    }


def tabulate(sizes: Sequence[int], pool: np.ndarray, n_copies: int, noise: float) -> pd.DataFrame:
    """A row for each number of pictures, and how many times as long as of the first number both took for each."""
    rows = {}
    for n in sizes:
        with workspace(cache_root()) as folder:  # where there is room for many pictures
            rows[n] = measure(Simulated(folder / "descriptors.npy", pool, n, n_copies, noise))
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("pictures")
    return table.assign(ratio=table["both [ms]"] / table["both [ms]"].iloc[0])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 20_000], help="how many pictures")
    parser.add_argument("--copies", type=int, default=200, help="how many of them are disturbed copies of others")
    parser.add_argument("--noise", type=float, default=34.0, help="in their descriptors, whose values are 0 to 255")
    parser.add_argument("--data-dir", default="synthetic:n_xrays=400,copies=0", help="X-rays to describe")
    given = parser.parse_args()
    if not 0 <= given.copies < min(given.sizes) / 2:
        parser.error(
            f"--copies, --sizes: found {given.copies} copies among {min(given.sizes)} pictures, expected less than half of each size"
        )
    if not 0 <= given.noise < np.inf:
        parser.error(f"--noise: found {given.noise}, expected a number, 0 or more")
    try:
        table = tabulate(given.sizes, pool_of(given.data_dir), given.copies, given.noise)
    except (FractureMaeError, click.UsageError) as error:
        raise SystemExit(f"Error: {error}") from None
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
