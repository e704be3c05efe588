import logging
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fracture_mae.data import loading, splits
from fracture_mae.data.folds import cross_validation_sets
from fracture_mae.data.synthetic.xray import xray
from fracture_mae.data.types import Leakage
from fracture_mae.errors import FractureMaeError


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
    assert sorted(dataset.rejected["reason"]) == ["not an image file", "the file cannot be opened"]
    assert "2 of 16 files are not used" in caplog.text
    assert len(dataset.index) == 14


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
        _write_noise(tmp_path / f"{number}.png", rng)
        if number % 5 == 0:
            _write_noise(tmp_path / f"{number}-rotated1.png", rng, (30, 20))
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    return _csv(tmp_path, ["path,label", *(f"{name},{_label_of(name)}" for name in names)])


def _write_noise(path, rng, shape=(40, 30)):
    cv2.imwrite(str(path), rng.integers(0, 255, shape, np.uint8))


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
        _write_noise(tmp_path / name, rng)
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
    assert _sides(_csv(tmp_path / "other", ["path,label", *sorted(rows)])).equals(first)


def test_copies_that_are_added_leave_xrays_where_they_are(many, tmp_path):
    first = _sides(many)
    rows = Path(many).read_text(encoding="utf-8").splitlines()
    for number in range(1, 40, 3):
        _write_noise(tmp_path / f"{number}-rotated9.png", np.random.default_rng(number), (60, 60))
        rows.append(f"{number}-rotated9.png,{_label_of(str(number))}")
    again = _sides(_csv(tmp_path, rows))
    assert again[first.index].equals(first)


def test_the_split_of_a_published_tree_is_dealt_out_anew(folder):
    """Its folders are no wish of the user's: the X-ray that stands in train and in test has one side."""
    dataset = loading.load(str(folder), image_size=32)
    assert (dataset.index["given_split"] == "").all()
    assert (dataset.index["split"] != dataset.index["split_published"]).any()


def test_a_leaky_split_of_a_csv_is_mended_with_a_warning(renamed, tmp_path, caplog):
    """X-rays 0 and 1 are in training, and a turned copy of each in test."""
    _write_noise(tmp_path / "8.png", np.random.default_rng(0))
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


@pytest.fixture
def renamed(tmp_path):
    """Six X-rays under names that tell nothing; 0 and 1 were also turned, with the copy in test, as X-rays 6 and 7."""
    lines = ["path,label,split"]
    pictures = [xray(np.random.default_rng(seed), fractured=False, size=128) for seed in range(6)]
    pictures += [cv2.warpAffine(x, cv2.getRotationMatrix2D((64, 64), 20, 1), x.shape[::-1]) for x in pictures[:2]]
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        side = ("train", "train", "train", "val", "val", "test", "test", "test")[number]
        lines.append(f"{number}.png,{('healthy', 'fractured')[number % 2]},{side}")
    return _csv(tmp_path, lines)


def _csv(folder, lines):
    (folder / "xrays.csv").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "xrays.csv")


def test_copies_are_found_whatever_their_names_unless_told_otherwise(renamed):
    dataset = loading.load(renamed, image_size=32, split="published")
    assert dataset.index["group"].nunique() == 6
    assert dataset.leakage.with_label == pytest.approx(2 / 3)
    content = dataset.index.set_index(dataset.index["path"].str[-5])["sha256"]
    linked = {frozenset(pair) for pair in dataset.links[["a", "b"]].to_numpy().tolist()}
    assert linked == {frozenset(content[["0", "6"]]), frozenset(content[["1", "7"]])}
    by_name = loading.load(renamed, image_size=32, split="published", group_by="names")
    assert by_name.index["group"].nunique() == 8
    assert by_name.links.empty
    assert (dataset.group_by, by_name.group_by) == ("content", "names")


def test_xrays_that_differ_in_the_fracture_alone_are_a_label_conflict(renamed, tmp_path):
    """X-ray 2 is healthy; with a break drawn into it, it is called fractured. Which is true nobody can tell."""
    broken = cv2.imread(str(tmp_path / "2.png"), cv2.IMREAD_GRAYSCALE)
    cv2.line(broken, (40, 60), (90, 66), 30, 2)
    cv2.imwrite(str(tmp_path / "8.png"), broken)
    with open(renamed, "a", encoding="utf-8") as file:
        file.write("\n8.png,fractured,test")
    dataset = loading.load(renamed, image_size=32, split="published")
    assert sorted(Path(path).name for path in dataset.rejected["path"]) == ["2.png", "8.png"]
    assert set(dataset.rejected["reason"]) == {"label conflict: copies of this X-ray stand under both labels"}


def test_one_copy_under_the_wrong_label_is_all_that_is_lost(renamed, tmp_path):
    picture = cv2.imread(str(tmp_path / "4.png"), cv2.IMREAD_GRAYSCALE)
    turns = [cv2.rotate(picture, turn) for turn in (cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)] + [picture[:, ::-1]]
    with open(renamed, "a", encoding="utf-8") as file:
        for name, turned, label in zip("abc", turns, ("healthy", "healthy", "fractured"), strict=True):
            cv2.imwrite(str(tmp_path / f"{name}.png"), turned)
            file.write(f"\n{name}.png,{label},train")
    dataset = loading.load(renamed, image_size=32, split="published")
    assert [Path(path).name for path in dataset.rejected["path"]] == ["c.png"]
    assert dataset.rejected["reason"].str.contains("most copies of this X-ray stand under the other label").all()


def test_a_second_run_neither_decodes_nor_searches(renamed, monkeypatch):
    first = loading.load(renamed, image_size=32, split="published")
    monkeypatch.setattr(loading, "decode", None)
    monkeypatch.setattr(loading.search, "find", None)
    again = loading.load(renamed, image_size=32, split="published")
    pd.testing.assert_frame_equal(again.links, first.links)
    assert again.index["group"].equals(first.index["group"])


def test_a_file_that_is_added_is_the_only_one_decoded_and_joins_its_xray(renamed, tmp_path, monkeypatch):
    loading.load(renamed, image_size=32, split="published")
    turned = cv2.rotate(cv2.imread(str(tmp_path / "4.png"), cv2.IMREAD_GRAYSCALE), cv2.ROTATE_180)
    cv2.imwrite(str(tmp_path / "8.png"), turned)
    with open(renamed, "a", encoding="utf-8") as file:
        file.write("\n8.png,healthy,test")
    decode, decoded = loading.decode, []
    monkeypatch.setattr(loading, "decode", lambda content: decoded.append(content) or decode(content))
    group = loading.load(renamed, image_size=32, split="published").index.set_index("path")["group"]
    assert decoded == [(tmp_path / "8.png").read_bytes()]
    assert group[str(tmp_path / "8.png")] == group[str(tmp_path / "4.png")]
    assert group.nunique() == 6


def test_a_file_that_is_damaged_between_reading_and_comparing_says_so(renamed, tmp_path):
    table, _ = loading.index.read(renamed, "fractured")
    table["sha256"] = [str(row) for row in range(len(table))]
    (tmp_path / "3.png").write_bytes(b"nothing")
    with pytest.raises(FractureMaeError, match=r"3\.png cannot be read any more.*Run again"):
        loading.find_links(table)


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
    csv = _csv(tmp_path, ["path,label,split,group", *rows])
    for group_by, n_given, n_xrays in (("column", 9, 10), ("names", 8, 9), ("content", 7, 8)):
        dataset = loading.load(csv, image_size=32, split="published", group_by=group_by)
        # A patient with X-rays under both labels is kept on one side as one, and counts as two.
        assert dataset.index["patient"].nunique() == n_given
        assert dataset.index["group"].nunique() == n_xrays


@pytest.mark.parametrize("column", ["", ",group"])
def test_by_column_without_groups_is_an_error(renamed, tmp_path, column):
    text = (tmp_path / "xrays.csv").read_text(encoding="utf-8").splitlines()
    csv = _csv(tmp_path, [text[0] + column, *(line + ("," if column else "") for line in text[1:])])
    with pytest.raises(
        FractureMaeError, match=r"--group-by column: .*column group is missing or empty.*--group-by content"
    ):
        loading.load(csv, image_size=32, group_by="column")


@pytest.fixture
def two_columns(tmp_path):
    """40 patients of two X-rays each, of which every fourth has one of either label, the others two alike; xray counts within
    the patient.

    Of each patient's first X-ray there are two files.
    """
    rng = np.random.default_rng(0)
    lines = ["path,label,patient,xray"]
    for patient in range(40):
        for xray_, n_files in ((1, 2), (2, 1)):
            fractured = patient % 2 if patient % 4 else xray_ % 2
            for file in range(n_files):
                name = f"{patient}_{xray_}_{'ab'[file]}.png"
                _write_noise(tmp_path / name, rng)
                lines.append(f"{name},{'fractured' if fractured else 'healthy'},patient {patient},{xray_}")
    return _csv(tmp_path, lines)


@pytest.mark.parametrize("group_by", ["column", "names"])
def test_two_xrays_of_a_patient_are_two_on_one_side(two_columns, group_by):
    for seed in range(5):
        dataset = loading.load(two_columns, image_size=32, group_by=group_by, split_seed=seed)
        table = dataset.index
        assert (table["group"].nunique(), table["patient"].nunique(), len(table)) == (80, 40, 120)
        assert set(table["patient"]) == {f"patient {number}" for number in range(40)}
        assert table.groupby("group")["label"].nunique().eq(1).all()
        assert table.groupby("group").size().value_counts().to_dict() == {1: 40, 2: 40}
        assert table.groupby("patient")["split"].nunique().eq(1).all()
        assert table.groupby("patient")["label"].nunique().eq(2).sum() == 10
        for fold in cross_validation_sets(dataset, 3, seed):
            sides = [set(side.table["patient"]) for side in fold.sides]
            assert not any(one & other for one, other in combinations(sides, 2))


def test_another_xray_of_a_patient_does_not_move_the_patient(two_columns, tmp_path):
    def sides():
        index = loading.load(two_columns, image_size=32, group_by="column").index
        return index.groupby("patient")["split"].first()

    first = sides()
    _write_noise(tmp_path / "new.png", np.random.default_rng(9))
    with open(two_columns, "a", encoding="utf-8") as file:
        file.write("\nnew.png,healthy,patient 2,3")
    assert sides().equals(first)


def test_an_xray_that_the_csv_calls_one_is_a_conflict_under_both_labels(two_columns, tmp_path):
    text = Path(two_columns).read_text(encoding="utf-8")
    old = "1_1_a.png,fractured,patient 1,1"
    assert old in text
    Path(two_columns).write_text(text.replace(old, old.replace("fractured", "healthy")), encoding="utf-8")
    rejected = loading.load(two_columns, image_size=32, group_by="column").rejected
    assert sorted(Path(path).name for path in rejected["path"]) == ["1_1_a.png", "1_1_b.png"]
    assert rejected["reason"].str.startswith("label conflict").all()


def test_pictures_join_what_the_columns_hold_apart(tmp_path, caplog):
    """Files 0 and 6 show one X-ray, of patients a and g; so do 1 and 7, as two X-rays of patient b."""
    pictures = [xray(np.random.default_rng(seed), fractured=False, size=128) for seed in range(10)]
    for number, of in ((6, 0), (7, 1)):
        pictures[number] = cv2.warpAffine(pictures[of], cv2.getRotationMatrix2D((64, 64), 20, 1), (128, 128)[::-1])
    patients = ["a", "b", "c", "d", "e", "f", "g", "b", "a", "g"]
    rows = ["path,label,patient,xray"]
    for number, (picture, patient) in enumerate(zip(pictures, patients, strict=True)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        rows.append(f"{number}.png,{'fractured' if number in (1, 3, 5, 7) else 'healthy'},{patient},x{number}")
    dataset = loading.load(_csv(tmp_path, rows), image_size=32)
    table = dataset.index.set_index(dataset.index["path"].map(lambda path: int(Path(path).stem))).sort_index()
    assert table["group"].nunique() == 8
    assert table["patient"].tolist() == ["a", "b", "c", "d", "e", "f", "a", "b", "a", "a"]
    assert table.loc[[0, 6], "group"].nunique() == table.loc[[1, 7], "group"].nunique() == 1
    assert "2 X-rays have files to which the CSV gives different values of xray or patient" in caplog.text


def test_the_split_with_patients_is_read_again_with_them(two_columns, tmp_path):
    first = loading.load(two_columns, image_size=32, group_by="column", split_seed=3)
    splits.save(first.index, tmp_path / "splits.csv")
    for options in ({"split": "published"}, {"split_seed": 4}):
        again = loading.load(str(tmp_path / "splits.csv"), image_size=32, group_by="column", **options)
        columns = ["path", "group", "patient", "split"]
        pd.testing.assert_frame_equal(again.index[columns], first.index[columns])


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
    (tmp_path / "healthy" / "healthy").rename(tmp_path / "healthy" / "Normal")
    with pytest.raises(
        FractureMaeError, match=r"holds the labels 'Normal' .* the classifier's own 'healthy' and 'fractured'"
    ):
        loading.load(str(tmp_path / "healthy"), **options)
    broken = tmp_path / "healthy" / "Broken"
    broken.mkdir()
    for number, file in enumerate((folder / "train" / "fractured").iterdir()):
        file.rename(broken / f"{number}.png")
    dataset = loading.load(str(tmp_path / "healthy"), positive_label="Broken", **options)
    assert dataset.label_names == ("healthy", "fractured")
    assert dict(zip(dataset.test.table["label_name"], dataset.test.label, strict=True)) == {"Normal": 0, "Broken": 1}


def _folder(root, pictures):
    """Under two labels, from (label, name) to the picture."""
    for (label, name), picture in pictures.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / label / name), picture)
    return str(root)


def _pictures(n, size=160):
    return [xray(np.random.default_rng(seed), fractured=False, size=size) for seed in range(n)]


@pytest.fixture
def downloads(tmp_path):
    """Thirty X-rays under names that a browser gives: image.png, image (1).png, …; and four others."""
    pictures = {
        ("healthy", "image.png" if not n else f"image ({n}).png"): picture for n, picture in enumerate(_pictures(30))
    }
    pictures |= {("fractured", f"{n}.png"): _pictures(34)[n] for n in range(30, 34)}
    return _folder(tmp_path / "downloads", pictures)


def test_names_join_no_pictures_that_show_different_xrays(downloads):
    assert loading.load(downloads, image_size=32).index["group"].nunique() == 34


def test_a_group_of_most_files_is_a_warning(downloads, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(FractureMaeError):  # one X-ray cannot be split
        loading.load(downloads, image_size=32, group_by="names")
    assert "30 of 34 files count as one X-ray or patient: image (1).png, image (10).png, image (11).png" in caplog.text
    assert "data/large_group_1.png" in caplog.text


def test_names_are_believed_where_the_picture_is_damaged_or_blank(tmp_path):
    """Noise of 25 grey levels: under other names no copy would be found."""
    pictures = {
        (label, f"{n}.png"): picture
        for label, n, picture in zip(["healthy", "fractured"] * 6, range(12), _pictures(12), strict=True)
    }
    noise = np.random.default_rng(0).normal(0, 25, pictures["healthy", "0.png"].shape)
    damaged = np.clip(pictures["healthy", "0.png"] + noise, 0, 255).astype(np.uint8)
    blank = np.zeros((50, 50), np.uint8)
    alike = {("healthy", "0 (1).png"): damaged, ("fractured", "1 - Copy.png"): blank}
    unlike = {("healthy", "damaged.png"): damaged, ("fractured", "blank.png"): blank}
    renamed = loading.load(_folder(tmp_path / "unlike", pictures | unlike), image_size=32)
    assert renamed.index["group"].nunique() == 14
    told = loading.load(_folder(tmp_path / "alike", pictures | alike), image_size=32)
    assert told.index["group"].nunique() == 12
    assert set(told.links["method"]) == {"named", "name alone"}
