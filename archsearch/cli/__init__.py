"""The command line: arguments in, exit status out.

Exit status: 0 accepted or done, 1 rejected or target not reached, 2 bad input or environment,
130 interrupted.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import warnings
from contextlib import suppress
from io import StringIO
from pathlib import Path

from archsearch.common import interruption
from archsearch.common.console import print_only_printable, tell
from archsearch.errors import ArchsearchError, message_line

TYPE_CHECKING = False  # type checkers take it for true; `typing` takes long to load
if TYPE_CHECKING:
    from typing import TextIO

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = interruption.EXIT_STATUS

gc.set_threshold(50_000)  # starting up makes many objects and no garbage: collect less often
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # we have none; looking takes time


def main() -> None:
    """Run the command line; whatever goes wrong is told in a sentence, never a traceback."""
    with interruption.listening():
        _open_what_is_closed()
        print_only_printable()
        _silence_libraries()
        try:
            _run_and_report(sys.argv[1:])
        finally:
            for stream in (sys.stdout, sys.stderr):
                _flush_or_drop(stream)
            if interruption.asked():
                interruption.end_now()  # all is saved and told; torch takes long to leave


def _run_and_report(args: list[str]) -> None:
    try:
        _run_and_flush(args)
    except ArchsearchError as error:
        _end(f"error: {error}", EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        _end("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(EXIT_BAD_INPUT)  # whoever read our output has gone
    except MemoryError:
        _end("error: out of memory", EXIT_BAD_INPUT)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EFBIG)  # files of our own are named
        where = error.filename or ("standard output" if full else "input/output")
        _end(f"error: {message_line(f'{where}: {error.strerror}')}", EXIT_BAD_INPUT)
    except Exception as error:
        if os.environ.get("ARCHSEARCH_DEBUG"):
            raise
        what = message_line(f"{type(error).__name__}: {error}".splitlines()[0])
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


def _flush_or_drop(stream: TextIO) -> None:
    """Flush a stream; if it cannot be written, drop what waits in it.

    The interpreter would try again as it exits, complain and change the exit status.
    """
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _silence_libraries() -> None:
    """Keep the warnings of Python, torch and others, which are for developers, from users.

    Those who ask for them get them: `python -W`, PYTHONWARNINGS or ARCHSEARCH_DEBUG. What matters
    to a user is a note of our own.
    """
    if sys.warnoptions or os.environ.get("ARCHSEARCH_DEBUG"):
        return
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"  # for workers
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _end(message: str, status: int) -> None:
    with suppress(OSError):  # nobody to tell
        sys.stderr.write(f"{message}\n")
    sys.exit(status)


def _run_and_flush(args: list[str]) -> None:
    try:
        _run(args)
    except SystemExit:
        sys.stdout.flush()  # here, where it can still be reported
        raise
    except Exception as error:
        if interruption.asked():  # a library may turn an interruption into anything
            raise KeyboardInterrupt from error
        raise


def _run(args: list[str]) -> None:
    command, *paths = args or [""]
    if command == "validate" and paths and not any(p.startswith("-") and p != "-" for p in paths):
        # The commonest call: without options it needs no typer, and typer takes long to load.
        from archsearch.cli.verdicts import validate_specs

        sys.exit(validate_specs(paths))
    from typing import cast

    import typer

    from archsearch.cli.app import app

    # Of every wrong argument; from click, or from the copy of it that newer versions of typer have.
    usage_error = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])
    try:
        status = app(args, prog_name="archsearch", standalone_mode=False)
    except usage_error as error:
        told = StringIO()
        error.show(told)
        for line in told.getvalue().splitlines():
            tell(line)
        status = error.exit_code
    sys.exit(status or 0)
