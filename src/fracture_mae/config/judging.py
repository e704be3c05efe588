"""What judges: classifiers, encoders and data."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from fracture_mae.config.options import (
    DEFAULT_MODEL,
    PREPROCESSINGS,
    PROMOTION_METRICS,
    Config,
    CopyOptions,
    DataOptions,
    Masking,
    NumberOrWord,
    OperatingOptions,
    ReferenceOptions,
)


class Evaluate(OperatingOptions, CopyOptions, ReferenceOptions, DataOptions):
    """Judge a registered classifier on every split, beside references."""

    classifier: str = Field(
        "models:/fracture-classifier@challenger",
        min_length=1,
        description="models:/NAME@ALIAS, models:/NAME/VERSION or a folder",
    )
    split: Literal["grouped", "published", "external"] = Field(
        "grouped",
        description="grouped, published: as the classifier was trained, for its own test; external: all labelled X-rays are test, for "
        "data that it had no part of; nothing is fitted or chosen on them, and one class alone is enough",
    )
    mae: str = Field(
        "none",
        min_length=1,
        description="a masked autoencoder, such as models:/xray-mae/latest, to rebuild the test X-rays with: finetune_mae leaves test "
        "unread; none: nothing is rebuilt",
    )
    mask_ratio: float = Masking.model_fields["mask_ratio"]
    n_draws: int = Field(
        1000,
        ge=100,
        le=100_000,
        description="bootstrap draws over patients, or X-rays, behind the 95 % intervals that have no closed form, and promotion",
    )
    references: bool = Field(True, description="also fit and judge the reference classifiers")
    subgroups: str = Field(
        "auto",
        min_length=1,
        description="columns of the CSV, with commas between them, by whose values test is judged apart, such as age,sex; auto: those "
        "of body_part, view, age, sex, device and hardware that there are; none",
    )
    promote: Literal["auto", "always", "never"] = Field(
        "auto",
        description="move the alias champion to this version; auto: if it is the better one on the same test X-rays",
    )
    promote_on: Literal["test", "external"] = Field(
        "test",
        description="X-rays that promotion is decided on; split=external alone promotes nobody unless external stands here",
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
        description="least share of bootstrap draws over the test X-rays in which it must be, for the first challenger; more for each "
        "further one on the same X-rays; 0: the estimate alone decides",
    )
    promote_floor: float = Field(
        0.5,
        ge=0,
        le=1,
        description="with promote_metric sensitivity or specificity: the least that a challenger must reach of the other",
    )

    @field_validator("promote_on")
    @classmethod
    def _of_external_alone(cls, promote_on: str, info: ValidationInfo) -> str:
        split = info.data.get("split", "external")
        if promote_on == "external" and split != "external":
            raise ValueError(f"found 'external' beside --split {split}, expected --split external, or promote_on test")
        return promote_on


class Predict(Config):
    """Answer for X-rays without labels with a registered classifier: fractured or not, with the probability."""

    data_dir: str = Field(
        "synthetic",
        min_length=1,
        description="X-rays: a folder, whatever the folders in it, a CSV with a column path, or the word synthetic; no label is read",
    )
    classifier: str = Field(
        "models:/fracture-classifier@champion",
        min_length=1,
        description="models:/NAME@ALIAS, models:/NAME/VERSION or a folder",
    )
    threshold: Annotated[Literal["auto"] | Annotated[float, Field(ge=0, le=1)], NumberOrWord] = Field(
        "auto", description="probability from which on an X-ray is called fractured; auto: the classifier's own"
    )
    prevalence: Annotated[Literal["auto"] | Annotated[float, Field(gt=0, lt=1)], NumberOrWord] = Field(
        "auto",
        description="share of fractured X-rays among these, which probabilities and the classifier's own threshold are moved to; auto: "
        "that of the X-rays that they were fitted to",
    )
    shard: str = Field(
        "1/1",
        pattern=r"^[1-9]\d{0,3}/[1-9]\d{0,3}$",
        description="part of the files to answer for, such as 2/8: the second of eight, each for another machine; names say which",
    )
    n_shown: int = Field(
        24,
        ge=0,
        le=480,
        description="X-rays of the highest probability that the contact sheet shows, with maps of where",
    )
    batch_size: int = DataOptions.model_fields["batch_size"]
    precision: Literal["auto", "bf16", "fp32"] = DataOptions.model_fields["precision"]
    device: Literal["auto", "cpu", "cuda", "mps"] = DataOptions.model_fields["device"]
    num_workers: int = Field(0, ge=0, le=256, description="processes that decode files; 0: one for each core")
    resume: Literal["auto", "never"] = Field(
        "auto",
        description="auto: go on where a run of the same classifier on the same data_dir and shard was interrupted",
    )

    @field_validator("shard")
    @classmethod
    def _one_of_them(cls, shard: str) -> str:
        number, n_shards = map(int, shard.split("/"))
        if number > n_shards:
            raise ValueError(f"found {shard}, expected a part such as 2/8: 1/{n_shards} to {n_shards}/{n_shards}")
        return shard


class Compare(ReferenceOptions, DataOptions):
    """Compare encoders by what a linear head reads from their frozen features, cross-validated."""

    encoders: str = Field(
        f"{DEFAULT_MODEL},models:/xray-mae/latest",
        min_length=1,
        description="names with commas between them, the first is the yardstick: hub names and local folders of any encoder "
        "that transformers loads, models:/NAME/VERSION, presets",
    )
    pool: Literal["mean", "cls"] = Field("mean", description="what the head reads: mean of the patch tokens, or CLS")
    n_folds: int = Field(5, ge=2, le=20, description="folds over the training and validation X-rays; test is not read")
    n_repeats: int = Field(
        5,
        ge=1,
        le=100,
        description="times that X-rays are dealt into folds for the differences between encoders; more are steadier, and features are "
        "computed once",
    )
    cross_validate: Literal["folds", "sources"] = Field(
        "folds",
        description="sources: also hold out each source, such as a hospital, once, and show what is left of the folds' figures",
    )
    match: Literal["none", "properties"] = Field(
        "none",
        description="properties: X-rays are weighed where heads are fitted so that labels hang neither on file properties nor on the "
        "source; the references are not",
    )
    n_draws: int = Evaluate.model_fields["n_draws"]
    references: bool = Field(True, description="also judge the reference classifiers in the same folds")


class RollBack(Config):
    """Make an earlier version of the classifier champion again."""

    version: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="number of the version; auto: the one that the present champion replaced"
    )


class AuditData(Config):
    """Show how honest a data set is: copies, leakage, label conflicts, shortcuts, and what a leaky split would claim."""

    data_dir: str = DataOptions.model_fields["data_dir"]
    positive_label: str = DataOptions.model_fields["positive_label"]
    boxes: str = DataOptions.model_fields["boxes"]
    image_size: Annotated[int, Field(ge=32, le=1024)] | Literal["auto"] = Field(
        "auto",
        description="side of the square that X-rays are preprocessed to before they are judged [pixels]; auto: 224",
    )
    preprocess: Literal[PREPROCESSINGS] = Field(
        "letterbox",
        description="after which preprocessing the label is guessed from the pixels; letterbox, film, film_equalised, film_squares: as "
        "in training (of several squares the middle one is looked at)",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of folds, forests and permutations")
    num_workers: int = DataOptions.model_fields["num_workers"]
    n_folds: int = Field(5, ge=2, le=20, description="folds of cross-validation; each needs an X-ray of each label")
