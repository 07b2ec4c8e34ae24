"""The commands, as typer knows them. Each imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from archsearch.cli.dashboard import dashboard
from archsearch.cli.diagnose import diagnose
from archsearch.cli.doctor import doctor
from archsearch.cli.evaluate import evaluate
from archsearch.cli.export import export
from archsearch.cli.import_ import import_
from archsearch.cli.leaderboard import leaderboard
from archsearch.cli.report import report
from archsearch.cli.rules import rule, rules
from archsearch.cli.schema import schema
from archsearch.cli.search import search
from archsearch.cli.space import space
from archsearch.cli.status import status
from archsearch.cli.train import train
from archsearch.cli.validate import validate
from archsearch.common.version import __version__

app = typer.Typer(
    name="archsearch",
    help="Find small convolutional networks within hard limits.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(validate)
app.command()(space)
app.command()(search)
app.command()(status)
app.command()(doctor)
app.command()(train)
app.command()(evaluate)
app.command()(leaderboard)
app.command()(report)
app.command()(diagnose)
app.command()(rules)
app.command()(rule)
app.command()(dashboard)
app.command("import")(import_)
app.command()(schema)
app.command()(export)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"archsearch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass
