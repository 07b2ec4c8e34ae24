"""Which rows of leaderboards to show, and in which order."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from archsearch.errors import ArchsearchError, shown
from archsearch.leaderboard.entry import COLUMNS
from archsearch.leaderboard.reader import AXES, REAL, SHARES, STUDY, Board, stacked
from archsearch.study.objective import pareto_front

MAX_TEXT = 1_000
"""Of a condition, in characters."""
_HIGH_FIRST = frozenset(
    {
        "val_acc",
        "test_acc",
        "test_seeds",
        "reached_target",
        "receptive_field",
        "receptive_field_with_gap",
        "images_per_second",
        "pareto",
    }
)
"""Columns of which more is better, or which say that something is so."""
_CONDITION = re.compile(r"\s*([^\s<>=!~]+)\s*(<=|>=|!=|==|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SWITCH = {"true": True, "yes": True, "false": False, "no": False}
_FORM = "write COLUMN OP VALUE, as in 'params<=150000', 'val_acc>85%' or 'status=trained'"


@dataclass(frozen=True, slots=True)
class Query:
    """What to show of leaderboards.

    Attributes:
        where: conditions that all must hold.
        pareto: only rows that no other of these beats in hold-out accuracy, parameters and MACs.
        sort: a column, with - in front for the highest first, + for the lowest; alone, the better.
        top: so many rows at most; of each study, where nothing sorts them together.
    """

    where: Sequence[str] = ()
    pareto: bool = False
    sort: str | None = None
    top: int | None = None


def chosen(boards: Sequence[Board], query: Query) -> pd.DataFrame:
    """Return the rows to show; where rows of several studies are sorted, they are ranked anew.

    Raises:
        ArchsearchError: a condition or a column cannot be understood.
    """
    table, known = stacked(boards), known_columns(boards)
    for text in query.where:
        table = table[where(table, text, known)]
    if query.pareto:
        table = table[table["status"] == "trained"]
        costs = table.assign(val_acc=-table["val_acc"])[["val_acc", "params", "macs"]]
        filled = costs.astype("Float64").fillna(float("inf"))
        table = table[pareto_front(list(filled.itertuples(index=False, name=None)))]
    if query.sort is None:
        return table if query.top is None else table.groupby(STUDY, sort=False).head(query.top)
    table = _sorted(table, query.sort, known)
    if len(boards) > 1:
        table = table.assign(rank=pd.array(range(1, len(table) + 1), dtype="Int64"))
    return table.iloc[: query.top]


def known_columns(boards: Iterable[Board]) -> list[str]:
    """Return every column that a leaderboard can have, and those that these have."""
    found = [column for board in boards for column in board.columns]
    return list(dict.fromkeys((STUDY, *COLUMNS, *found)))


def check_columns(columns: Iterable[str], known: Sequence[str]) -> None:
    """Check that there are such columns.

    Raises:
        ArchsearchError: one is unknown.
    """
    for column in columns:
        if column not in known:
            near = difflib.get_close_matches(column[:MAX_TEXT], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose of {', '.join(known)}"
            raise ArchsearchError(f"no column {shown(column)}; {hint}")


def _sorted(table: pd.DataFrame, sort: str, known: Sequence[str]) -> pd.DataFrame:
    """Sort by a column; blank cells come last, and rows that agree stay as they were."""
    column = sort.removeprefix("-").removeprefix("+")
    check_columns([column], known)
    high_first = sort[0] == "-" or (sort[0] != "+" and column in _HIGH_FIRST)
    order = _smaller_axis(table[column]).sort_values(ascending=not high_first, kind="stable")
    return table.loc[order.index]


def _smaller_axis(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Return a receptive field as its smaller axis, other cells as they are."""
    if cells.dtype != object:
        return cells
    return cells.map(lambda cell: min(cell) if isinstance(cell, tuple) else cell).astype("Int64")


# Conditions


def where(table: pd.DataFrame, text: str, known: Sequence[str]) -> pd.Series[bool]:
    """Return which rows are as `COLUMN OP VALUE` says; no order holds for what is not known.

    Raises:
        ArchsearchError: the condition cannot be understood.
    """
    found = _CONDITION.fullmatch(text) if len(text) <= MAX_TEXT else None
    if found is None:
        raise ArchsearchError(f"--where {shown(text)}: {_FORM}")
    column, sign, wanted = found.groups()
    check_columns([column], known)
    cells = table[column]
    if sign == "~":
        if cells.dtype != "string":
            raise ArchsearchError(f"--where {shown(text)}: ~ looks into text; {column} is none")
        return _mask(cells.fillna("").str.contains(wanted, regex=False))
    if sign in _ORDERS:
        if cells.dtype in ("string", "boolean"):
            raise ArchsearchError(
                f"--where {shown(text)}: {column} has no order; use =, != or ~ (contains)"
            )
        return _mask(_ORDERS[sign](_smaller_axis(cells), _wanted_number(column, wanted, text)))
    equal = _equal(cells, column, wanted, text)
    return ~equal if sign == "!=" else equal


def _equal(cells: pd.Series[Any], column: str, wanted: str, text: str) -> pd.Series[bool]:
    """Return which cells are the wanted one; without one, which are blank."""
    if not wanted:
        return cells.isna()
    if cells.dtype == "boolean":
        if wanted.lower() not in _SWITCH:
            raise ArchsearchError(f"--where {shown(text)}: {column} is true or false")
        return _mask(cells == _SWITCH[wanted.lower()])
    if column in AXES and (sides := re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", wanted)):
        return _mask(cells.map(lambda cell: cell == (int(sides[1]), int(sides[2])), "ignore"))
    if cells.dtype == "string":
        return _mask(cells == wanted)
    return _mask(cells == _wanted_number(column, wanted, text))


def _mask(holds: pd.Series[Any]) -> pd.Series[bool]:
    return holds.astype("boolean").fillna(value=False).astype(bool)


def _wanted_number(column: str, wanted: str, text: str) -> float:
    """85% is 0.85, and 150,000 or 150_000 is 150000."""
    plain = wanted.replace(",", "").replace("_", "")
    number, percent = plain.removesuffix("%"), plain.endswith("%")
    if not REAL.fullmatch(number):
        raise ArchsearchError(f"--where {shown(text)}: {column} is a number; {_FORM}")
    value = float(number) / 100 if percent else float(number)
    if column in SHARES and not 0 <= value <= 1:
        raise ArchsearchError(
            f"--where {shown(text)}: {column} is a share from 0 to 1: write 85% or 0.85"
        )
    return value
