"""The MLflow model registry: what is registered, under which name, and how it comes back."""

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from fracture_mae.errors import FractureMaeError, first_line
from fracture_mae.tracking import outages, stores

MAE, CLASSIFIER = "xray-mae", "fracture-classifier"
CHALLENGER, CHAMPION = "challenger", "champion"
PROMOTION, PROMOTED = "promotion", "promoted to champion"  # tag of a version, and how its value begins where it won

LONGEST_DESCRIPTION = 5000  # characters: the column of MLflow's own databases, which PostgreSQL enforces
NETWORK = "network"  # the network's folder among a model's artifacts
_PACKAGE = Path(__file__).parents[1]
# What a served model needs to answer, and carries: a test holds both lists against what these modules import.
SERVED_CODE = (
    "__init__.py",
    "errors.py",
    "data/__init__.py",
    *(
        f"data/reading/{name}.py"
        for name in ("__init__", "decoding", "dicom", "dicom_codecs", "dicom_signature", "exposure")
    ),
    *(f"data/reading/{name}.py" for name in ("film", "jpeg", "placement", "png", "preprocessing", "tiff")),
    *(f"data/reading/{name}.py" for name in ("unreadable", "unsupported")),
    *(f"metrics/{name}.py" for name in ("__init__", "arrays", "calibration", "decision", "thresholds")),
    *(f"models/{name}.py" for name in ("__init__", "attention", "authors", "autoencoder", "blocks")),
    *(f"models/{name}.py" for name in ("classifier", "hub", "pixels")),
    *(
        f"models/{name}.py"
        for name in ("explanation", "gate", "gate_statistics", "map_pictures", "pooling", "positions")
    ),
    *(f"models/{name}.py" for name in ("preprocessor", "vit")),
    *(f"models/encoders/{name}.py" for name in ("__init__", "loading", "mae", "network", "tokens")),
    *(f"serving/{name}.py" for name in ("__init__", "cells", "classifier", "features", "limits", "models", "refusals")),
    *(f"serving/{name}.py" for name in ("own_code", "requests", "server")),
)
SERVED_REQUIREMENTS = (
    "fastapi",
    "huggingface_hub",
    "imagecodecs",
    "mlflow",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pyarrow",
    "pydicom",
    "safetensors",
    "scikit-learn",
    "scipy",
    "simplejpeg",
    "tifffile",
    "torch",
    "transformers",
)
# The second is what it says of an alias that a model has not, and of names that no model can have.
_SAYS_THERE_IS_NONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
# Of a tag of the registered model, followed by the fingerprint of a split: the versions that were compared on its test.
_LOOKS = "compared_on."
_IMAGE = Schema([ColSpec("string", "image")])
_ANSWER = Schema(
    [
        ColSpec("string", "label"),
        ColSpec("double", "probability"),
        ColSpec("double", "threshold"),
        ColSpec("string", "model_id"),
        ColSpec("boolean", "accepted"),
        ColSpec("string", "reason"),
        ColSpec("double", "farther_than"),
        ColSpec("string", "map", required=False),
    ]
)


def register_mae(folder: Path, tags: Mapping[str, Any]) -> str:
    """Register an MAE's folder, named NETWORK, as `xray-mae`, a model that answers with the features of X-rays; its version."""
    return _register(MAE, folder, "features.py", ModelSignature(_IMAGE), tags)


def register_classifier(folder: Path, tags: Mapping[str, Any]) -> str:
    """Register a classifier's folder, named NETWORK, as `fracture-classifier`, with the alias `challenger`; its version."""
    # None: the model's own threshold, and the prevalence that its probabilities were fitted at.
    params = [ParamSpec(name, "double", None) for name in ("threshold", "prevalence")]
    params = ParamSchema([*params, ParamSpec("explain", "boolean", False)])
    number = _register(CLASSIFIER, folder, "classifier.py", ModelSignature(_IMAGE, _ANSWER, params), tags)
    MlflowClient().set_registered_model_alias(CLASSIFIER, CHALLENGER, number)
    return number


def is_model_uri(name: str) -> bool:
    """Whether a name is MLflow's to resolve, rather than a folder's or the hub's."""
    return name.startswith(("models:/", "runs:/", "mlflow-artifacts:/"))


def fetch(uri: str) -> Path:
    """The network's folder behind `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/ID/PATH`.

    Raises:
        FractureMaeError: there is no such model.
    """
    try:
        folder = Path(mlflow.artifacts.download_artifacts(uri))
    except (MlflowException, OSError) as error:
        if place := _missing_place(uri):
            raise FractureMaeError(
                f"the files of {uri} were looked for in {place}, and that folder is gone. If the project was moved, move it back, or "
                "link the old path to the new one: MLflow remembers paths. If they were deleted, take another version, or train anew."
            ) from error
        raise FractureMaeError(
            f"{uri} is not to be had from {stores.address(mlflow.get_tracking_uri())}: {str(error).rstrip('.')}. {_registered()} A "
            "model gets there by running finetune_mae (xray-mae) and train_classifier (fracture-classifier); those of another folder "
            "are there with MLFLOW_TRACKING_URI=sqlite:////THE/WHOLE/PATH/mlflow.db."
        ) from error
    inside = folder / "artifacts" / NETWORK
    return inside if inside.is_dir() else folder


def find(uri: str) -> ModelVersion | None:
    """The registered version behind `models:/NAME/VERSION` or `models:/NAME@ALIAS`; None where MLflow says that there is none.

    Raises:
        FractureMaeError: the registry does not answer.
    """
    if not uri.startswith("models:/"):
        return None
    client = MlflowClient()
    name, separator, alias = uri.removeprefix("models:/").partition("@")
    try:
        if separator:
            return client.get_model_version_by_alias(name, alias)
        name, _, number = name.partition("/")
        if number != "latest":
            return client.get_model_version(name, number)
        return max(client.search_model_versions(f"name = '{name}'"), key=lambda found: int(found.version), default=None)
    except MlflowException as error:
        if error.error_code in _SAYS_THERE_IS_NONE:
            return None
        raise FractureMaeError(
            f"the registry at {mlflow.get_tracking_uri()} does not say whether there is {uri}: {first_line(error)}. Nothing was "
            "changed there. Try again when it answers."
        ) from error


def exact(uri: str) -> str:
    """`models:/NAME/VERSION` for a URI with an alias or `latest`; any other name as it is."""
    found = find(uri)
    return f"models:/{found.name}/{found.version}" if found else uri


def version_tags(uri: str) -> dict[str, str]:
    """The tags of a registered version; none where there is no such version."""
    found = find(uri)
    return dict(found.tags) if found else {}


def run_tags(uri: str) -> dict[str, str]:
    """The tags of the run that made a registered version or that `runs:/ID/PATH` names; none where it is not known, or gone."""
    run_id = made_in(uri)
    try:
        return dict(MlflowClient().get_run(run_id).data.tags) if run_id else {}
    except MlflowException as error:
        outages.unless_out_of_reach(error)
        return {}


def made_in(uri: str) -> str | None:
    """The run that made a registered version or that `runs:/ID/PATH` names; None where it is not known."""
    if uri.startswith("runs:/"):
        return uri.removeprefix("runs:/").partition("/")[0]
    found = find(uri)
    return (found.run_id or None) if found else None


def description(name: str, number: str) -> str:
    """What the registry's page says of a version, Markdown; empty where nobody has written anything."""
    return MlflowClient().get_model_version(name, number).description or ""


def describe(name: str, number: str, markdown: str) -> None:
    """Write what the registry's page says of a version.

    Raises:
        ValueError: it is longer than LONGEST_DESCRIPTION, which some stores would refuse.
    """
    if len(markdown) > LONGEST_DESCRIPTION:
        raise ValueError(f"a description of {len(markdown):,} characters; at most {LONGEST_DESCRIPTION:,} fit")
    MlflowClient().update_model_version(name, number, description=markdown)


def tag_version(name: str, number: str, tags: Mapping[str, Any]) -> None:
    for key, value in tags.items():
        MlflowClient().set_model_version_tag(name, number, key, str(value))


def looks_at(test: str) -> set[str]:
    """Which versions of the classifier were compared on these test X-rays; those that were deleted since count too."""
    tags = MlflowClient().get_registered_model(CLASSIFIER).tags
    return set(tags.get(_LOOKS + test, "").split())


def add_look(test: str, number: str) -> None:
    """Remember that a version was compared on these test X-rays."""
    looks = sorted(looks_at(test) | {number}, key=int)
    MlflowClient().set_registered_model_tag(CLASSIFIER, _LOOKS + test, " ".join(looks))


def former_champion(but: str) -> ModelVersion | None:
    """The latest version of the classifier that was once promoted and is there still, other than version `but`."""
    found = MlflowClient().search_model_versions(f"name = '{CLASSIFIER}'")
    former = [each for each in found if each.tags.get(PROMOTION, "").startswith(PROMOTED) and str(each.version) != but]
    return max(former, key=lambda each: int(each.version), default=None)


def promote(number: str) -> None:
    """Give a version of the classifier the alias `champion`."""
    MlflowClient().set_registered_model_alias(CLASSIFIER, CHAMPION, number)


def _register(name: str, folder: Path, script: str, signature: ModelSignature, tags: Mapping[str, Any]) -> str:
    with TemporaryDirectory() as code:
        info = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(_PACKAGE / "serving" / script),
            artifacts={NETWORK: str(folder)},
            code_paths=[str(_served_package(Path(code)))],
            pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in SERVED_REQUIREMENTS],
            signature=signature,
            registered_model_name=name,
        )
    number = str(info.registered_model_version)
    tag_version(name, number, tags)
    return number


def _served_package(folder: Path) -> Path:
    """This package in `folder`, reduced to what answers."""
    package = folder / _PACKAGE.name
    for name in SERVED_CODE:
        place = package / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(_PACKAGE / name, place)
    return package


def _missing_place(uri: str) -> Path | None:
    """The folder on this machine that a registered version's files were put in, where it is no longer there."""
    found = find(uri)
    if found is None:
        return None
    try:
        place = stores.local_folder(MlflowClient().get_model_version_download_uri(found.name, str(found.version)))
    except MlflowException:  # what it was made from is gone too, as after `mlflow gc`
        return None
    return place if place and not place.exists() else None


def _registered() -> str:
    names = [model.name for model in MlflowClient().search_registered_models()]
    return f"Registered there: {', '.join(names) or 'nothing yet'}."
