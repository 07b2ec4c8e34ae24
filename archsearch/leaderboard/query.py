"""Which rows of leaderboards to show, and in which order."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from archsearch.errors import ArchsearchError, shown
from archsearch.leaderboard.reader import AXES, COLUMNS, SHARES, STUDY, Board, Cell, Row, kind_of
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
_CONDITION = re.compile(r"\s*([A-Za-z0-9_]+)\s*(<=|>=|!=|==|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
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


def chosen(boards: Sequence[Board], query: Query) -> list[Row]:
    """The rows to show; where rows of several studies are sorted, they are ranked anew.

    Raises:
        ArchsearchError: a condition or a column cannot be understood.
    """
    known = known_columns(boards)
    conditions = [_condition(text, known) for text in query.where]
    rows = [
        row for board in boards for row in board.rows if all(holds(row) for holds in conditions)
    ]
    if query.pareto:
        trained = [row for row in rows if row["status"] == "trained"]
        front = pareto_front([_costs(row) for row in trained])
        rows = [row for row, on_front in zip(trained, front, strict=True) if on_front]
    if query.sort is None:
        of_studies = ([row for row in rows if row[STUDY] == board.name] for board in boards)
        return [row for mine in of_studies for row in mine[: query.top]]
    rows = _sorted(rows, query.sort, known)
    if len(boards) > 1:
        rows = [{**row, "rank": rank} for rank, row in enumerate(rows, start=1)]
    return rows[: query.top]


def known_columns(boards: Iterable[Board]) -> list[str]:
    """Every column that a leaderboard can have, and those that these have."""
    found = [column for board in boards for column in board.columns]
    return list(dict.fromkeys((STUDY, *COLUMNS, *found)))


def check_columns(columns: Iterable[str], known: Sequence[str]) -> None:
    """That there are such columns.

    Raises:
        ArchsearchError: one is unknown.
    """
    for column in columns:
        if column not in known:
            near = difflib.get_close_matches(column[:MAX_TEXT], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose of {', '.join(known)}"
            raise ArchsearchError(f"no column {shown(column)}; {hint}")


def _costs(row: Row) -> tuple[float, ...]:
    return tuple(
        sign * value if isinstance(value := row.get(column), int | float) else float("inf")
        for sign, column in ((-1, "val_acc"), (1, "params"), (1, "macs"))
    )


# Order


def _sorted(rows: Iterable[Row], sort: str, known: Sequence[str]) -> list[Row]:
    """By a column; what has nothing there comes last, and rows that agree stay as they were."""
    column = sort.removeprefix("-").removeprefix("+")
    check_columns([column], known)
    high_first = sort[0] == "-" or (sort[0] != "+" and column in _HIGH_FIRST)
    there = [row for row in rows if row.get(column) is not None]
    missing = [row for row in rows if row.get(column) is None]
    there.sort(key=lambda row: _key(row[column]), reverse=high_first)
    return there + missing


def _key(value: Cell) -> tuple[float, str]:
    """Numbers by size, a field by its smaller axis, text by its letters."""
    return (0, value) if isinstance(value, str) else (_number(value), "")


def _number(value: Cell) -> float:
    if isinstance(value, tuple):
        return min(value)
    return float(value) if isinstance(value, int | float) else float("nan")


# Conditions


def _condition(text: str, known: Sequence[str]) -> Callable[[Row], bool]:
    """Whether a row is as `COLUMN OP VALUE` says; no order holds for what is not known."""
    found = _CONDITION.fullmatch(text) if len(text) <= MAX_TEXT else None
    if found is None:
        raise ArchsearchError(f"--where {shown(text)}: {_FORM}")
    column, sign, wanted = found.groups()
    check_columns([column], known)
    kind = kind_of(column)
    if sign == "~":
        if kind is not str:
            raise ArchsearchError(f"--where {shown(text)}: ~ looks into text; {column} is none")
        return lambda row: wanted in str(row.get(column) or "")
    if sign in _ORDERS:
        if kind not in (int, float):
            raise ArchsearchError(
                f"--where {shown(text)}: {column} has no order; use =, != or ~ (contains)"
            )
        return _ordered(column, _ORDERS[sign], _wanted_number(column, wanted, text))
    equal = _equals(column, wanted, text)
    return (lambda row: not equal(row)) if sign == "!=" else equal


def _ordered(
    column: str, order: Callable[[float, float], bool], limit: float
) -> Callable[[Row], bool]:
    def holds(row: Row) -> bool:
        value = row.get(column)
        return value is not None and order(_number(value), limit)

    return holds


def _equals(column: str, wanted: str, text: str) -> Callable[[Row], bool]:
    """Without a value: whether there is none."""
    value: Cell
    if not wanted:
        value = None
    elif kind_of(column) is bool:
        if wanted.lower() not in _SWITCH:
            raise ArchsearchError(f"--where {shown(text)}: {column} is true or false")
        value = _SWITCH[wanted.lower()]
    elif column in AXES and (sides := re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", wanted)):
        value = int(sides[1]), int(sides[2])
    elif kind_of(column) is str:
        value = wanted
    else:
        value = _wanted_number(column, wanted, text)
    return lambda row: row.get(column) == value


def _wanted_number(column: str, wanted: str, text: str) -> float:
    """85% is 0.85, and 150,000 or 150_000 is 150000."""
    plain = wanted.replace(",", "").replace("_", "")
    number, percent = plain.removesuffix("%"), plain.endswith("%")
    if not re.fullmatch(r"[-+]?[0-9]{0,18}\.?[0-9]{1,18}([eE][-+]?[0-9]{1,2})?", number):
        raise ArchsearchError(f"--where {shown(text)}: {column} is a number; {_FORM}")
    value = float(number) / 100 if percent else float(number)
    if column in SHARES and not 0 <= value <= 1:
        raise ArchsearchError(
            f"--where {shown(text)}: {column} is a share from 0 to 1: write 85% or 0.85"
        )
    return value
