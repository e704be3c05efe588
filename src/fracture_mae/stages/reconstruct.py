"""How well a masked autoencoder rebuilds X-rays, in numbers and pictures."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator
from matplotlib.figure import Figure

from fracture_mae import plots
from fracture_mae.config import Evaluate, FinetuneMae, ReconstructBaseline
from fracture_mae.data.shown import leakage_of
from fracture_mae.data.types import Dataset, XRays
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import reconstruction
from fracture_mae.evaluation.reconstruction import Masks
from fracture_mae.models.autoencoder import Mae
from fracture_mae.processes.accelerator import make_accelerator
from fracture_mae.stages import inputs
from fracture_mae.tracking.registered_models import load_mae, shown_by
from fracture_mae.tracking.report import Report
from fracture_mae.tracking.runs import Run


def reconstruct_baseline(config: ReconstructBaseline, run: Run) -> str:
    """Rebuild masked X-rays with the weights a model comes with; the metrics of each split, to print."""
    accelerator = make_accelerator(config.precision, config.device)
    mae = load_mae(config.model, config)
    if mae.decoder_is_new:
        raise FractureMaeError(
            f"{mae.source} holds an encoder alone, without the decoder that rebuilds: random weights would stand in its place. Take a "
            "checkpoint with a decoder, or train one: finetune_mae takes this one."
        )
    dataset = inputs.load_data(config, mae.image_size, preprocess=mae.preprocess, labels_needed=False)
    run.dataset(dataset)
    run.tags({"model": mae.source, "norm_pix_loss": mae.norm_pix_loss})
    told = told_of_units(mae.norm_pix_loss)
    run.note(f"Rebuilding X-rays with **{mae.source}**, as it comes. {inputs.describe(dataset)}{told}")

    results = measure(mae, dataset.sides, config, accelerator)
    run.metrics(flat(results))
    run.table(results, "reconstruction.csv", index=True)
    examples = Examples(dataset, config, accelerator)
    examples.rebuild(mae, "baseline")
    run.figures(examples.figures())
    return results.round(4).to_string()


def test_reconstruction(config: Evaluate, dataset: Dataset, accelerator: Accelerator) -> Report:
    """How well the masked autoencoder that `config.mae` names rebuilds the test X-rays; nothing where it names none.

    Nobody else looks at a fine-tuned one's test: of a hundred fine-tunings the one with the best error there would be praised for luck.

    Args:
        dataset: of the classifier; read anew where the autoencoder takes other squares.
    """
    if config.mae == "none":
        return Report()
    mae = load_mae(config.mae, config)
    if mae.decoder_is_new:
        raise FractureMaeError(
            f"--mae {config.mae} holds an encoder alone, without the decoder that rebuilds. Expected: an autoencoder that finetune_mae "
            "registered, a checkpoint with a decoder, or none."
        )
    if (mae.image_size, mae.preprocess) != (dataset.test.pixels.shape[-1], dataset.preprocess):
        dataset = inputs.load_data(config, mae.image_size, dataset.label_names, preprocess=mae.preprocess)
    results = measure(mae, [dataset.test], config, accelerator)
    name = dataset.test.name
    return Report(
        metrics=flat(results),
        tables={f"{name}/reconstruction.csv": results.reset_index()},
        tags={"mae": mae.source, "mae.leakage": leakage_of(shown_by(mae.source).among_test(dataset), dataset)},
    )


def reconstruction_digest(report: Report, split: str) -> str:
    """The figures to print; empty where nothing was rebuilt."""
    table = report.tables.get(f"{split}/reconstruction.csv")
    if table is None:
        return ""
    found = table.iloc[0]
    return (
        f"{report.tags['mae']} on {split}: masked MSE {found['masked_mse']:.4f}, {found['relative_masked_mse']:.3f} of the mean of the "
        f"visible pixels; PSNR {found['psnr']:.2f} dB, SSIM {found['ssim']:.3f}; shown before: {report.tags['mae.leakage']}"
    )


def measure(
    mae: Mae, sides: Iterable[XRays], config: ReconstructBaseline | FinetuneMae | Evaluate, accelerator: Accelerator
) -> pd.DataFrame:
    """Reconstruction metrics (columns) of some splits (index)."""
    masks = Masks(config.mask_ratio, config.seed)
    options = {"batch_size": config.batch_size, "accelerator": accelerator}
    rows = {xrays.name: reconstruction.measure(mae, xrays, masks, **options) for xrays in sides}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("split")


def told_of_units(norm_pix_loss: bool) -> str:
    """What must be said of errors and figures where a model predicts normalised patches; begins with a space."""
    if not norm_pix_loss:
        return ""
    return (
        " With norm_pix_loss, patches are predicted after each was normalised by its own mean and deviation: errors in pixels and "
        "figures owe these two numbers of every hidden patch to the X-ray itself, and look better for it than those of other models; "
        f"`{reconstruction.PER_PATCH}` owes them nothing."
    )


class Examples:
    """The same validation X-rays under the same masks, rebuilt by one model after the other."""

    def __init__(self, dataset: Dataset, config: ReconstructBaseline | FinetuneMae, accelerator: Accelerator):
        self.xrays = dataset.validation
        self.masks = Masks(config.mask_ratio, config.seed)
        self.accelerator = accelerator
        self.positions = reconstruction.choose_examples(self.xrays, config.n_figures, config.seed)
        self.rebuilt: dict[str, tuple[dict[str, np.ndarray], list[str]]] = {}
        self._by_patch: set[str] = set()  # names of the models that predict normalised patches

    def rebuild(self, mae: Mae, name: str) -> None:
        """Rebuild the chosen X-rays, if any, with `mae`, to be called `name` in figures."""
        if not len(self.positions):
            return
        self._by_patch |= {name} if mae.norm_pix_loss else set()
        panels, error = reconstruction.panels(mae, self.xrays, self.positions, self.masks, self.accelerator)
        self.rebuilt[name] = panels, [f"masked MSE {value:.3f}" for value in error]

    def figures(self) -> dict[str, Figure]:
        """The four panels for each model, and all models side by side where there are several."""
        figures = {
            f"reconstructions/{name}.png": self._draw(panels, {"Reconstruction": captions}, name + self._owed_by(name))
            for name, (panels, captions) in self.rebuilt.items()
        }
        if len(self.rebuilt) > 1:
            first, *_ = self.rebuilt.values()
            panels = {name: first[0][name] for name in ("Original", "Masked")}
            for part in ("Reconstruction", "Reconstruction + Visible"):
                panels |= {f"{name}\n{part}": rebuilt[part] for name, (rebuilt, _) in self.rebuilt.items()}
            captions = {f"{name}\nReconstruction": captions for name, (_, captions) in self.rebuilt.items()}
            what = f"same masks{self._owed_by(*self.rebuilt)}"
            figures["reconstructions/side_by_side.png"] = self._draw(panels, captions, what)
        return figures

    def _owed_by(self, *names: str) -> str:
        """What a title must say of the models among these that predict normalised patches."""
        owing = [name for name in names if name in self._by_patch]
        return f" · {', '.join(owing)} by the true patches' mean and deviation" if owing else ""

    def _draw(self, panels: dict[str, np.ndarray], captions: dict[str, list[str]], what: str) -> Figure:
        rows = self.xrays.table.iloc[self.positions]
        titles = [f"{row.label_name}\n{_shortened(Path(row.path).name)}" for row in rows.itertuples()]
        return plots.reconstructions(
            panels,
            titles,
            captions,
            f"{what} · {self.masks.mask_ratio:.0%} of patches hidden · {self.xrays.name} X-rays",
        )


def _shortened(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:10]}…{name[-11:]}"


def flat(table: pd.DataFrame, prefix: str = "") -> dict[str, float]:
    """A table of splits and metrics as `PREFIX SPLIT/METRIC` → value."""
    return {f"{prefix}{split}/{metric}": value for split, row in table.iterrows() for metric, value in row.items()}
