"""What several entry points have in common: how a config behaves, and the groups of options they share."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fracture_mae.errors import legible

DEFAULT_MODEL = "facebook/vit-mae-base"
# Of these a lower value is better for the last two.
PROMOTION_METRICS = (
    *("auroc", "average_precision", "balanced_accuracy", "sensitivity", "specificity", "f1", "mcc"),
    *("brier", "log_loss"),
)
THRESHOLD_OBJECTIVES = ("weighted_youden", "balanced_accuracy", "f1", "f2", "mcc", "specificity_at_sensitivity")
Start = Literal["random", "weights"]  # what a model began as: random numbers, or weights that were pretrained elsewhere
_RATED_BATCH = 256  # X-rays per step that base learning rates are told for
_HIGHEST_RATE = 2.4e-3  # of 4096 images, the most that He et al. pre-train with
PREPROCESSINGS = ("letterbox", "film", "film_equalised", "film_squares")  # see data.reading.preprocessing
# Of models that do not say which they were made with, by recipe; entry points without recipes go by the default one.
UNSTATED_PREPROCESSING = {"default": "film_squares", "robust": "film_squares", "original": "letterbox"}


def _number_if_possible(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _whole_number_if_possible(value: Any) -> Any:
    number = _number_if_possible(value)
    return int(number) if isinstance(number, float) and number.is_integer() else value


def _number_first(value: Any) -> Any:
    """`sources, 5` as `5,sources`: the order of the words tells nothing."""
    if not isinstance(value, str) or "," not in value:
        return value
    return ",".join(sorted((word.strip() for word in value.split(",")), key=lambda word: word == "sources"))


NumberOrWord = BeforeValidator(_number_if_possible)
WholeNumber = BeforeValidator(_whole_number_if_possible)
NumberFirst = BeforeValidator(_number_first)


@dataclass(frozen=True)
class BaseRate:
    """A learning rate for 256 X-rays per step, which grows with their number (Goyal et al., "Accurate, Large Minibatch SGD", 2017).

    It grows to what He et al. reach with their largest batch, and no further: there the rule fails, as its authors say.
    """

    base: float

    def of(self, batch_size: int) -> float:
        return min(self.base * batch_size / _RATED_BATCH, _HIGHEST_RATE)

    def in_words(self, batch_size: int) -> str:
        """Such as `1.9e-05 = 0.00015 · 32/256`."""
        limit = f", at most {_HIGHEST_RATE:g}" if self.of(batch_size) == _HIGHEST_RATE else ""
        return f"{self.of(batch_size):.2g} = {self.base:g} · {batch_size}/{_RATED_BATCH}{limit}"

    def __str__(self) -> str:
        return f"{self.base:g} · batch_size/{_RATED_BATCH}"


@dataclass(frozen=True)
class ByStart:
    """What a recipe sets only once it is known what a model began as; see `Config.settled`."""

    random: Any
    weights: Any

    def of(self, start: Start, batch_size: int) -> Any:
        value = getattr(self, start)
        return value.of(batch_size) if isinstance(value, BaseRate) else value

    def __str__(self) -> str:
        return f"{self.random} from a random start, {self.weights} from pretrained weights"


class Config(BaseModel):
    """Shared behaviour: frozen, no unknown names, and fields left at `auto` filled from the recipe.

    Those that hang on what the model began as stay at `auto` until a stage, which has the model, asks for the `settled` config.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}
    variants: ClassVar[dict[str, dict[str, Any]]] = {}  # recipes that are `default` but for these values
    _from_recipe: frozenset[str] = PrivateAttr(frozenset())

    @model_validator(mode="wrap")
    @classmethod
    def _fill_from_recipe(cls, values: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, dict):
            return make(values)
        # What pydantic would refuse: a name that is no UTF-8. `identities.real_path` leads back to it.
        values = {name: legible(value) if isinstance(value, str) else value for name, value in values.items()}
        known = {name: value for name, value in cls._recipe(values).items() if not isinstance(value, ByStart)}
        recipe = {name: value for name, value in known.items() if values.get(name, "auto") == "auto"}
        config = make({**values, **recipe})
        config._from_recipe = frozenset(recipe)
        return config

    @property
    def from_recipe(self) -> frozenset[str]:
        """Names of the fields that were left at `auto` and that the recipe has filled."""
        return self._from_recipe

    def __eq__(self, other: object) -> bool:
        """The same values, whoever chose them."""
        return type(other) is type(self) and dict(self) == dict(other)

    def __hash__(self) -> int:
        return hash(tuple(dict(self).items()))

    @classmethod
    def _recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What stands for `auto`, by field."""
        recipe = values.get("recipe", "default")
        if recipe in cls.variants:
            return cls.recipes["default"] | cls.variants[recipe]
        return cls.recipes.get(recipe, {})

    @property
    def unsettled(self) -> set[str]:
        """Names of the fields that are at `auto` until the model is known."""
        return set(self._by_start)

    @property
    def _by_start(self) -> dict[str, ByStart]:
        """What stands for `auto`, by field, where that hangs on what the model began as."""
        recipe = self._recipe(self.model_dump())
        return {
            name: value
            for name, value in recipe.items()
            if isinstance(value, ByStart) and getattr(self, name) == "auto"
        }


class DataOptions(Config):
    """Which X-rays, how they are split, and on what they are computed."""

    data_dir: str = Field(
        "synthetic",
        min_length=1,
        description="X-rays: a folder DIR/[train|val|test/]LABEL/FILE, a CSV with path,label[,patient][,xray][,split]"
        "[,source][,x0,y0,x1,y1], or the word synthetic (procedural X-rays, made once); reconstruct_baseline and finetune_mae "
        "also read pictures without labels, in any folders, or a CSV without label",
    )
    positive_label: str = Field(
        "fractured",
        min_length=1,
        description="name of the class that counts as positive; none: "
        "no label is read (reconstruct_baseline and finetune_mae alone)",
    )
    boxes: str = Field(
        "auto",
        min_length=1,
        description="boxes around fractures; auto: whatever there is, columns x0,y0,x1,y1 of the CSV, a boxes.csv, YOLO's texts or "
        "COCO's JSON beside the X-rays; none; or the path of such a file or folder",
    )
    image_size: Annotated[int, Field(ge=32, le=1024)] | Literal["auto"] = Field(
        "auto",
        description="side of the square that X-rays become [pixels], a multiple of the model's patches (of presets 16); auto: what "
        "the model takes (presets: 224)",
    )
    preprocess: Literal["auto", *PREPROCESSINGS] = Field(
        "auto",
        description="how an X-ray becomes a square; letterbox: whole, on black; film: the exposed field alone, without frames, bars "
        "and corners of rotations, stretched; film_equalised: that with equal contrast and detail everywhere; film_squares: "
        "so, but three squares along its longer side, over which answers are averaged; auto: as the model was made, or where it does "
        "not say, film_squares (recipe original: letterbox)",
    )
    split: Literal["grouped", "published"] = Field(
        "grouped",
        description="grouped: 70/15/15, every copy of an X-ray on one side, and where a CSV's column split puts it; "
        "published: as folders or CSV say, leaks and all",
    )
    split_seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of the grouped split; keep it equal across stages")
    group_by: Literal["content", "names", "column"] = Field(
        "content",
        description="what makes files copies of one X-ray, besides equal bytes and a CSV's column xray; content: the picture "
        "itself, names only where it does not contradict; names: families of names, pictures are not looked at; "
        "column: nothing else",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of initial weights, order, augmentation and masks")
    batch_size: int = Field(32, ge=1, le=4096, description="X-rays per step")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="arithmetic of the network; auto: bf16 where the processor has it, else fp32; a trained classifier then answers in "
        "bf16 only where that changed no probability on validation by 0.001",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: the accelerator there is, else cpu"
    )
    num_workers: int = Field(0, ge=0, le=256, description="threads that decode files; 0: one for each core")

    def preprocess_for(self, own: str | None) -> str:
        """The preprocessing for a model: what is asked for, else its own, else what models get that state none.

        Args:
            own: that the model was made with, or None where it does not say.
        """
        if self.preprocess != "auto":
            return self.preprocess
        return own or UNSTATED_PREPROCESSING[getattr(self, "recipe", "default")]

    def shared(self) -> dict[str, Any]:
        """These options alone, for the config of another step on the same X-rays."""
        return {name: getattr(self, name) for name in DataOptions.model_fields}


class CopyOptions(Config):
    """How much the several files of one X-ray count."""

    weight_by: Literal["file", "group"] = Field(
        "file", description="what counts the same: file: every file; group: every X-ray, each of its n files 1/n"
    )
    copies: Literal["all", "one"] = Field(
        "all", description="files of an X-ray: all, or one: the one that names and sizes say the others were made from"
    )

    @field_validator("sampler", check_fields=False)
    @classmethod
    def _correct_once(cls, sampler: str, info: ValidationInfo) -> str:
        if info.data.get("weight_by") == "group" and sampler.startswith("xray"):
            raise ValueError(
                f"found {sampler!r} beside --weight-by group, expected a sampler that draws files: this one draws X-rays equally, "
                "and weighing them too would correct for their copies twice"
            )
        return sampler


class ReferenceOptions(Config):
    """What a network is judged beside."""

    reference_encoder: str = Field(
        "none",
        min_length=1,
        description="hub name or folder of a network pretrained on photographs, whose frozen features with a logistic regression are a "
        "third reference; one of the hub that cannot be had is left out with a sentence; none: no such reference",
    )


class Augmentation(Config):
    """Random changes of a training X-ray, drawn anew each time it is shown."""

    crop_scale: float = Field("auto", ge=0.05, le=1, description="smallest share of the area that a random crop keeps")
    rotation: float = Field("auto", ge=0, le=180, description="largest random rotation [degrees]")
    flip: bool = Field("auto", description="mirror left-right half of the time")
    intensity: float = Field(
        "auto", ge=0, le=1, description="strength of random brightness, contrast and gamma; 0: none"
    )
    source_augmentation: float = Field(
        "auto",
        ge=0,
        le=1,
        description="strength of random changes of what tells of an X-ray's source and not of its bone: frames, proportions, turns, "
        "contrast curves, negative, sharpness, resolution, noise, JPEG quality, letters and arrows; 0: none",
    )


class Optimisation(Config):
    """How weights are trained."""

    variants: ClassVar = {"robust": {"source_augmentation": 0.5}}

    recipe: Literal["default", "robust", "original"] = Field(
        "default",
        description="values of all parameters left at auto; robust: default, and X-rays changed so that their sources cannot be told "
        "apart; original: those of the notebook this project began as",
    )
    epochs: int = Field("auto", ge=1, le=100_000, description="passes over the training X-rays")
    optimizer: Literal["adamw", "adam"] = Field(
        "auto", description="adamw with warm-up and cosine decay, or plain adam"
    )
    learning_rate: Annotated[Literal["auto"] | Annotated[float, Field(gt=0, le=1)], NumberOrWord] = Field(
        "auto", description="peak learning rate; a number is taken as it is, whatever the batch"
    )
    beta2: Annotated[Literal["auto"] | Annotated[float, Field(gt=0, lt=1)], NumberOrWord] = Field(
        "auto", description="how slowly Adam forgets squared gradients, its second beta; the first is 0.9"
    )
    weight_decay: float = Field("auto", ge=0, le=1, description="decoupled weight decay (adamw)")
    warmup_epochs: float = Field("auto", ge=0, le=1000, description="epochs of linear warm-up of the learning rate")
    resume: Literal["auto", "never"] = Field(
        "auto", description="auto: go on from the last whole checkpoint of the same configuration on the same data"
    )

    def settled(self, start: Start) -> Self:
        """The same with nothing left at `auto` for want of the model, which began as `start`."""
        found = {name: value.of(self._counted_as(start), self.batch_size) for name, value in self._by_start.items()}
        return self.model_copy(update=found)

    def rate_in_words(self, start: Start) -> str:
        """The learning rate from such a start and where it comes from, such as `learning_rate 1.9e-05 = 0.00015 · 32/256`."""
        if "learning_rate" in self._by_start:
            return f"learning_rate {getattr(self._by_start['learning_rate'], self._counted_as(start)).in_words(self.batch_size)}"
        by_recipe = self.learning_rate == self._recipe(self.model_dump())["learning_rate"]
        return f"learning_rate {self.learning_rate:g}, {f'as recipe {self.recipe} says' if by_recipe else 'as given'}"

    def _counted_as(self, start: Start) -> Start:
        """What the trained part of the model began as."""
        return start


class Computing(Config):
    """How training steps are computed: faster or with less memory, but with the same result."""

    accumulation: int = Field(
        1, ge=1, le=4096, description="parts that each step's batch is computed in, one after the other: less memory"
    )
    checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, up to a third slower"
    )
    attention: Literal["auto", "sdpa", "eager", "written_out"] = Field(
        "auto",
        description="sdpa: fused, on CUDA flash attention; eager: plain matrix products, softmax in fp32; written_out: plain matrix "
        "products, all in the training's precision; auto: written_out in bf16 on the processor, else whichever is faster, measured "
        "once: sdpa, or written_out (on a GPU eager)",
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="use torch.compile; auto: where training is long enough to earn back the time that it takes, and on the processor "
        "only for vision transformers whose layers are all alike",
    )
    cuda_graphs: bool = Field(
        True,
        description="on a GPU record a step once and repeat it without the processor; not with accumulation, checkpointing or nproc",
    )
    nproc: int = Field(
        1,
        ge=1,
        le=1024,
        description="processes on this machine that share each step, on one GPU each or on the processor; batch_size is that of all",
    )


class Masking(Config):
    """The masked autoencoder and the masks under which it is judged."""

    model: str = Field(
        DEFAULT_MODEL,
        min_length=1,
        description="hub name, local folder, models:/NAME/VERSION, runs:/ID/PATH, "
        "or a preset with random weights: vit-mae-nano, vit-mae-tiny, vit-mae-small",
    )
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="share of patches hidden in metrics and figures")
    n_figures: int = Field(8, ge=0, le=64, description="X-rays shown in the reconstruction figure, half of each class")


Assurance = Annotated[Literal["none"] | Annotated[float, Field(ge=0.5, lt=1)], NumberOrWord]


def check_can_be_assured(min_sensitivity: float, info: ValidationInfo) -> float:
    """Refuse a sensitivity of 1 beside an assurance, since no number of X-rays assures it; a field validator."""
    assurance = info.data.get("assurance", "none")
    if assurance != "none" and min_sensitivity == 1:
        raise ValueError(
            f"found 1 beside --assurance {assurance:g}, and no number of X-rays assures that none is missed; expected a lower one"
        )
    return min_sensitivity


class OperatingOptions(Config):
    """For whom operating points are worked out."""

    prevalence: Annotated[Literal["auto"] | Annotated[float, Field(gt=0, lt=1)], NumberOrWord] = Field(
        "auto",
        description="share of fractured X-rays where the classifier is to be used, for the operating points; auto: as in each split",
    )
    cost_false_negative: float = Field(5, gt=0, le=1e6, description="price of a missed fracture, in any unit")
    cost_false_positive: float = Field(1, gt=0, le=1e6, description="price of a false alarm, in the same unit")
    assurance: Assurance = Field(
        "none",
        description="confidence with which the true sensitivity is to be as high as wanted, wherever a threshold is chosen for one; "
        "it takes 59 patients with a fracture, none missed, to be 0.95 sure of a sensitivity of 0.95; none: the sensitivity is reached "
        "on the X-rays that the threshold is chosen on, and on others in little more than half of cases",
    )

    @field_validator("min_sensitivity", check_fields=False)
    @classmethod
    def _of_what_can_be_assured(cls, min_sensitivity: float, info: ValidationInfo) -> float:
        return check_can_be_assured(min_sensitivity, info)
