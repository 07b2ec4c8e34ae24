"""The lines of a `leaderboard.csv` as cells of text, within bounds; loads no pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from archsearch.common.guarded_files import read_at_most
from archsearch.errors import ArchsearchError, InputError, Problem, one_line

MAX_BYTES = 1 << 24
"""Of a leaderboard: a row takes less than a kilobyte."""
REMEDY = "archsearch doctor DIR writes it anew where the study.db is there"


def csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of cells, the header first, each with the number of its last line.

    Raises:
        InputError: a line is not CSV.
        ArchsearchError: there is no file, or it cannot be read.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        problem = Problem(f"line {reader.line_num}", "csv", f"{error}; {REMEDY}")
        raise InputError(str(path), [problem]) from error


def _text(path: Path) -> str:
    name = one_line(str(path))
    try:
        data = read_at_most(path, MAX_BYTES)
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
            str(path), [Problem(f"line {line}", "text", f"is not UTF-8 text; {REMEDY}")]
        ) from error
