"""What several entry points have in common: how a config behaves, and the groups of options they share."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

DEFAULT_MODEL = "facebook/vit-mae-base"
# Of these a lower value is better for the last two.
PROMOTION_METRICS = (
    *("auroc", "average_precision", "balanced_accuracy", "sensitivity", "specificity", "f1", "mcc"),
    *("brier", "log_loss"),
)
THRESHOLD_OBJECTIVES = ("balanced_accuracy", "f1", "f2", "mcc")


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


class Config(BaseModel):
    """Shared behaviour: frozen, no unknown names, and fields left at `auto` filled from the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}
    variants: ClassVar[dict[str, dict[str, Any]]] = {}  # recipes that are `default` but for these values

    @model_validator(mode="before")
    @classmethod
    def _fill_from_recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        recipe = cls._recipe(values)
        return {**values, **{name: value for name, value in recipe.items() if values.get(name, "auto") == "auto"}}

    @classmethod
    def _recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What stands for `auto`, by field."""
        recipe = values.get("recipe", "default")
        if recipe in cls.variants:
            return cls.recipes["default"] | cls.variants[recipe]
        return cls.recipes.get(recipe, {})


class DataOptions(Config):
    """Which X-rays, how they are split, and on what they are computed."""

    data_dir: str = Field(
        "synthetic",
        min_length=1,
        description="X-rays: a folder DIR/[train|val|test/]LABEL/FILE, a CSV with path,label[,patient][,xray][,split]"
        "[,source][,x0,y0,x1,y1], or the word synthetic (procedural X-rays, made once)",
    )
    positive_label: str = Field("fractured", min_length=1, description="name of the class that counts as positive")
    boxes: str = Field(
        "auto",
        min_length=1,
        description="boxes around fractures; auto: whatever there is, columns x0,y0,x1,y1 of the CSV, a boxes.csv, YOLO's texts or "
        "COCO's JSON beside the X-rays; none; or the path of such a file or folder",
    )
    image_size: Annotated[int, Field(ge=32, le=1024, multiple_of=16)] | Literal["auto"] = Field(
        "auto",
        description="side of the square that X-rays are letterboxed to [pixels]; auto: what the model takes (presets: 224)",
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
        "auto", description="arithmetic of the network; auto: bf16 where the processor has it, else fp32"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: the accelerator there is, else cpu"
    )
    num_workers: int = Field(0, ge=0, le=256, description="threads that decode files; 0: one for each core")

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
    learning_rate: float = Field("auto", gt=0, le=1, description="peak learning rate")
    weight_decay: float = Field("auto", ge=0, le=1, description="decoupled weight decay (adamw)")
    warmup_epochs: float = Field("auto", ge=0, le=1000, description="epochs of linear warm-up of the learning rate")
    resume: Literal["auto", "never"] = Field(
        "auto", description="auto: go on from the last whole checkpoint of the same configuration on the same data"
    )


class Computing(Config):
    """How training steps are computed: faster or with less memory, but with the same result."""

    accumulation: int = Field(
        1, ge=1, le=4096, description="parts that each step's batch is computed in, one after the other: less memory"
    )
    checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, up to a third slower"
    )
    attention: Literal["auto", "sdpa", "eager"] = Field(
        "auto",
        description="sdpa: fused, on CUDA flash attention; eager: plain matrix products; auto: the faster one, measured once",
    )
    compile: Literal["auto"] | bool = Field(
        "auto", description="use torch.compile; auto: where training is long enough to earn back the time that it takes"
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


class OperatingOptions(Config):
    """For whom operating points are worked out."""

    prevalence: Annotated[Literal["auto"] | Annotated[float, Field(gt=0, lt=1)], NumberOrWord] = Field(
        "auto",
        description="share of fractured X-rays where the classifier is to be used, for the operating points; auto: as in each split",
    )
    cost_false_negative: float = Field(5, gt=0, le=1e6, description="price of a missed fracture, in any unit")
    cost_false_positive: float = Field(1, gt=0, le=1e6, description="price of a false alarm, in the same unit")
