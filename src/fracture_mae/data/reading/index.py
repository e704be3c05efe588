"""From a folder, a CSV or the word `synthetic` to a table of files; what the labels mean is decided here alone."""

from pathlib import Path

import pandas as pd

from fracture_mae.data.reading.box_files import csv_columns, label_files
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.errors import FractureMaeError

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_IGNORED = {".csv", ".txt", ".json", ".md", ".yaml", ".yml", ".xml", ".html", ".ini", ".db"}
_GIVEN = ("patient", "xray", "group", "split", "source")  # columns of a CSV besides path and label
_CSV_COLUMNS = ("path", "label", *_GIVEN)


def read(
    data_dir: str, positive_label: str, label_names: tuple[str, str] | None = None
) -> tuple[pd.DataFrame, tuple[str, str]]:
    """The files to use, and the names of the negative and the positive class.

    Args:
        label_names: of a classifier that is to be judged on these files, which may then hold one class alone, or call the classes
            otherwise: two labels, one of them `positive_label`.

    Returns:
        Columns path, label (1 is positive), label_name, split_published, scope (within which names are compared) and, empty
        unless a CSV gives them, given_patient, given_xray, given_group, given_split and given_source; sorted by path.

    Raises:
        FractureMaeError: nothing to read there, or not the classes that are expected.
    """
    root = root_of(data_dir)
    table = _from_csv(root) if root.suffix.lower() == ".csv" else _from_folder(root)
    if label_names is None or not set(table["label_name"]) <= set(label_names):
        names = _label_names(table, positive_label, root, label_names)
    else:
        names, positive_label = label_names, label_names[1]
    table["label"] = (table["label_name"] == positive_label).astype("int64")
    return table.sort_values("path", ignore_index=True), label_names or names


def root_of(data_dir: str) -> Path:
    """The folder or CSV that is meant, absolute; built-in X-rays are made where they are missing.

    Raises:
        FractureMaeError: there is none.
    """
    word, _, options = data_dir.partition(":")
    if word == "synthetic":
        from fracture_mae.data.synthetic import dataset

        return dataset.materialise(cache_root() / "synthetic", **_synthetic_options(options))
    root = Path(data_dir).expanduser().resolve()
    if not root.exists():
        raise FractureMaeError(
            f"--data-dir {data_dir}: there is no such folder or CSV ({root}). Expected: a folder or CSV that exists, or the word "
            "synthetic. Give an absolute path if in doubt."
        )
    if root.is_file() and root.suffix.lower() != ".csv":
        raise FractureMaeError(
            f"--data-dir {data_dir}: is a file, but no CSV. Expected: a folder, a CSV, or the word synthetic."
        )
    return root


def _synthetic_options(text: str) -> dict[str, float]:
    kinds = {"n_xrays": int, "copies": float, "seed": int, "size": int}
    try:
        pairs = (pair.split("=") for pair in text.split(",") if pair)
        return {name: kinds[name](value) for name, value in pairs}
    except (KeyError, ValueError) as error:
        raise FractureMaeError(
            f"--data-dir synthetic:{text}: {error} is not understood. Expected: synthetic, or such as synthetic:n_xrays=500,seed=1 "
            f"with any of {', '.join(kinds)}."
        ) from None


def _from_folder(root: Path) -> pd.DataFrame:
    """DIR/[train|val|test/]LABEL/…/FILE."""
    folders = sorted(path for path in root.iterdir() if _may_be_label(path))
    published = [folder for folder in folders if folder.name.lower() in SPLITS]
    if published and len(published) < len(folders):
        others = ", ".join(folder.name for folder in folders if folder not in published)
        raise FractureMaeError(
            f"{root} holds folders of splits ({', '.join(folder.name for folder in published)}) beside others ({others}). "
            "Expected: either train, val and test with a folder for each label inside, or a folder for each label."
        )
    rows = []
    for folder in published or [root]:
        split = SPLITS[folder.name.lower()] if published else ""
        for label in sorted(path for path in folder.iterdir() if _may_be_label(path)):
            rows += [(str(file), label.name, split, _scope(file, label)) for file in _files(label)]
    if not rows:
        raise FractureMaeError(
            f"{root} holds no files in label folders. Expected: DIR/[train|val|test/]LABEL/FILE, such as DIR/fractured/1.jpg."
        )
    try:
        table = pd.DataFrame(rows, columns=["path", "label_name", "split_published", "scope"])
    except UnicodeEncodeError as error:
        raise FractureMaeError(f"the name of a file is not valid UTF-8: {error.object!a}. Rename it.") from None
    return table.assign(**{f"given_{name}": "" for name in _GIVEN})


def _may_be_label(path: Path) -> bool:
    """Whether it is a folder of X-rays, and neither hidden nor one of boxes."""
    return path.is_dir() and not path.name.startswith(".") and not label_files.is_folder_of_boxes(path)


def _scope(file: Path, label: Path) -> str:
    """Files of one name are one X-ray across published splits, but not in two patients' folders below a label."""
    return str(label.name / file.parent.relative_to(label))


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() not in _IGNORED
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and (path.is_file() or path.is_symlink())
    ]


def _from_csv(file: Path) -> pd.DataFrame:
    try:
        given = pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise FractureMaeError(f"{file} is no CSV that can be read: {error}. Expected: columns path,label.") from None
    if "label" not in given:  # the splits.csv of a run is such a CSV
        given = given.rename(columns={"label_name": "label"})
    missing = [name for name in ("path", "label") if name not in given]
    misspelt = [name for name in given if name not in _CSV_COLUMNS and name.strip().lower() in _CSV_COLUMNS]
    if missing or misspelt:
        raise FractureMaeError(
            f"{file} has the columns {', '.join(given)}. Expected: path,label and, where known, patient, xray, group, split, source"
            f"{'; spelt so, not ' + ', '.join(misspelt) if misspelt else ''}."
        )
    if given.empty:
        raise FractureMaeError(f"{file} has no rows below its header. Expected: a row for each X-ray.")
    given = given.apply(lambda column: column.str.strip())
    for name in ("path", "label"):
        _refuse_rows(file, given[name] == "", f"have no {name}")
    paths = given["path"].map(lambda path: (file.parent / path).resolve())
    _refuse_rows(
        file, ~paths.map(Path.is_file), "name files that do not exist (relative paths start at the CSV's folder)"
    )
    column = {name: given.get(name, pd.Series("", index=given.index)) for name in _GIVEN}
    unknown = ~column["split"].str.lower().isin([*SPLITS, ""])
    _refuse_rows(file, unknown, f"have a split other than {', '.join(SPLITS)}")
    column["split"] = column["split"].str.lower().map(SPLITS).fillna("")
    table = pd.DataFrame(
        {
            "path": paths.map(str),
            "label_name": given["label"],
            "split_published": column["split"],
            "scope": paths.map(lambda path: str(path.parent)) + "/" + given["label"],
            **{f"given_{name}": values for name, values in column.items()},
        }
    )
    return table.drop_duplicates(ignore_index=True) if csv_columns.has_boxes(list(given)) else table


def _refuse_rows(file: Path, wrong: pd.Series, what: str) -> None:
    if wrong.any():
        lines = [str(position + 2) for position in wrong.to_numpy().nonzero()[0][:5]]
        raise FractureMaeError(
            f"{file}: {wrong.sum()} rows {what}: line {', '.join(lines)}{' and more' if wrong.sum() > 5 else ''}."
        )


def _label_names(
    table: pd.DataFrame, positive_label: str, root: Path, label_names: tuple[str, str] | None
) -> tuple[str, str]:
    counts = table["label_name"].value_counts()
    if len(counts) != 2 or positive_label not in counts:
        found = ", ".join(f"{name!r} ({n:,} files)" for name, n in counts.items())
        own = (
            ""
            if label_names is None
            else f"the classifier's own {label_names[0]!r} and {label_names[1]!r}, or one of them; or "
        )
        raise FractureMaeError(
            f"{root} holds the labels {found}. Expected: {own}exactly two, one of them the positive class {positive_label!r}. "
            "Name the positive one with --positive-label; move other folders away; a folder without images is no class."
        )
    return next(name for name in counts.index if name != positive_label), positive_label
