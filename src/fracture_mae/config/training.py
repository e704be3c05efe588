"""What trains, and the recipes that fill what is left at `auto`."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from fracture_mae.config.options import (
    THRESHOLD_OBJECTIVES,
    Augmentation,
    BaseRate,
    ByStart,
    Computing,
    CopyOptions,
    DataOptions,
    Masking,
    NumberFirst,
    NumberOrWord,
    OperatingOptions,
    Optimisation,
    ReferenceOptions,
    Start,
    WholeNumber,
)

PATCH_POOLS = ("lse", "topk", "attention")  # of what a head says of each patch

# Of a random start: what 1e-3 is at the usual batch of 32.
_RANDOM_RATE = BaseRate(8e-3)


class ReconstructBaseline(Masking, DataOptions):
    """Rebuild masked X-rays with the weights a model comes with."""


class FinetuneMae(Masking, CopyOptions, Augmentation, Computing, Optimisation, DataOptions):
    """Train the masked autoencoder further on X-rays."""

    unlabelled_dir: str = Field(
        "none",
        min_length=1,
        description="X-rays without labels beside data_dir: a folder in any order, or a CSV with path[,patient][,xray]; all are "
        "trained on but copies of X-rays for validation and test, and those of their patients; none: only data_dir",
    )
    loss_region: Literal["masked", "all"] = Field("auto", description="patches whose squared error is the loss")
    train_mask_ratio: float = Field("auto", gt=0, lt=1, description="share of patches hidden while training")
    sampler: Literal["file", "xray"] = Field(
        "auto", description="file: each file once an epoch; xray: X-rays drawn equally"
    )
    norm_pix_loss: Literal["auto"] | bool = Field(
        "auto",
        description="whether patches are predicted after each was normalised by its own mean and deviation; auto: as in the training "
        "of the model that this one starts from (presets: false)",
    )

    @property
    def unsettled(self) -> set[str]:
        return super().unsettled | ({"norm_pix_loss"} if self.norm_pix_loss == "auto" else set())

    def settled(self, start: Start, *, norm_pix_loss: bool = False) -> Self:
        """As of any training, and with the loss that the model, or this config, asks for."""
        wanted = norm_pix_loss if self.norm_pix_loss == "auto" else self.norm_pix_loss
        return super().settled(start).model_copy(update={"norm_pix_loss": wanted})

    # From pretrained weights as He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, appendix A.1.
    recipes: ClassVar = {
        "default": {
            "epochs": 30,
            "optimizer": "adamw",
            "learning_rate": ByStart(random=_RANDOM_RATE, weights=BaseRate(1.5e-4)),
            "beta2": ByStart(random=0.999, weights=0.95),
            "weight_decay": 0.05,
            "warmup_epochs": 2,
            "loss_region": "masked",
            "train_mask_ratio": 0.75,
            "sampler": "file",
            "crop_scale": 0.5,
            "rotation": 0,
            "flip": True,
            "intensity": 0.0,
            "source_augmentation": 0.0,
        },
        "original": {
            "epochs": 10,
            "optimizer": "adam",
            "learning_rate": 1e-4,
            "beta2": 0.999,
            "weight_decay": 0,
            "warmup_epochs": 0,
            "loss_region": "all",
            "train_mask_ratio": 0.75,
            "sampler": "file",
            "crop_scale": 1,
            "rotation": 0,
            "flip": False,
            "intensity": 0.0,
            "source_augmentation": 0.0,
        },
    }


class TrainClassifier(
    OperatingOptions, CopyOptions, Augmentation, Computing, Optimisation, ReferenceOptions, DataOptions
):
    """Train a fractured / not fractured classifier on the encoder."""

    encoder: str = Field(
        "models:/xray-mae/latest",
        min_length=1,
        description="whose encoder to use: models:/NAME/VERSION, runs:/ID/PATH, a preset, or a folder or hub name of any encoder "
        "of pictures that transformers loads: ViTMAE, ViT, DeiT, BEiT, DINOv2, DINOv3, Swin, ConvNeXt, EfficientNet, ResNet, timm's",
    )
    pool: Literal["mean", "cls", "lse", "topk", "attention"] = Field(
        "auto",
        description="what the head reads: mean of the patch tokens, or CLS, or each patch token by itself: the logit of the X-ray is "
        "then a smooth maximum of those of its patches (lse), the mean of the highest (topk), or one weighed by attention",
    )
    pool_temperature: float = Field(
        "auto",
        ge=0.01,
        le=100,
        description="pool=lse: logits that lie closer than this are averaged rather than compared; low: the highest patch decides, "
        "high: all do",
    )
    pool_share: float = Field(
        "auto", gt=0, le=1, description="pool=topk: share of the patches, the highest, that decide"
    )
    place_weight: float = Field(
        "auto",
        ge=0,
        le=100,
        description="weight of the loss of patches, which boxes around fractures teach where to look, beside that of the X-ray's "
        "label; 0, or where no training X-ray has boxes: the label alone",
    )
    freeze: bool = Field(False, description="train the head alone")
    head_init: Literal["auto", "random", "probe"] = Field(
        "auto",
        description="what the head begins as: random weights; or probe, a logistic regression on what the encoder, not yet trained, "
        "makes of the training X-rays, for pool=mean and cls",
    )
    layer_decay: Annotated[Literal["auto"] | Annotated[float, Field(gt=0, le=1)], NumberOrWord] = Field(
        "auto", description="factor of the learning rate from layer to layer, or block to block, downwards"
    )
    drop_path: float = Field(
        "auto", ge=0, lt=1, description="stochastic depth: chance that the last layer, or block, is skipped"
    )
    patch_dropout: float = Field(
        "auto", ge=0, lt=1, description="share of patches left out while training, if the encoder can"
    )
    label_smoothing: float = Field("auto", ge=0, lt=1, description="share of the label spread over both classes")
    class_weight: Annotated[Literal["none", "balanced"] | Annotated[float, Field(gt=0, le=1000)], NumberOrWord] = Field(
        "auto",
        description="weight of the positive class in the loss: none (1), balanced (what the sampler draws of both classes weighs the "
        "same), or a number",
    )
    sampler: Literal["file", "class", "xray", "xray_class"] = Field(
        "auto",
        description="file: each file once an epoch; class, xray, xray_class: drawn so that classes, X-rays, or X-rays "
        "within equally likely classes have the same chance",
    )
    match: Literal["none", "properties"] = Field(
        "auto",
        description="properties: X-rays are weighed in the loss so that labels hang neither on file properties nor on the source",
    )
    selection: Literal["best", "last"] = Field("auto", description="which epoch's weights are kept")
    monitor: Literal["auroc", "log_loss", "average_precision"] = Field(
        "auroc", description="validation metric, per X-ray, that picks the best epoch"
    )
    patience: int = Field(
        "auto", ge=0, le=100_000, description="epochs without improvement before stopping; 0: never stop"
    )
    calibrate: Literal["none", "platt", "temperature", "isotonic"] = Field(
        "auto",
        description="map from logits to probabilities that is fitted on validation: platt, a slope and an intercept; temperature, a "
        "slope alone, which leaves in what sampler and class_weight shifted; isotonic is freer and needs hundreds of X-rays",
    )
    threshold: Annotated[
        Literal[THRESHOLD_OBJECTIVES] | Annotated[float, Field(ge=0, le=1)],
        NumberOrWord,
    ] = Field(
        "auto",
        description="a number, or what to maximise: "
        + ", ".join(THRESHOLD_OBJECTIVES)
        + "; weighted_youden, the default: 1.5 · sensitivity + specificity, since a missed fracture is dearer than a false "
        "alarm. The mean of what is best in 500 bootstrap draws by patient of the validation X-rays, or, with cross_validate=5, of the "
        "out-of-fold predictions",
    )
    min_sensitivity: float = Field(
        0.95, gt=0, le=1, description="specificity_at_sensitivity: share of fractures that must be found, see assurance"
    )
    cross_validate: Annotated[
        Literal[0]
        | Annotated[int, Field(ge=2, le=20)]
        | Literal["sources"]
        | Annotated[str, Field(pattern=r"^(?:[2-9]|1\d|20),sources$", description="both, such as 5,sources")],
        WholeNumber,
        NumberFirst,
    ] = Field(
        0,
        description="the cross-validation on training and validation X-rays that comes first; a number: so many folds; sources: each "
        "source, such as a hospital, is held out once, and judged by a model that never saw it; 0: none",
    )

    seeds: int = Field(
        1,
        ge=1,
        le=20,
        description="trainings on the same split, with seeds from `seed` upwards, which take as many times as long; the first is "
        "registered and answers, the others are kept beside it, so that evaluate tells how much of a figure is the seed and gives the "
        "mean over seeds with an interval that holds other X-rays and other seeds. Folds are trained once",
    )

    def _counted_as(self, start: Start) -> Start:
        """A head that is trained alone begins as random numbers, whatever the encoder."""
        return "random" if self.freeze else start

    @property
    def n_folds(self) -> int:
        """Folds of the cross-validation that does not heed sources; 0: none."""
        return int(str(self.cross_validate).replace("sources", "").strip(",") or 0)

    @property
    def holds_out_sources(self) -> bool:
        return "sources" in str(self.cross_validate)

    @classmethod
    def _recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Where X-rays are weighed, `auto` draws classes alone: to draw X-rays equally too would correct twice. And heads on patches
        begin at random."""
        recipe = super()._recipe(values)
        if values.get("weight_by") == "group" and recipe.get("sampler") == "xray_class":
            recipe = recipe | {"sampler": "class"}
        if values.get("pool") in PATCH_POOLS:
            recipe = recipe | {"head_init": "random"}
        return recipe

    @field_validator("head_init")
    @classmethod
    def _of_heads_on_pooled_tokens(cls, head_init: str, info: ValidationInfo) -> str:
        pool = info.data.get("pool")
        if head_init == "probe" and pool in PATCH_POOLS:
            raise ValueError(
                f"found 'probe' beside --pool {pool}, whose head reads each patch by itself, while a probe reads their mean; expected "
                "random, or --pool mean or cls"
            )
        return head_init

    # From pretrained weights as He et al. fine-tune ViT-Base (appendix A.2 and FINETUNE.md of their code).
    recipes: ClassVar = {
        "default": {
            "epochs": 12,
            "optimizer": "adamw",
            "learning_rate": ByStart(random=_RANDOM_RATE, weights=BaseRate(5e-4)),
            "beta2": 0.999,
            "weight_decay": 0.05,
            "warmup_epochs": 1,
            "pool": "mean",
            "head_init": ByStart(random="random", weights="probe"),
            "layer_decay": ByStart(random=0.75, weights=0.65),
            "pool_temperature": 0.05,
            "pool_share": 0.1,
            "place_weight": 0,
            "drop_path": 0.1,
            "patch_dropout": 0.5,
            "label_smoothing": 0.1,
            "class_weight": "none",
            "sampler": "xray_class",
            "match": "none",
            "selection": "best",
            "patience": 0,
            "calibrate": "platt",
            "threshold": "weighted_youden",
            "crop_scale": 0.5,
            "rotation": 20,
            "flip": True,
            "intensity": 0.3,
            "source_augmentation": 0.0,
        },
        "original": {
            "epochs": 10,
            "optimizer": "adam",
            "learning_rate": 1e-4,
            "beta2": 0.999,
            "weight_decay": 0,
            "warmup_epochs": 0,
            "pool": "cls",
            "head_init": "random",
            "pool_temperature": 0.05,
            "pool_share": 0.1,
            "place_weight": 0,
            "layer_decay": 1,
            "drop_path": 0,
            "patch_dropout": 0,
            "label_smoothing": 0,
            "class_weight": "none",
            "sampler": "file",
            "match": "none",
            "selection": "last",
            "patience": 0,
            "calibrate": "none",
            "threshold": 0.5,
            "crop_scale": 1,
            "rotation": 0,
            "flip": False,
            "intensity": 0.0,
            "source_augmentation": 0.0,
        },
    }
