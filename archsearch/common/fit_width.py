"""Fit pages to the width of a terminal: wrap names, leave out columns, never cut a number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from archsearch.common.page import GAP, Grid, Line, Page

_GAPS = re.compile(r"(?<=\S)( {2,})(?=\S)")
"""Separates the items of a cell that holds a list; such a cell is wrapped between items."""
_NARROWEST = 12
"""A wrapped column keeps at least this width, unless its text is shorter."""
_NUMBER = re.compile(r"[(]?[-+±]?[0-9][0-9.,x%]*[),;:]*")


def fitted(page: Page, width: int) -> Page:
    """Return `page` in lines of at most `width` characters, as far as its grids allow it.

    A grid that is too wide first wraps its columns `wrapped`, then loses columns `optional`; a
    line below it names those. What still does not fit is left to the terminal, which wraps it.
    """
    parts: list[Line | Grid] = []
    for part in page:
        parts += _fitted_grid(part, width) if isinstance(part, Grid) else [part]
    return parts


def _fitted_grid(grid: Grid, width: int) -> Iterator[Line | Grid]:
    kept = list(_columns(grid))
    left_out = []
    for column in grid.optional:
        if _least_width(grid, kept) <= width:
            break
        kept.remove(column)
        left_out.append(column)
    yield _wrapped(_only(grid, kept), width)
    if left_out:
        names = ", ".join(grid.titles[column] for column in sorted(left_out))
        yield Line(f"not shown in {width} columns: {names}; {grid.hint}", "dim")


def _columns(grid: Grid) -> range:
    return range(len(grid.titles or next(iter(grid.rows), ())))


def _cells(grid: Grid, column: int) -> list[str]:
    title = [grid.titles[column]] if grid.titles else []
    return [*title, *(row[column] for row in grid.rows)]


def _widest(grid: Grid, column: int) -> int:
    return max((len(cell) for cell in _cells(grid, column)), default=0)


def _least(grid: Grid, column: int) -> int:
    """Return the width that a column can be wrapped to."""
    widest = _widest(grid, column)
    if column not in grid.wrapped:
        return widest
    whole = (len(part) for cell in _cells(grid, column) for part in _unbroken(cell))
    return min(widest, max(_NARROWEST, *whole, 0))


def _least_width(grid: Grid, columns: Sequence[int]) -> int:
    return sum(_least(grid, c) for c in columns) + len(GAP) * max(0, len(columns) - 1)


def _only(grid: Grid, columns: Sequence[int]) -> Grid:
    """Return a grid with only these columns."""
    return grid._replace(
        rows=[[row[c] for c in columns] for row in grid.rows],
        left=frozenset(i for i, c in enumerate(columns) if c in grid.left),
        titles=[grid.titles[c] for c in columns] if grid.titles else (),
        optional=(),
        wrapped=frozenset(i for i, c in enumerate(columns) if c in grid.wrapped),
    )


def _wrapped(grid: Grid, width: int) -> Grid:
    """Return a grid whose wrapped columns share the width that the others leave."""
    widths = [_widest(grid, column) for column in _columns(grid)]
    over = sum(widths) + len(GAP) * (len(widths) - 1) - width
    for column in sorted(grid.wrapped, key=lambda c: -widths[c]):
        narrower = max(_least(grid, column), widths[column] - max(0, over))
        over -= widths[column] - narrower
        widths[column] = narrower
    rows: list[list[str]] = []
    bold: set[int] = set()
    for number, row in enumerate(grid.rows):
        cells = [
            _lines(cell, widths[c]) if c in grid.wrapped else [cell] for c, cell in enumerate(row)
        ]
        height = max(map(len, cells))
        if number in grid.bold:
            bold |= set(range(len(rows), len(rows) + height))
        rows += [[lines[i] if i < len(lines) else "" for lines in cells] for i in range(height)]
    return grid._replace(rows=rows, bold=frozenset(bold))


def _unbroken(cell: str) -> list[str]:
    """Return what must stay on one line: the items of a list, else numbers."""
    if _GAPS.search(cell):
        return _GAPS.split(cell)
    return [word for word in cell.split() if _NUMBER.fullmatch(word)]


def _lines(cell: str, width: int) -> list[str]:
    """Return a cell in lines of at most `width`; only a longer word is broken."""
    if len(cell) <= width:
        return [cell]
    indent = cell[: min(len(cell) - len(cell.lstrip()), width // 2)]
    if _GAPS.search(cell):
        parts = [indent, *_GAPS.split(cell.lstrip())]
    else:
        parts = [indent, *_words(cell.lstrip(), width - len(indent))]
    lines = [""]
    for part in parts:
        if not lines[-1].strip() or len(lines[-1] + part) <= width:
            lines[-1] += part
        else:
            lines.append(indent + part.lstrip())
    return [line.rstrip() for line in lines if line.strip()]


def _words(text: str, width: int) -> list[str]:
    """Return words, each with the space before it, and longer ones in pieces."""
    pieces = []
    for word in re.findall(r" *[^ ]+", text):
        rest = word
        while len(rest.lstrip()) > width:
            cut = max((m.end() for m in re.finditer(r"[_./-]", rest[:width])), default=width)
            pieces.append(rest[:cut])
            rest = rest[cut:]
        pieces.append(rest)
    return pieces
