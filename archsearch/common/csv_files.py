"""CSV files: written whole or a row at a time, read back, repaired."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from archsearch.common import atomic_files
from archsearch.common.atomic_files import unreadable, unwritable
from archsearch.errors import ArchsearchError

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a CSV at once or not at all."""
    atomic_files.write_text(path, csv_text(columns, rows))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV as it is written."""
    lines = [_csv_line(columns)]
    lines += [_csv_line([row.get(column) for column in columns]) for row in rows]
    return "".join(lines)


def append_csv(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Add one row in a single write; a line that a crash cut short is dropped first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            _drop_cut_line(file)
            if file.seek(0, os.SEEK_END) == 0:
                file.write(_csv_line(columns).encode())
            file.write(_csv_line([row.get(column) for column in columns]).encode())
    except OSError as error:
        raise unwritable(path, error) from error


MAX_CSV_BYTES = 64 << 20
"""A search of a thousand trials leaves a few megabytes."""


def read_csv(path: Path) -> list[dict[str, str]]:
    """A CSV's rows, as text.

    Raises:
        ArchsearchError: there is none, it cannot be read, or it is larger than `MAX_CSV_BYTES`.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read(MAX_CSV_BYTES + 1)  # of a pipe no size is known before
        if len(text) > MAX_CSV_BYTES:
            raise ArchsearchError(f"{path}: larger than {MAX_CSV_BYTES >> 20} MiB: not ours")
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ArchsearchError(
            f"{path}: cannot be read: {why}; give a study folder (studies/NAME)"
        ) from error


def mended_csv(path: Path, columns: Sequence[str]) -> int:
    """Drop the lines of a CSV that are no rows of these columns; how many those were.

    Raises:
        ArchsearchError: it cannot be read or written.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise unreadable(path, error) from error
    lines = raw.decode("utf-8", "replace").splitlines(keepends=True)
    head = _csv_line(columns)
    kept = [line for line in lines[1:] if _is_row(line, len(columns))]
    text = head + "".join(kept)
    if text.encode() == raw:
        return 0
    atomic_files.write_text(path, text)
    return len(lines) - (lines[:1] == [head]) - len(kept)


def _is_row(line: str, columns: int) -> bool:
    """Whether a line is one whole row; ours have no line breaks inside of cells."""
    if not line.endswith("\n") or "\ufffd" in line or "\0" in line:
        return False
    try:
        rows = list(csv.reader([line], strict=True))
    except csv.Error:
        return False
    return len(rows) == 1 and len(rows[0]) == columns


def _csv_line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    # Cells are quoted where they hold a character of the terminator; we end lines with \n alone.
    csv.writer(line, lineterminator="\r\n").writerow([_cell(value) for value in values])
    return line.getvalue().removesuffix("\r\n") + "\n"


def _cell(value: Any) -> Any:
    """A value as a cell; text that a spreadsheet would run as a formula is made inert."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value


def _drop_cut_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if end and file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
