"""Pages as HTML, with all text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from archsearch.common.page import Grid, Line
from archsearch.errors import message_line, printable

_CSS = {
    "bold": "font-weight: bold",
    "dim": "opacity: 0.6",
    **{color: f"color: {color}" for color in ("red", "green")},
    "yellow": "color: darkgoldenrod",
}


def html_text(text: str) -> str:
    """Return text for an HTML element or attribute: escaped, and without control characters."""
    return escape(printable(text))


def html(page: Iterable[Line | Grid]) -> str:
    """A page for a notebook; every text in it is escaped."""
    return f'<div style="font-family: monospace">{"".join(map(_html, page))}</div>'


def _html(part: Line | Grid) -> str:
    if isinstance(part, Line):
        style = "; ".join(_CSS[word] for word in part.style.split())
        text = html_text(message_line(part.text))
        return f'<div style="white-space: pre-wrap; {style}">{text}</div>'
    rows = [_html_row(part.titles, part.left, "th")] if part.titles else []
    rows += [_html_row(row, part.left, "td") for row in part.rows]
    return f"<table>{''.join(rows)}</table>"


def _html_row(cells: Sequence[str], left: frozenset[int], tag: str) -> str:
    aligned = (
        f'<{tag} style="text-align: {"left" if i in left else "right"}; white-space: pre">'
        f"{html_text(message_line(cell))}</{tag}>"
        for i, cell in enumerate(cells)
    )
    return f"<tr>{''.join(aligned)}</tr>"
