"""Run `archsearch ARGS...` in a fork of this process: a start costs milliseconds, not seconds.

`start` forks. In the parent it returns at once; in the child it raises `InChildError`, which must
reach the top of the program. There `become` runs the command, and the interpreter ends as always.
"""

from __future__ import annotations

import atexit
import importlib
import os
import pkgutil
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, TextIO

import archsearch

IDLE_S: Final = 6.0
"""A process that uses no CPU for so long hangs: nothing here waits for anybody."""
CPU_S: Final = 20.0
WALL_S: Final = 120.0
MEMORY: Final = 2 << 30
"""How much more than the warm process a command may use."""
ADDRESS_SPACE: Final = 9 << 30
"""torch reserves 4 GiB where it trains, and uses little of that."""
FILE_BYTES: Final = 256 << 20
_NOT_WARM = ("archsearch.__main__", "archsearch.executors.ray")
_THIRD_PARTY = (
    "matplotlib.pyplot", "optuna", "optuna_dashboard", "pandas", "plotly.graph_objects",
    "alembic.command", "rich.console", "rich.live", "rich.table", "torch", "torchvision.datasets",
    "typer",
    "torchvision.transforms.v2.functional", "optuna.storages", "sqlalchemy",
)  # fmt: skip
_CANNOT_FLUSH = 120
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Terminal:
    """What a command finds around it.

    Attributes:
        environment: added to a bare environment.
        encoding: of its standard streams; None for UTF-8.
        stdout: where it goes instead of a file; "" for closed.
        stderr: the same of standard error.
        stdin: what it reads; None for closed.
        cold: whether a new interpreter is started instead of the warm one.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    stdin: bytes | None = b""
    cold: bool = False


@dataclass(frozen=True)
class Command:
    """A command to run, in a folder, with its output in files beside it."""

    args: tuple[str, ...]
    folder: Path
    out: Path
    err: Path
    terminal: Terminal = field(default_factory=Terminal)
    before: Callable[[], None] | None = None


class InChildError(BaseException):
    """Carries a forked child to the top of the program, past everything that the parent does."""

    def __init__(self, command: Command) -> None:
        self.command = command


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: its exit status; minus the signal's number if a signal ended it.
        cpu_s: seconds of CPU time.
        peak: bytes of memory above those of the warm process.
        stopped: why we stopped it: "hangs", "is too slow" or "takes too much memory".
    """

    status: int
    cpu_s: float
    peak: int
    stopped: str | None


def warm_up() -> None:
    """Import everything that commands import."""
    for name in _THIRD_PARTY:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(archsearch.__path__, "archsearch."):
        if not module.name.startswith(_NOT_WARM):
            importlib.import_module(module.name)
    import torch

    torch.set_num_threads(1)


def start(command: Command) -> int:
    """Fork; return the child's process ID in the parent.

    Raises:
        InChildError: in the child.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    for path in (command.out, command.err):
        path.write_bytes(b"")
    child = os.fork()
    if child == 0:
        raise InChildError(command)
    return child


def become(command: Command) -> None:
    """Run a command in this process, which was forked for it."""
    os.setsid()
    os.chdir(command.folder)
    _limit_itself()
    terminal = command.terminal
    _streams(command)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(terminal.environment)
    if terminal.cold:
        os.execv(sys.executable, [sys.executable, "-m", "archsearch", *command.args])  # noqa: S606
    sys.argv = ["archsearch", *command.args]
    sys.modules["__main__"].__package__ = ""  # help texts name the program after it
    if command.before:
        command.before()
    from archsearch.cli import main

    try:
        main()
    except SystemExit as end:
        _leave(end.code)
    finally:
        traceback.print_exc()
        _leave(1)


def _leave(code: object) -> NoReturn:
    """End as the interpreter does, but leave its memory to the kernel: that takes long to clear."""
    status = code if isinstance(code, int) else int(code is not None)
    atexit._run_exitfuncs()
    try:
        if sys.stdout:
            sys.stdout.flush()
        if sys.stderr:
            sys.stderr.flush()
    except (OSError, ValueError):
        status = _CANNOT_FLUSH
    os._exit(status)


def _limit_itself() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    reserved, _ = memory(os.getpid())
    if reserved:
        limit = reserved + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _streams(command: Command) -> None:
    terminal = command.terminal
    for number, place in ((1, terminal.stdout), (2, terminal.stderr)):
        target = (command.out, command.err)[number - 1] if place is None else Path(place)
        os.dup2(os.open(target if place != "" else os.devnull, _WRITE), number)
        if place == "":
            os.close(number)
    given = command.out.with_name("stdin")
    given.write_bytes(terminal.stdin or b"")
    os.dup2(os.open(given, os.O_RDONLY), 0)
    if terminal.stdin is None:
        os.close(0)
    closed = (terminal.stdin is None, terminal.stdout == "", terminal.stderr == "")
    sys.stdin = sys.__stdin__ = None if closed[0] else _stream(0, "r", terminal)  # type: ignore[assignment,misc]
    sys.stdout = sys.__stdout__ = None if closed[1] else _stream(1, "w", terminal)  # type: ignore[assignment,misc]
    sys.stderr = sys.__stderr__ = None if closed[2] else _stream(2, "w", terminal)  # type: ignore[assignment,misc]


def _stream(number: int, mode: str, terminal: Terminal) -> TextIO:
    """As the interpreter opens it when it starts."""
    errors = "backslashreplace" if number == 2 else "strict"
    stream: TextIO = open(  # type: ignore[assignment]  # noqa: SIM115
        number, mode, 1 if number == 2 else -1, terminal.encoding or "utf-8", errors, closefd=False
    )
    return stream


def watch(child: int, command: Command, interrupt_at: bytes | float | None = None) -> Outcome:
    """Wait until a child ends; stop it if it hangs or takes too long.

    Args:
        child: its process ID.
        command: what it runs.
        interrupt_at: it gets Ctrl-C when this is in its output, or after such CPU time.
    """
    began = moved = time.monotonic()
    used, pause, stopped = 0.0, 0.002, None
    _, warm = memory(os.getpid())
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        time.sleep(pause)
        pause = min(pause * 1.3, 0.1)
        now, (cpu_s, sleeps) = time.monotonic(), activity(child)
        if cpu_s > used or not sleeps:
            used, moved = cpu_s, now
        if interrupt_at and _is_time(interrupt_at, command, used):
            interrupt_at = None
            os.kill(child, signal.SIGINT)
        if now - moved > IDLE_S:
            stopped = "hangs"
        elif now - began > WALL_S or used > CPU_S:
            stopped = "is too slow"
        elif memory(child)[1] - warm > MEMORY:
            stopped = "takes too much memory"
        if stopped:
            os.kill(child, signal.SIGKILL)
    peak = usage.ru_maxrss * (1024 if sys.platform == "linux" else 1)
    return Outcome(
        os.waitstatus_to_exitcode(status),
        usage.ru_utime + usage.ru_stime,
        max(0, peak - warm),
        stopped,
    )


def memory(process: int) -> tuple[int, int]:
    """Return how many bytes of addresses and of memory a process has; 0 where nobody says."""
    try:
        reserved, resident = Path(f"/proc/{process}/statm").read_text().split()[:2]
    except OSError:
        return 0, 0
    page = resource.getpagesize()
    return int(reserved) * page, int(resident) * page


def _is_time(interrupt_at: bytes | float, command: Command, used: float) -> bool:
    if isinstance(interrupt_at, float):
        return used > interrupt_at
    return any(interrupt_at in path.read_bytes() for path in (command.out, command.err))


def activity(process: int) -> tuple[float, bool]:
    """Return the CPU time that a process has used, and whether it waits for something.

    Where nobody says, it is never waiting, so that only `WALL_S` ends it.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, False
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S, fields[0] == "S"


def threads() -> int:
    """Return how many threads this process has; a fork takes only one of them along."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else 1
