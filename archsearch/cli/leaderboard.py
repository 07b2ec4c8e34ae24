"""`archsearch leaderboard`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from archsearch.cli import EXIT_BAD_INPUT
from archsearch.common.console import note, show, tell

if TYPE_CHECKING:
    import pandas as pd

    from archsearch.leaderboard.query import Query
    from archsearch.leaderboard.reader import Board


Format = Literal["table", "csv", "json", "markdown"]


def leaderboard(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Study folders.")],
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The better first; -COLUMN the highest, +COLUMN the lowest."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="As 'params<=150000', 'val_acc>85%', 'status=trained', 'knob_block2.stride=2'; "
            "may be repeated, and all must hold.",
        ),
    ] = None,
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto",
            help="Only what no other of these rows beats in accuracy, parameters and MACs.",
        ),
    ] = False,
    top: Annotated[int | None, typer.Option(min=0, metavar="N", help="So many rows.")] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Columns of leaderboard.csv, in order.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = "table",
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Compare two rows instead (table or json): a rank, t and a trial's number, or how "
            "a hash begins; of several studies STUDY:ROW.",
        ),
    ] = None,
) -> None:
    """Show what searches found, one study or several side by side.

    Exit status: 0, or 2 where a leaderboard cannot be read; the others are shown all the same.
    """
    from archsearch.errors import ArchsearchError
    from archsearch.leaderboard.query import Query

    query = Query(where=where or (), pareto=pareto, sort=sort, top=top)
    boards, status = _read(folders)
    if diff is not None:
        if query != Query() or columns is not None or output in ("csv", "markdown"):
            raise ArchsearchError(
                "--diff goes with --format table or json alone; leave the rest out"
            )
        status = max(status, _compare(boards, *diff, output) if boards else 0)
    elif boards:
        _show(boards, query, columns, output, several=len(folders) > 1)
    raise typer.Exit(status)


def print_leaderboard(folder: Path) -> None:
    """A study's leaderboard, on standard output."""
    from archsearch.leaderboard.query import Query
    from archsearch.leaderboard.reader import names_of, read_board

    board = read_board(folder, *names_of([folder]))
    _show([board], Query(), None, "table", several=False)


def _read(folders: Sequence[Path]) -> tuple[list[Board], int]:
    """What can be read; the exit status says whether that is all."""
    from archsearch.errors import ArchsearchError
    from archsearch.leaderboard.reader import names_of, read_board

    boards, status = [], 0
    different = list(dict.fromkeys(folders))
    for folder, name in zip(different, names_of(different), strict=True):
        try:
            boards.append(read_board(folder, name))
        except ArchsearchError as error:
            sys.stderr.write(f"error: {error}\n")
            status = EXIT_BAD_INPUT
    return boards, status


def _show(
    boards: Sequence[Board], query: Query, columns: str | None, output: Format, *, several: bool
) -> None:
    from archsearch.leaderboard import view
    from archsearch.leaderboard.query import check_columns, chosen, known_columns
    from archsearch.leaderboard.reader import STUDY

    rows = chosen(boards, query)
    known = known_columns(boards)
    if columns is not None:
        names = [name.strip() for name in columns.split(",")]
        check_columns(names, known)
    elif output in ("table", "markdown"):
        names = list(view.main_columns(several=several))
    else:
        found = {STUDY} if several or output == "json" else set()
        found |= {name for board in boards for name in board.columns}
        names = [name for name in known if name in found]
    _note(boards, rows)
    if rows.empty:
        note("there is no such row")
    match output:
        case "table":
            show(view.board_page(rows, names, asked=columns is not None))
        case "csv":
            sys.stdout.write(view.board_csv(rows, names))
        case "json":
            sys.stdout.write(view.board_json(rows, names))
        case "markdown":
            sys.stdout.write(view.board_markdown(rows, names))


def _compare(boards: Sequence[Board], first: str, second: str, output: Format) -> int:
    import json

    from archsearch.leaderboard.compare import compare, comparison_data, comparison_page

    found = compare(boards, first, second)
    _note(boards, found.rows)
    if output == "json":
        sys.stdout.write(json.dumps(comparison_data(found), indent=2) + "\n")
    else:
        show(comparison_page(found))
    for problem in found.problems:
        tell(f"error: {problem}")
    return EXIT_BAD_INPUT if found.problems else 0


def _note(boards: Sequence[Board], rows: pd.DataFrame) -> None:
    """Say what makes rows of several studies hard to compare."""
    if len(boards) < 2:
        return
    from archsearch.leaderboard.caveats import what_differs

    for sentence in what_differs(boards, rows):
        note(sentence)
