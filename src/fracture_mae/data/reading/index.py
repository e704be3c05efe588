"""From a folder, a CSV or the word `synthetic` to a table of files; what the labels mean is decided here alone."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from fracture_mae.data import attributes
from fracture_mae.data.reading import dicom_index, identities
from fracture_mae.data.reading.box_files import csv_columns, label_files
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.data.types import UNLABELLED, UNLABELLED_NAME
from fracture_mae.errors import FractureMaeError

logger = logging.getLogger(__name__)

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
_LINE = "line in the file"  # column that is added to a CSV's own
_MADE = ("sha256", "label_name")  # further columns of a run's splits.csv


def read(
    data_dir: str, positive_label: str, label_names: tuple[str, str] | None = None
) -> tuple[pd.DataFrame, tuple[str, str]]:
    """The files to use, and the names of the negative and the positive class.

    Args:
        label_names: of a classifier that is to be judged on these files, which may then hold one class alone, or call the classes
            otherwise: two labels, one of them `positive_label`.

    Returns:
        Columns path, label (1 is positive), label_name, split_published, scope (within which names are compared) and, empty
        unless a CSV gives them, given_patient, given_xray, given_group, given_split and given_source; of a CSV also its other columns,
        see `attributes`; given_uid and what else DICOM headers say, see `dicom_index.described`; sorted by path.

    Raises:
        FractureMaeError: nothing to read there, or not the classes that are expected.
    """
    root = root_of(data_dir)
    table = _described(_from_csv(root) if _is_csv(root) else _from_folder(root), root)
    if label_names is None or not set(table["label_name"]) <= set(label_names):
        names = _label_names(table, positive_label, root, label_names)
    else:
        names, positive_label = label_names, label_names[1]
    table["label"] = (table["label_name"] == positive_label).astype("int64")
    return table.sort_values("path", ignore_index=True), label_names or names


def read_if_labelled(data_dir: str, positive_label: str) -> tuple[pd.DataFrame, tuple[str, str] | None]:
    """As `read` where there are two classes, else as `read_unlabelled`, and no names then; `positive_label` none: no class is read.

    Raises:
        FractureMaeError: there is no file, or there are two classes, none of which is the positive one; says how to read no label.
    """
    if positive_label.lower() == "none":
        return read_unlabelled(data_dir), None
    try:
        names = _names_found(root_of(data_dir))
        if len(names) == 2:
            return read(data_dir, positive_label)
    except FractureMaeError as error:
        raise FractureMaeError(
            f"{error} Where these are no classes, say --positive-label none: no label is read."
        ) from None
    logger.warning(
        "%s is read without labels: found %s, expected two classes. So it serves reconstruct_baseline and finetune_mae alone.",
        data_dir,
        f"the classes {', '.join(names)}" if names else "no class",
    )
    return read_unlabelled(data_dir), None


def _names_found(root: Path) -> list[str]:
    """What might be classes: values of a CSV's column label, or folders that hold files, hashed where they are a patient's."""
    if _is_csv(root):
        given = _columns(root)
        return sorted(given["label"].unique()) if "label" in given else []
    first = {folder.name: str(files[0]) for folder, _ in _label_folders(root) if (files := _files(folder))}
    headers = dicom_index.headers(list(first.values()))
    return sorted(
        name if header is None else identities.shown_name(name, header.told)
        for name, header in zip(first, headers, strict=True)
    )


def _is_csv(root: Path) -> bool:
    return root.suffix.lower() == ".csv"


def _described(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The files with what their DICOM headers say.

    Raises:
        FractureMaeError: none of them holds a picture.
    """
    described = dicom_index.described(table, root.parent if _is_csv(root) else root)
    if described.empty:
        raise FractureMaeError(
            f"{root} holds {len(table):,} DICOM objects, none of which has a picture. Expected: radiographs, such as CR or DX."
        )
    return described


def read_unlabelled(data_dir: str, option: str = "data_dir") -> pd.DataFrame:
    """All files below a folder, or those of a CSV, as X-rays without labels: `UNLABELLED`, which is no class.

    Args:
        option: that named the folder or CSV, for errors.

    Returns:
        Columns as of `read`; names are compared within a file's folder.

    Raises:
        FractureMaeError: there is no file.
    """
    root = root_of(data_dir, option)
    table = _described(_from_csv(root, labelled=False) if _is_csv(root) else _from_tree(root), root)
    table = table.assign(label=UNLABELLED, label_name=UNLABELLED_NAME)
    table["label"] = table["label"].astype("int64")
    return table.sort_values("path", ignore_index=True)


def _from_tree(root: Path) -> pd.DataFrame:
    """DIR/[train|val|test/]…/FILE; a folder of a split says so where all folders do, and no picture lies beside them."""
    files = _files(root)
    if not files:
        raise FractureMaeError(
            f"{root} holds no X-rays, neither in itself nor in any folder below. Expected: pictures, such as {root.name}/1.jpg."
        )
    top = [file.relative_to(root).parts[0].lower() if file.parent != root else "" for file in files]
    splits = [SPLITS[name] for name in top] if all(name in SPLITS for name in top) else [""] * len(files)
    rows = [(str(file), split, str(file.parent)) for file, split in zip(files, splits, strict=True)]
    return _table(rows, ["path", "split_published", "scope"])


def root_of(data_dir: str, option: str = "data_dir") -> Path:
    """The folder or CSV that is meant, absolute; built-in X-rays are made where they are missing.

    Args:
        option: that named it, for errors.

    Raises:
        FractureMaeError: there is none.
    """
    option = f"--{option.replace('_', '-')}"
    word, _, options = data_dir.partition(":")
    if word == "synthetic":
        from fracture_mae.data.synthetic import dataset

        return dataset.materialise(cache_root() / "synthetic", **_synthetic_options(options))
    root = Path(data_dir).expanduser().resolve()
    if root.is_file() and root.name.upper() == "DICOMDIR":  # a directory of the files beside and below it
        root = root.parent
    if not root.exists():
        raise FractureMaeError(
            f"{option} {data_dir}: there is no such folder or CSV ({root}). Expected: a folder or CSV that exists, or the word "
            "synthetic. Give an absolute path if in doubt."
        )
    if root.is_file() and root.suffix.lower() != ".csv":
        raise FractureMaeError(
            f"{option} {data_dir}: is a file, but no CSV. Expected: a folder, a CSV, or the word synthetic."
        )
    return root


def _synthetic_options(text: str) -> dict[str, Any]:
    kinds: dict[str, Callable[[str], Any]] = {"n_xrays": int, "copies": float, "seed": int, "size": int}
    kinds["boxes"] = {"true": True, "false": False}.__getitem__
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
    rows = [
        (str(file), label.name, split, _scope(file, label))
        for label, split in _label_folders(root)
        for file in _files(label)
    ]
    if not rows:
        raise FractureMaeError(
            f"{root} holds no files in label folders. Expected: DIR/[train|val|test/]LABEL/FILE, such as DIR/fractured/1.jpg."
        )
    return _table(rows, ["path", "label_name", "split_published", "scope"])


def _label_folders(root: Path) -> list[tuple[Path, str]]:
    """The folder of each label, and the split that it belongs to, "" for none.

    Raises:
        FractureMaeError: folders of splits stand beside others.
    """
    folders = sorted(path for path in root.iterdir() if _may_be_label(path))
    published = [folder for folder in folders if folder.name.lower() in SPLITS]
    if published and len(published) < len(folders):
        others = ", ".join(folder.name for folder in folders if folder not in published)
        raise FractureMaeError(
            f"{root} holds folders of splits ({', '.join(folder.name for folder in published)}) beside others ({others}). "
            "Expected: either train, val and test with a folder for each label inside, or a folder for each label."
        )
    return [
        (label, SPLITS[folder.name.lower()] if published else "")
        for folder in published or [root]
        for label in sorted(path for path in folder.iterdir() if _may_be_label(path))
    ]


def _table(rows: list[tuple[str, ...]], columns: list[str]) -> pd.DataFrame:
    """Files of a folder, of which nothing is given besides."""
    try:
        table = pd.DataFrame(rows, columns=columns)
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


def _columns(file: Path) -> pd.DataFrame:
    """What a CSV says, as text.

    Raises:
        FractureMaeError: it cannot be read.
    """
    try:
        given = pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise FractureMaeError(f"{file} is no CSV that can be read: {error}. Expected: columns path,label.") from None
    if "label" not in given:  # the splits.csv of a run is such a CSV
        given = given.rename(columns={"label_name": "label"})
    return given.apply(lambda column: column.str.strip())


def _from_csv(file: Path, labelled: bool = True) -> pd.DataFrame:
    """Files of a CSV; where it is not labelled, a column label is not looked at."""
    given = _columns(file)
    if not labelled:
        given = given.assign(label=UNLABELLED_NAME)
    given = _with_files_of_uids(given, file)
    missing = [name for name in ("path", "label") if name not in given]
    misspelt = [name for name in given if name not in _CSV_COLUMNS and name.strip().lower() in _CSV_COLUMNS]
    if missing or misspelt:
        found = ", ".join(name for name in given if name != _LINE)
        raise FractureMaeError(
            f"{file} has the columns {found}. Expected: path,label and, where known, patient, xray, group, split, "
            f"source{'; spelt so, not ' + ', '.join(misspelt) if misspelt else ''}. For DICOM files path may be "
            "SOPInstanceUID or StudyInstanceUID."
        )
    if given.empty:
        raise FractureMaeError(f"{file} has no rows below its header. Expected: a row for each X-ray.")
    of_uids = (
        "path, or a UID of no DICOM file beside or below the CSV" if dicom_index.uid_columns(list(given)) else "path"
    )
    for name, what in (("path", of_uids), ("label", "label")):
        _refuse_rows(file, given[name] == "", f"have no {what}", given[_LINE])
    paths = given["path"].map(lambda path: Path(identities.real_path(str(file.parent / path))).resolve())
    exists = paths.map(Path.is_file)
    _refuse_rows(file, ~exists, "name files that do not exist (relative paths start at the CSV's folder)", given[_LINE])
    column = {name: given.get(name, pd.Series("", index=given.index)) for name in _GIVEN}
    unknown = ~column["split"].str.lower().isin([*SPLITS, ""])
    _refuse_rows(file, unknown, f"have a split other than {', '.join(SPLITS)}", given[_LINE])
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
    if csv_columns.has_boxes(list(given)):
        table = table.drop_duplicates()
    others = {attributes.column(name): given[name] for name in given if _is_attribute(name)}
    return table.assign(**others).reset_index(drop=True)


def _with_files_of_uids(given: pd.DataFrame, file: Path) -> pd.DataFrame:
    """A CSV's rows with the line that each stands in, and, where UIDs say which X-ray is meant, their files in path."""
    given = given.assign(**{_LINE: range(2, len(given) + 2)})
    if not dicom_index.uid_columns(list(given)) or ("path" in given and (given["path"] != "").all()):
        return given
    return dicom_index.paths_by_uid(given, _files(file.parent))


def _is_attribute(name: str) -> bool:
    """Whether a column says something of the X-ray that nothing here reads otherwise."""
    return not (
        name in (*_CSV_COLUMNS, *_MADE, _LINE)
        or dicom_index.uid_columns([name])
        or csv_columns.is_of_boxes(name)
        or name.startswith("Unnamed: ")
        or not name
    )


def _refuse_rows(file: Path, wrong: pd.Series, what: str, line: pd.Series) -> None:
    if wrong.any():
        lines = [str(number) for number in line[wrong][:5]]
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
