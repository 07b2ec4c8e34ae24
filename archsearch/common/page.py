"""What a user reads: lines and grids, before anybody decides on colours or widths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from archsearch.errors import message_line

GAP = "  "
"""Between a grid's columns."""


class Line(NamedTuple):
    """A line of text; `style` is rich's name for its look on a terminal (`bold red`)."""

    text: str
    style: str = ""


class Grid(NamedTuple):
    """Rows of cells in columns.

    Attributes:
        left: columns that are aligned to the left; all others are to the right.
        titles: of the columns; empty for none.
        bold: rows that stand out.
    """

    rows: Sequence[Sequence[str]]
    left: frozenset[int]
    titles: Sequence[str] = ()
    bold: frozenset[int] = frozenset()


Page = Sequence[Line | Grid]


def plain(page: Iterable[Line | Grid]) -> str:
    """A page as text for a file or pipe, which have no edge to wrap at."""
    lines = (line for part in page for line in _lines(part))
    return "".join(f"{line}\n" for line in lines)


def _lines(part: Line | Grid) -> Iterator[str]:
    if isinstance(part, Line):
        yield message_line(part.text)
        return
    rows = [[*map(message_line, row)] for row in ([part.titles] if part.titles else [])]
    rows += [[*map(message_line, row)] for row in part.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if i in part.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield GAP.join(cells).rstrip()
