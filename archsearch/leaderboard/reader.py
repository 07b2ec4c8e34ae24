"""Read `leaderboard.csv`, as any version wrote it, into a DataFrame."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import pandas as pd

from archsearch.errors import InputError, Problem, one_line, shown
from archsearch.leaderboard.csv_lines import REMEDY, csv_lines
from archsearch.leaderboard.entry import COLUMNS, KNOB, Entry, Share, Status, Within
from archsearch.space.neighbourhood import MAX_KNOBS
from archsearch.spec.ops import Pair
from archsearch.study.folder import StudyFolder

MAX_ROWS = 10_000
MAX_COLUMNS = 100 + MAX_KNOBS
MAX_CELLS = 5_000_000
"""Rows times columns."""
STUDY = "study"
"""The column that says whose row it is; no file has it."""
_JOINED = "knobs"
"""The column of older versions that holds every knob of a row: `width=24 stride=1`."""

Cell = int | float | bool | str | tuple[int, int] | None
"""A receptive field may be (height, width); None: nothing is known."""
Row = dict[str, Cell]

_NEEDED = ("rank", "trial", "spec_hash", "status", "val_acc", "params")
_FILLED = frozenset(_NEEDED) - {"spec_hash", "val_acc"}
"""Columns without blank cells."""


@dataclass(frozen=True, slots=True)
class Board:
    """A study's leaderboard.

    Attributes:
        name: name of the study, different from those of others beside it.
        columns: columns of its file; of an old file's `knobs`, the columns they make.
        frame: its rows in order, with the column `study`, every column of `Entry` (all blank
            where an older version did not write it), and then the other columns of the file.
    """

    name: str
    folder: StudyFolder
    columns: tuple[str, ...]
    frame: pd.DataFrame


def read_leaderboard(folder: str | PathLike[str]) -> pd.DataFrame:
    """Read a study's leaderboard, best trial first; files of older versions work too.

    The columns are those of `Entry`, then `knob_NAME` for each knob. They have nullable dtypes:
    Int64, Float64, boolean and string. Receptive fields are integers; if the axes of any network
    differ, the column has dtype object and holds (height, width) for that network.

    Raises:
        InputError: the file is damaged; the error lists every damaged line.
        ArchsearchError: the file is missing or cannot be read.

    Example:
        >>> import archsearch as asr
        >>> board = asr.read_leaderboard("studies/cifar10-200k")
        >>> bool((board["params"] <= 200_000).all())
        True
    """
    return read_board(Path(folder), "").frame.drop(columns=STUDY)


def read_board(folder: Path, name: str) -> Board:
    """Return a study folder's leaderboard, with `name` as the name of the study.

    Raises:
        InputError: the file is damaged; the error lists every damaged line.
        ArchsearchError: the file is missing or cannot be read.
    """
    path = StudyFolder(folder).leaderboard
    lines = csv_lines(path)
    header = next(lines, (1, []))[1]
    problems = list(_header_problems(header))
    if problems:
        raise InputError(str(path), problems)
    columns: list[list[Any]] = [[] for _ in header]
    kinds = [_KNOBS if column == _JOINED else _kind(column) for column in header]
    most = min(MAX_ROWS, MAX_CELLS // len(header))
    for count, (number, cells) in enumerate(lines):
        place = f"line {number}"
        if count == most:
            message = f"is a row too many: at most {most:,} are read"
            raise InputError(str(path), [*problems, Problem(place, "rows", message)])
        if len(cells) != len(header):
            message = f"has {len(cells)} cells, the header has {len(header)}; {REMEDY}"
            problems.append(Problem(place, "cells", message))
            continue
        for column, kind, values, text in zip(header, kinds, columns, cells, strict=True):
            try:
                values.append(kind.read(text) if text or column in _FILLED else None)
            except ValueError as error:
                values.append(None)
                message = f"{column} must be {error}, got {shown(text)}; {REMEDY}"
                problems.append(Problem(place, "value", message))
    if problems:
        raise InputError(str(path), problems)
    found = _with_knobs(dict(zip(header, columns, strict=True)), path)
    return Board(name, StudyFolder(folder), tuple(found), _frame(name, found, len(columns[0])))


def names_of(folders: Sequence[Path]) -> list[str]:
    """Name studies side by side: by their folders' names, or their paths where two names agree."""
    names = [one_line(folder.resolve().name) for folder in folders]
    return [
        name if names.count(name) == 1 else one_line(str(folder))
        for name, folder in zip(names, folders, strict=True)
    ]


def stacked(boards: Iterable[Board]) -> pd.DataFrame:
    """Return the rows of all leaderboards, one below the other, with the columns of any."""
    table = pd.concat([board.frame for board in boards], ignore_index=True)
    # A knob may be a number in one space and a word in another.
    mixed = [c for c in table if c not in COLUMNS and table[c].dtype == object]
    return table.astype(dict.fromkeys(mixed, "string"))


def records(table: pd.DataFrame) -> list[Row]:
    """Return the rows as plain values; None in blank cells."""
    columns = [[None if cell is pd.NA else cell for cell in table[c].tolist()] for c in table]
    names = list(map(str, table))
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def values_of(cells: pd.Series[Any]) -> list[str]:
    """Return the different values of a column as text, in order."""
    return sorted(set(cells.dropna().astype(str)))


def entries(board: Board) -> list[Entry]:
    """Return the rows as they were written.

    Raises:
        InputError: rows have blank cells that none of ours has.
    """
    needed = [f.name for f in fields(Entry) if f.default is f.default_factory is MISSING]
    blank = board.frame[needed].isna()
    problems = [
        Problem(f"trial {trial}", "blank", f"{column} is blank; {REMEDY}")
        for column in needed
        for trial in board.frame["trial"][blank[column]]
    ]
    if problems:
        raise InputError(str(board.folder.leaderboard), problems)
    return [_entry(row) for row in records(board.frame)]


def _entry(row: Row) -> Entry:
    there: dict[str, Any] = {column: cell for column, cell in row.items() if cell is not None}
    for column in AXES:
        if isinstance(there[column], int):
            there[column] = (there[column],) * 2
    knobs = {c.removeprefix(KNOB): cell for c, cell in there.items() if c.startswith(KNOB)}
    return Entry(**{c: there[c] for c in COLUMNS if c in there}, knobs=knobs)


# Columns


def _header_problems(header: Sequence[str]) -> Iterator[Problem]:
    missing = [column for column in _NEEDED if column not in header]
    if missing:
        told = f"is no leaderboard's header: it has no column {', '.join(missing)}; {REMEDY}"
        yield Problem("line 1", "header", told)
    elif len(set(header)) < len(header) or STUDY in header:
        twice = next(column for column in header if header.count(column) > 1 or column == STUDY)
        yield Problem("line 1", "header", f"has a column {shown(twice)} too many; rename it")
    elif _JOINED in header and any(column.startswith(KNOB) for column in header):
        yield Problem("line 1", "header", f"has knobs in one column and in many; {REMEDY}")
    elif len(header) > MAX_COLUMNS:
        yield Problem("line 1", "header", f"has {len(header)} columns, more than {MAX_COLUMNS}")


def _with_knobs(found: Mapping[str, list[Any]], path: Path) -> dict[str, list[Any]]:
    """Return the columns with an old file's `knobs` as one column per knob, at the end.

    Raises:
        InputError: there are too many knobs.
    """
    joined = found.get(_JOINED, [])
    knobs: dict[str, list[str | None]] = {}
    most = min(MAX_KNOBS, MAX_CELLS // max(1, len(joined)))
    for at, cell in enumerate(joined):
        for part in (cell or "").split():
            name, _, value = part.partition("=")
            if (column := KNOB + name) not in knobs:
                knobs[column] = [None] * len(joined)
            knobs[column][at] = value
        if len(knobs) > most:
            message = f"names more than {most:,} knobs by row {at + 1:,}"
            raise InputError(str(path), [Problem(f"column {_JOINED}", "knobs", message)])
    return {column: cells for column, cells in found.items() if column != _JOINED} | knobs


def _frame(name: str, found: Mapping[str, list[Any]], rows: int) -> pd.DataFrame:
    blank = [None] * rows
    arrays: dict[str, Any] = {STUDY: pd.array([name] * rows, dtype="string")}
    for column in (*COLUMNS, *(column for column in found if column not in COLUMNS)):
        cells = found.get(column, blank)
        dtype = DTYPES.get(column, "string")
        if column in AXES and any(isinstance(cell, tuple) for cell in cells):
            dtype = "object"
        elif column.startswith(KNOB) and all(map(_WHOLE.fullmatch, filter(None, cells))):
            cells = [cell and int(cell) for cell in cells]
            dtype = "Int64"
        arrays[column] = pd.Series(cells, dtype=dtype)
    return pd.DataFrame(arrays)


# Cells


class _Kind(NamedTuple):
    """How cells of a type are read: the texts that they may be, and of which dtype they become."""

    dtype: str
    pattern: re.Pattern[str]
    words: str
    parse: Callable[[str], Any]
    within: Within | None = None

    def read(self, text: str) -> Any:
        """Return the cell's value, or raise ValueError with what it must be."""
        if not self.pattern.fullmatch(text):
            raise ValueError(self.words)
        value = self.parse(text)
        if self.within and not self.within.low <= value <= self.within.high:
            raise ValueError(self.within.words)
        return value


def _axes(text: str) -> int | tuple[int, int]:
    height, by, width = text.partition("x")
    return (int(height), int(width)) if by else int(height)


_ANY = re.compile(".*", re.DOTALL)
_WHOLE = re.compile(r"[0-9]{1,18}")
REAL = re.compile(r"[-+]?[0-9]{0,18}\.?[0-9]{1,18}([eE][-+]?[0-9]{1,2})?")
_STATUSES = get_args(Status)
_KNOBS = _Kind("string", re.compile(r"\s*([^\s=]+=\S+(\s+|\Z))*"), "NAME=VALUE by spaces", str)
_KINDS: dict[Any, _Kind] = {
    int: _Kind("Int64", _WHOLE, "a count", int),
    float: _Kind("Float64", REAL, "a number", float),
    bool: _Kind("boolean", re.compile("True|False"), "True or False", "True".__eq__),
    str: _Kind("string", _ANY, "text", str),
    Status: _Kind("string", re.compile("|".join(_STATUSES)), f"one of {', '.join(_STATUSES)}", str),
    Pair: _Kind(
        "Int64", re.compile("[0-9]{1,9}(x[0-9]{1,9})?"), "an integer or HEIGHTxWIDTH", _axes
    ),
}
_TYPES = {
    column: get_args(hint)[0] if NoneType in get_args(hint) else hint
    for column, hint in get_type_hints(Entry, include_extras=True).items()
}
"""The type of each column, without None."""


def _kind(column: str) -> _Kind:
    """Return how the cells of a column are read."""
    told = _TYPES.get(column, str)
    if get_origin(told) is Annotated:
        base, within = get_args(told)
        return _KINDS[base]._replace(within=within)
    return _KINDS[told]


DTYPES = {column: _kind(column).dtype for column in COLUMNS}
"""The pandas dtype of each column of `Entry`."""
AXES = frozenset(column for column in COLUMNS if _TYPES[column] == Pair)
"""Columns whose cells may be (height, width)."""
SHARES = frozenset(column for column in COLUMNS if _TYPES[column] == Share)
"""Columns of numbers from 0 to 1."""
