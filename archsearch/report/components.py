"""Parts of the page that stand in every report: figures, tables, what is absent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from archsearch.common.interval import wilson
from archsearch.leaderboard.entry import Entry
from archsearch.report.charts import Chart
from archsearch.report.facts import Absent, Facts
from archsearch.report.markup import Html, element, join_html
from archsearch.report.phrases import field, made_on, mark
from archsearch.spec.formatting import axes_text
from archsearch.study.objective import pareto_front
from archsearch.training.datasets import DATASETS

MAX_ROWS = 2_000
"""Of the leaderboard; the CSV has all."""


class Cell(NamedTuple):
    """What a cell shows, and what it is sorted by where that is a number."""

    shown: str
    value: float | None = None


class Column(NamedTuple):
    """A column's title, what that stands for, and what its cells are: numbers, names or notes."""

    title: str
    about: str = ""
    kind: Literal["number", "name", "notes"] = "number"


def figure(chart: Chart) -> Html:
    """Return a chart with its title and its main reading; the page's head says how it was made."""
    return element(
        "figure",
        element("h3", chart.title, id=f"{chart.name}-title"),
        element(
            "div",
            class_="chart",
            id=f"chart-{chart.name}",
            role="img",
            aria_labelledby=f"{chart.name}-title",
            aria_describedby=f"{chart.name}-reading",
        ),
        element("figcaption", element("p", chart.reading, id=f"{chart.name}-reading")),
        class_="card",
    )


def prose(text: str) -> Html:
    """A sentence; what stands between backticks is code."""
    parts = text.split("`")
    return join_html(element("code", part) if i % 2 else part for i, part in enumerate(parts))


def absent(what: str, why: Absent) -> Html:
    """That something is missing, and what would bring it."""
    return element("p", element("strong", f"{what}: "), prose(why.why), class_="absent")


def scroller(name: str, *children: str, class_: str = "scroll") -> Html:
    """A box that scrolls on its own; the keyboard reaches it."""
    return element("div", *children, class_=class_, tabindex="0", role="region", aria_label=name)


def table(
    caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, sortable: bool
) -> Html:
    """A table; its first cell names the row."""
    heads = [_head(column, first=not i, sortable=sortable) for i, column in enumerate(columns)]
    body = [
        element("tr", *(_cell(i, row[i], column) for i, column in enumerate(columns)))
        for row in rows
    ]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads)),
        element("tbody", *body),
        class_="sortable" if sortable else None,
    )


def _head(column: Column, *, first: bool, sortable: bool) -> Html:
    title: str = column.title
    if sortable:
        title = element("button", column.title, type="button", title=column.about or None)
    return element(
        "th",
        title,
        scope="col",
        class_=column.kind,
        aria_sort="ascending" if sortable and first else None,
    )


def _cell(i: int, cell: Cell, column: Column) -> Html:
    return element(
        "td" if i else "th",
        cell.shown,
        class_=column.kind,
        scope=None if i else "row",
        data_value=None if cell.value is None else f"{cell.value:.15g}",
    )


_COLUMNS = (
    Column("rank", "by the study's objective, on the hold-out"),
    Column("network", "the start of its spec_hash", kind="name"),
    Column("status", kind="name"),
    Column("hold-out %", "accuracy on held-out training images, at its last epoch of the search"),
    Column("test %", "accuracy on the test images after retraining; finalists alone"),
    Column("params", "learnable scalars"),
    Column("RF", "receptive field before global pooling, pixels"),
    Column("RF, GAP", "receptive field with global pooling, pixels"),
    Column("MMACs", "million multiply-accumulates for one image"),
    Column("epochs", "of the search"),
    Column("seconds", "of training in the search"),
    Column("front", "no other beats it in accuracy, parameters and MACs at once", kind="name"),
)
_NOTES = Column("notes", "edits, reasons", kind="notes")


def leaderboard(facts: Facts) -> Html:
    """Every network; a click on a title sorts."""
    trained = [row for row in facts.rows if row.status == "trained"]
    costs = [(-(row.val_acc or 0.0), row.params, row.macs) for row in trained]
    on_front = {row.spec_hash for row, on in zip(trained, pareto_front(costs), strict=True) if on}
    linked = {finalist.row.spec_hash for finalist in facts.finalists}
    shown = facts.rows[:MAX_ROWS]
    noted = any(row.edits or row.reason for row in shown)
    rows = (
        _row(row, facts, link=row.spec_hash in linked, front=row.spec_hash in on_front)
        for row in shown
    )
    cut = f" The first {MAX_ROWS:,} of {len(facts.rows):,}." if len(shown) < len(facts.rows) else ""
    columns = (*_COLUMNS, _NOTES) if noted else _COLUMNS
    caption = f"{made_on(facts.rows)}. Finalists are linked; ± is the 95% interval.{cut}"
    return join_html([
        scroller("Leaderboard", table(caption, columns, rows, sortable=True)),
        element("p", class_="visually-hidden", id="sorted", role="status"),
    ])  # fmt: skip


def _row(row: Entry, facts: Facts, *, link: bool, front: bool) -> list[Cell]:
    name = mark(row)
    network = element("code", name)
    if link:
        network = element("a", network, href=f"#network-{name}")
    return [
        Cell(f"{row.rank:,}", row.rank),
        Cell(network),
        Cell(row.status),
        Cell(_percent(row.val_acc), row.val_acc),
        Cell(_tested(row, DATASETS[facts.study.dataset].test), row.test_acc),
        Cell(f"{row.params:,}", row.params),
        Cell(field(row), min(row.receptive_field)),
        Cell(axes_text(row.receptive_field_with_gap), min(row.receptive_field_with_gap)),
        Cell(f"{row.macs / 1e6:.1f}", row.macs),
        Cell(f"{row.epochs:,}", row.epochs),
        Cell(f"{row.train_seconds:,.0f}", row.train_seconds),
        Cell("front" if front else ""),
        Cell("; ".join(filter(None, (row.edits, row.reason)))),
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _tested(row: Entry, images: int) -> str:
    if row.test_acc is None:
        return ""
    low, high = wilson(round(row.test_acc * images), images)
    return f"{_percent(row.test_acc)} ± {50 * (high - low):.2f}"
