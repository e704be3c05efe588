"""A folder as a table of files: what its folders say of labels, splits and patients, whichever of them stands above the other."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fracture_mae.data import attributes
from fracture_mae.data.reading import class_names
from fracture_mae.data.reading.identities import legible_path
from fracture_mae.data.reading.listed import GIVEN
from fracture_mae.data.reading.split_names import split_of
from fracture_mae.data.reading.walking import Tree
from fracture_mae.errors import FractureMaeError, legible

# Of MURA: XR_WRIST/patient00012/study1_positive.
_STUDY = re.compile(r"study\d+_(positive|negative)", re.IGNORECASE)
_PATIENT, _PART = re.compile(r"patient_?\d+", re.IGNORECASE), re.compile(r"XR_([A-Z]+)", re.IGNORECASE)

_OTHER_PICTURES = {"mask", "masks", "segmentation", "segmentations", "annotations", "groundtruth", "heatmaps"}


class NoClassFound(FractureMaeError):
    """Nothing says of what class any file is."""


@dataclass(frozen=True)
class _File:
    """A file, the names of the folders that lead to it, and what they were found to say; label None: of no class's folder."""

    path: Path
    folders: tuple[str, ...]
    split: str = ""
    label: str | None = None
    inner: tuple[str, ...] = ()  # folders that say neither


_Layout = list[_File]


def labelled(tree: Tree, positive_label: str) -> pd.DataFrame:
    """DIR/[train|val|test/]LABEL/…/FILE, or the same in another order or within further folders, where their names are known ones.

    Returns:
        Rows of the files in folders that may be classes, perhaps none.

    Raises:
        FractureMaeError: folders of splits stand beside others.
    """
    files = _files(tree)
    plain = _plain(files)
    found = next((each for each in _readings(files, positive_label) if _is_clear(each, positive_label)), plain)
    if found is plain:
        _refuse_mixture(files, tree.root)
    return _labelled_table([file for file in found if file.label is not None])


def others(tree: Tree, table: pd.DataFrame) -> str:
    """What to say of the files of which `labelled` has made no row; "" where there are none."""
    used = set(table["path"])
    beside = [path for path in tree.files if legible_path(str(path)) not in used]
    if not beside or table.empty:
        return ""
    return f"{len(beside):,} files lie beside the folders of the classes and are not used, the first of them {legible(str(beside[0]))}."


def unlabelled(tree: Tree) -> pd.DataFrame:
    """DIR/[train|val|test/]…/FILE; a folder of a split says so where all folders do, and no picture lies beside them.

    Raises:
        FractureMaeError: there is no file.
    """
    files = _files(tree)
    if not files:
        raise FractureMaeError(
            f"{tree.root} holds no X-rays, neither in itself nor in any folder below. Expected: pictures, such as "
            f"{tree.root.name}/1.jpg."
        )
    splits = [split_of(file.folders[0]) if file.folders else "" for file in files]
    splits = splits if all(splits) else [""] * len(files)
    rows = [
        {"path": legible_path(str(file.path)), "split_published": split, "scope": legible(str(file.path.parent))}
        for file, split in zip(files, splits, strict=True)
    ]
    return _table(rows)


def _files(tree: Tree) -> _Layout:
    """All files, and the folders that cannot be read: these are files that cannot be read."""
    files = [_File(path, _names(path.parent, tree.root)) for path in tree.files]
    return files + [_File(folder, _names(folder, tree.root)) for folder in tree.closed]


def _names(folder: Path, root: Path) -> tuple[str, ...]:
    return tuple(map(legible, folder.relative_to(root).parts))


def _readings(files: _Layout, positive_label: str) -> list[_Layout]:
    """The ways in which the folders may be meant, the plainest first."""
    readings = [_plain(files)]
    start = 0
    while common := _common(files, start):
        start += 1
        readings.append(_plain(files, start))
        if split_of(common):
            break
    return [*readings, _by_known_names(files, positive_label)]


def _common(files: _Layout, start: int) -> str:
    """The one folder that all files lie in below the first `start` ones, "" where there are several."""
    names = {file.folders[start] if len(file.folders) > start else "" for file in files}
    return names.pop() if len(names) == 1 else ""


def _plain(files: _Layout, start: int = 0) -> _Layout:
    """[train|val|test/]LABEL/… or LABEL/train|val|test/…, below the first `start` folders."""
    first = _sides(files, start)
    second = "" if first else _sides(files, start + 1)
    label = start + bool(first)
    return [
        _File(
            file.path,
            file.folders,
            split_of(file.folders[start]) if first else split_of(file.folders[start + 1]) if second else "",
            file.folders[label] if len(file.folders) > label else None,
            file.folders[label + 1 + bool(second) :],
        )
        for file in files
    ]


def _sides(files: _Layout, place: int) -> bool:
    """Whether all folders at a place are those of splits."""
    names = {file.folders[place] if len(file.folders) > place else "" for file in files} - (
        {""} if place == 0 else set()
    )
    return bool(names) and all(map(split_of, names))


def _by_known_names(files: _Layout, positive_label: str) -> _Layout:
    """The label wherever a folder is called as a class is, and the split wherever one is called so."""
    found = []
    for file in files:
        labels = {place: label for place, name in enumerate(file.folders) if (label := _known(name, positive_label))}
        splits = {place: split for place, name in enumerate(file.folders) if (split := split_of(name))}
        kinds = {class_names.polarity(label) for label in labels.values()}
        of_masks = any(class_names.plain(name) in _OTHER_PICTURES for name in file.folders)
        one_each = len(kinds) == 1 and len(splits) <= 1 and not of_masks
        inner = tuple(name for place, name in enumerate(file.folders) if place not in labels and place not in splits)
        label = list(labels.values())[-1] if one_each else None
        found.append(_File(file.path, file.folders, next(iter(splits.values()), ""), label, inner))
    return found


def _known(name: str, positive_label: str) -> str | None:
    """The class that a folder is called after."""
    if study := _STUDY.fullmatch(name):
        return study[1].lower()
    is_class = class_names.polarity(name) is not None or class_names.plain(name) == class_names.plain(positive_label)
    return name if is_class else None


def _is_clear(files: _Layout, positive_label: str) -> bool:
    """Whether these are both classes; and either all files say a split or none does."""
    labels = {file.label for file in files if file.label is not None}
    in_folders = [file for file in files if file.folders]
    whole = all(file.label is not None and not split_of(file.label) for file in in_folders)
    return (
        whole
        and len({bool(file.split) for file in in_folders}) == 1
        and bool(class_names.classes(labels, positive_label))
    )


def _refuse_mixture(files: _Layout, root: Path) -> None:
    top = sorted({file.folders[0] for file in files if file.folders})
    published = [name for name in top if split_of(name)]
    others = [name for name in top if not split_of(name)]
    if published and others:
        raise FractureMaeError(
            f"{root} holds folders of splits ({', '.join(published)}) beside others ({', '.join(others)}). "
            "Expected: either train, val and test with a folder for each label inside, or a folder for each label."
        )


def _labelled_table(files: Sequence[_File]) -> pd.DataFrame:
    """Names are compared across splits, but not between two patients' folders below a label."""
    is_mura = any(_STUDY.fullmatch(name) for file in files for name in file.folders)
    rows = [
        {
            "path": legible_path(str(file.path)),
            "label_name": file.label.strip(),
            "split_published": file.split,
            "scope": str(Path(class_names.plain(file.label), *file.inner)),
            **(_mura(file.folders) if is_mura else {}),
        }
        for file in files
    ]
    return _table(rows)


def _mura(folders: Sequence[str]) -> dict[str, str]:
    """Whose the X-ray is, and of what."""
    return {
        "given_patient": _first(folders, _PATIENT, lambda found: found[0].lower()),
        attributes.column("body_part"): _first(folders, _PART, lambda found: found[1].lower()),
    }


def _first(folders: Sequence[str], pattern: re.Pattern[str], what: Callable[[re.Match[str]], str]) -> str:
    return next((what(found) for name in folders if (found := pattern.fullmatch(name))), "")


def _table(rows: Sequence[dict[str, str]]) -> pd.DataFrame:
    """Files of which nothing is given besides."""
    table = pd.DataFrame(
        rows, columns=None if rows else ["path", "label_name", "split_published", "scope"], dtype=object
    )
    return table.assign(**{f"given_{name}": "" for name in GIVEN if f"given_{name}" not in table})
