"""Lists as Excel, Windows and other machines write them."""

import os
from pathlib import Path

import numpy as np
import pytest

from fracture_mae.data import attributes, boxes, loading
from fracture_mae.data.reading import index
from fracture_mae.errors import FractureMaeError
from tests.builders import write_noise

PLAIN = "path,label\nx/1.jpg,fractured\nx/ä.jpg,healthy\n"
FILES = ("x/1.jpg", "x/ä.jpg")


def read(tmp_path: Path, content: str | bytes, *files: str, name: str = "list.csv"):
    """File → label."""
    for file in files or FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"x")
    content = content.replace("ROOT", str(tmp_path)).encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(content)
    table, _ = index.read(str(tmp_path / name), "fractured")
    return {
        str(Path(path).relative_to(tmp_path)): label for path, label in zip(table["path"], table["label"], strict=True)
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_separators_and_ends_of_lines(tmp_path, encoding, separator, end):
    content = PLAIN.replace(",", separator).replace("\n", end).encode(encoding)
    assert read(tmp_path, content) == {"x/1.jpg": 1, "x/ä.jpg": 0}


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace("/", "\\"),
        PLAIN.replace("x/", ".\\x\\"),
        PLAIN.replace("x/", "C:\\Users\\me\\set\\x\\").replace("\n", "\r\n"),
        PLAIN.replace("x/", "\\\\server\\share\\x\\"),
        PLAIN.replace("x/", "/home/somebody/set/x/"),
        PLAIN.replace("x/", "ROOT/x/"),
        PLAIN.replace("x/", "file://ROOT/x/"),
        PLAIN.replace("x/1.jpg", "X/1.JPG"),
        PLAIN.replace("ä", "a\u0308"),  # as macOS writes it
        PLAIN.replace("x/1.jpg", "1.jpg"),
        "image_id,label\n1,fractured\nä,healthy\n",  # neither folder nor ending
        " path , label \n  x/1.jpg\xa0, fractured\nx/ä.jpg ,healthy \n",
        '"path","label"\n"x/1.jpg","fractured"\n\'x/ä.jpg\',\'healthy\'\n',
        '\ufeff"path",label\n"""x/1.jpg""",fractured\n“x/ä.jpg”,healthy\n',
        "sep=;\n" + PLAIN.replace(",", ";"),
        "\n" + PLAIN + "\n\n,\n , \n",
        PLAIN.replace("\n", ",,\n"),
        "X-rays of 2021,\n" + PLAIN,
        "Label,PATH,path_of_report\nfractured,x/1.jpg,\nhealthy,x/ä.jpg,\n",
        "path,label,label\nx/1.jpg,fractured,fractured\nx/ä.jpg,healthy,healthy\n",
        "path,label,label\nx/1.jpg,fractured,\nx/ä.jpg,healthy,\n",
        "Image Path;Fractured\nx/1.jpg;1\nx/ä.jpg;0\n",
        "filename,Class\nx/1.jpg,Fracture\nx/ä.jpg,Normal\n",
        "file,is_fractured\nx/1.jpg,YES\nx/ä.jpg,no\n",
        "path,label\nx/1.jpg,1.0\nx/ä.jpg,0.0\n",
        PLAIN + "x/1.jpg,Fractured\nx\\ä.jpg,healthy\n",  # the same again
    ],
)
def test_what_is_read(tmp_path, content):
    assert read(tmp_path, content) == {"x/1.jpg": 1, "x/ä.jpg": 0}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (PLAIN + "x/1.jpg,healthy\n", "1 files have two labels, .*x/1.jpg: fractured and healthy in the lines 2, 4"),
        (PLAIN + "\nx/2.jpg,healthy\n", "1 rows name files that do not exist.*: line 5. Relative paths start at"),
        ("path,label\nD:\\a\\8.jpg,fractured\n", "line 2. .*paths of Windows mean files below it by their last parts"),
        ("path,label\nx/1.jpg,fractured\nx/ä.jpg,\n", "no label: line 3. Where Excel has merged cells"),
        ("path,label\nx/1,5.jpg,fractured\n", "line 2 has 3 cells, the header 2.*stands in quotes"),
        ("path,label,label\nx/1.jpg,fractured,healthy\n", "two columns called label, which differ in line 2"),
        ("path,class,diagnosis\nx/1.jpg,a,b\n", "several columns that may be the label: class, diagnosis"),
        ("path,LABEL,Label\nx/1.jpg,a,b\n", "several columns that may be the label: LABEL, Label"),
        ("x/1.jpg,fractured\nx/ä.jpg,healthy\n", "has the columns x/1.jpg, fractured. .*path is missing"),
        (b"path,label\nx/\x81.jpg,fractured\n", "the byte 0x81 in line 2 is neither UTF-8 nor Windows' cp1252"),
        (b"PK\x03\x04\x00", "is an Excel workbook"),
        (b"path,label\nx/\x001.jpg,fractured\n", "zero bytes"),
        ('path,label\nx/1.jpg,fractured\n"x/ä.jpg,healthy\n', "unexpected end of data in line 3"),
        ("path,label\n" + 5000 * "x" + ".jpg,fractured\n", "line 2"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path, content, told):
    with pytest.raises(FractureMaeError, match=told):
        read(tmp_path, content)


@pytest.mark.parametrize(("name", "told"), [("a.xlsx", "Save the workbook as CSV"), ("a.zip", "Unpack it first")])
def test_what_is_no_list_says_what_to_do(tmp_path, name, told):
    with pytest.raises(FractureMaeError, match=told):
        read(tmp_path, b"x", name=name)


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.CSV"])
def test_lists_may_end_otherwise(tmp_path, name):
    assert read(tmp_path, PLAIN, name=name) == {"x/1.jpg": 1, "x/ä.jpg": 0}


def test_a_path_of_another_machine_is_never_taken_for_another_file(tmp_path):
    """Of the two training and test files only one is here."""
    with pytest.raises(FractureMaeError, match=r"lines 2 and 3 name different paths.*both would mean"):
        read(tmp_path, "path,label\n/data/train/1.jpg,fractured\n/data/test/1.jpg,healthy\n", "1.jpg")
    with pytest.raises(FractureMaeError, match=r"line 3: 2.jpg may mean .*a/2.jpg or .*b/2.jpg"):
        read(tmp_path, "path,label\n1.jpg,fractured\n2.jpg,healthy\n", "1.jpg", "a/2.jpg", "b/2.jpg")
    content = "path,label\n/data/train/3.jpg,fractured\n/data/test/3.jpg,healthy\n"
    assert read(tmp_path, content, "train/3.jpg", "test/3.jpg") == {"train/3.jpg": 1, "test/3.jpg": 0}


def test_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(tmp_path, PLAIN.replace("x/", "~/x/")) == {"x/1.jpg": 1, "x/ä.jpg": 0}


@pytest.mark.parametrize(
    "file", ["x/ 1 .jpg ", "x/a;b.jpg", "x/a,b.jpg", 'x/"a".jpg', "x/a\\b.jpg", "x/a\nb.jpg", "x/~.jpg"]
)
def test_names_of_files_are_taken_as_they_are_first(tmp_path, file):
    quoted = '"' + file.replace('"', '""') + '"'
    assert read(tmp_path, f"path,label\n{quoted},fractured\nx/2.jpg,healthy\n", file, "x/2.jpg") == {
        file: 1,
        "x/2.jpg": 0,
    }


def test_other_columns_are_known_by_other_names_too(tmp_path):
    text = "Image;Fracture;Patient ID;X-ray;Subset;Source;Age\nx/1.jpg;yes;007;a;Training;all;61\nx/ä.jpg;no;8;b;holdout;B;7\n"
    read(tmp_path, text)
    table, names = index.read(str(tmp_path / "list.csv"), "fractured")
    columns = ["given_patient", "given_xray", "given_split", "given_source"]
    assert table[columns].to_numpy().tolist() == [["007", "a", "train", "all (a source)"], ["8", "b", "test", "B"]]
    assert (names, attributes.names(table)) == (("not fractured", "fractured"), ["Age"])


def test_fracatlas(tmp_path):
    text = "image_id,hand,fractured,fracture_count\n1.jpg,1,1,2\nä.jpg,0,0,0\n"
    files = ("images/Fractured/1.jpg", "images/Non_fractured/ä.jpg")
    assert read(tmp_path, text, *files) == {files[0]: 1, files[1]: 0}


def test_a_subset_that_is_no_split_stays_a_column(tmp_path):
    read(tmp_path, "path,label,set\nx/1.jpg,fractured,A\nx/ä.jpg,healthy,B\n")
    table, _ = index.read(str(tmp_path / "list.csv"), "fractured")
    assert attributes.names(table) == ["set"]


def test_boxes_of_such_a_list(tmp_path):
    """German Excel: semicolons, decimal commas; one X-ray has two boxes."""
    rng = np.random.default_rng(0)
    lines = ["Datei;path;label;x0;y0;x1;y1"]
    for number in range(8):
        write_noise(tmp_path / f"{number}.png", rng)
        edges = "0,1;0,25;0,5;0,75" if number % 2 else ";;;"
        lines.append(f";C:\\xrays\\{number}.png;{'fractured' if number % 2 else 'healthy'};{edges}")
    lines.append(lines[2].replace("0,5;", "0,625;"))
    (tmp_path / "list.csv").write_bytes("\r\n".join(lines).encode("utf-16"))
    table = loading.load(str(tmp_path / "list.csv"), image_size=32).index
    texts = dict(zip(table["path"].map(lambda path: os.path.basename(path)[0]), boxes.texts_of(table), strict=True))
    assert texts == dict.fromkeys("0246", "") | dict.fromkeys("357", "0.1 0.25 0.5 0.75") | {
        "1": "0.1 0.25 0.5 0.75; 0.1 0.25 0.625 0.75"
    }
