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
        optional: columns that a narrow terminal leaves out, the least needed first.
        wrapped: columns of names, which a narrow terminal wraps.
        hint: how to see what is left out; a clause.
    """

    rows: Sequence[Sequence[str]]
    left: frozenset[int]
    titles: Sequence[str] = ()
    bold: frozenset[int] = frozenset()
    optional: Sequence[int] = ()
    wrapped: frozenset[int] = frozenset()
    hint: str = "use a wider terminal"


Page = Sequence[Line | Grid]


def plain(page: Iterable[Line | Grid]) -> str:
    """A page as text for a file or pipe, which have no edge to wrap at."""
    lines = (
        line
        for part in page
        for line in ([message_line(part.text)] if isinstance(part, Line) else grid_lines(part))
    )
    return "".join(f"{line}\n" for line in lines)


def grid_lines(grid: Grid) -> Iterator[str]:
    """Yield a grid's titles, if it has any, and rows with their columns aligned."""
    rows = [[*map(message_line, row)] for row in ([grid.titles] if grid.titles else [])]
    rows += [[*map(message_line, row)] for row in grid.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if i in grid.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield GAP.join(cells).rstrip()
