"""What each way of preparing and training is worth on X-rays of sources that it never saw: the table of the README.

    python -m benchmarks.generalisation --data-dir DIR --cnn FOLDER --out FOLDER

Every row is trained anew for each seed, in five folds and with each source held out, on training and validation X-rays alone. What is
in the folder is not run again, so a table that was interrupted, or is to have more rows, goes on; rows can be run by several processes
into one folder.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from fracture_mae.config import Compare, FinetuneMae, TrainClassifier
from fracture_mae.config.command_line import parse
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation.judging import slug
from fracture_mae.evaluation.references import FILE_PROPERTIES, GRADIENT_HISTOGRAMS
from fracture_mae.evaluation.strata import Strata
from fracture_mae.metrics.intervals import intervals
from fracture_mae.metrics.strata import aurocs_within
from fracture_mae.stages.compare import compare
from fracture_mae.stages.finetune import finetune_mae
from fracture_mae.stages.train_classifier import train_classifier
from fracture_mae.tracking import lineage, runs

MAE, CNN, HISTOGRAMS = "mae", "cnn", "histograms"
FOLDS, SOURCES, PROPERTIES, PLACE = "cross_validation", "held_out_sources", "file_properties", "place"
YARDSTICK = "letterbox"
FEWEST_XRAYS = 8  # of each label, for a source to count in the mean
N_DRAWS = 2000


@dataclass(frozen=True)
class Row:
    """A way to a classifier.

    Attributes:
        start: MAE, fine-tuned on the X-rays first, CNN, or HISTOGRAMS.
        frozen: whether a linear head reads features that nobody trained on X-rays, which no seed changes.
        options: of `train_classifier` or `compare`; `preprocess` of the MAE's training too.
    """

    start: str = MAE
    frozen: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def _mae(**options: object) -> Row:
    return Row(MAE, options=options)


def _cnn(*, frozen: bool = True, **options: object) -> Row:
    return Row(CNN, frozen, options)


_ALL = {"recipe": "robust", "match": "properties"}
ROWS = {
    "original": _mae(recipe="original"),
    YARDSTICK: _mae(preprocess="letterbox"),
    "film": _mae(preprocess="film"),
    "film_equalised": _mae(preprocess="film_equalised"),
    "default": _mae(),
    "letterbox_augmented": _mae(preprocess="letterbox", recipe="robust"),
    "letterbox_match": _mae(preprocess="letterbox", match="properties"),
    "letterbox_lse": _mae(preprocess="letterbox", pool="lse"),
    "letterbox_boxes": _mae(preprocess="letterbox", pool="lse", place_weight=1, boxes="auto"),
    "robust": _mae(recipe="robust"),
    "all": _mae(**_ALL),
    "histograms": Row(HISTOGRAMS, frozen=True, options={"preprocess": "letterbox"}),
    "cnn_letterbox": _cnn(preprocess="letterbox"),
    "cnn_film": _cnn(preprocess="film"),
    "cnn_film_equalised": _cnn(preprocess="film_equalised"),
    "cnn": _cnn(),
    "cnn_match": _cnn(match="properties"),
    "cnn_320": _cnn(image_size=320),
    "cnn_320_match": _cnn(image_size=320, match="properties"),
    "cnn_trained": _cnn(frozen=False),
    "cnn_trained_all": _cnn(frozen=False, **_ALL),
}


class Answers:
    """The out-of-fold answers of rows, in a folder: ROW/SEED/{cross_validation,held_out_sources}.csv, a row per file.

    Beside them, where a run has it, what file properties say (file_properties.csv), and where the folds' models look (place.csv).
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def path(self, row: str, seed: int, what: str) -> Path:
        return self._folder / row / str(seed) / f"{what}.csv"

    def has(self, row: str, seed: int) -> bool:
        return all(self.path(row, seed, what).exists() for what in (FOLDS, SOURCES))

    def keep(self, row: str, seed: int, run_id: str, tables: dict[str, str]) -> None:
        for what, artifact in tables.items():
            found = lineage.read_table(run_id, artifact)
            if found is not None:
                path = self.path(row, seed, what)
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished = path.with_suffix(".part")  # or a table cut short would be taken for one that is there
                found.to_csv(unfinished, index=False)
                unfinished.replace(path)

    def strata(self, xrays: pd.DataFrame) -> np.ndarray | None:
        """Of each X-ray, by what file properties say of it in five folds, see `evaluation.strata`; None where no row has it."""
        path = next(self._folder.glob(f"*/*/{PROPERTIES}.csv"), None)
        if path is None:
            return None
        return Strata.of(pd.read_csv(path)).of_xray["stratum"].reindex(xrays.index).to_numpy()

    def read(self, row: str, what: str) -> list[pd.DataFrame]:
        """Of each seed, a row per X-ray: label, source, score."""
        paths = sorted(self._folder.glob(f"{row}/*/{what}.csv"))
        return [_per_xray(pd.read_csv(path)) for path in paths]


def _per_xray(files: pd.DataFrame) -> pd.DataFrame:
    score = files["probability"] if "probability" in files else files["logit"]
    grouped = files.assign(score=score).groupby("group")
    return grouped.agg(label=("label", "first"), source=("source", "first"), score=("score", "mean")).sort_index()


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", required=True, help="X-rays of several sources, as for train_classifier")
    parser.add_argument("--out", type=Path, required=True, help="folder for answers and the table")
    parser.add_argument("--model", default="vit-mae-nano", help="masked autoencoder that is fine-tuned first")
    parser.add_argument("--mae-epochs", type=int, default=100)
    parser.add_argument("--image-size", default="64", help="side of the autoencoder's squares [pixels]")
    parser.add_argument(
        "--cnn", help="folder or hub name of a network pretrained on photographs; without, its rows are left out"
    )
    parser.add_argument("--cnn-size", default="auto", help="side of its squares [pixels] where it is trained")
    parser.add_argument("--cnn-epochs", default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    given = parser.parse_args()
    answers = Answers(given.out)
    wanted = [(name, seed) for name in given.rows for seed in _seeds(ROWS[name], given)]
    try:
        for name, seed in tqdm([each for each in wanted if not answers.has(*each)], desc="Rows", unit="row"):
            _run(name, seed, given, answers)
        table = tabulate(answers, [name for name in ROWS if answers.read(name, SOURCES)])
    except (FractureMaeError, click.UsageError) as error:
        raise SystemExit(f"Error: {error}") from None
    table.to_csv(given.out / "table.csv")
    print(table.to_string())


def _seeds(row: Row, given: argparse.Namespace) -> list[int]:
    if row.start == CNN and not given.cnn:
        return []
    return given.seeds[:1] if row.frozen else given.seeds


def _run(name: str, seed: int, given: argparse.Namespace, answers: Answers) -> None:
    row, shared = ROWS[name], {"data_dir": given.data_dir, "seed": seed, "boxes": "none"}
    if row.frozen:
        encoder = given.cnn if row.start == CNN else given.model
        size = {} if row.start == CNN else {"image_size": given.image_size}
        asked = parse(Compare, shared | size | row.options | {"encoders": encoder, "cross_validate": "sources"})
        with runs.run("compare", asked, f"{name}, seed {seed}") as run:
            print(compare(asked, run))
        table = slug(GRADIENT_HISTOGRAMS if row.start == HISTOGRAMS else encoder)
        tables = {FOLDS: f"predictions/{table}.csv", SOURCES: f"{SOURCES}/predictions/{table}.csv"}
        tables[PROPERTIES] = f"predictions/{slug(FILE_PROPERTIES)}.csv"
    else:
        options = {"epochs": given.cnn_epochs, "image_size": given.cnn_size} if row.start == CNN else {}
        encoder = given.cnn if row.start == CNN else _fine_tuned(row.options, given)
        asked = parse(
            TrainClassifier, shared | options | row.options | {"encoder": encoder, "cross_validate": "5,sources"}
        )
        with runs.run("train_classifier", asked, f"{name}, seed {seed}") as run:
            print(train_classifier(asked, run))
        tables = {what: f"{what}/predictions.csv" for what in (FOLDS, SOURCES)}
        tables[PLACE] = f"{FOLDS}/place.csv"
    answers.keep(name, seed, run.id, tables)


def _fine_tuned(options: dict[str, Any], given: argparse.Namespace) -> str:
    """The autoencoder, fine-tuned on the training X-rays as these options preprocess them, once for all rows and seeds."""
    preprocess = TrainClassifier.model_validate(options).preprocess_for(None)
    known = given.out / f"mae_{preprocess}.txt"
    if not known.exists():
        asked = parse(
            FinetuneMae,
            {
                "data_dir": given.data_dir,
                "model": given.model,
                "image_size": given.image_size,
                "epochs": given.mae_epochs,
                "preprocess": preprocess,
                "boxes": "none",
            },
        )
        with runs.run("finetune_mae", asked, f"autoencoder, {preprocess}") as run:
            print(finetune_mae(asked, run))
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(f"runs:/{run.id}/xray-mae")
    return known.read_text()


def tabulate(answers: Answers, names: list[str], n_draws: int = N_DRAWS) -> pd.DataFrame:
    """AUROC per X-ray of each row, the mean over its seeds, with the 95 % interval of a bootstrap over X-rays.

    Every draw takes the same X-rays for all rows, so that the difference from the row `letterbox`, in the mean of sources, is paired.

    Raises:
        FractureMaeError: there is no row, rows are of different X-rays, or no source can be judged alone.
    """
    scores = {name: {what: answers.read(name, what) for what in (FOLDS, SOURCES)} for name in names}
    if not names:
        raise FractureMaeError("there is no row to show: --rows of a network pretrained on photographs need --cnn.")
    xrays = scores[names[0]][SOURCES][0]
    for name, tables in scores.items():
        if any(not table["label"].equals(xrays["label"]) for each in tables.values() for table in each):
            raise FractureMaeError(
                f"the row {name} is of other X-rays than {names[0]}: --out holds answers for another --data-dir. Take a folder of "
                "its own."
            )
    label, stratum = xrays["label"].to_numpy(), answers.strata(xrays)
    counts = pd.crosstab(xrays["source"], xrays["label"])
    alone = {name: (xrays["source"] == name).to_numpy() for name in counts.index[counts.min(axis=1) >= FEWEST_XRAYS]}
    if not alone:
        raise FractureMaeError(
            f"no source has {FEWEST_XRAYS} X-rays of each label, so none can be judged alone; found {counts.to_dict('index')}. Add "
            "X-rays, or name sources in a CSV's column source."
        )
    everywhere = np.zeros(len(xrays), dtype=np.int64)

    def of_row(name: str, weight: np.ndarray) -> dict[str, np.ndarray]:
        def mean(what: str, strata: np.ndarray, here: np.ndarray = everywhere == 0) -> np.ndarray:
            each = [table["score"].to_numpy()[here] for table in scores[name][what]]
            found = [aurocs_within(label[here], values, strata[here], weight[..., here]) for values in each]
            return np.mean(found, axis=0)

        by_source = {source: mean(SOURCES, everywhere, here) for source, here in alone.items()}
        return {
            "five folds": mean(FOLDS, everywhere),
            **({} if stratum is None else {"within strata": mean(FOLDS, stratum)}),
            "held out, pooled": mean(SOURCES, everywhere),
            **by_source,
            "mean of sources": np.mean(list(by_source.values()), axis=0),
        }

    def statistics(weight: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        found = {name: of_row(name, weight) for name in names}
        if YARDSTICK in found:
            for values in found.values():
                values[f"minus {YARDSTICK}"] = values["mean of sources"] - found[YARDSTICK]["mean of sources"]
        return {(name, column): value for name, values in found.items() for column, value in values.items()}

    measured = intervals(
        statistics,
        label,
        xrays.index.to_numpy(),
        scale=lambda name: "number" if name[1].startswith("minus") else "share",
        n_draws=n_draws,
    )
    table = measured.apply(_text, axis=1)
    table.index = pd.MultiIndex.from_tuples(table.index, names=["row", None])
    shown = table.unstack(sort=False)
    return shown.assign(seeds=[len(scores[name][SOURCES]) for name in shown.index])


def _text(row: pd.Series) -> str:
    sign = "+" if row.name[1].startswith("minus") else ""
    return f"{row['estimate']:{sign}.3f} [{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]"


if __name__ == "__main__":
    main()
