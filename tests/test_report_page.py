"""The page of an evaluation in a browser: it is whole by itself, fits a phone, and its tables sort by a click."""

import shutil
from pathlib import Path

import pytest

from tests.unit.pages.elements import fetched

pytestmark = pytest.mark.slow
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
COLUMN = "table => [...table.tBodies[0].rows].map(row => row.cells[1].textContent)"


@pytest.fixture(scope="module")
def file(chain):
    """The page of the chain's evaluation."""
    run = next(run for run in chain.runs("fracture-mae") if run.data.tags["entry_point"] == "evaluate")
    assert (
        f"[report.html](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/report.html)"
        in (run.data.tags["mlflow.note.content"])
    )
    return Path(run.info.artifact_uri, "report.html")


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("needs Chromium, such as Debian's: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER)
        yield started
        started.close()


@pytest.fixture
def opened(browser, file, request):
    """The page at a width, what it asked for beside itself, and what went wrong in it."""
    context = browser.new_context(viewport={"width": request.param, "height": 844}, offline=True)
    page, asked, wrong = context.new_page(), [], []
    page.on("request", lambda asking: asked.append(asking.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text))
    page.goto(file.as_uri())
    yield page, [url for url in asked if url != file.as_uri() and not url.startswith("data:")], wrong
    context.close()


def test_it_says_where_nothing_is_fetched_from(file):
    assert fetched(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("opened", [390, 1280], indirect=True, ids=["phone", "desk"])
def test_it_renders_whole_and_by_itself(opened):
    page, asked, wrong = opened
    assert (asked, wrong) == ([], [])
    assert page.locator("section").count() >= 10
    assert page.locator(".card").count() >= 4
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) >= 15
    assert min(widths) > 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("opened", [390], indirect=True)
def test_a_click_sorts_a_table(opened):
    page, _, wrong = opened
    table = page.locator("section#what-came-out table").first
    before = table.evaluate(COLUMN)
    heading = table.locator("th").nth(1)
    for direction, sign in (("ascending", 1), ("descending", -1)):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == direction
        told = table.evaluate(COLUMN)
        assert sorted(told) == sorted(before)
        numbers = [sign * float(text.split()[0]) for text in told if text not in ("", "undefined")]
        assert numbers == sorted(numbers)
        assert told[len(numbers) :] == [text for text in told if text in ("", "undefined")]  # below, either way
    table.locator("th").first.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "none"
    names = table.evaluate("table => [...table.tBodies[0].rows].map(row => row.cells[0].textContent)")
    assert names == sorted(names, key=str.lower)
    assert wrong == []


@pytest.mark.parametrize("opened", [1280], indirect=True)
def test_what_is_folded_is_printed(opened):
    page, *_ = opened
    assert not page.locator("details").first.evaluate("each => each.open")
    assert page.pdf().startswith(b"%PDF")
    assert page.locator("details").first.evaluate("each => each.open")
