"""The page of `archsearch report` in a browser: charts, sorting, themes; nothing is fetched."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from archsearch.cli import main
from tests.conftest import ROOT

pytestmark = pytest.mark.browser
STUDY = ROOT / "studies" / "cifar10-200k"
CHROMIUM = shutil.which("chromium")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 780}
CHARTS = {
    "against-params", "against-macs", "search-curves", "final-curves", "fields", "knobs",
    "rejections-by-rule", "rejections-by-trial",
}  # fmt: skip
MARKUP = "<img src=x onerror=\"window.pwned='img'\"><script>window.pwned='script'</script>"
FORMULA = '=HYPERLINK("https://example.org/?x","y")'
LINK = "<a/href='https://example.org'><b>bold</b></a>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM)
        yield found
        found.close()


def report(study: Path, out: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["archsearch", "report", str(study), "--out", str(out)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    return out


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(STUDY, tmp_path_factory.mktemp("report") / "report.html")


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens a file where no request leaves, and fails of anything that the browser complains of."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def opened(path: Path, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce"} | options)
        contexts.append(context)
        address = path.as_uri()

        def only_the_file(route: Route) -> None:
            if route.request.url == address:
                route.continue_()
            else:
                wrong.append(f"request: {route.request.url[:200]}")
                route.abort()

        context.route("**/*", only_the_file)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.goto(address)
        page.wait_for_function("document.querySelectorAll('.chart .main-svg').length > 0")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def test_every_chart_is_drawn(page_file: Path, open_page: Open) -> None:
    page = open_page(page_file)
    drawn = page.evaluate(
        """() => Object.fromEntries(Array.from(document.querySelectorAll(".chart"), (chart) => [
          chart.id, chart.querySelectorAll(".main-svg .point, .main-svg .js-line").length]))"""
    )
    assert drawn.keys() == {f"chart-{name}" for name in CHARTS}
    assert all(drawn.values()), drawn
    assert (
        drawn["chart-against-params"] > 27 + 49
    )  # every network that was trained, every public one
    assert page.locator(".modebar").count() == 0


def column(page: Page, title: str) -> list[str]:
    found: list[str] = page.evaluate(
        """(title) => {
          const table = document.querySelector("table.sortable");
          const heads = Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent);
          const index = heads.indexOf(title);
          return Array.from(table.tBodies[0].rows, (row) => row.cells[index].textContent);
        }""",
        title,
    )
    return found


def sorted_by(page: Page) -> list[list[str]]:
    found: list[list[str]] = page.evaluate(
        """() => Array.from(document.querySelectorAll("th[aria-sort]"),
          (head) => [head.textContent, head.ariaSort])"""
    )
    return found


def test_a_click_or_a_key_on_a_title_sorts(page_file: Path, open_page: Open) -> None:
    with (STUDY / "leaderboard.csv").open(newline="") as file:
        board = list(csv.DictReader(file))
    params = sorted(int(row["params"]) for row in board)
    page = open_page(page_file)
    assert sorted_by(page) == [["rank", "ascending"]]
    assert column(page, "rank") == [str(i) for i in range(1, 51)]
    title = page.get_by_role("button", name="params", exact=True)
    title.click()
    assert sorted_by(page) == [["params", "ascending"]]
    assert column(page, "params") == [f"{value:,}" for value in params]
    assert page.get_by_role("status").text_content() == "Sorted by params, ascending"
    title.press("Enter")
    assert sorted_by(page) == [["params", "descending"]]
    assert column(page, "params") == [f"{value:,}" for value in reversed(params)]
    test = page.get_by_role("button", name="test %", exact=True)
    for key, first in (("Space", "90.56 ± 0.57"), ("Space", "91.34 ± 0.55")):
        test.press(key)
        assert column(page, "test %")[0] == first
        assert set(column(page, "test %")[3:]) == {""}  # what was not tested stays last
    page.get_by_role("button", name="status", exact=True).click()
    assert column(page, "status") == sorted(row["status"] for row in board)


def colors(page: Page) -> list[str]:
    """Of the page, its text, and a chart's text."""
    found: list[str] = page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor,
          getComputedStyle(document.body).color,
          getComputedStyle(document.querySelector(".chart .xtick text")).fill]"""
    )
    return found


def contrast(one: str, other: str) -> float:
    """Source: WCAG 2.2, contrast ratio."""
    luminances = []
    for color in (one, other):
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        luminances.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    low, high = sorted(luminances)
    return (high + 0.05) / (low + 0.05)


def test_both_themes_come_from_the_system_or_the_button(page_file: Path, open_page: Open) -> None:
    light, dark = (open_page(page_file, color_scheme=scheme) for scheme in ("light", "dark"))
    as_light, as_dark = colors(light), colors(dark)
    assert all(one != other for one, other in zip(as_light, as_dark, strict=True))
    for paper, *inks in (as_light, as_dark):
        assert all(contrast(paper, ink) >= 4.5 for ink in inks)
    for page, before, after in ((light, as_light, as_dark), (dark, as_dark, as_light)):
        button = page.get_by_role("button", name="theme")
        assert button.inner_text() == ("Light theme" if before == as_dark else "Dark theme")
        button.press("Enter")
        assert colors(page) == after
        assert button.inner_text() == ("Light theme" if after == as_dark else "Dark theme")
        page.locator("svg.archsearch .box").first.wait_for()
        button.click()
        assert colors(page) == before


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_the_page_never_scrolls_sideways(
    page_file: Path, open_page: Open, viewport: dict[str, int]
) -> None:
    page = open_page(page_file, viewport=viewport, is_mobile=viewport is PHONE, has_touch=True)
    page.locator("details").evaluate_all("(all) => all.forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    widths = page.locator(".chart").evaluate_all(
        "(all) => all.map((chart) => [chart.clientWidth, chart.querySelector('svg').clientWidth])"
    )
    assert all(0 < drawn <= room for room, drawn in widths), widths


def test_it_can_be_read_without_seeing_it(page_file: Path, open_page: Open) -> None:
    page = open_page(page_file)
    levels = page.evaluate(
        "Array.from(document.querySelectorAll('h1,h2,h3,h4'), (h) => Number(h.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for landmark in ("header", "nav", "main", "footer"):
        assert page.locator(f"body > {landmark}").count() == 1, landmark
    for name in CHARTS:
        chart = page.locator(f"#chart-{name}")
        assert chart.get_attribute("role") == "img"
        for attribute in ("aria-labelledby", "aria-describedby"):
            assert len(page.locator(f"#{chart.get_attribute(attribute)}").inner_text()) > 10
    nameless = "Array.from(document.querySelectorAll('table')).filter((t) => !t.caption).length"
    assert page.evaluate(nameless) == 0
    twice = """() => { const ids = Array.from(document.querySelectorAll("main [id]"), (e) => e.id);
      return ids.filter((id, i) => ids.indexOf(id) !== i && !/^[a-z0-9]{6}/.test(id)); }"""
    assert page.evaluate(twice) == []


def rewritten(path: Path, change: Callable[[Any], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def hostile(study: Path) -> None:
    """Markup, links and formulas wherever a study's files hold text."""

    def spec(data: Any) -> None:
        data["name"] = MARKUP
        for block, name in zip(data["blocks"], (MARKUP, LINK, FORMULA, "$x</svg>"), strict=True):
            block["name"] = name

    def evaluation(data: Any) -> None:
        for score, name in zip(data["classes"], (MARKUP, LINK, FORMULA), strict=False):
            score["class"] = name
        data["mistakes"][0] |= {"true": MARKUP, "predicted": LINK}
        data["notes"] = [MARKUP, FORMULA]
        data["device"] = MARKUP

    for folder in (study / "trials").glob("*/final-0"):
        rewritten(folder.parent / "spec.json", spec)
        rewritten(folder / "evaluation" / "evaluation.json", evaluation)
        rewritten(folder / "run.json", lambda data: data.update(device=MARKUP))
        (folder / "recipe.json").write_text(f'"</code></pre>{MARKUP}"')
    for name, column_ in (("leaderboard.csv", "reason"), ("rejections.csv", "rules")):
        with (study / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        rows[0][column_] = MARKUP
        rows[1][column_] = FORMULA
        rows[2][column_] = LINK
        rows[0] |= {"device": MARKUP} if name == "leaderboard.csv" else {}
        with (study / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def test_markup_and_formulas_in_a_studys_files_are_text(tmp_path: Path, open_page: Open) -> None:
    study = Path(shutil.copytree(STUDY, tmp_path / "a study"))
    hostile(study)
    page = open_page(report(study, tmp_path / "report.html"))
    page.locator("details").evaluate_all("(all) => all.forEach((each) => { each.open = true; })")
    page.locator("#chart-rejections-by-rule .ytick text").first.wait_for()
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.locator("script").count() == 3
    assert page.locator("main img").count() == 0
    assert page.locator("a[href*='example.org'], b, [onerror]").count() == 0
    shown = page.locator("body").inner_text()
    for text in (MARKUP, FORMULA, LINK):
        assert text in shown
    ticks = page.locator("#chart-rejections-by-rule .ytick text").all_text_contents()
    assert LINK in ticks  # Plotly, which reads some tags, has drawn it as text
    assert page.locator("svg.archsearch").count() == 3
