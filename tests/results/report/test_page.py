"""The page in a real browser: found, sorted, opened by mouse and by keyboard; nothing runs in it
but its own program, and nothing is loaded."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from results.report import Findings, PlainTable, Runs, Section, read_runs, render
from results.report.pictures import picture
from results.schema import Failure, Record
from results.store import Store
from results.table import CellRun, TableLayout, build

Make = Callable[..., Record]
HOSTILE = '<img src=x onerror="document.title=1"></script><script>document.title=2</script>&"'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def runs(make: Make, tmp_path: Path) -> Runs:
    store = Store(tmp_path / "store")
    for number in range(120):
        failure = Failure.NOT_A_NUMBER if number == 7 else None
        name = HOSTILE if number == 7 else f"variant {number % 3}"
        store.write(
            make(
                f"{number:016x}",
                mean_iou=20 + (number * 37) % 60,
                failure=failure,
                minute=number,
                seed=number // 3,
                launched_as=f"table5/{name}/1/16/seed {number // 3}",
                log_tail=HOSTILE,
                failure_detail=HOSTILE if failure else None,
            )
        )
    return read_runs(store)


@pytest.fixture
def page(runs: Runs) -> str:
    rows = ("variant 0", "missing", "variant 1", HOSTILE)
    cells = {
        (row, "1/16"): tuple(CellRun(seed, f"{3 * seed + i:016x}") for seed in range(3))
        for i, row in ((0, "variant 0"), (300, "missing"), (1, "variant 1"), (2, HOSTILE))
    }
    layout = TableLayout("table5", f"Components {HOSTILE}", rows, ("1/16",), cells, None)
    table = build(layout, runs.latest, rule="best", same_setting_as_paper=False)
    shown = picture("a picture", lambda paths: paths[0].write_text("<svg/>"))
    search = Findings(
        "search", HOSTILE, (HOSTILE,), (PlainTable("best", ("", "x"), ((HOSTILE, "1"),)),)
    )
    return render(HOSTILE, [Section("shapes", table, (shown,))], [search], runs, [HOSTILE])


def test_the_same_store_gives_the_same_page(runs: Runs, tmp_path: Path) -> None:
    again = read_runs(Store(tmp_path / "store"))
    assert render("a", [], [], again) == render("a", [], [], runs)


def test_it_asks_for_nothing_else_and_escapes_everything(page: str) -> None:
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "url(" not in page
    assert page.count("<script") == page.count("</script>") == 3
    assert "<img src=x" not in page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def browser(page: str, chromium: Any, tmp_path: Path) -> Iterator[Any]:
    """The page, opened; at the end nothing was complained about and nothing else asked for."""
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    said: list[str] = []
    asked: list[str] = []
    tab = chromium.new_page()
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector("#list tbody tr")
    yield tab
    assert tab.title() == HOSTILE
    tab.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {path.as_uri()}


def column(tab: Any, number: int) -> list[str]:
    found: list[str] = tab.locator(f"#list tbody td:nth-child({number})").all_inner_texts()
    return found


def test_runs_are_searched_sorted_and_paged(browser: Any) -> None:
    assert browser.locator("#count").inner_text() == "120 of 120"
    assert len(column(browser, 1)) == 50
    browser.get_by_role("button", name="best mIoU").click()
    ascending = column(browser, 7)
    assert [float(text) for text in ascending] == sorted(float(text) for text in ascending)
    browser.get_by_role("button", name="best mIoU").click()
    assert float(column(browser, 7)[0]) == 80.0  # the highest of all pages
    browser.locator("#after").click()
    browser.locator("#after").click()
    assert column(browser, 7)[-1] == "–"  # what is missing stays last
    browser.locator("#words").fill('"seed 1" "variant 2"')
    assert column(browser, 2)
    assert all("variant 2" in text and "seed 1" in text for text in column(browser, 2))
    browser.locator("#words").fill("")
    browser.locator("#status").select_option("not a number")
    assert browser.locator("#count").inner_text() == "1 of 120"
    assert HOSTILE in column(browser, 2)[0]


def test_a_table_is_sorted_and_what_has_no_number_stays_last(browser: Any) -> None:
    table = browser.locator("table.results").first

    def numbers() -> list[str | None]:
        cells = table.locator("tbody tr td:last-child")
        return [cell.get_attribute("data-value") for cell in cells.all()]

    heading = table.get_by_role("button", name="1/16")
    for turn in (lambda values: values, reversed):
        heading.click()
        *known, last = numbers()
        assert last is None
        assert known == [*turn(sorted(known, key=float))]


def test_a_cell_leads_to_its_runs_and_one_of_them_to_its_inside(browser: Any) -> None:
    browser.locator("td[data-runs] button").nth(1).click()
    assert browser.locator("#count").inner_text() == "3 of 120"
    browser.locator("#list tbody button").first.click()
    inside = browser.locator("dialog")
    inside.locator(".charts svg").first.wait_for()
    assert "variant 1" in inside.locator("h2").inner_text()
    assert re.search(r"#run-[0-9a-f]{12}$", browser.url)
    browser.keyboard.press("ArrowRight")
    browser.wait_for_function("document.querySelector('dialog h2').textContent.includes('seed 1')")
    browser.keyboard.press("Escape")
    assert not inside.is_visible()
    browser.locator("#cell").click()
    assert browser.locator("#count").inner_text() == "120 of 120"


def test_a_failure_is_read_by_keyboard_alone(browser: Any) -> None:
    browser.locator("#words").focus()
    browser.keyboard.type("number")
    browser.wait_for_function("document.getElementById('count').textContent.startsWith('1 of')")
    browser.locator("#list tbody button").focus()
    browser.keyboard.press("Enter")
    inside = browser.locator("dialog")
    inside.locator("pre").first.wait_for()
    assert inside.locator("pre").first.inner_text() == HOSTILE
    summary = inside.locator("summary", has_text="Configuration")
    summary.focus()
    browser.keyboard.press("Enter")
    assert inside.get_by_text("data.dataset").is_visible()


def test_a_link_opens_its_run(browser: Any, runs: Runs) -> None:
    header = runs.headers[100]
    browser.evaluate(f"location.hash = '#run-{header.attempt[:12]}'")
    browser.locator("dialog .charts svg").first.wait_for()
    assert header.identity in browser.locator("dialog").inner_text()


def test_tables_are_sorted_by_their_numbers(browser: Any) -> None:
    rows = browser.locator("table.results").first.locator("tbody tr")
    browser.get_by_role("button", name="1/16", exact=True).click()
    values = [
        float(row.locator("td").first.get_attribute("data-value") or "inf") for row in rows.all()
    ]
    assert values == sorted(values)


def test_dark_and_light(browser: Any) -> None:
    def background() -> str:
        return str(browser.evaluate("getComputedStyle(document.body).backgroundColor"))

    browser.emulate_media(color_scheme="light")
    light = background()
    browser.emulate_media(color_scheme="dark")
    dark = background()
    browser.locator("#theme").click()
    assert background() == light != dark
