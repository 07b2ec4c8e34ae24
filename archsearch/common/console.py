"""Pages on standard output: with colours on a terminal, as plain text to a file or pipe."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from archsearch.common.page import Grid, Line, Page, plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def show(page: Page) -> None:
    """Print a page."""
    if not sys.stdout.isatty() and not os.environ.get("FORCE_COLOR"):
        sys.stdout.write(plain(page))  # rich takes longer to load than a verdict to make
        return
    from rich.console import Console

    console = Console(highlight=False)
    for part in page:
        console.print(_rendered(part))


def _rendered(part: Line | Grid) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    # Text from specs goes in as Text, never as markup.
    if isinstance(part, Line):
        return Text(part.text, part.style)
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(part.titles))
    for i in range(len(part.titles or part.rows[0])):
        title = part.titles[i] if part.titles else ""
        table.add_column(Text(title), justify="left" if i in part.left else "right", no_wrap=True)
    for number, row in enumerate(part.rows):
        style = "bold" if number in part.bold else ""
        table.add_row(*(Text(cell, style) for cell in row))
    return table


def stderr_console() -> Console:
    """Everything but data goes to standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def note(message: str) -> None:
    """Tell the user something that is worth knowing, on standard error."""
    sys.stderr.write(f"note: {message}\n")
