"""From a folder, a CSV or the word `synthetic` to a table of files; what the labels mean is decided here alone."""

import logging
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from fracture_mae.data.reading import boxed, class_names, dicom_index, folders, listed, lists
from fracture_mae.data.reading.cache import cache_root
from fracture_mae.data.reading.identities import real_path
from fracture_mae.data.reading.walking import Tree, walk
from fracture_mae.data.types import UNLABELLED, UNLABELLED_NAME
from fracture_mae.errors import FractureMaeError, legible

logger = logging.getLogger(__name__)

_WORKBOOK, _ARCHIVE = (
    " Save the workbook as CSV first (in Excel: Save As, CSV UTF-8).",
    " Unpack it first, and name the folder.",
)
_WAYS_OUT = dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), _WORKBOOK)
_WAYS_OUT |= dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz"), _ARCHIVE)


def read(
    data_dir: str, positive_label: str, label_names: tuple[str, str] | None = None
) -> tuple[pd.DataFrame, tuple[str, str]]:
    """The files to use, and the names of the negative and the positive class.

    Names of classes are compared by `class_names`: case, blanks and hyphens do not matter, and of known spellings (`Non_fractured`,
    `normal`, `0`) the default positive label means the one that says fractured. Folders may stand in another order than
    DIR/SPLIT/LABEL where their names are known ones; pictures without any folder of a class have that which boxes beside them give,
    see `boxed`.

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
    table, remark = _labelled(root, _tree(root), positive_label, label_names)
    return _with_classes(table, remark, root, positive_label, label_names)


def read_if_labelled(data_dir: str, positive_label: str) -> tuple[pd.DataFrame, tuple[str, str] | None]:
    """As `read` where there are two classes, else as `read_unlabelled`, and no names then; `positive_label` none: no class is read.

    Raises:
        FractureMaeError: there is no file, or there are two classes, none of which is the positive one; says how to read no label.
    """
    if positive_label.lower() == "none":
        return read_unlabelled(data_dir), None
    root, names = root_of(data_dir), []
    tree = _tree(root)
    try:
        if not _is_list(root) or "label" in listed.columns(root):
            table, remark = _labelled(root, tree, positive_label, None)
            names = sorted(set(table["label_name"]))
            if len(set(map(class_names.plain, names))) == 2 or class_names.classes(names, positive_label):
                return _with_classes(table, remark, root, positive_label, None)
    except folders.NoClassFound:
        pass
    except FractureMaeError as error:
        raise FractureMaeError(
            f"{error} Where these are no classes, say --positive-label none: no label is read."
        ) from None
    logger.warning(
        "%s is read without labels: found %s, expected two classes. So it serves reconstruct_baseline and finetune_mae alone.",
        legible(data_dir),
        f"the classes {', '.join(names)}" if names else "no class",
    )
    return _unlabelled(root, tree), None


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
    return _unlabelled(root, _tree(root))


def _unlabelled(root: Path, tree: Tree | None) -> pd.DataFrame:
    found = listed.read(root, labelled=False) if tree is None else folders.unlabelled(tree)
    table = _described(found, root).assign(label=UNLABELLED, label_name=UNLABELLED_NAME)
    table["label"] = table["label"].astype("int64")
    return table.sort_values("path", ignore_index=True)


def _is_list(root: Path) -> bool:
    return root.is_file()


def _tree(root: Path) -> Tree | None:
    """What is in the folder, with warnings of what of it is not used; None of a list."""
    if _is_list(root):
        return None
    tree = walk(root)
    tree.tell()
    return tree


def _labelled(
    root: Path, tree: Tree | None, positive_label: str, label_names: tuple[str, str] | None
) -> tuple[pd.DataFrame, str]:
    """The files with whatever may be their labels, and a remark that whoever uses them has to hear, or ""."""
    if tree is None:
        return _described(listed.read(root), root), ""
    table = folders.labelled(tree, positive_label)
    remark = folders.others(tree, table)
    names = (positive_label, *(label_names or ()))
    if not any(class_names.is_one(label, names) for label in table["label_name"].unique()):
        table, remark = boxed.labelled(tree, table) or (table, remark)
    if table.empty:
        raise folders.NoClassFound(
            f"{root} holds no files in label folders. Expected: DIR/[train|val|test/]LABEL/FILE, such as DIR/fractured/1.jpg"
            f"{_or_list(root)}."
        )
    return _described(table, root), remark


def _or_list(root: Path) -> str:
    """The call that reads a list beside the pictures, where there is one."""
    for file in sorted(root.iterdir()):
        if file.suffix.lower() in lists.ENDINGS and file.is_file():
            try:
                given = listed.columns(file)
                if "label" in given and ("path" in given or dicom_index.uid_columns(list(given))):
                    return f"; or the list that lies there: --data-dir {shlex.quote(str(file))}"
            except FractureMaeError:
                continue
    return ""


def _described(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The files with what their DICOM headers say.

    Raises:
        FractureMaeError: none of them holds a picture.
    """
    described = dicom_index.described(table, root.parent if _is_list(root) else root)
    if described.empty:
        raise FractureMaeError(
            f"{root} holds {len(table):,} DICOM objects, none of which has a picture. Expected: radiographs, such as CR or DX."
        )
    return described


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
    root = Path(real_path(os.path.abspath(os.path.expanduser(data_dir)))).resolve()
    if root.is_file() and root.name.upper() == "DICOMDIR":  # a directory of the files beside and below it
        root = root.parent
    if not root.exists():
        raise FractureMaeError(
            f"{option} {data_dir}: there is no such folder or CSV ({root}). Expected: a folder or CSV that exists, or the word "
            "synthetic. Give an absolute path if in doubt."
        )
    if root.is_file() and root.suffix.lower() not in lists.ENDINGS:
        what = _WAYS_OUT.get(root.suffix.lower(), "")
        raise FractureMaeError(
            f"{option} {data_dir}: is a file, but no CSV. Expected: a folder, a CSV, or the word synthetic.{what}"
        )
    return root


def check(data_dir: str, option: str = "data_dir") -> None:
    """Raise what `root_of` would, but make no built-in X-rays; the word `none` says that there are to be none."""
    word, _, options = data_dir.partition(":")
    if word == "synthetic":
        _synthetic_options(options)
    elif data_dir.lower() != "none":
        root_of(data_dir, option)


def _synthetic_options(text: str) -> dict[str, Any]:
    kinds: dict[str, Callable[[str], Any]] = {"n_xrays": int, "copies": float, "seed": int, "size": int}
    kinds["boxes"] = {"true": True, "false": False}.__getitem__
    found = {}
    for pair in filter(None, text.split(",")):
        name, _, value = pair.partition("=")
        try:
            found[name] = kinds[name](value)
        except (KeyError, ValueError):
            raise FractureMaeError(
                f"--data-dir synthetic:{text}: {pair!r} is not understood. Expected: synthetic, or such as "
                f"synthetic:n_xrays=500,seed=1,boxes=true with any of {', '.join(kinds)}."
            ) from None
    return found


def _with_classes(
    table: pd.DataFrame, remark: str, root: Path, positive_label: str, label_names: tuple[str, str] | None
) -> tuple[pd.DataFrame, tuple[str, str]]:
    """The table with label, and one name for all spellings of a class."""
    found = sorted(set(table["label_name"]))
    known = None if label_names is None else class_names.classes_of(found, label_names)
    label = known or class_names.classes(found, positive_label)
    if label is None:
        raise _not_the_classes(table, positive_label, root, label_names)
    table["label"] = table["label_name"].map(label).astype("int64")
    names = label_names if known else class_names.shown(table["label_name"], table["label"], positive_label)
    table["label_name"] = table["label"].map(dict(enumerate(names))).astype(object)
    if remark:
        logger.warning("%s", remark)
    if not known and class_names.plain(names[1]) != class_names.plain(positive_label):
        logger.warning(
            "the positive class is %r and the other one %r: so --positive-label %s is understood, as it is not among the labels.",
            *(names[1], names[0], shlex.quote(positive_label)),
        )
    return table.sort_values("path", ignore_index=True), label_names or names


def _not_the_classes(
    table: pd.DataFrame, positive_label: str, root: Path, label_names: tuple[str, str] | None
) -> FractureMaeError:
    counts = table["label_name"].value_counts()
    found = ", ".join(f"{name!r} ({n:,} files)" for name, n in counts.items())
    own = (
        ""
        if label_names is None
        else f"the classifier's own {label_names[0]!r} and {label_names[1]!r}, or one of them; or "
    )
    kinds = {class_names.polarity(name) for name in counts.index}
    if len(counts) == 2 and len(kinds) == 2:
        way_out = (
            f"Name the positive one: {' or '.join(f'--positive-label {shlex.quote(name)}' for name in counts.index)}"
        )
    elif len(kinds) == 1 and None not in kinds:
        way_out = "These are of one class alone, as far as names tell, which serves evaluate --split external; add or rename the other"
    else:
        way_out = (
            "Name the positive one with --positive-label; move other folders away; a folder without images is no class"
        )
    return FractureMaeError(
        f"{root} holds the labels {found}. Expected: {own}exactly two, one of them the positive class {positive_label!r}. "
        f"{way_out}{_or_list(root) if root.is_dir() else ''}."
    )
