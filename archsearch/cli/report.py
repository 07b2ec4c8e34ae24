"""`archsearch report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import FolderArgument
from archsearch.common.console import say


def report(
    folder: FolderArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; DIR/report.html else.")
    ] = None,
) -> None:
    """Write a study as one HTML page to send to a colleague.

    The page needs no network and no other file. Reads the folder's files; the study's database is
    not needed.
    Exit status: 0, or 2 where this is no study folder.
    """
    from archsearch.common import atomic_files
    from archsearch.errors import ArchsearchError

    try:
        from archsearch.report.page import html
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "plotly":
            raise
        raise ArchsearchError("a report needs plotly: pip install 'archsearch[report]'") from error
    from archsearch.report.facts import read_facts

    text = html(read_facts(folder))
    if out is None:
        atomic_files.write_text(path := folder / "report.html", text)
    else:
        atomic_files.write_output(path := out, text.encode())
    size = len(text.encode()) / 1e6
    say(f"{path}  {size:.1f} MB")
