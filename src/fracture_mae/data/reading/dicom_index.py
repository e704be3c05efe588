"""What DICOM headers say of X-rays: whose they are, which are the same, and what of; nobody's name leaves this module."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from fracture_mae.data import attributes
from fracture_mae.data.reading import identities
from fracture_mae.data.reading.dicom_signature import SIGNATURE, is_dicom
from fracture_mae.data.reading.unreadable import UnreadableImage

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

logger = logging.getLogger(__name__)

SOP, STUDY = "sopinstanceuid", "studyinstanceuid"  # columns of a CSV, in any case, with or without _ and spaces
STABLE = "stable_patient"  # column by which splits know a patient, on any machine; never saved
_HEADER = 2**18  # bytes in which nearly all headers end
_REMEMBERED = 2**16  # headers
# Column → element. What a CSV says goes before.
_ATTRIBUTES = {
    "body_part": "BodyPartExamined",
    "view": "ViewPosition",
    "age": "PatientAge",
    "sex": "PatientSex",
    "device": "Manufacturer",
    "modality": "Modality",
}
_IDENTIFYING = ("PatientID", "OtherPatientIDs", "AccessionNumber", "IssuerOfPatientID", "PatientTelephoneNumbers")
_IDENTIFYING_VR = ("PN", "DA", "DT", "UI")  # names, dates and UIDs
_STANDARD_UIDS = "1.2.840.10008."  # of DICOM itself: they name kinds of things, not things
_PLACEHOLDERS = {
    "",
    "na",
    "none",
    "null",
    "unknown",
    "anonymous",
    "anonymized",
    "anonymised",
    "anon",
    "deidentified",
    "test",
}
_MANY_SIGNS = 4  # the same one so often stands for nobody
_HALF, _FEW_STUDIES = 0.5, 10


@dataclass(frozen=True)
class Header:
    """What one file says.

    Attributes:
        sop, study, patient: its UIDs and PatientID, as they are.
        attributes: of the columns of `_ATTRIBUTES`.
        told: texts that say who it is.
        without_picture: what kind of object it is, "" where it has a picture.
        burned_in: whether it says that text is burned into the picture.
    """

    sop: str = ""
    study: str = ""
    patient: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    told: frozenset[str] = frozenset()
    without_picture: str = ""
    burned_in: bool = False


def headers(paths: Sequence[str]) -> list[Header | None]:
    """That of each file; None of what is no DICOM, or cannot be opened; an empty one where it cannot be read."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_header, map(identities.real_path, paths)))


def described(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """A table of files with what their DICOM headers say; files of other kinds stay as they are.

    given_patient, where it is empty, becomes a keyed hash of PatientID, or of StudyInstanceUID where there is none; given_uid one of
    SOPInstanceUID: equal for files of one X-ray. Body part, view, age, sex, device and modality become columns, see `attributes`, where
    a CSV does not say them. In paths, and folders that might be labels, a hash stands for each name that tells who it is, see
    `identities`. Objects without a picture are left out, and a warning counts them.

    Args:
        table: columns path, scope and given_patient of `index`; label_name where files have labels.
        root: the folder, or that of the CSV.
    """
    found = headers(table["path"])
    if not any(found):
        return table.assign(given_uid="")
    table = table.assign(given_uid="", **{STABLE: table["given_patient"]})
    table["header"] = found
    table = _with_pictures(table)
    rows = [(row, header) for row, header in zip(table.index, table.pop("header"), strict=True) if header is not None]
    _warn_of(header for _, header in rows)
    for row, header in rows:
        patient = header.patient if _is_patient(header.patient) else header.study
        if patient and not table.at[row, "given_patient"]:
            table.at[row, "given_patient"] = identities.hashed(f"patient {patient}")
            table.at[row, STABLE] = hashlib.blake2b(patient.encode(), digest_size=16).hexdigest()
        if header.sop:
            table.at[row, "given_uid"] = identities.hashed(f"instance {header.sop}")
    _hide(table, rows, root)
    return _with_attributes(table, rows)


def uid_columns(names: Sequence[str]) -> dict[str, str]:
    """SOP and STUDY → the CSV's column, of those that there are."""
    return {_word(name): name for name in names if _word(name) in (SOP, STUDY)}


def paths_by_uid(given: pd.DataFrame, files: Sequence[Path]) -> pd.DataFrame:
    """A CSV's rows with the files that their UIDs mean, in `path`: several rows for a study of several, "" for a UID of none.

    Args:
        given: columns of UIDs, see `uid_columns`; rows that have a path keep it.
        files: among which they are looked for.
    """
    columns = uid_columns(list(given))
    by_uid: dict[tuple[str, str], list[str]] = {}
    shown = [identities.legible_path(str(file)) for file in files]
    found = list(zip(shown, headers(shown), strict=True))
    found = [(path, header) for path, header in found if header is not None and not header.without_picture]
    for path, header in found:
        for kind, text in ((SOP, header.sop), (STUDY, header.study)):
            by_uid.setdefault((kind, text), []).append(path)
    own = given["path"] if "path" in given else pd.Series("", index=given.index)
    paths = []
    for row in given.index:
        stated = [
            (kind, given.at[row, name]) for kind, name in sorted(columns.items()) if given.at[row, name]
        ]  # SOP first
        paths.append([own[row]] if own[row] else by_uid.get(next(iter(stated), None), [""]))
    known = {path for each in paths for path in each}
    if unnamed := sum(path not in known for path, _ in found):
        logger.warning(
            "%d of %d DICOM files beside the CSV are in none of its rows, and are not used.", unnamed, len(found)
        )
    return given.assign(path=paths).explode("path", ignore_index=True)


def _header(path: str) -> Header | None:
    try:
        found = os.stat(path)
        return _read_header(path, found.st_size, found.st_mtime_ns)
    except OSError:
        return None


@lru_cache(_REMEMBERED)
def _read_header(path: str, size: int, changed: int) -> Header | None:
    """size and changed tell whether the file is still the same."""
    with open(path, "rb") as file:
        start = file.read(SIGNATURE)
        if not is_dicom(start):
            return None
        from fracture_mae.data.reading import dicom  # pydicom takes a while to load, and most data have none

        start += file.read(_HEADER)
        try:
            dataset = _parsed(start)
            if dataset is None or "Rows" not in dataset:
                dataset = dicom.parse(start + file.read(), with_pixels=False)
        except UnreadableImage:
            return Header()
    text = {name: dicom.text_of(dataset, element) for name, element in _ATTRIBUTES.items()}
    kind = dicom.kind_of_object(dataset) or dicom.modality(dataset) or "of an unknown kind"
    return Header(
        sop=dicom.text_of(dataset, "SOPInstanceUID"),
        study=dicom.text_of(dataset, "StudyInstanceUID"),
        patient=dicom.text_of(dataset, "PatientID"),
        attributes=text,
        told=frozenset(_told(dataset)),
        without_picture=kind if dicom.has_no_picture(dataset) else "",
        burned_in=dicom.text_of(dataset, "BurnedInAnnotation").upper() == "YES",
    )


def _parsed(start: bytes) -> "Dataset | None":
    from fracture_mae.data.reading import dicom

    try:
        return dicom.parse(start, with_pixels=False)
    except UnreadableImage:  # perhaps it goes on behind
        return None


def _told(dataset: "Dataset") -> set[str]:
    """All texts in the header that say who it is of."""
    from fracture_mae.data.reading import dicom

    texts = {dicom.text_of(dataset, name) for name in _IDENTIFYING}
    for tag in list(dataset.keys()):  # to go on behind an element that cannot be read, which `elements()` does not
        try:
            vr, keyword = dataset[tag].VR, dataset[tag].keyword
        except Exception:  # an element that cannot be read says nothing
            continue
        if vr in _IDENTIFYING_VR and keyword:
            text = dicom.text_of(dataset, keyword)
            texts |= set(re.split(r"[\^=\s]+", text)) | {text} if vr == "PN" else {text[:8] if vr == "DT" else text}
    return {text for text in texts if text and not text.startswith(_STANDARD_UIDS)}


def _with_pictures(table: pd.DataFrame) -> pd.DataFrame:
    kinds = [header.without_picture if header is not None else "" for header in table["header"]]
    if any(kinds):
        counts = Counter(kind for kind in kinds if kind)
        logger.warning(
            "%d DICOM objects without a picture are passed over: %s.",
            *(counts.total(), ", ".join(f"{n} {kind}" for kind, n in counts.most_common())),
        )
    return table[[not kind for kind in kinds]].reset_index(drop=True)


def _warn_of(found: "Sequence[Header]") -> None:
    found = list(found)
    if burned_in := sum(header.burned_in for header in found):
        logger.warning(
            "%d of %d DICOM files say that text is burned into their pictures (BurnedInAnnotation). It may be a name, and pictures "
            "stand in figures, in the cache and in the models' shown.zip.",
            *(burned_in, len(found)),
        )
    studies = {header.study: header.patient for header in found if _is_patient(header.patient)}
    most = Counter(studies.values()).most_common(1)
    if most and len(studies) >= _FEW_STUDIES and most[0][1] > _HALF * len(studies):
        logger.warning(
            "%d of %d DICOM studies have the same PatientID: all are taken for one patient, who stands on one side of a split. If it "
            "is a placeholder, say in a CSV's column patient who is who.",
            *(most[0][1], len(studies)),
        )


def _is_patient(text: str) -> bool:
    """Whether a PatientID tells patients apart: no word for nobody, and no single sign again and again."""
    plain = "".join(letter for letter in text.casefold() if letter.isalnum())
    repeated = len(set(plain)) == 1 and (plain[0] in "0x" or len(plain) >= _MANY_SIGNS)
    return plain not in _PLACEHOLDERS and not repeated


def _hide(table: pd.DataFrame, rows: Sequence[tuple[int, Header]], root: Path) -> None:
    """Put hashes for what tells who it is into paths, scopes and names of labels."""
    for row, header in rows:
        path = table.at[row, "path"]
        shown = identities.shown_path(Path(path), root, header.told)
        if shown != path:
            table.at[row, "path"] = shown
            table.at[row, "scope"] = identities.hashed(f"scope {table.at[row, 'scope']}")
        if "label_name" in table:
            table.at[row, "label_name"] = identities.shown_name(table.at[row, "label_name"], header.told)


def _with_attributes(table: pd.DataFrame, rows: Sequence[tuple[int, Header]]) -> pd.DataFrame:
    there = {_word(name): attributes.column(name) for name in attributes.names(table)}
    for name in _ATTRIBUTES:
        told = pd.Series({row: header.attributes.get(name, "") for row, header in rows}, dtype=object)
        told = told.reindex(table.index).fillna("")
        if (told == "").all():
            continue
        column = there.get(_word(name), attributes.column(name))
        given = table[column] if column in table else pd.Series("", index=table.index)
        table[column] = given.where(given != "", told)
    return table


def _word(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
