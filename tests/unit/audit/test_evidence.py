import pandas as pd

from fracture_mae.audit import evidence
from fracture_mae.data.copies import links as content_links


def files(**columns):
    table = pd.DataFrame({"path": [f"/d/{name}.png" for name in columns["name"]], "sha256": columns["sha256"]})
    given = {f"given_{name}": columns.get(f"given_{name}", "") for name in ("patient", "xray", "group")}
    return table.assign(scope="fractured", **given)


def link(a, b):
    return content_links.Link(a, b, "aligned", 40, 0.6, 1.0, 12.0, False, False, 0.9, 0.95, 0.95)


def test_each_evidence_adds_to_the_surer_ones_before_it():
    # x and y are one file; z shows the same picture; z and its copy only have names in common; 9 and 8 are one patient.
    names = ["x", "y", "z", "z-rotated1", "9", "8", "alone"]
    table = files(name=names, sha256=["a", "a", "b", "c", "d", "e", "f"], given_group=["", "", "", "", "p", "p", ""])
    found = evidence.join(table, content_links.as_table([link("a", "b")]), content_links.as_table([link("b", "c")]))
    assert found.counts == {"same bytes": 6, "same picture": 5, "name": 4, "CSV column": 3}
    assert found.table["content_group"].tolist() == ["a", "a", "a", "c", "d", "e", "f"]
    assert found.table["xray"].tolist() == ["a", "a", "a", "a", "d", "e", "f"]
    assert found.table["group"].tolist() == ["a", "a", "a", "a", "d", "d", "f"]
    assert found.joins["evidence"].tolist() == ["same bytes", "same picture", "name", "CSV column"]
    assert found.joins["files"].tolist() == [2, 3, 4, 2]


def test_a_csvs_xray_and_patient_are_evidence_where_they_are_given():
    # u and v are one X-ray, x the same number of another patient; v, w and y are of one patient.
    given = {"given_patient": ["p", "p", "p", "q", "p", ""], "given_xray": ["1", "1", "2", "1", "", ""]}
    none = content_links.as_table()
    found = evidence.join(files(name=list("uvwxyz"), sha256=list("abcdef"), **given), none, none)
    counts = {
        "same bytes": 6,
        "same picture": 6,
        "name": 6,
        "CSV column xray": 5,
        "CSV column": 5,
        "CSV column patient": 3,
    }
    assert found.counts == counts
    assert found.table["xray"].tolist() == found.table["group"].tolist() == ["a", "a", "c", "d", "e", "f"]
    assert found.table["patient"].tolist() == ["a", "a", "a", "d", "a", "f"]


def test_links_name_both_files_and_their_evidence():
    table = files(name=["x", "y", "x-rotated1", "z"], sha256=["a", "b", "c", "d"])
    joined = evidence.join(table, content_links.as_table([link("a", "b")]), content_links.as_table([link("a", "c")]))
    found = evidence.describe(joined, content_links.as_table([link("a", "b")]))
    assert found[["path_a", "path_b", "evidence", "group"]].to_numpy().tolist() == [
        ["/d/x.png", "/d/y.png", "same picture", "a"],
        ["/d/x.png", "/d/x-rotated1.png", "name", "a"],
    ]
    assert found.loc[0, ["method", "inliers", "angle", "correlation"]].tolist() == ["aligned", 40, 12.0, 0.9]
    assert pd.isna(found.loc[1, "method"])


def test_a_name_that_says_what_the_picture_says_joins_nothing():
    table = files(name=["x", "x-rotated1"], sha256=["a", "b"])
    found = evidence.join(table, content_links.as_table([link("a", "b")]), content_links.as_table([link("a", "b")]))
    assert found.counts == {"same bytes": 2, "same picture": 1, "name": 1, "CSV column": 1}
    assert found.joins["evidence"].tolist() == ["same picture"]


def test_nothing_in_common():
    found = evidence.join(files(name=["x", "y"], sha256=["a", "b"]), content_links.as_table(), content_links.as_table())
    assert set(found.counts.values()) == {2}
    assert evidence.describe(found, content_links.as_table()).empty
