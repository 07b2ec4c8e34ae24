"""The command line: arguments in, exit status out.

Exit status: 0 accepted or done, 1 rejected or target not reached, 2 bad input or environment,
130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from archsearch.errors import ArchsearchError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

gc.set_threshold(50_000)  # starting up makes many objects and no garbage: collect less often
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # we have none; looking takes time


def main() -> None:
    """Run the command line; whatever goes wrong is told in a sentence, never a traceback."""
    _open_what_is_closed()
    try:
        _run(sys.argv[1:])
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


def _open_what_is_closed() -> None:
    """A shell may close standard streams (`>&-`); Python has None for them then."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 (for good)


def _end(message: str, status: int) -> None:
    sys.stderr.write(f"{message}\n")
    sys.exit(status)


def _run(args: list[str]) -> None:
    command, *paths = args or [""]
    if command == "validate" and paths and not any(p.startswith("-") and p != "-" for p in paths):
        # The commonest call: without options it needs no typer, and typer takes long to load.
        from archsearch.cli.verdicts import validate_specs

        sys.exit(validate_specs(paths))
    from archsearch.cli.app import app

    app()
