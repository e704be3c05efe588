"""An entry point that opens the run of a training and has several processes share it."""

import torch

from fracture_mae.config import Config
from fracture_mae.errors import FractureMaeError
from fracture_mae.processes.launching import start
from fracture_mae.tracking import runs


def lead(module: str, config: Config) -> None:
    """Run an entry point in `config.nproc` processes of this machine, within one run.

    Args:
        module: of the entry point, such as entrypoints.finetune_mae.

    Raises:
        FractureMaeError: a process died or failed; all have ended then, and the run is FAILED with the reason.
    """
    with runs.run(module.rpartition(".")[2], config) as run:
        _check_devices(config)
        start(["-m", module, *arguments_of(config)], config.nproc, {"MLFLOW_RUN_ID": run.id})


def arguments_of(config: Config) -> list[str]:
    """The command line that makes this very config, in which what the recipe filled is still told from what was asked for."""
    values = config.model_dump() | dict.fromkeys(config.from_recipe, "auto")
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _check_devices(config: Config) -> None:
    found = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
    if 0 < found < config.nproc:
        raise FractureMaeError(
            f"--nproc {config.nproc}: PyTorch finds {found} CUDA devices here, and each process needs one. Use --nproc {found} or "
            "--device cpu."
        )
