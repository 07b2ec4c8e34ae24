"""Rows of leaderboards as a page, CSV, JSON or Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import pandas as pd

from archsearch.common import csv_files
from archsearch.common.page import Grid, Line, Page
from archsearch.errors import one_line
from archsearch.leaderboard.reader import AXES, STUDY, Cell, records, values_of
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
_OPTIONAL = ("train_seconds", "macs", "epochs", "spec_hash", "trial")
"""The main columns that a narrow terminal leaves out, the least needed first."""
_BESIDE = ("dataset", "device", "precision", "seed", "torch_version")
"""What stands below a table, for every row is likely to share it."""
_MARKUP = re.compile(r"[\\`*_\[\]|~#!]")


def main_columns(*, several: bool) -> tuple[str, ...]:
    """A table's, unless others are asked for; of several studies, whose row it is comes first."""
    return tuple(column for column in _TITLES if several or column != STUDY)


def board_page(rows: pd.DataFrame, columns: Sequence[str], *, asked: bool = False) -> Page:
    """Return a table of these columns; what most rows share stands below.

    Args:
        rows: of one or more leaderboards.
        columns: columns of the table, in order.
        asked: whether the user named the columns, so that a narrow terminal leaves none out.
    """
    left = frozenset(i for i, column in enumerate(columns) if rows[column].dtype == "string")
    titles = tuple(one_line(_TITLES.get(column, column)) for column in columns)
    tested = frozenset(i for i, known in enumerate(rows["test_acc"].notna()) if known)
    optional = () if asked else tuple(map(list(columns).index, _OPTIONAL))
    hint = "use a wider terminal, --columns or --format csv"
    grid = Grid(_cells(rows, columns, one_line), left, titles, tested, optional, left, hint)
    epochs = _epochs(rows) if {"epochs", "test_acc"} <= set(columns) else ""
    notes = [Line(one_line(epochs), "dim")] if epochs else []
    return [grid, *notes, Line(one_line(_shared(rows)), "dim")]


def _epochs(rows: pd.DataFrame) -> str:
    """Say that test accuracies are not of the epochs beside them."""
    tested = rows[rows["test_acc"].notna()]
    if tested.empty:
        return ""
    epochs = values_of(tested["final_epochs"])
    after = f"retrained for {', '.join(epochs)} epochs" if epochs else "retrained"
    return f"hold-out %, epochs, seconds: from the search; test %: finalists, {after}"


def board_markdown(rows: pd.DataFrame, columns: Sequence[str]) -> str:
    """Return the table in GitHub's Markdown; nothing in a cell is markup."""
    ends = [":--" if rows[column].dtype == "string" else "--:" for column in columns]
    titles = [_plain(_TITLES.get(column, column)) for column in columns]
    lines = [titles, ends, *_cells(rows, columns, _plain)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def board_csv(rows: pd.DataFrame, columns: Sequence[str]) -> str:
    """Return rows as `leaderboard.csv` is written: no cell is a formula."""
    fields = rows.columns.intersection(list(AXES))
    written = rows.assign(**{field: rows[field].map(_csv_cell) for field in fields})
    return csv_files.csv_text(columns, records(written))


def board_json(rows: pd.DataFrame, columns: Sequence[str]) -> str:
    """Return a list of objects: null in blank cells, [height, width] where the axes differ."""
    listed = [{name: row[name] for name in columns} for row in records(rows)]
    return json.dumps(listed, indent=2) + "\n"


def _csv_cell(value: Cell) -> Cell:
    return axes(value) if isinstance(value, tuple) else value


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return escape(_MARKUP.sub(r"\\\g<0>", one_line(text)), quote=False)


def _cells(
    rows: pd.DataFrame, columns: Sequence[str], escaped: Callable[[str], str]
) -> list[list[str]]:
    """Return the cells as they are shown, row by row."""
    shown = [_shown(rows, column).map(escaped) for column in columns]
    return [list(cells) for cells in zip(*shown, strict=True)]


def _shown(rows: pd.DataFrame, column: str) -> pd.Series[str]:
    """Return a column's cells as text; a test accuracy with its spread over seeds."""
    texts = _texts(rows[column], _FORMATS.get(column, _as_it_is))
    if column == "test_acc":
        spread = rows["test_acc_std"].where(rows["test_acc"].notna())
        return texts + _texts(spread, lambda value: f" ± {_percent(value)}")
    return texts


def _texts(cells: pd.Series[Any], form: Callable[[Any], str]) -> pd.Series[str]:
    return cells.astype(object).map(form, na_action="ignore").where(cells.notna(), "")


def _as_it_is(value: Cell) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case tuple():
            return str(axes(value))
        case _:
            return str(value)


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


_FORMATS: dict[str, Callable[[Any], str]] = {
    "spec_hash": lambda value: str(value)[:12],
    "val_acc": _percent,
    "test_acc": _percent,
    "params": lambda value: f"{value:,}",
    "macs": lambda value: f"{value / 1e6:.1f}",
    "train_seconds": lambda value: f"{value:.0f}",
}


def _shared(rows: pd.DataFrame) -> str:
    """Return the data set, machine and seed behind the figures."""
    seen = {column: values_of(rows[column]) for column in _BESIDE}
    return "; ".join(
        f"{column.removesuffix('_version')} {', '.join(values)}"
        for column, values in seen.items()
        if values
    )
