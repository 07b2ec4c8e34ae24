"""`archsearch leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.terminal import show


def leaderboard(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.")],
) -> None:
    """Print a study's leaderboard as a table."""
    print_leaderboard(folder / "leaderboard.csv")


def print_leaderboard(path: Path) -> None:
    """A leaderboard CSV, on standard output."""
    from archsearch.files import read_csv
    from archsearch.tables import leaderboard_page

    show(leaderboard_page(read_csv(path)))
