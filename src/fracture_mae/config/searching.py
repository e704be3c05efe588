"""What searches for the best, and the chain of all steps."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from fracture_mae.config.judging import Evaluate
from fracture_mae.config.options import (
    Assurance,
    DataOptions,
    Masking,
    NumberOrWord,
    OperatingOptions,
    Optimisation,
    ReferenceOptions,
    check_can_be_assured,
)
from fracture_mae.config.training import PATCH_POOLS, FinetuneMae, TrainClassifier


class Tune(ReferenceOptions, DataOptions):
    """Search class weight, threshold and more with Optuna; register the best."""

    encoder: str = TrainClassifier.model_fields["encoder"]
    depth: Literal["head", "finetune"] = Field(
        "head",
        description="head: heads on the features of the frozen encoder, cross-validated on training and validation X-rays; "
        "finetune: a train_classifier run a trial, judged on validation",
    )
    objective: Literal[
        *("weighted_youden", "balanced_accuracy", "f1", "f2", "mcc"),
        *("average_precision", "cost", "specificity_at_sensitivity", "pareto"),
    ] = Field(
        "balanced_accuracy",
        description="what is best, every X-ray counting once; weighted_youden: 1.5 · sensitivity + specificity; "
        "pareto: sensitivity and specificity at once",
    )
    assurance: Assurance = Field(
        "none",
        description="specificity_at_sensitivity: confidence with which the true sensitivity is to be min_sensitivity or more; none: it "
        "is on the X-rays that the threshold is chosen on",
    )
    min_sensitivity: float = TrainClassifier.model_fields["min_sensitivity"]
    cost_false_negative: float = OperatingOptions.model_fields["cost_false_negative"]
    cost_false_positive: float = OperatingOptions.model_fields["cost_false_positive"]
    n_trials: int = Field(
        100,
        ge=0,
        le=1_000_000,
        description="trials to add to the study, shared by its workers; 0: only use what it has",
    )
    n_folds: int = Field(5, ge=2, le=50, description="folds of whole X-rays that trials are judged by")
    cross_validate: Literal["folds", "sources"] = Field(
        "folds",
        description="head: what trials are judged by; sources: each source, such as a hospital, by a head that never saw it, and the "
        "best trial in the folds too",
    )
    match: Literal["none", "properties"] = Field("none", description=TrainClassifier.model_fields["match"].description)
    max_epochs: int = Field(12, ge=1, le=100_000, description="finetune: most epochs of a trial")
    pool: Literal["auto", "mean", "cls", "lse", "topk", "attention"] = Field(
        "auto",
        description="what the head reads in all trials, see train_classifier; auto: head: mean and cls are searched; finetune: as its "
        "recipe says",
    )
    place_weight: Annotated[Literal["auto"] | Annotated[float, Field(ge=0, le=100)], NumberOrWord] = Field(
        "auto",
        description="finetune: weight of the loss of patches, which boxes teach, in all trials, see train_classifier; auto: as its "
        "recipe says",
    )
    study_name: str = Field(
        "auto",
        min_length=1,
        description="study to begin or to go on with; auto: one for each depth, objective, encoder and data",
    )
    storage: str = Field(
        "auto",
        min_length=1,
        description="where studies live: sqlite:///FILE for workers on one machine, postgresql+psycopg://HOST/DATABASE for many; "
        "auto: optuna.db beside mlflow.db",
    )
    heartbeat: int = Field(
        30,
        ge=1,
        le=86_400,
        description="seconds between two signs of life of a worker; one that misses three is taken for dead, and another goes on",
    )

    @field_validator("assurance")
    @classmethod
    def _of_a_wanted_sensitivity(cls, assurance: float | str, info: ValidationInfo) -> float | str:
        objective = info.data.get("objective")
        if assurance != "none" and objective not in (None, "specificity_at_sensitivity"):
            raise ValueError(
                f"found {assurance:g} beside --objective {objective}, which wants no sensitivity; expected none, or --objective "
                "specificity_at_sensitivity"
            )
        return assurance

    @field_validator("min_sensitivity")
    @classmethod
    def _of_what_can_be_assured(cls, min_sensitivity: float, info: ValidationInfo) -> float:
        return check_can_be_assured(min_sensitivity, info)

    @field_validator("cross_validate")
    @classmethod
    def _of_heads_alone(cls, cross_validate: str, info: ValidationInfo) -> str:
        if cross_validate == "sources" and info.data.get("depth") == "finetune":
            raise ValueError(
                "found 'sources' beside --depth finetune, which judges a trial on validation, by one training; expected --depth head. "
                "Or tune first, and judge what was found by train_classifier with --cross-validate sources"
            )
        return cross_validate

    @field_validator("pool")
    @classmethod
    def _of_features_pooled_before(cls, pool: str, info: ValidationInfo) -> str:
        if pool in PATCH_POOLS and info.data.get("depth") == "head":
            raise ValueError(
                f"found {pool!r} beside --depth head, whose heads read tokens that were pooled before, once for all trials; expected "
                "mean or cls, or --depth finetune"
            )
        return pool

    @field_validator("place_weight")
    @classmethod
    def _of_trained_patches(cls, place_weight: float | str, info: ValidationInfo) -> float | str:
        if place_weight not in ("auto", 0) and info.data.get("depth") == "head":
            raise ValueError(
                f"found {place_weight:g} beside --depth head, whose heads see no patches; expected 0 or auto, or --depth finetune"
            )
        return place_weight


class Main(DataOptions):
    """The whole chain: baseline, fine-tuning, classifier, evaluation."""

    model: str = Masking.model_fields["model"]
    unlabelled_dir: str = FinetuneMae.model_fields["unlabelled_dir"]
    recipe: Literal["default", "robust", "original"] = Optimisation.model_fields["recipe"]
    mae_epochs: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = Field(
        "auto", description="epochs of finetune_mae; auto: as the recipe says"
    )
    classifier_epochs: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = Field(
        "auto", description="epochs of train_classifier; auto: as the recipe says"
    )
    nproc: int = Field(1, ge=1, le=1024, description="processes of this machine that share each training step")
    n_draws: int = Evaluate.model_fields["n_draws"]
    promote: Literal["auto", "always", "never"] = Evaluate.model_fields["promote"]
    env_manager: Literal["local", "uv", "virtualenv", "conda"] = Field(
        "local", description="environment of the steps; local: the one this chain itself runs in, whoever made it"
    )
