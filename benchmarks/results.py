"""What a measurement comes to: ours, the alternative, their ratio, and whether it clears its bar."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.timing import Sample

MET, NOT_MET, NOT_APPLICABLE = "met", "not met", "n/a"


@dataclass(frozen=True)
class Bar:
    """What a ratio is to be at least, or at most.

    Attributes:
        value: of the ratio.
        at_most: whether less is better.
        waived: why the bar does not apply here; empty where it does.
    """

    value: float
    at_most: bool = False
    waived: str = ""

    def is_met(self, ratio: float) -> bool:
        return ratio <= self.value if self.at_most else ratio >= self.value


@dataclass(frozen=True)
class Result:
    """A figure beside its alternative.

    Attributes:
        key: its name as a metric.
        name: its name in tables and figures.
        told: what was measured against what, and what of it was extrapolated.
        unit: of ours and of the alternative.
        ours, alternative: as measured, round by round.
        ratio: of the two, round by round; above 1 ours is the better one, unless the bar says at most.
        bar: of the ratio's median.
        percent: whether the ratio is a share, to be written in percent.
    """

    key: str
    name: str
    told: str
    unit: str
    ours: Sample
    alternative: Sample
    ratio: Sample
    bar: Bar
    percent: bool = False

    @property
    def verdict(self) -> str:
        """`met` or `not met`, by the median; `n/a` where the bar does not apply."""
        if self.bar.waived:
            return NOT_APPLICABLE
        return MET if self.bar.is_met(self.ratio.median) else NOT_MET


@dataclass(frozen=True)
class Skipped:
    """A figure that could not be measured here, and why."""

    key: str
    name: str
    reason: str


@dataclass(frozen=True)
class Point:
    """A computation in a roofline.

    Attributes:
        name: what is computed.
        flops: floating-point operations that it needs.
        n_bytes: bytes that its operators read and write.
        flops_per_second: as measured.
    """

    name: str
    flops: float
    n_bytes: float
    flops_per_second: Sample

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flops / self.n_bytes


@dataclass(frozen=True)
class Roofline:
    """What the machine can do at most, by precision (the one used first), and what is reached.

    Attributes:
        matrix: name of the precision → FLOP/s of the fastest matrix products.
        copy: name of the precision → bytes/s, read and written, of copying memory.
        points: what is reached.
    """

    matrix: Mapping[str, Sample]
    copy: Mapping[str, Sample]
    points: Sequence[Point]


@dataclass
class Outcome:
    """What the parts of a benchmark come to.

    Attributes:
        results: in the order of the table.
        roofline: None where it was not measured.
        growth: a row for each stage and size: milliseconds for an X-ray, and the most memory held [MB].
    """

    results: list[Result | Skipped] = field(default_factory=list)
    roofline: Roofline | None = None
    growth: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        self.results += other.results
        self.roofline = self.roofline or other.roofline
        self.growth += other.growth
