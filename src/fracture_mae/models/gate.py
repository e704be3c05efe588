"""Whether a picture is an X-ray like those that a classifier was made from; what is not, it should not be believed about.

A support vector machine stands between those X-rays and pictures that are none (see `data.synthetic.foreign`), in the space of what the
classifier's head reads and of numbers of the picture itself (see `gate_statistics`): small encoders alone do not tell clouds from
bones. A picture's distance is how far it lies beyond that border. What lies far from all that the machine was fitted on is told by
the machine's constant alone, and is refused too, unless X-rays are so few that others of them lie as far.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import rbf_kernel

from fracture_mae.errors import damage_of
from fracture_mae.models import gate_statistics

REFUSED = 0.01  # share of X-rays like its own that may be refused
_MOST_REFUSED = 0.02  # for the sake of what is like nothing known
FILE = "gate.npz"
_KNOWS_LITTLE = "; made from too few X-rays to refuse what is like nothing it knows"
_MOST = 8.0  # standard deviations; beyond, a number says no more


@dataclass(frozen=True)
class Gate:
    """The border and how far from it X-rays lie that it was not fitted on.

    Attributes:
        centre, scale: float32 [d], mean and deviation of each number over the training X-rays.
        support: float32 [s, d], numbers of what decides where the border runs; weight: float32 [s], its weight.
        constant: the border's; gamma: of its kernel exp(-gamma · |a - b|²).
        distances: float64 [n], ascending, of X-rays that it was not fitted on.
        where: what these are, in words.
    """

    centre: np.ndarray
    scale: np.ndarray
    support: np.ndarray
    weight: np.ndarray
    constant: float
    gamma: float
    distances: np.ndarray
    where: str

    @property
    def rank(self) -> int:
        """Of the n X-rays, as which one in order a picture may be as far: ⌈(n + 1) · 0.99⌉, so that of X-rays like these no more than
        1 % are refused on average whatever their distribution (split conformal prediction: V. Vovk, A. Gammerman and G. Shafer,
        "Algorithmic Learning in a Random World", 2005); the last one where n is below 99 and allows no more than that."""
        n = len(self.distances)
        return min(n, int(np.ceil((n + 1) * (1 - REFUSED))))

    @property
    def limit(self) -> float:
        """The largest distance that is accepted."""
        of_xrays = float(self.distances[self.rank - 1])
        return min(of_xrays, float(np.nextafter(-self.constant, -np.inf))) if self.knows_the_unknown else of_xrays

    @property
    def knows_the_unknown(self) -> bool:
        """Whether it can refuse what is like nothing it was fitted on, without refusing more than 2 % of X-rays like its own for it."""
        return bool((self.distances >= -self.constant).mean() <= _MOST_REFUSED)

    @property
    def refused(self) -> float:
        """The share of X-rays like its own that is refused, on average at most, as far as n says: 1 / (n + 1) where n is small."""
        return 1 - int(np.searchsorted(self.distances, self.limit, side="right")) / (len(self.distances) + 1)

    def distance(self, described: np.ndarray) -> np.ndarray:
        """Distance of pictures from the border, float64 [n]; below 0 on the side of X-rays.

        Args:
            described: see `describe`; the mean over a picture's parts counts.
        """
        n, parts, d = described.shape
        numbers = standardised(described.reshape(-1, d), self.centre, self.scale)
        if not n:
            return np.zeros(0)
        near = rbf_kernel(numbers.astype(np.float64), self.support.astype(np.float64), gamma=self.gamma)
        return -(near @ self.weight + self.constant).reshape(n, parts).mean(axis=1)

    def farther_than(self, distance: np.ndarray) -> np.ndarray:
        """The share of the X-rays it was not fitted on that are nearer, float64 [n] in [0, 1]."""
        return np.searchsorted(self.distances, distance) / len(self.distances)

    def accepts(self, distance: np.ndarray) -> np.ndarray:
        """bool [n]."""
        return np.asarray(distance) <= self.limit

    def reasons(self, distance: np.ndarray) -> list[str]:
        """Why each is refused; empty where it is accepted."""
        told = zip(self.accepts(distance), self.farther_than(distance), strict=True)
        return ["" if accepted else self._reason(share) for accepted, share in told]

    def _reason(self, share: float) -> str:
        n = len(self.distances)
        of_them = f"all {n:,}" if share == 1 else f"{np.floor(1000 * share) / 10:g} % of {n:,}"
        return f"unlike the X-rays it was made from: farther than {of_them} of them"

    def __str__(self) -> str:
        return (
            f"refuses what is farther from its own X-rays than {self.rank:,} of {len(self.distances):,} of them ({self.where}); of "
            f"X-rays like these {self.refused:.1%} or less{'' if self.knows_the_unknown else _KNOWS_LITTLE}"
        )

    def save(self, folder: Path) -> None:
        """Write it beside the classifier."""
        np.savez_compressed(folder / FILE, **{name: np.array(value) for name, value in asdict(self).items()})

    @classmethod
    def load(cls, folder: Path) -> "Gate | None":
        """What `save` wrote there; None where a classifier has no gate, as those of earlier versions.

        Raises:
            FractureMaeError: it is damaged.
        """
        if not (folder / FILE).exists():
            return None
        told = damage_of(folder / FILE, "by which the classifier tells X-rays from other pictures")
        with told, np.load(folder / FILE, allow_pickle=False) as stored:
            kept = {each.name: stored[each.name] for each in fields(cls)}
            numbers = {name: float(kept[name]) for name in ("constant", "gamma")}
            return cls(**(kept | numbers | {"where": str(kept["where"])}))


def describe(squares: np.ndarray, features: np.ndarray, how: str) -> np.ndarray:
    """What the gate reads of pictures: float32 [n, parts, d], see `gate_statistics.of_pictures`, and the features with each part.

    Args:
        squares: uint8 [n, k, side, side].
        features: [n, width], pooled features, the mean over the squares of each picture.
        how: they became squares, see `data.reading.preprocessing`.
    """
    if not len(squares):
        return np.zeros((0, 1, 1), np.float32)
    return with_features(gate_statistics.of_pictures(squares, how), features)


def with_features(numbers: np.ndarray, features: np.ndarray) -> np.ndarray:
    """What `describe` gives, of numbers of pictures, [n, parts, d], that are at hand."""
    seen = np.repeat(features[:, None].astype(np.float32), numbers.shape[1], axis=1)
    return np.concatenate([numbers, seen], axis=2)


def standardised(numbers: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Numbers [n, d] in deviations from the centre, within bounds."""
    return ((numbers - centre) / scale).clip(-_MOST, _MOST)


def nearest(features: np.ndarray, among: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest X-rays of each picture, the nearest first: their rows, int64 [n, k], and distances, float64 [n, k].

    Euclidean in features that each have the deviation 1 over the X-rays (k nearest neighbours: Y. Sun et al., "Out-of-distribution
    detection with deep nearest neighbors", ICML 2022). Of fewer than k X-rays all are named.

    Args:
        features: [n, width] of pictures, and [m, width] those `among` which they are looked for.
    """
    deviation = among.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1
    found = cdist(features / deviation, among / deviation)
    rows = found.argsort(axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(found, rows, axis=1)
