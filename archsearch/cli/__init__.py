"""The command line: arguments in, exit status out. Each command imports what it needs, late.

Exit status: 0 accepted or done, 1 rejected or target not reached, 2 bad input or environment,
130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer

from archsearch import __version__
from archsearch.cli.export import export
from archsearch.cli.import_ import import_
from archsearch.cli.leaderboard import leaderboard
from archsearch.cli.schema import schema
from archsearch.cli.search import search
from archsearch.cli.space import space
from archsearch.cli.train import train
from archsearch.cli.validate import validate
from archsearch.errors import ArchsearchError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

gc.set_threshold(50_000)  # starting up makes many objects and no garbage: collect less often

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
app.command()(train)
app.command()(leaderboard)
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


def main() -> None:
    """Run the command line; whatever goes wrong is told in a sentence, never a traceback."""
    try:
        app()
    except ArchsearchError as error:
        _end(f"error: {error}", EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        _end("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_BAD_INPUT)
    except MemoryError:
        _end("error: out of memory", EXIT_BAD_INPUT)
    except OSError as error:
        _end(f"error: {error.filename or 'input/output'}: {error.strerror}", EXIT_BAD_INPUT)
    except Exception as error:
        if os.environ.get("ARCHSEARCH_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        _end(
            f"error: a bug in archsearch: {what}\n"
            "run it again with ARCHSEARCH_DEBUG=1 and report the traceback",
            EXIT_BAD_INPUT,
        )


def _end(message: str, status: int) -> None:
    sys.stderr.write(f"{message}\n")
    sys.exit(status)
