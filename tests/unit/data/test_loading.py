import logging
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fracture_mae.data import loading, splits
from fracture_mae.data.types import Leakage
from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation import properties
from tests import pictures
from tests.builders import csv_of, write_noise


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five X-rays of each class; of the first of each also a byte-identical and a rotated copy in another split."""
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for label in ("fractured", "healthy"):
        for split, numbers in {"train": (0, 1, 2), "val": (3,), "test": (4,)}.items():
            (tmp_path / "xrays" / split / label).mkdir(parents=True)
            for number in numbers:
                picture = rng.integers(0, 255, (40, 30), np.uint8)
                cv2.imwrite(str(tmp_path / "xrays" / split / label / f"{number}.png"), picture)
        source = tmp_path / "xrays" / "train" / label / "0.png"
        (tmp_path / "xrays" / "test" / label / "0 (1).png").write_bytes(source.read_bytes())
        turned = np.rot90(cv2.imread(str(source), cv2.IMREAD_GRAYSCALE))
        cv2.imwrite(str(tmp_path / "xrays" / "test" / label / "0-rotated1.png"), turned)
    return tmp_path / "xrays"


def test_grouped_keeps_copies_together_and_exact_ones_once(folder):
    dataset = loading.load(str(folder), image_size=32)
    assert not dataset.leakage
    assert dataset.index.groupby("group")["split"].nunique().eq(1).all()
    assert dataset.index["group"].nunique() == 10
    assert len(dataset.index) == 14
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 12


def test_published_leaks_and_says_so(folder):
    dataset = loading.load(str(folder), image_size=32, split="published")
    assert dataset.leakage.with_label == pytest.approx(2 / 4)  # of four X-rays in test two stand in training too
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [6, 2, 6]


def test_pixels_and_labels_belong_together(folder):
    dataset = loading.load(str(folder), image_size=40)
    for xrays in (dataset.train, dataset.validation, dataset.test):
        for position, path in enumerate(xrays.table["path"]):
            picture = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
            if picture.shape == (40, 30):
                assert (xrays.images(np.array([position]))[0][:, 5:35] == picture).all()
            assert xrays.label[position] == ("/fractured/" in path)


def test_fingerprints_follow_contents_labels_and_split_but_not_names(folder):
    first = loading.load(str(folder), image_size=32)
    again = loading.load(str(folder.rename(folder.parent / "moved")), image_size=32, split_seed=1)
    assert first.fingerprint == again.fingerprint
    assert first.split_fingerprint != again.split_fingerprint
    other = loading.load(str(folder.parent / "moved"), image_size=32, positive_label="healthy")
    assert other.fingerprint != first.fingerprint


def test_rejected_files_are_listed_and_counted(folder, caplog):
    (folder / "train" / "healthy" / "broken.jpg").write_bytes(b"nothing")
    (folder / "train" / "healthy" / "gone.jpg").symlink_to(folder / "nowhere")
    with caplog.at_level(logging.WARNING):
        dataset = loading.load(str(folder), image_size=32)
    gone = f"it cannot be opened: it is a link to {folder / 'nowhere'}, which does not exist"
    assert sorted(dataset.rejected["reason"]) == [gone, "not an image file"]
    assert "2 of 16 files are not used" in caplog.text
    assert len(dataset.index) == 14


def test_files_of_every_kind_that_is_not_read_are_listed_with_what_they_are(folder):
    """Whatever they are called; none of them ends the run."""
    found = pictures.refused() | {
        "wide TIFF": (
            pictures.saved(Image.new("L", (1_100_000, 1)), "TIFF"),
            "1100000 × 1 pixels: no side may be longer",
        ),
        "wide BMP": (
            pictures.saved(Image.new("L", (1_100_000, 1)), "BMP"),
            "1100000 × 1 pixels: no side may be longer",
        ),
    }
    for name, (content, _) in found.items():
        (folder / "train" / "healthy" / f"{name}.jpg").write_bytes(content)
    rejected = loading.load(str(folder), image_size=32).rejected
    assert len(rejected) == len(found)
    for path, reason in zip(rejected["path"], rejected["reason"], strict=True):
        assert re.match(found[Path(path).stem][1], reason)


def test_an_xray_under_both_labels_is_set_aside(folder):
    content = (folder / "train" / "healthy" / "1.png").read_bytes()
    (folder / "train" / "fractured" / "77.png").write_bytes(content)
    dataset = loading.load(str(folder), image_size=32)
    assert len(dataset.rejected) == 2
    assert dataset.rejected["reason"].str.startswith("label conflict").all()


def test_nothing_readable_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(tmp_path / "cache"))
    for label in ("fractured", "healthy"):
        (tmp_path / "xrays" / label).mkdir(parents=True)
        (tmp_path / "xrays" / label / "1.jpg").write_bytes(label.encode())
    with pytest.raises(FractureMaeError, match=r"none of the 2 files can be used.*not an image"):
        loading.load(str(tmp_path / "xrays"), image_size=32)


@pytest.fixture
def patients(tmp_path):
    """A CSV of 24 X-rays: patient 0 has a healthy and a fractured one, all others one each; two clinics."""
    rng = np.random.default_rng(0)
    lines = ["path,label,group,source"]
    for number in range(24):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 255, (40, 30), np.uint8))
        label = "fractured" if number % 2 else "healthy"
        lines.append(f"{number}.png,{label},patient {number if number > 1 else 0},clinic {number // 12}")
    (tmp_path / "patients.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "patients.csv"


def test_a_patient_with_both_labels_is_kept_on_one_side_as_two_xrays(patients):
    dataset = loading.load(str(patients), image_size=32)
    assert dataset.rejected.empty
    assert dataset.index.groupby("group")["label"].nunique().eq(1).all()
    assert dataset.index["group"].nunique() == 24
    first = dataset.index[dataset.index["given_group"] == "patient 0"]
    assert first["label"].tolist() == [0, 1]
    assert first["split"].nunique() == 1
    assert first["patient"].nunique() == 1  # for those who split again
    assert dataset.index["patient"].nunique() == 23


def test_sources_come_from_the_csv(patients):
    assert set(loading.load(str(patients), image_size=32).index["source"]) == {"clinic 0", "clinic 1"}


def test_a_saved_split_can_be_loaded_as_published(patients):
    first = loading.load(str(patients), image_size=32, split_seed=7)
    splits.save(first.index, patients.parent / "splits.csv")
    again = loading.load(str(patients.parent / "splits.csv"), image_size=32, split="published")
    assert again.split_fingerprint == first.split_fingerprint
    assert again.leakage == Leakage()


@pytest.fixture
def many(tmp_path):
    """A CSV, path and label alone, of 40 X-rays in turns of either label; of every fifth a smaller copy, by its name."""
    rng = np.random.default_rng(0)
    for number in range(40):
        write_noise(tmp_path / f"{number}.png", rng)
        if number % 5 == 0:
            write_noise(tmp_path / f"{number}-rotated1.png", rng, (30, 20))
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    return csv_of(tmp_path, ["path,label", *(f"{name},{_label_of(name)}" for name in names)])


def _label_of(name):
    return "fractured" if int(name.split("-")[0].split(".")[0]) % 2 else "healthy"


def _sides(data_dir, **options):
    """Side of each content, whatever its file is called."""
    index = loading.load(str(data_dir), image_size=32, **{"group_by": "names"} | options).index
    return index.drop_duplicates("sha256").set_index("sha256")["split"].sort_index()


def test_a_runs_own_split_stays_when_rows_are_added(many, tmp_path):
    first = loading.load(many, image_size=32, group_by="names", split_seed=7)
    own = tmp_path / "splits.csv"
    splits.save(first.index, own)
    rng = np.random.default_rng(1)
    names = [*(f"{number}.png" for number in range(40, 60)), "3-rotated1.png", "5-rotated2.png"]
    for name in names:
        write_noise(tmp_path / name, rng)
    with open(own, "a", encoding="utf-8") as file:  # path, sha256, label_name, group, source, split
        file.writelines(f"{tmp_path / name},,{_label_of(name)},,,\n" for name in names)
    # Another seed, which would deal all of them out otherwise.
    second = loading.load(str(own), image_size=32, group_by="names", split_seed=8)
    before, after = (each.index.set_index("path")["split"] for each in (first, second))
    assert after[before.index].equals(before)
    assert set(after[[str(tmp_path / name) for name in names]]) == set(splits.NAMES)
    for number, copy in ((3, "3-rotated1"), (5, "5-rotated2")):
        assert after[str(tmp_path / f"{copy}.png")] == before[str(tmp_path / f"{number}.png")]


def test_the_split_follows_neither_folders_nor_order_nor_names(many, tmp_path):
    first = _sides(many)
    (tmp_path / "other").mkdir()
    rows = []
    for path in sorted(tmp_path.glob("*.png")):
        root, *mark = path.stem.split("-")
        name = f"x{97 - int(root)}{'-flip' if mark else ''}.png"  # another order
        (tmp_path / "other" / name).write_bytes(path.read_bytes())
        rows.append(f"{name},{_label_of(path.name)}")
    assert _sides(csv_of(tmp_path / "other", ["path,label", *sorted(rows)])).equals(first)


def test_copies_that_are_added_leave_xrays_where_they_are(many, tmp_path):
    first = _sides(many)
    rows = Path(many).read_text(encoding="utf-8").splitlines()
    for number in range(1, 40, 3):
        write_noise(tmp_path / f"{number}-rotated9.png", np.random.default_rng(number), (60, 60))
        rows.append(f"{number}-rotated9.png,{_label_of(str(number))}")
    again = _sides(csv_of(tmp_path, rows))
    assert again[first.index].equals(first)


def test_the_split_of_a_published_tree_is_dealt_out_anew(folder):
    """Its folders are no wish of the user's: the X-ray that stands in train and in test has one side."""
    dataset = loading.load(str(folder), image_size=32)
    assert (dataset.index["given_split"] == "").all()
    assert (dataset.index["split"] != dataset.index["split_published"]).any()


def test_a_leaky_split_of_a_csv_is_mended_with_a_warning(renamed, tmp_path, caplog):
    """X-rays 0 and 1 are in training, and a turned copy of each in test."""
    write_noise(tmp_path / "8.png", np.random.default_rng(0))
    with open(renamed, "a", encoding="utf-8") as file:
        file.write("\n8.png,fractured,train")
    dataset = loading.load(renamed, image_size=32)
    sides = ["test", "test", "train", "validation", "validation", "test", "test", "test", "train"]
    assert dataset.index["split"].tolist() == sides
    assert "2 X-rays or patients have files on several sides" in caplog.text
    assert not dataset.leakage


def test_an_xray_of_the_same_patient_in_training_is_a_leak(patients):
    text = patients.read_text(encoding="utf-8").splitlines()
    sides = ["train", "train", "validation", "validation", "test", "test"] * 4
    sides[1] = "test"  # patient 0's fractured X-ray, the healthy one is in training
    patients.write_text(
        "\n".join([text[0] + ",split", *map(",".join, zip(text[1:], sides, strict=True))]), encoding="utf-8"
    )
    assert loading.load(str(patients), image_size=32, split="published").leakage.with_label == pytest.approx(1 / 9)


def test_copies_by_name_of_a_conflicting_xray_are_set_aside_too(folder):
    content = (folder / "train" / "healthy" / "0.png").read_bytes()  # of which there is a rotated copy in test
    (folder / "train" / "fractured" / "77.png").write_bytes(content)
    dataset = loading.load(str(folder), image_size=32)
    assert len(dataset.rejected) == 4
    assert not dataset.rejected["path"].str.contains("fractured/0").any()


def test_a_class_without_readable_files_is_an_error(folder):
    for file in folder.glob("*/healthy/*"):
        file.write_bytes(b"nothing " + bytes(str(file), "utf-8"))
    with pytest.raises(FractureMaeError, match="0 negative"):
        loading.load(str(folder), image_size=32)


def test_published_without_a_class_in_test_is_an_error(folder):
    for file in (folder / "test" / "healthy").iterdir():
        file.unlink()
    with pytest.raises(FractureMaeError, match="test: 0 negative, 2 positive"):
        loading.load(str(folder), image_size=32, split="published")


def test_files_renamed_in_bulk_stay_different_xrays(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("fractured", "healthy"):
        (tmp_path / "xrays" / label).mkdir(parents=True)
        for number in range(1, 6):
            picture = rng.integers(0, 255, (40, 30), np.uint8)
            cv2.imwrite(str(tmp_path / "xrays" / label / f"wrist ({number}).png"), picture)
    assert loading.load(str(tmp_path / "xrays"), image_size=32).index["group"].nunique() == 10


def test_a_cache_that_cannot_be_made_says_how_to_move_it(folder, monkeypatch):
    (folder.parent / "file").write_bytes(b"")
    monkeypatch.setenv("FRACTURE_MAE_CACHE", str(folder.parent / "file" / "cache"))
    with pytest.raises(FractureMaeError, match="FRACTURE_MAE_CACHE"):
        loading.load(str(folder), image_size=32)


def test_by_column_neither_names_nor_pictures_join(renamed, tmp_path):
    """0 and 6 show one X-ray; `9` and `9 (1)` are one family of different pictures; only 2 and 3 share a value in the column."""
    for name, seed in (("9", 90), ("9 (1)", 91)):
        picture = np.random.default_rng(seed).integers(0, 255, (40, 30), np.uint8)
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    names = [*"01234567", "9", "9 (1)"]
    sides = ["train", "train", "val", "val", "test", "test", *["train"] * 4]
    labels = ["healthy", "fractured"] * 4 + ["healthy", "healthy"]
    patients = ["", "", "p", "p", "", "", "", "", "", ""]
    rows = [f"{n}.png,{label},{s},{p}" for n, label, s, p in zip(names, labels, sides, patients, strict=True)]
    csv = csv_of(tmp_path, ["path,label,split,group", *rows])
    for group_by, n_given, n_xrays in (("column", 9, 10), ("names", 8, 9), ("content", 7, 8)):
        dataset = loading.load(csv, image_size=32, split="published", group_by=group_by)
        # A patient with X-rays under both labels is kept on one side as one, and counts as two.
        assert dataset.index["patient"].nunique() == n_given
        assert dataset.index["group"].nunique() == n_xrays


@pytest.mark.parametrize("column", ["", ",group"])
def test_by_column_without_groups_is_an_error(renamed, tmp_path, column):
    text = (tmp_path / "xrays.csv").read_text(encoding="utf-8").splitlines()
    csv = csv_of(tmp_path, [text[0] + column, *(line + ("," if column else "") for line in text[1:])])
    with pytest.raises(
        FractureMaeError, match=r"--group-by column: .*column group is missing or empty.*--group-by content"
    ):
        loading.load(csv, image_size=32, group_by="column")


def test_where_nothing_is_known_of_patients_each_xray_is_its_own(folder):
    index = loading.load(str(folder), image_size=32).index
    assert index["patient"].equals(index["group"])


def test_by_column_of_a_folder_is_an_error(folder):
    with pytest.raises(FractureMaeError, match=r"--group-by column: .*it is no CSV"):
        loading.load(str(folder), image_size=32, group_by="column")


def test_of_somebody_elses_xrays_all_are_test(folder):
    names = ("healthy", "fractured")
    dataset = loading.load(str(folder), image_size=32, split="external", label_names=names)
    assert (len(dataset.train), len(dataset.validation), dataset.test.name) == (0, 0, "external")
    assert len(dataset.test) == 12  # of 14 files two are byte-identical to others
    assert set(dataset.index["split"]) == {"test"}
    assert not dataset.leakage
    assert dataset.index["group"].nunique() == 10


def test_somebody_elses_xrays_may_be_of_one_class_and_have_other_names(folder, tmp_path):
    options = {"image_size": 32, "split": "external", "label_names": ("healthy", "fractured")}
    (tmp_path / "one").mkdir()
    for split in ("train", "val", "test"):
        (folder / split / "healthy").rename(tmp_path / "one" / f"{split}-healthy")
    for kept in (tmp_path / "one").iterdir():
        for file in kept.iterdir():
            (tmp_path / "healthy" / "healthy").mkdir(parents=True, exist_ok=True)
            file.rename(tmp_path / "healthy" / "healthy" / f"{kept.name}-{file.name}")
    assert set(loading.load(str(tmp_path / "healthy"), **options).test.label) == {0}
    (tmp_path / "healthy" / "healthy").rename(tmp_path / "healthy" / "Cast")
    with pytest.raises(
        FractureMaeError, match=r"holds the labels 'Cast' .* the classifier's own 'healthy' and 'fractured'"
    ):
        loading.load(str(tmp_path / "healthy"), **options)
    broken = tmp_path / "healthy" / "Broken"
    broken.mkdir()
    for number, file in enumerate((folder / "train" / "fractured").iterdir()):
        file.rename(broken / f"{number}.png")
    dataset = loading.load(str(tmp_path / "healthy"), positive_label="Broken", **options)
    assert dataset.label_names == ("healthy", "fractured")
    assert dict(zip(dataset.test.table["label_name"], dataset.test.label, strict=True)) == {"Cast": 0, "Broken": 1}


def framed(folder):
    """A black frame around each X-ray of the folder."""
    for path in folder.rglob("*.png"):
        cv2.imwrite(str(path), np.pad(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), 20))


def test_a_preprocessing_changes_pixels_and_places_alone(folder):
    framed(folder)
    whole, film, again = (
        loading.load(str(folder), image_size=32, preprocess=how) for how in ("letterbox", "film", "letterbox")
    )
    assert [dataset.preprocess for dataset in (whole, film, again)] == ["letterbox", "film", "letterbox"]
    assert film.train.preprocess == "film"
    assert film.split_fingerprint == whole.split_fingerprint
    assert film.index["group"].tolist() == whole.index["group"].tolist()
    positions = np.arange(len(whole.train))
    assert (whole.train.images(positions) == again.train.images(positions)).all()
    assert whole.train.images(positions)[:, :5].max() == 0
    assert (film.train.images(positions)[:, :3].max(axis=(1, 2)) > 0).all()
    assert (film.train.table["left"] < -10).all()  # beyond the square: the frame
    assert (whole.train.table["left"] >= 0).all()


def test_the_properties_of_a_file_are_those_of_the_whole_picture_however_it_is_preprocessed(folder):
    framed(folder)
    whole, film = (loading.load(str(folder), image_size=32, preprocess=how).train for how in ("letterbox", "film"))
    assert properties.of_files(film).equals(properties.of_files(whole))
    assert properties.of_files(film)["border brightness"].max() == 0
    assert properties.visible(film)["border brightness"].min() > 0.2
