"""A page: everything in it, nothing from elsewhere, and nothing of what names say taken for markup."""

import re
import tomllib
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fracture_mae import pages, plots
from fracture_mae.pages import Card, Cards, Folded, Picture, Prose, Section, Table, render
from fracture_mae.pages.blocks import cell
from tests.unit.pages.elements import Elements, fetched

PROJECT = Path(__file__).resolve().parents[3]
EVIL = '<script>alert(1)</script><img src="https://example.org/x.png" onerror=alert(1)>"\'>'
PICTURE = Picture.of_pixels(np.zeros((3, 4, 3), np.uint8), "black")


def page(*blocks):
    return render("Title", "What came out.", [Section("One", list(blocks))])


def test_tables_hold_every_cell_as_a_reader_wants_it():
    rows = pd.DataFrame({"name": ["a", "b"], "n": [1234, 5], "share": [1 / 3, np.nan], "done": [True, False]})
    found = Elements(page(Table(rows, "Some rows")))
    assert found.of("th") == ["name", "n", "share", "done"]
    assert found.of("td") == ["a", "1,234", "0.333", "yes", "b", "5", "no"]
    assert found.tags.count("td") == 8
    assert "Some rows" in found.of("p")


@pytest.mark.parametrize(
    ("value", "text"),
    [(2 / 3, "0.667"), (-0.0004, "-0.000"), (12345.678, "12,346"), (None, ""), (np.int64(1000), "1,000"), (np.nan, "")],
)
def test_numbers_are_short(value, text):
    assert cell(value) == text


def test_what_looks_like_markup_is_text_everywhere():
    rows = pd.DataFrame({EVIL: [EVIL]})
    card = Card((Picture(PICTURE.png, EVIL),), {"File": EVIL})
    blocks = [Table(rows, EVIL), Prose(EVIL), Prose(f"`{EVIL}`"), Cards(EVIL, (card,)), Folded(EVIL, EVIL)]
    text = render(EVIL, EVIL, [Section(EVIL, [*blocks, Picture(PICTURE.png, EVIL)])])
    found = Elements(text)
    assert found.tags.count("script") == 1  # the page's own
    assert "alert" not in "".join(found.of("script"))
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert found.tags.count("img") == 2
    assert fetched(text) == []
    assert EVIL in found.of("td")
    assert EVIL in found.of("h2")


def test_markdown_fetches_and_links_nothing():
    text = page(
        Prose("[run](#/experiments/1) ![seen](https://example.org/x.png) <https://example.org> [x](javascript:a)")
    )
    assert fetched(text) == []
    assert "run" in text
    assert "seen" in text
    assert Elements(text).tags.count("a") == 1  # the heading in the list of sections


def test_markdown_is_set():
    found = Elements(page(Prose("**bold** `code`\n\n- item\n\n# Heading\n\n| a | b |\n|---|---|\n| 1 | &lt;18 |")))
    assert {"strong", "code", "li", "table"} <= set(found.tags)
    assert found.of("td") == ["1", "<18"]
    assert found.of("h3") == ["Heading"]
    assert found.of("h1") == ["Title"]


def test_what_is_empty_has_no_heading():
    empty = [Prose(" \n"), Table(pd.DataFrame({"a": []})), Cards("None", ()), Folded("Nothing", "")]
    found = Elements(
        render("Title", "", [Section("Nothing", []), Section("Empty", empty), Section("Full", [Prose("x")])])
    )
    assert found.of("h2") == ["Full"]
    assert found.of("a") == ["Full"]
    assert found.of("h3") == found.of("summary") == []


def test_only_the_pages_own_script_may_run():
    text = page(Prose("x"))
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    policy = next(value for _, name, value in Elements(text).attributes if name == "content" and "default-src" in value)
    assert f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy


def test_a_picture_knows_its_size_and_is_drawn_once(monkeypatch):
    assert PICTURE.size == (4, 3)
    assert not PICTURE.is_wide
    figure = Figure(figsize=(10, 1), dpi=100)
    wide = Picture.of(figure, "ten inches")
    assert (wide.size, wide.is_wide) == ((1000, 100), True)
    monkeypatch.setattr(FigureCanvasAgg, "print_png", None)
    assert plots.png(figure) == wide.png


def test_sections_are_found_by_their_anchors():
    found = Elements(render("Title", "", [Section("Is it of use?", [Prose("x")])]))
    assert ("section", "id", "is-it-of-use-") in found.attributes
    assert found.addresses == ["#is-it-of-use-"]


def test_templates_are_shipped():
    data = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    folder = Path(pages.__file__).parent
    shipped = {file for pattern in data["fracture_mae.pages"] for file in folder.glob(pattern)}
    assert shipped == {file for file in folder.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert len(shipped) == 3
