"""A `leaderboard.csv` read back, of any version and in any state."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from archsearch.errors import ArchsearchError, InputError, Problem, one_line, shown
from archsearch.leaderboard.entry import Entry, Status
from archsearch.study.folder import StudyFolder

MAX_BYTES = 1 << 24
"""Of a leaderboard: a row takes less than a kilobyte."""
MAX_ROWS = 10_000
MAX_COLUMNS = 100
STUDY = "study"
"""The column that says whose row it is; no file has it."""

Cell = int | float | bool | str | tuple[int, int] | None
"""A receptive field may be (height, width); None: nothing is known."""
Row = dict[str, Cell]

COLUMNS = tuple(field.name for field in fields(Entry))
_NEEDED = ("rank", "trial", "spec_hash", "status", "val_acc", "params")
_REMEDY = "archsearch doctor DIR writes it anew where the study.db is there"
_WHOLE = re.compile(r"[0-9]{1,18}")
_REAL = re.compile(r"[-+]?[0-9]{0,18}\.?[0-9]{1,18}([eE][-+]?[0-9]{1,2})?")
_AXES = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")
_SWITCH = {"True": True, "False": False}


@dataclass(frozen=True, slots=True)
class Board:
    """A study's leaderboard.

    Attributes:
        name: what the study is called beside others.
        columns: that its file has.
        rows: in its order; a column that an older version did not write is not in them.
    """

    name: str
    folder: StudyFolder
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_board(folder: Path, name: str) -> Board:
    """A study folder's leaderboard.

    Raises:
        InputError: it is damaged: every line that is.
        ArchsearchError: there is none, or it cannot be read.
    """
    path = StudyFolder(folder).leaderboard
    lines = _lines(_text(path), one_line(str(path)))
    header = next(lines, (1, []))[1]
    problems = list(_header_problems(header))
    if problems:
        raise InputError(str(path), problems)
    readers = [_reader(column) for column in header]
    rows: list[Row] = []
    for number, cells in lines:
        if len(rows) == MAX_ROWS:
            message = f"is a row too many: at most {MAX_ROWS:,} are read"
            raise InputError(str(path), [*problems, Problem(f"line {number}", "rows", message)])
        if len(cells) != len(header):
            message = f"has {len(cells)} cells, the header has {len(header)}; {_REMEDY}"
            problems.append(Problem(f"line {number}", "cells", message))
            continue
        row: Row = {STUDY: name}
        for column, read, text in zip(header, readers, cells, strict=True):
            try:
                row[column] = read(text)
            except ValueError as error:
                message = f"{column} must be {error}, got {shown(text)}; {_REMEDY}"
                problems.append(Problem(f"line {number}", "value", message))
        rows.append(row)
    if problems:
        raise InputError(str(path), problems)
    return Board(name, StudyFolder(folder), tuple(header), tuple(rows))


def names_of(folders: Sequence[Path]) -> list[str]:
    """What studies are called side by side: their folders' names, where two agree their paths."""
    names = [one_line(folder.resolve().name) for folder in folders]
    return [
        name if names.count(name) == 1 else one_line(str(folder))
        for name, folder in zip(names, folders, strict=True)
    ]


def _text(path: Path) -> str:
    name = one_line(str(path))
    try:
        if path.exists() and not path.is_file():
            raise ArchsearchError(f"{name}: is no file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        why = error.strerror or str(error)
        raise ArchsearchError(
            f"{name}: cannot be read: {why}; give a study folder (studies/NAME)"
        ) from error
    if len(data) > MAX_BYTES:
        raise ArchsearchError(f"{name}: larger than {MAX_BYTES >> 20} MiB: no leaderboard is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            str(path), [Problem(f"line {line}", "text", f"is not UTF-8 text; {_REMEDY}")]
        ) from error


def _lines(text: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of cells, each with the number of the line that it ends on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        problem = Problem(f"line {reader.line_num}", "csv", f"{error}; {_REMEDY}")
        raise InputError(source, [problem]) from error


def _header_problems(header: Sequence[str]) -> Iterator[Problem]:
    missing = [column for column in _NEEDED if column not in header]
    if missing:
        told = f"is no leaderboard's header: it has no column {', '.join(missing)}; {_REMEDY}"
        yield Problem("line 1", "header", told)
    elif len(set(header)) < len(header) or STUDY in header:
        twice = next(column for column in header if header.count(column) > 1 or column == STUDY)
        yield Problem("line 1", "header", f"has a column {shown(twice)} too many; rename it")
    elif len(header) > MAX_COLUMNS:
        yield Problem("line 1", "header", f"has {len(header)} columns, more than {MAX_COLUMNS}")


# Cells


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError("a count")
    return int(text)


def _real(text: str) -> float:
    if not _REAL.fullmatch(text):
        raise ValueError("a number")
    return float(text)


def _share(text: str) -> float:
    value = _real(text)
    if not 0 <= value <= 1:
        raise ValueError("a share from 0 to 1")
    return value


def _status(text: str) -> str:
    if text not in get_args(Status):
        raise ValueError(f"one of {', '.join(get_args(Status))}")
    return text


def _switch(text: str) -> bool:
    if text not in _SWITCH:
        raise ValueError("True or False")
    return _SWITCH[text]


def _axes(text: str) -> int | tuple[int, int]:
    if sides := _AXES.fullmatch(text):
        return int(sides[1]), int(sides[2])
    if not _WHOLE.fullmatch(text):
        raise ValueError("an integer or HEIGHTxWIDTH")
    return int(text)


_TYPES: dict[str, Any] = get_type_hints(Entry)
_BY_TYPE: dict[Any, Callable[[str], Cell]] = {
    int: _whole,
    float: _real,
    float | None: _real,
    int | None: _whole,
    bool | None: _switch,
    int | str: _axes,
}
SHARES = frozenset({"val_acc", "test_acc", "test_acc_std"})
_BY_COLUMN: dict[str, Callable[[str], Cell]] = {"status": _status, **dict.fromkeys(SHARES, _share)}
AXES = frozenset(column for column in COLUMNS if _TYPES[column] == int | str)
"""Columns whose cells may be (height, width)."""


def kind_of(column: str) -> type:
    """What a column's cells are, but for None: int, float, bool, str; of an area int."""
    told = _TYPES.get(column, str)
    first = next(iter(get_args(told)), told)
    return first if isinstance(first, type) else str


def _reader(column: str) -> Callable[[str], Cell]:
    read = _BY_COLUMN.get(column) or _BY_TYPE.get(_TYPES.get(column))
    optional = column not in _NEEDED or column == "val_acc"
    if read is None:
        return lambda text: text or None
    if optional:
        return lambda text: read(text) if text else None
    return read
