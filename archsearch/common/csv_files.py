"""CSV files: written whole or a row at a time, read back, repaired."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from archsearch.common import atomic_files
from archsearch.common.atomic_files import unreadable, unwritable
from archsearch.common.guarded_files import open_regular
from archsearch.errors import ArchsearchError, one_line

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_BLOCK = 1 << 14


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
        with atomic_files.open_in_place(path) as file:
            _drop_cut_line(file)
            if file.seek(0, os.SEEK_END) == 0:
                file.write(_csv_line(columns).encode())
            file.write(_csv_line([row.get(column) for column in columns]).encode())
    except OSError as error:
        raise unwritable(path, error) from error


MAX_CSV_BYTES = 64 << 20
"""A search of a thousand trials leaves a few megabytes."""
MAX_REPAIRED_BYTES = 1 << 30
MAX_ROW_CHARS = 1 << 20


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV's rows as text.

    Raises:
        ArchsearchError: there is none, it cannot be read, or it is larger than `MAX_CSV_BYTES`.
    """
    return list(csv_rows(path))


def csv_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield a CSV's rows as text, a row at a time.

    Raises:
        ArchsearchError: there is none, it cannot be read, or it is larger than `MAX_CSV_BYTES`.
    """
    try:
        for _, row in numbered_rows(path):
            yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ArchsearchError(f"{path}: cannot be read: {why}") from error


def numbered_rows(path: Path) -> Iterator[tuple[int, dict[Any, Any]]]:
    """Yield a CSV's rows as text, each with the number of its last line.

    Raises:
        ArchsearchError: it is larger than `MAX_CSV_BYTES`.
        OSError: it cannot be read.
        UnicodeDecodeError, csv.Error: it is not a CSV.
    """
    row_chars = 0

    def lines(text: TextIO) -> Iterator[str]:
        nonlocal row_chars
        while line := text.readline(MAX_ROW_CHARS + 1):
            row_chars += len(line)
            if row_chars > MAX_ROW_CHARS:
                raise csv.Error(f"a row has more than {MAX_ROW_CHARS:,} characters")
            yield line

    with open_regular(path) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        _check_size(file, path, MAX_CSV_BYTES, "this is not a file that archsearch writes")
        reader = csv.DictReader(lines(text))
        for row in reader:
            row_chars = 0
            yield reader.line_num, row


def mended_csv(path: Path, columns: Sequence[str]) -> int:
    """Drop the lines of a CSV that are no rows of these columns; how many those were.

    It is repaired a line at a time, so that a large one takes no memory. A link is replaced by a
    copy; a file of other columns is kept beside it.

    Raises:
        ArchsearchError: it cannot be read or written, or is larger than `MAX_REPAIRED_BYTES`.
    """
    head = _csv_line(columns).encode()
    try:
        with open_regular(path) as file:
            _check_size(file, path, MAX_REPAIRED_BYTES, "move it away and run the command again")
            lines = _lines(file)
            first = next(lines, head)
            dropped = sum(not _is_row(line, len(columns)) for line in lines)
            empty = file.tell() == 0
        if first == head and not (empty or dropped or path.is_symlink()):
            return 0
        source = path
        if first != head and not path.is_symlink():  # of another version, perhaps: it is kept
            source = path.rename(atomic_files.free_name(path))
        with (
            atomic_files.replacing(path) as temporary,
            open_regular(source) as file,  # closed before it is replaced, which Windows asks for
            temporary.open("wb") as copy,
        ):
            copy.write(head)
            rows = islice(_lines(file), 1, None)
            copy.writelines(line for line in rows if _is_row(line, len(columns)))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise unreadable(path, error) from error
    return dropped + (first != head)


def count_rows(path: Path) -> int:
    """Count the rows of a CSV that `mended_csv` has seen; 0 if there is none.

    Raises:
        ArchsearchError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return max(0, sum(1 for _ in _lines(file)) - 1)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise unreadable(path, error) from error


def _check_size(file: BinaryIO, path: Path, limit: int, advice: str) -> None:
    if os.fstat(file.fileno()).st_size > limit:
        name = one_line(str(path))
        raise ArchsearchError(f"{name}: larger than {limit >> 20} MiB; {advice}")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines; only the start of one that is too long for a row."""
    while line := file.readline(MAX_ROW_CHARS):
        yield line
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_ROW_CHARS)


def _is_row(line: bytes, columns: int) -> bool:
    """Whether a line is one whole row; ours have no line breaks inside of cells."""
    if not line.endswith(b"\n") or b"\0" in line:
        return False
    if line.isascii() and b'"' not in line and b"\r" not in line:  # many times faster
        return line != b"\n" and line.count(b",") == columns - 1
    try:
        rows = list(csv.reader([line.decode("utf-8")], strict=True))
    except (UnicodeDecodeError, csv.Error):
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
    """Cut a file off after its last line break."""
    end = whole = file.seek(0, os.SEEK_END)
    while whole:
        start = max(0, whole - _BLOCK)
        file.seek(start)
        at = file.read(whole - start).rfind(b"\n")
        if at >= 0:
            whole = start + at + 1
            break
        whole = start
    if whole < end:
        file.truncate(whole)
