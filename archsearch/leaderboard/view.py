"""Rows of leaderboards as a page, CSV, JSON or Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from archsearch.common import csv_files
from archsearch.common.page import Grid, Line, Page
from archsearch.errors import one_line
from archsearch.leaderboard.reader import STUDY, Cell, Row, kind_of
from archsearch.spec.formatting import axes

_TITLES = {
    STUDY: "study",
    "rank": "rank",
    "trial": "trial",
    "spec_hash": "network",
    "status": "status",
    "val_acc": "hold-out %",
    "test_acc": "test %",
    "params": "params",
    "receptive_field": "RF",
    "macs": "MMACs",
    "epochs": "epochs",
    "train_seconds": "seconds",
}
_BESIDE = ("dataset", "device", "precision", "seed", "torch_version")
"""What stands below a table, for every row is likely to share it."""
_MARKUP = re.compile(r"[\\`*_\[\]|~#!]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def main_columns(*, several: bool) -> tuple[str, ...]:
    """A table's, unless others are asked for; of several studies, whose row it is comes first."""
    return tuple(column for column in _TITLES if several or column != STUDY)


def board_page(rows: Sequence[Row], columns: Sequence[str]) -> Page:
    """A table of these columns; what most rows share stands below."""
    left = frozenset(i for i, column in enumerate(columns) if kind_of(column) is str)
    cells = [[one_line(_told(column, row)) for column in columns] for row in rows]
    titles = tuple(one_line(_TITLES.get(column, column)) for column in columns)
    tested = frozenset(i for i, row in enumerate(rows) if row.get("test_acc") is not None)
    return [Grid(cells, left, titles, tested), Line(one_line(_shared(rows)), "dim")]


def board_markdown(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """The table in GitHub's Markdown; nothing in a cell is markup."""
    ends = [":--" if kind_of(column) is str else "--:" for column in columns]
    titles = [_plain(_TITLES.get(column, column)) for column in columns]
    lines = [titles, ends, *([_plain(_told(column, row)) for column in columns] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def board_csv(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """As `leaderboard.csv` is written: no cell is a formula."""
    return csv_files.csv_text(
        columns, ({name: _csv_cell(row.get(name)) for name in columns} for row in rows)
    )


def board_json(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """A list of objects with numbers, booleans, null, and [height, width] where the axes differ."""
    return json.dumps([{name: row.get(name) for name in columns} for row in rows], indent=2) + "\n"


def _csv_cell(value: Cell) -> Cell:
    return axes(value) if isinstance(value, tuple) else value


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    escaped = _MARKUP.sub(lambda found: f"\\{found[0]}", one_line(text))
    return "".join(_ENTITIES.get(c, c) for c in escaped)


def _told(column: str, row: Row) -> str:
    value = row.get(column)
    if value is None:
        return ""
    return _TELL.get(column, _as_it_is)(value, row)


def _as_it_is(value: Cell, _row: Row) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case tuple():
            return str(axes(value))
        case _:
            return str(value)


def _test_accuracy(value: Any, row: Row) -> str:
    spread = row.get("test_acc_std")
    return f"{100 * value:.2f}" + (f" ± {100 * spread:.2f}" if isinstance(spread, float) else "")


_TELL: dict[str, Callable[[Any, Row], str]] = {
    "spec_hash": lambda value, _: str(value)[:12],
    "val_acc": lambda value, _: f"{100 * value:.2f}",
    "test_acc": _test_accuracy,
    "params": lambda value, _: f"{value:,}",
    "macs": lambda value, _: f"{value / 1e6:.1f}",
    "train_seconds": lambda value, _: f"{value:.0f}",
}


def _shared(rows: Iterable[Row]) -> str:
    """The data set, machine and seed behind the figures."""
    seen: dict[str, dict[str, None]] = {column: {} for column in _BESIDE}
    for row in rows:
        for column in _BESIDE:
            if (value := row.get(column)) is not None:
                seen[column][str(value)] = None
    return "; ".join(
        f"{column.removesuffix('_version')} {', '.join(sorted(values))}"
        for column, values in seen.items()
        if values
    )
