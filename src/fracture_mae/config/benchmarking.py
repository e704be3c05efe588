"""What measures how fast the project is."""

from itertools import pairwise
from typing import Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from fracture_mae.config.options import PREPROCESSINGS, DataOptions, Masking

BENCHMARK_PARTS = (
    "fine_tuning",
    "step",
    "forward",
    "ceiling",
    "loading",
    "tuning",
    "evaluation",
    "predicting",
    "processes",
    "growth",
)
_SMALLEST_SET = 20  # X-ray files: fewer tell nothing about growth


class Benchmark(DataOptions):
    """Measure on this machine how fast the project is, each figure beside its alternative, in turn."""

    model: str = Masking.model_fields["model"]
    preprocess: Literal[PREPROCESSINGS] = Field(
        "letterbox",
        description="how an X-ray becomes a square; letterbox: one of each, so that X-rays per second are images per second",
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="use torch.compile in the training steps that are measured; auto: on a GPU, and in bf16 on a processor",
    )
    quick: bool = Field(
        False,
        description="everything small, to see within a minute that it works: what comes out tells nothing, and no bar applies",
    )
    only: str = Field(
        "all", min_length=1, description=f"parts to run, with commas between them: {', '.join(BENCHMARK_PARTS)}; or all"
    )
    repeats: int = Field(
        "auto",
        ge=1,
        le=1000,
        description="measurements of each figure and of its alternative, taken in turn; slow ones are stopped at three",
    )
    n_images: int = Field("auto", ge=24, le=1_000_000, description="most X-ray files that are used, half of each label")
    n_trials: int = Field(
        "auto", ge=1, le=200, description="tuning trials that are really run; 200 are worked out of them"
    )
    growth_sizes: str = Field(
        "auto",
        description="numbers of X-ray files, rising, with a comma between them, at which the time for one is compared; of data_dir, "
        "or, where that is synthetic, made",
    )

    recipes: ClassVar = {
        "full": {"repeats": 5, "n_images": 200, "n_trials": 20, "growth_sizes": "1000,4000"},
        "quick": {"repeats": 1, "n_images": 24, "n_trials": 4, "growth_sizes": "25,50"},
    }

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts to run, in their own order."""
        chosen = BENCHMARK_PARTS if self.only == "all" else self.only.split(",")
        return tuple(name for name in BENCHMARK_PARTS if name in chosen)

    @property
    def sizes(self) -> tuple[int, ...]:
        """`growth_sizes` as numbers."""
        return tuple(map(int, self.growth_sizes.split(",")))

    @classmethod
    def _recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        try:
            quick = TypeAdapter(bool).validate_python(values.get("quick", False))
        except ValidationError:  # refused as a field
            quick = False
        return cls.recipes["quick" if quick else "full"]

    @field_validator("only")
    @classmethod
    def _known_parts(cls, only: str) -> str:
        names = [name.strip() for name in only.split(",")]
        if only != "all" and not set(names) <= set(BENCHMARK_PARTS):
            raise ValueError(
                f"found {only!r}, expected all, or any of {', '.join(BENCHMARK_PARTS)} with commas between them"
            )
        return ",".join(names)

    @field_validator("growth_sizes")
    @classmethod
    def _rising_sizes(cls, given: str) -> str:
        numbers = [text.strip() for text in given.split(",")]
        sizes = [int(text) for text in numbers if text.isdecimal()]
        rising = all(small < large for small, large in pairwise(sizes))
        if len(sizes) != len(numbers) or len(sizes) < 2 or not rising or sizes[0] < _SMALLEST_SET:
            raise ValueError(
                f"found {given!r}, expected two or more whole numbers with commas between them, each larger than the one before and at "
                f"least {_SMALLEST_SET}, such as 1000,10000"
            )
        return ",".join(numbers)
