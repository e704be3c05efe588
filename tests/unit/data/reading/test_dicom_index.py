"""What DICOM headers tell of whom X-rays are of, and what they must not tell."""

import hashlib
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydicom import uid

from fracture_mae.data import attributes, loading, splits
from fracture_mae.data.reading import dicom_index, identities, index
from fracture_mae.errors import FractureMaeError
from tests.dicom_files import ROOT, dicom_bytes, header, written

LABELS = ("not fractured", "fractured")
HASHED = "id-[0-9a-f]{16}"  # what stands for a name: its digits may hold any number by chance


def picture(number):
    """Eight by eight blocks of noise, 64 pixels wide: resembles no other."""
    blocks = np.random.default_rng(number).integers(0, 4096, (8, 8))
    return np.kron(blocks, np.ones((8, 8))).astype(np.uint16)


def write(folder, number, name="", **tags):
    """A DICOM file of its own patient, study and picture, unless the tags say otherwise."""
    path = folder / (name or f"{number}.dcm")
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = {"SOPInstanceUID": f"{ROOT}3.{number}", "StudyInstanceUID": f"{ROOT}1.{number}"} | tags
    tags = {"PatientID": f"P-{1000 + number}"} | tags
    path.write_bytes(dicom_bytes(picture(number), **tags))
    return path


def of_classes(root, n=6, **tags):
    """n files in each class folder."""
    for number in range(2 * n):
        write(root / LABELS[number % 2], number, **tags)
    return root


def test_class_folders_of_dicom_are_read_whatever_files_are_called(tmp_path):
    for number, name in enumerate(["a.dcm", "b", "c.jpg", "d.ima", "e.123"]):
        write(tmp_path / LABELS[number % 2], number, name)
    table, names = index.read(str(tmp_path), "fractured")
    assert names == LABELS
    assert len(table) == 5
    assert (table["given_patient"].str.len() == 16).all()
    assert table["given_patient"].nunique() == 5


def test_one_patient_is_one_hash_and_keys_tell_installations_apart(tmp_path, monkeypatch):
    for number, patient in enumerate(["12345678", "12345678", "87654321"]):
        write(tmp_path / "x" / LABELS[number % 2], number, PatientID=patient)
    first, again = (index.read(str(tmp_path / "x"), "fractured")[0]["given_patient"] for _ in range(2))
    assert first.tolist() == again.tolist()
    assert first.nunique() == 2
    keyless = {hashlib.blake2b(text, digest_size=8).hexdigest() for text in (b"12345678", b"patient 12345678")}
    assert not keyless & set(first)
    monkeypatch.setenv(identities.VARIABLE, "a key that two machines share")
    shared = index.read(str(tmp_path / "x"), "fractured")[0]["given_patient"]
    assert not set(shared) & set(first)
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / "elsewhere"))
    assert index.read(str(tmp_path / "x"), "fractured")[0]["given_patient"].tolist() == shared.tolist()


def test_the_split_does_not_hang_on_the_key(tmp_path, monkeypatch):
    of_classes(tmp_path / "x", n=12)
    sides = []
    for key in ("one key of this test", "another key of this test"):
        monkeypatch.setenv(identities.VARIABLE, key)
        sides.append(
            loading.load(str(tmp_path / "x"), image_size=32, group_by="names").index.set_index("path")["split"]
        )
    assert sides[0].equals(sides[1])
    assert sides[0].nunique() == 3


def test_a_short_key_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(identities.VARIABLE, "short")
    write(tmp_path / "fractured", 1)
    with pytest.raises(FractureMaeError, match="5 characters, expected 16"):
        index.read(str(tmp_path), "fractured")


def test_the_key_is_its_owners_alone(tmp_path):
    write(tmp_path / "x", 1)
    index.read_unlabelled(str(tmp_path / "x"))
    (key,) = loading.cache_root().glob("*.key")
    assert key.stat().st_mode & 0o077 == 0
    assert len(key.read_bytes()) == 32


@pytest.mark.parametrize("patient", ["", "ANONYMOUS", "anon.", "0000", "unknown", None])
def test_without_a_patient_the_study_stands_for_one(tmp_path, patient):
    for number in range(3):
        write(tmp_path, number, PatientID=patient, StudyInstanceUID=f"{ROOT}9.{number // 2}")
    given = index.read_unlabelled(str(tmp_path))["given_patient"]
    assert given[0] == given[1] != given[2]


def test_files_of_one_instance_are_one_xray(tmp_path):
    """One of them is anonymised and shown otherwise, so that neither pictures nor patients say so."""
    of_classes(tmp_path, n=6)
    write(tmp_path / LABELS[0], 99, SOPInstanceUID=f"{ROOT}3.0")
    table = loading.load(str(tmp_path), image_size=32, group_by="names").index
    group = table.set_index(table["path"].str.extract(r"(\d+)\.dcm$")[0])["group"]
    assert group["99"] == group["0"]
    assert group.nunique() == 12


def test_headers_become_columns_and_a_csv_goes_before(tmp_path):
    tags = {"BodyPartExamined": "WRIST", "ViewPosition": "PA", "PatientAge": "045Y", "PatientSex": "F"}
    for number in range(3):
        write(tmp_path, number, Manufacturer="Maker", **tags)
    pd.DataFrame(
        {"path": ["0.dcm", "1.dcm", "2.dcm"], "label": ["fractured", "fractured", "healthy"], "Sex": ["M", "", ""]}
    ).to_csv(tmp_path / "x.csv", index=False)
    table, _ = index.read(str(tmp_path / "x.csv"), "fractured")
    told = {name: attributes.texts(table, name).tolist() for name in attributes.names(table)}
    assert told["Sex"] == ["M", "F", "F"]
    assert "sex" not in told
    assert told["body_part"] == ["WRIST"] * 3
    assert told["age"] == ["045Y"] * 3
    assert told["modality"] == ["CR"] * 3
    assert set(attributes.known(told)) == {"body_part", "view", "age", "Sex", "device"}


@pytest.mark.parametrize("column", ["SOPInstanceUID", "sop_instance_uid", "StudyInstanceUID", "Study Instance UID"])
def test_labels_by_uid_in_a_tree_of_studies(tmp_path, column, caplog):
    kind = "3" if "sop" in column.lower() else "1"
    for number in range(4):
        write(tmp_path / f"{ROOT}1.{number}" / "series", number, f"{ROOT}3.{number}")
    (tmp_path / "DICOMDIR").write_bytes(written(header(SOPClassUID=uid.MediaStorageDirectoryStorage, Modality=None)))
    labels = ["fractured", "healthy", "fractured"]
    pd.DataFrame({column: [f"{ROOT}{kind}.{n}" for n in range(3)], "label": labels}).to_csv(tmp_path / "x.csv")
    with caplog.at_level(logging.WARNING):
        table, names = index.read(str(tmp_path / "x.csv"), "fractured")
    assert names == ("healthy", "fractured")
    assert sorted(table["label_name"]) == sorted(labels)
    assert [identities.real_path(path) for path in table["path"]] != table["path"].tolist()
    assert not table.astype(str).apply(lambda column: column.str.contains(ROOT, regex=False)).to_numpy().any()
    assert "1 of 4 DICOM files beside the CSV are in none of its rows" in caplog.text


def test_a_study_gives_all_its_xrays_its_label(tmp_path):
    for number in range(4):
        write(tmp_path, number, StudyInstanceUID=f"{ROOT}1.{number // 3}")
    rows = {"StudyInstanceUID": [f"{ROOT}1.0", f"{ROOT}1.1"], "label": ["fractured", "healthy"]}
    pd.DataFrame(rows).to_csv(tmp_path / "x.csv", index=False)
    table, _ = index.read(str(tmp_path / "x.csv"), "fractured")
    assert table["label_name"].value_counts().to_dict() == {"fractured": 3, "healthy": 1}


def test_a_uid_of_no_file_is_an_error_with_its_line(tmp_path):
    write(tmp_path, 0)
    rows = {"SOPInstanceUID": [f"{ROOT}3.0", f"{ROOT}3.77"], "label": ["fractured", "healthy"]}
    pd.DataFrame(rows).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(FractureMaeError, match=r"1 rows have no path, or a UID of no DICOM file .*: line 3"):
        index.read(str(tmp_path / "x.csv"), "fractured")


def test_reports_and_presentation_states_are_passed_over_and_said_so(tmp_path, caplog):
    of_classes(tmp_path, n=1)
    for number, kind in enumerate((uid.BasicTextSRStorage, uid.GrayscaleSoftcopyPresentationStateStorage)):
        (tmp_path / LABELS[0] / f"{number}.sr").write_bytes(written(header(SOPClassUID=kind, Modality="SR")))
    with caplog.at_level(logging.WARNING):
        table, _ = index.read(str(tmp_path), "fractured")
    assert len(table) == 2
    assert "2 DICOM objects without a picture are passed over: " in caplog.text
    assert "1 Basic Text SR Storage" in caplog.text


def test_nothing_but_reports_is_an_error(tmp_path):
    (tmp_path / "1.dcm").write_bytes(written(header(SOPClassUID=uid.BasicTextSRStorage, Modality="SR")))
    with pytest.raises(FractureMaeError, match="1 DICOM objects, none of which has a picture"):
        index.read_unlabelled(str(tmp_path))


def test_other_modalities_are_rejected_with_the_reason(tmp_path):
    of_classes(tmp_path, n=3)
    write(tmp_path / LABELS[0], 77, Modality="CT")
    (tmp_path / LABELS[0] / "cut.dcm").write_bytes((tmp_path / LABELS[0] / "0.dcm").read_bytes()[:150])
    rejected = loading.load(str(tmp_path), image_size=32, group_by="names").rejected
    reasons = rejected.set_index(rejected["path"].str.rpartition("/")[2])["reason"]
    assert reasons["77.dcm"].startswith("DICOM of modality CT, expected one of CR")
    assert "DICOM" in reasons["cut.dcm"]


def test_a_dicomdir_stands_for_its_folder(tmp_path):
    write(tmp_path / "disk" / "IMAGES", 1, "IM1")
    directory = tmp_path / "disk" / "DICOMDIR"
    directory.write_bytes(written(header(SOPClassUID=uid.MediaStorageDirectoryStorage, Modality=None)))
    for given in (directory.parent, directory):
        assert len(index.read_unlabelled(str(given))) == 1


def test_names_that_tell_a_patient_are_hashed_in_paths_and_lead_back(tmp_path):
    folder = tmp_path / "DOE_JANE" / "1975-03-09"
    path = write(folder, 1, "P-1001 left.dcm", PatientName="Doe^Jane^^Dr", PatientBirthDate="19750309")
    write(tmp_path / "harmless", 2, "wrist.dcm")
    shown = index.read_unlabelled(str(tmp_path))["path"].tolist()
    assert str(tmp_path / "harmless" / "wrist.dcm") in shown
    (hidden,) = (each for each in shown if "wrist" not in each)
    assert re.fullmatch(f"{HASHED}/{HASHED}/{HASHED}" + r"\.dcm", Path(hidden).relative_to(tmp_path).as_posix())
    identities._real.clear()  # as in another process
    assert identities.real_path(hidden) == str(path)


def test_splits_of_a_run_are_data_again_though_paths_are_hashed(tmp_path):
    root = tmp_path / "x"
    for number in range(12):
        write(root / LABELS[number % 2], number, f"{ROOT}3.{number}.dcm")
    first = loading.load(str(root), image_size=32, group_by="names")
    splits.save(first.index, tmp_path / "splits.csv")
    identities._real.clear()
    again = loading.load(str(tmp_path / "splits.csv"), image_size=32, group_by="names")
    assert again.index.set_index("path")["split"].equals(first.index.set_index("path")["split"])


def test_folders_of_patients_are_not_named_where_classes_are_looked_for(tmp_path, caplog):
    for number, name in enumerate(["Doe_Jane", "Roe_Rick", "Poe_Pat"]):
        write(tmp_path / "x" / name, number, PatientName=name.replace("_", "^"))
    with caplog.at_level(logging.WARNING):
        table, _ = index.read_if_labelled(str(tmp_path / "x"), "fractured")
    assert len(table) == 3
    assert "Jane" not in caplog.text
    with pytest.raises(FractureMaeError) as error:
        index.read(str(tmp_path / "x"), "fractured")
    assert "Jane" not in str(error.value)


def test_what_is_burned_in_and_one_patient_for_all_are_warned_of(tmp_path, caplog):
    for number in range(12):
        write(tmp_path, number, PatientID="SCRUBBED-1", BurnedInAnnotation="YES" if number == 3 else "NO")
    with caplog.at_level(logging.WARNING):
        index.read_unlabelled(str(tmp_path))
    assert "1 of 12 DICOM files say that text is burned into their pictures" in caplog.text
    assert "12 of 12 DICOM studies have the same PatientID" in caplog.text
    assert "SCRUBBED" not in caplog.text


def test_pictures_of_other_kinds_stay_as_they_are(tmp_path):
    for number in range(6):
        path = tmp_path / LABELS[number % 2] / f"1.2.3.4.5.6.7.{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no DICOM")
    table, _ = index.read(str(tmp_path), "fractured")
    assert table["path"].str.contains("1.2.3.4.5.6.7", regex=False).all()
    assert (table["given_uid"] == "").all()
    assert not (loading.cache_root() / "identity.key").exists()


def test_boxes_name_files_as_they_are_called_though_paths_are_hashed(tmp_path):
    for number in range(6):
        write(tmp_path / "x" / LABELS[number % 2], number, f"{ROOT}3.{number}.dcm")
    rows = {"image": [f"fractured/{ROOT}3.1.dcm", f"{ROOT}3.3.dcm"], "x0": [8, 0], "y0": 8, "x1": 16, "y1": 32}
    pd.DataFrame(rows).to_csv(tmp_path / "x" / "boxes.csv", index=False)
    files = loading.read_files(str(tmp_path / "x"), image_size=32)
    assert (files.table["boxes"] != "").sum() == 2
    assert files.table["path"].str.contains("id-").all()


def test_any_uid_in_a_name_is_hashed(tmp_path):
    """Such as that of a series that the file does not know of."""
    write(tmp_path, 1, "MR.1.3.12.2.1107.5.2.30.dcm")
    (path,) = index.read_unlabelled(str(tmp_path))["path"]
    assert re.fullmatch(HASHED + r"\.dcm", Path(path).name)


def test_splits_know_a_patient_by_more_than_one_xray(tmp_path):
    for number in range(24):
        write(tmp_path / LABELS[number % 2], number, PatientID=f"P-{2000 + number // 2}")
    table = loading.load(str(tmp_path), image_size=32, group_by="names").index
    assert table["patient"].nunique() == 12
    assert (table.groupby("patient")["identity"].nunique() == 1).all()
    assert table["identity"].nunique() == 12
    assert not table["identity"].isin(table["sha256"]).any()
    assert index.dicom_index.STABLE not in table


@pytest.mark.parametrize(
    "element", [b"\x08\x00\x60\x00CS", b"\x08\x00\x18\x00UI", b"\x10\x00\x10\x00PN", b"\x28\x00\x10\x00US"]
)
def test_an_element_of_a_kind_that_there_is_not_ends_no_index(tmp_path, element):
    """What pydicom makes of it is a NotImplementedError, as soon as the element is passed by."""
    whole = dicom_bytes(PatientName="Somebody^Some")
    assert whole.count(element) == 1
    (tmp_path / "1.dcm").write_bytes(whole.replace(element, element[:4] + b"C\xae"))
    [header] = dicom_index.headers([str(tmp_path / "1.dcm")])
    assert header is not None
