"""A CSV, or a list like one, as a table of files."""

import logging
from pathlib import Path

import pandas as pd

from fracture_mae.data import attributes
from fracture_mae.data.reading import class_names, dicom_index, lists, located
from fracture_mae.data.reading.box_files import csv_columns
from fracture_mae.data.reading.lists import LINE
from fracture_mae.data.reading.split_names import SPLITS, split_of
from fracture_mae.data.reading.walking import walk
from fracture_mae.data.types import UNLABELLED_NAME
from fracture_mae.errors import FractureMaeError

logger = logging.getLogger(__name__)

GIVEN = ("patient", "xray", "group", "split", "source")  # columns besides path and label
_COLUMNS = ("path", "label", *GIVEN)
_MADE = {"sha256", "labelname"}  # further columns of a run's splits.csv
# What these columns are called elsewhere, as `lists.word` gives it.
_CALLED = {
    "path": lists.PATH_WORDS,
    "label": (
        *(
            "labelname",
            "labels",
            "class",
            "classname",
            "target",
            "diagnosis",
            "groundtruth",
            "fractured",
            "fracture",
            "isfractured",
        ),
        *("hasfracture", "isfracture", "abnormal"),
    ),
    "patient": ("patientid", "subject", "subjectid", "patientnumber"),
    "split": ("subset", "partition", "set", "datasetsplit"),
}
_KNOWN = {*_COLUMNS, *(name for names in _CALLED.values() for name in names), *csv_columns.WORDS}
_TAKEN = {"all", "within strata", "all, pooled", "mean of sources"}  # what reports call several sources together
_EXAMPLE = "path,label"


def columns(file: Path) -> pd.DataFrame:
    """What a list says, as text; columns that are known by their own names, whatever they are called there.

    Raises:
        FractureMaeError: it cannot be read, or several columns may be meant.
    """
    given = lists.read(file, _KNOWN, _EXAMPLE)
    called = {}
    for column in _COLUMNS:
        meant = _meant(given.drop(columns=LINE), column)
        if len(meant) > 1:
            raise FractureMaeError(
                f"{file} has several columns that may be the {column}: {', '.join(meant)}. Expected: one. Call it {column}."
            )
        called |= dict.fromkeys(meant, column)
    given = _answered(given, called).rename(columns=called)
    others = [name for name in given if name not in ("path", LINE)]
    given[others] = given[others].apply(lambda column: column.map(lists.bare))
    return given


def _meant(given: pd.DataFrame, column: str) -> list[str]:
    """The names of the columns that may be meant: those that are called so exactly, else but for case, else by another name."""
    if column in given:
        return [column]
    words = {name: lists.word(name) for name in given}
    if own := [name for name, word in words.items() if word == column]:
        return own
    others = [name for alias in _CALLED.get(column, ()) for name, word in words.items() if word == alias]
    if column == "path":  # the first that there is; but UIDs say it too
        return [] if dicom_index.uid_columns(list(given)) else others[:1]
    if column == "label" and others and words[others[0]] == "labelname":
        return others[:1]
    if column == "split":  # a column of another meaning may be called so
        return [name for name in others if all(not cell.strip() or split_of(cell) for cell in given[name])]
    return others


def _answered(given: pd.DataFrame, called: dict[str, str]) -> pd.DataFrame:
    """Where a column is a question, such as `fractured`, the answers 1 and 0, or yes and no, as `fractured` and `not fractured`."""
    asked = next((name for name, column in called.items() if column == "label"), None)
    what = "abnormal" if asked is not None and lists.word(asked) == "abnormal" else "fractured"
    if asked is None or class_names.polarity(lists.word(asked).removeprefix("is").removeprefix("has")) != 1:
        return given
    names = {
        cell: (f"not {what}", what)[class_names.polarity(cell)]
        for cell in given[asked].unique()
        if class_names.is_answer(cell)
    }
    return given.assign(**{asked: given[asked].replace(names)})


def read(file: Path, labelled: bool = True) -> pd.DataFrame:
    """The files of a list; where it is not labelled, a column label is not looked at.

    Raises:
        FractureMaeError: columns are missing, or rows that cannot be used; names their lines.
    """
    given = columns(file)
    if not labelled:
        given = given.assign(label=UNLABELLED_NAME)
    given = _with_files_of_uids(given, file)
    missing = [name for name in ("path", "label") if name not in given]
    if missing:
        found = ", ".join(name for name in lists.read(file, _KNOWN, _EXAMPLE) if name != LINE)
        raise FractureMaeError(
            f"{file} has the columns {found}. Expected: path,label in the first line and, where known, patient, xray, group, split, "
            f"source; {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. For DICOM files path may be "
            "SOPInstanceUID or StudyInstanceUID."
        )
    if given.empty:
        raise FractureMaeError(f"{file} has no rows below its header. Expected: a row for each X-ray.")
    of_uids = (
        "path, or a UID of no DICOM file beside or below the CSV" if dicom_index.uid_columns(list(given)) else "path"
    )
    for name, what in (("path", of_uids), ("label", "label")):
        empty = given[name].map(lists.bare) == ""
        hint = (
            "" if name == "path" else ". Where Excel has merged cells, the first of them alone is saved: fill it down"
        )
        _refuse_rows(file, empty, f"have no {what}", given[LINE], hint)
    paths = located.find(given["path"], given[LINE], file)
    where = f". Relative paths start at {file.parent}" + _of_windows(given.loc[paths == "", "path"])
    _refuse_rows(file, paths == "", "name files that do not exist, or may not be read", given[LINE], where)
    column = {name: given.get(name, pd.Series("", index=given.index)) for name in GIVEN}
    unknown = (column["split"] != "") & (column["split"].map(split_of) == "")
    _refuse_rows(file, unknown, f"have a split other than {', '.join(SPLITS)}", given[LINE])
    column["split"] = column["split"].map(split_of)
    column["source"] = column["source"].map(lambda name: f"{name} (a source)" if name in _TAKEN else name)
    table = pd.DataFrame(
        {
            "path": paths,
            "label_name": given["label"],
            "split_published": column["split"],
            "scope": paths.map(lambda path: str(Path(path).parent)) + "/" + given["label"].map(class_names.plain),
            **{f"given_{name}": values for name, values in column.items()},
        }
    )
    _refuse_two_labels(table, given[LINE], file)
    table = _once(table, file, csv_columns.has_boxes(list(given)))
    others = {attributes.column(name): given[name] for name in given if _is_attribute(name)}
    return table.assign(**{name: values[table.index] for name, values in others.items()}).reset_index(drop=True)


def _of_windows(lost: pd.Series) -> str:
    is_of_windows = lost.map(lambda path: lists.bare(path)[1:3] in (":\\", ":/") or lists.bare(path).startswith("\\\\"))
    return ", and paths of Windows mean files below it by their last parts, if any" if is_of_windows.any() else ""


def _refuse_two_labels(table: pd.DataFrame, line: pd.Series, file: Path) -> None:
    label = table["label_name"].map(class_names.plain)
    several = label.groupby(table["path"]).transform("nunique") > 1
    if several.any():
        same = table["path"] == table.loc[several, "path"].iloc[0]
        lines = ", ".join(map(str, line[same].head(5)))
        raise FractureMaeError(
            f"{file}: {table.loc[several, 'path'].nunique()} files have two labels, such as {table.loc[same, 'path'].iloc[0]}: "
            f"{' and '.join(sorted(set(table.loc[same, 'label_name'])))} in the lines {lines}. Expected: one label for each. Take the "
            "wrong rows away."
        )


def _once(table: pd.DataFrame, file: Path, has_boxes: bool) -> pd.DataFrame:
    """Without rows that say the same of the same file again; those of further boxes are meant so."""
    again = table.assign(label_name=table["label_name"].map(class_names.plain)).duplicated()
    if again.any() and not has_boxes:
        logger.warning("%d rows of %s name a file again, and are read once.", again.sum(), file.name)
    return table[~again]


def _with_files_of_uids(given: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The rows and, where UIDs say which X-ray is meant, their files in path."""
    if not dicom_index.uid_columns(list(given)) or ("path" in given and (given["path"] != "").all()):
        return given
    return dicom_index.paths_by_uid(given, walk(file.parent).files)


def _is_attribute(name: str) -> bool:
    """Whether a column says something of the X-ray that nothing here reads otherwise."""
    return not (
        name in (*_COLUMNS, LINE)
        or lists.word(name) in _MADE
        or dicom_index.uid_columns([name])
        or csv_columns.is_of_boxes(name)
    )


def _refuse_rows(file: Path, wrong: pd.Series, what: str, line: pd.Series, hint: str = "") -> None:
    if wrong.any():
        lines = [str(number) for number in line[wrong][:5]]
        raise FractureMaeError(
            f"{file}: {wrong.sum()} rows {what}: line {', '.join(lines)}{' and more' if wrong.sum() > 5 else ''}{hint}."
        )
