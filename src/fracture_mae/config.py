"""One frozen model per entry point: every parameter's name, default, range and help stand here and nowhere else.

A config is checked when it is made, and only checked: it reads no disk and starts nothing. `auto` on a field that a recipe sets
means "as the recipe says" and is replaced at construction, so a config always holds the values that are really used.
"""

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


NumberOrWord = BeforeValidator(_number_if_possible)
WholeNumber = BeforeValidator(_whole_number_if_possible)


class Config(BaseModel):
    """Shared behaviour: frozen, no unknown names, and fields left at `auto` filled from the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _fill_from_recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        recipe = cls._recipe(values)
        return {**values, **{name: value for name, value in recipe.items() if values.get(name, "auto") == "auto"}}

    @classmethod
    def _recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What stands for `auto`, by field."""
        return cls.recipes.get(values.get("recipe", "default"), {})


class DataOptions(Config):
    """Which X-rays, how they are split, and on what they are computed."""

    data_dir: str = Field(
        "synthetic",
        min_length=1,
        description="X-rays: a folder DIR/[train|val|test/]LABEL/FILE, a CSV with path,label[,group][,split][,source], "
        "or the word synthetic (procedural X-rays, made once)",
    )
    positive_label: str = Field("fractured", min_length=1, description="name of the class that counts as positive")
    image_size: Annotated[int, Field(ge=32, le=1024, multiple_of=16)] | Literal["auto"] = Field(
        "auto",
        description="side of the square that X-rays are letterboxed to [pixels]; auto: what the model takes (presets: 224)",
    )
    split: Literal["grouped", "published"] = Field(
        "grouped",
        description="grouped: 70/15/15, every copy of an X-ray on one side; published: as the folders say, leaks and all",
    )
    split_seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of the grouped split; keep it equal across stages")
    group_by: Literal["content", "names", "column"] = Field(
        "content",
        description="what makes files copies of one X-ray, besides equal bytes and a CSV's column group; content: the picture "
        "itself and families of names; names: families of names; column: nothing else",
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


class Copies(Config):
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


class Optimisation(Config):
    """How weights are trained."""

    recipe: Literal["default", "original"] = Field(
        "default",
        description="values of all parameters left at auto; original: those of the notebook this project began as",
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


class ReconstructBaseline(Masking, DataOptions):
    """Rebuild masked X-rays with the weights a model comes with."""


class FinetuneMae(Masking, Copies, Augmentation, Optimisation, DataOptions):
    """Train the masked autoencoder further on X-rays."""

    loss_region: Literal["masked", "all"] = Field("auto", description="patches whose squared error is the loss")
    train_mask_ratio: float = Field("auto", gt=0, lt=1, description="share of patches hidden while training")
    sampler: Literal["file", "xray"] = Field(
        "auto", description="file: each file once an epoch; xray: X-rays drawn equally"
    )

    recipes = {
        "default": {
            "epochs": 30,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.05,
            "warmup_epochs": 2,
            "loss_region": "masked",
            "train_mask_ratio": 0.75,
            "sampler": "file",
            "crop_scale": 0.5,
            "rotation": 0,
            "flip": True,
            "intensity": 0.0,
        },
        "original": {
            "epochs": 10,
            "optimizer": "adam",
            "learning_rate": 1e-4,
            "weight_decay": 0,
            "warmup_epochs": 0,
            "loss_region": "all",
            "train_mask_ratio": 0.75,
            "sampler": "file",
            "crop_scale": 1,
            "rotation": 0,
            "flip": False,
            "intensity": 0.0,
        },
    }


class OperatingOptions(Config):
    """For whom operating points are worked out."""

    prevalence: Annotated[Literal["auto"] | Annotated[float, Field(gt=0, lt=1)], NumberOrWord] = Field(
        "auto",
        description="share of fractured X-rays where the classifier is to be used, for the operating points; auto: as in each split",
    )
    cost_false_negative: float = Field(5, gt=0, le=1e6, description="price of a missed fracture, in any unit")
    cost_false_positive: float = Field(1, gt=0, le=1e6, description="price of a false alarm, in the same unit")


class TrainClassifier(OperatingOptions, Copies, Augmentation, Optimisation, DataOptions):
    """Train a fractured / not fractured classifier on the encoder."""

    encoder: str = Field(
        "models:/xray-mae/latest",
        min_length=1,
        description="whose encoder to use: models:/NAME/VERSION, runs:/ID/PATH, a folder, a hub name or a preset",
    )
    pool: Literal["mean", "cls"] = Field("auto", description="what the head reads: mean of the patch tokens, or CLS")
    freeze: bool = Field(False, description="train the head alone")
    layer_decay: float = Field(
        "auto", gt=0, le=1, description="factor of the learning rate from layer to layer downwards"
    )
    drop_path: float = Field("auto", ge=0, lt=1, description="stochastic depth: chance that the last layer is skipped")
    patch_dropout: float = Field("auto", ge=0, lt=1, description="share of patches left out while training")
    label_smoothing: float = Field("auto", ge=0, lt=1, description="share of the label spread over both classes")
    class_weight: Annotated[Literal["none", "balanced"] | Annotated[float, Field(gt=0, le=1000)], NumberOrWord] = Field(
        "auto", description="weight of the positive class in the loss: none (1), balanced, or a number"
    )
    sampler: Literal["file", "class", "xray", "xray_class"] = Field(
        "auto",
        description="file: each file once an epoch; class, xray, xray_class: drawn so that classes, X-rays, or X-rays "
        "within equally likely classes have the same chance",
    )
    selection: Literal["best", "last"] = Field("auto", description="which epoch's weights are kept")
    monitor: Literal["auroc", "log_loss", "average_precision"] = Field(
        "auroc", description="validation metric, per X-ray, that picks the best epoch"
    )
    patience: int = Field(
        "auto", ge=0, le=100_000, description="epochs without improvement before stopping; 0: never stop"
    )
    calibrate: Literal["none", "temperature", "isotonic"] = Field(
        "auto",
        description="map from logits to probabilities that is fitted on validation; isotonic is freer and needs hundreds of X-rays",
    )
    threshold: Annotated[
        Literal[THRESHOLD_OBJECTIVES] | Annotated[float, Field(ge=0, le=1)],
        NumberOrWord,
    ] = Field("auto", description="a number, or what to maximise on validation: " + ", ".join(THRESHOLD_OBJECTIVES))
    cross_validate: Annotated[Literal[0] | Annotated[int, Field(ge=2, le=20)], WholeNumber] = Field(
        0, description="folds of the cross-validation on training and validation X-rays that comes first; 0: none"
    )

    @classmethod
    def _recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Where X-rays are weighed, `auto` draws classes alone: to draw X-rays equally too would correct twice."""
        recipe = super()._recipe(values)
        if values.get("weight_by") == "group" and recipe.get("sampler") == "xray_class":
            return recipe | {"sampler": "class"}
        return recipe

    recipes = {
        "default": {
            "epochs": 12,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.05,
            "warmup_epochs": 1,
            "pool": "mean",
            "layer_decay": 0.75,
            "drop_path": 0.1,
            "patch_dropout": 0.5,
            "label_smoothing": 0.1,
            "class_weight": "none",
            "sampler": "xray_class",
            "selection": "best",
            "patience": 0,
            "calibrate": "temperature",
            "threshold": "balanced_accuracy",
            "crop_scale": 0.5,
            "rotation": 20,
            "flip": True,
            "intensity": 0.3,
        },
        "original": {
            "epochs": 10,
            "optimizer": "adam",
            "learning_rate": 1e-4,
            "weight_decay": 0,
            "warmup_epochs": 0,
            "pool": "cls",
            "layer_decay": 1,
            "drop_path": 0,
            "patch_dropout": 0,
            "label_smoothing": 0,
            "class_weight": "none",
            "sampler": "file",
            "selection": "last",
            "patience": 0,
            "calibrate": "none",
            "threshold": 0.5,
            "crop_scale": 1,
            "rotation": 0,
            "flip": False,
            "intensity": 0.0,
        },
    }


class Evaluate(OperatingOptions, Copies, DataOptions):
    """Judge a registered classifier on every split, beside two references."""

    classifier: str = Field(
        "models:/fracture-classifier@challenger",
        min_length=1,
        description="models:/NAME@ALIAS, models:/NAME/VERSION or a folder",
    )
    n_draws: int = Field(1000, ge=100, le=100_000, description="bootstrap draws over X-rays behind each 95 % interval")
    references: bool = Field(True, description="also fit and judge the two reference classifiers")
    promote: Literal["auto", "always", "never"] = Field(
        "auto",
        description="move the alias champion to this version; auto: if it is the better one on the same test X-rays",
    )
    promote_metric: Literal[PROMOTION_METRICS] = Field(
        "auroc", description="test metric, per X-ray and each at its own threshold, by which the better one is told"
    )
    promote_margin: float = Field(
        0, ge=0, le=1, description="the challenger must be better by more than this, in units of the metric"
    )
    promote_confidence: float = Field(
        0.95,
        ge=0,
        lt=1,
        description="least share of bootstrap draws over the test X-rays in which it must be; 0: the estimate alone decides",
    )


class Compare(DataOptions):
    """Compare encoders by what a linear head reads from their frozen features, cross-validated."""

    encoders: str = Field(
        f"{DEFAULT_MODEL},models:/xray-mae/latest",
        min_length=1,
        description="names with commas between them, the first is the yardstick: hub names and local folders of MAE, ViT, DeiT, "
        "DINOv2 and BEiT, models:/NAME/VERSION, presets",
    )
    pool: Literal["mean", "cls"] = Field("mean", description="what the head reads: mean of the patch tokens, or CLS")
    n_folds: int = Field(5, ge=2, le=20, description="folds over the training and validation X-rays; test is not read")
    n_draws: int = Evaluate.model_fields["n_draws"]
    references: bool = Field(True, description="also judge the two reference classifiers in the same folds")


class RollBack(Config):
    """Make an earlier version of the classifier champion again."""

    version: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="number of the version; auto: the one that the present champion replaced"
    )


class Main(DataOptions):
    """The whole chain: baseline, fine-tuning, classifier, evaluation."""

    model: str = Masking.model_fields["model"]
    recipe: Literal["default", "original"] = Optimisation.model_fields["recipe"]
    mae_epochs: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = Field(
        "auto", description="epochs of finetune_mae; auto: as the recipe says"
    )
    classifier_epochs: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = Field(
        "auto", description="epochs of train_classifier; auto: as the recipe says"
    )
    n_draws: int = Evaluate.model_fields["n_draws"]
    env_manager: Literal["local", "uv", "virtualenv", "conda"] = Field(
        "local", description="environment of the steps; local: the one this chain itself runs in, whoever made it"
    )
