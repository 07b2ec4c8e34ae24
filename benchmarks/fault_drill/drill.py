"""A search in a process of its own, watched from outside: what it prints and what it saves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from archsearch.search.storage.url import STORAGE_VARIABLE
from archsearch.study.folder import StudyFolder
from fault_drill.postgres_server import Server
from fault_drill.ray_nodes import Nodes

NAME = "drill"
FINALISTS = 2
STUDY = f"""
name = "{NAME}"
dataset = "shapes"
finalists = {FINALISTS}
[constraints]
max_macs = 1_000_000
[space.block1]
width = [8]
stride = [2]
entry = ["conv"]
depth = [0]
[space.block2]
width = [8, 12, 16]
[space.block3]
width = [16, 24, 32]
[space.block4]
width = [24, 32, 48]
[recipe]
epochs = 5
batch_size = 128
[final_recipe]
epochs = 5
batch_size = 128
target_accuracy = 0.1
[pruner]
warmup_epochs = 3
"""
LIMIT_S = 600.0
"""A search that takes longer for what takes seconds on an idle machine has hung."""
_TICK_S = 0.1

Saved = dict[str, tuple[str, ...]]
"""Lines of every history.csv, as text; each is one epoch."""


class DrillError(Exception):
    """The search did not do what it must."""


@dataclass
class Search:
    """One process of `archsearch search`, and what it has printed."""

    process: subprocess.Popen[bytes]
    log: Path
    offset: int

    def said(self) -> str:
        """Its output so far."""
        return self.log.read_bytes()[self.offset :].decode()

    def until(self, condition: Callable[[], bool], what: str) -> bool:
        """Wait for something; whether it came before the search ended.

        Raises:
            DrillError: neither did.
        """
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            if self.process.poll() is not None:
                return condition()
            if time.monotonic() > deadline:
                raise DrillError(f"{what}: not within {LIMIT_S:.0f} s\n{self.said()[-2000:]}")
            self.pause(_TICK_S)
        return True

    def pause(self, seconds: float) -> None:
        """Let it run on for a while, or until it ends."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def ended(self, statuses: tuple[int, ...], *texts: str) -> None:
        """Wait for its end, with one of these exit statuses and, without a traceback, a text.

        Raises:
            DrillError: it ended otherwise, or not at all.
        """
        self.until(lambda: self.process.poll() is not None, "the search's end")
        said, status = self.said(), self.process.returncode
        if status not in statuses or "Traceback" in said or not any(t in said for t in texts):
            raise DrillError(
                f"ended with {status}, not {statuses} and one of {texts}:\n{said[-2000:]}"
            )


@dataclass
class Drill:
    """A study folder under fire.

    Attributes:
        folder: of the study file, `studies/` and the log.
        nodes: of a Ray cluster, to train on; None: workers of the search's own.
        database: where the study is kept; None: in its folder.
        stuck_s: after which a worker that stands still is replaced.
        seen: every worker process that was harmed or left behind.
    """

    folder: Path
    trials: int
    workers: int
    rng: random.Random
    nodes: Nodes | None = None
    database: Server | None = None
    stuck_s: float = 15.0
    seen: set[int] = field(default_factory=set)
    _started: list[Search] = field(default_factory=list)

    @property
    def study(self) -> StudyFolder:
        """What is where."""
        return StudyFolder(self.folder / "studies" / NAME)

    @property
    def storage(self) -> str:
        """The URL of the study's database."""
        return self.database.secret_url if self.database else self.study.storage

    @property
    def environment(self) -> dict[str, str]:
        """Of commands about the study."""
        return {STORAGE_VARIABLE: self.storage} if self.database else {}

    def command(self) -> list[str]:
        """The same, every time."""
        options = {"--trials": self.trials, "--workers": self.workers, "--device": "cpu"}
        words = [str(word) for option in options.items() for word in option]
        words += ["--ray", self.nodes.address] if self.nodes else []
        return archsearch("search", f"{NAME}.toml", *words, "--precision", "fp32")

    def start(self, **env: str) -> Search:
        """Run the command in a session of its own, as a terminal does."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A shell's background jobs ignore Ctrl-C, and whatever they start does.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        log = self.folder / "log.txt"
        with log.open("ab") as file:
            file.write(b"\n$ archsearch search\n")
            offset = file.tell()
            process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
                env={
                    **os.environ,
                    **self.environment,
                    "ARCHSEARCH_STUCK_AFTER": str(self.stuck_s),
                    **env,
                },
            )
        self._started.append(search := Search(process, log, offset))
        return search

    def training(self, search: Search) -> list[int]:
        """The processes that train for a search; spawn's helper process is none."""
        if self.nodes:
            return actors()
        below = processes_below(search.process.pid)
        return [pid for pid in sorted(below) if b"spawn_main" in command_line(pid)]

    def end(self) -> None:
        """Kill what still runs, after a drill that failed."""
        for search in self._started:
            self.seen.update(self.training(search))
            search.process.kill()
            search.process.wait()

    def saved(self) -> Saved:
        """The epochs that are on disk."""
        found = {}
        for path in sorted(self.study.path.glob("trials/**/history.csv")):
            with suppress(FileNotFoundError):
                lines = path.read_text().splitlines()[1:]
                found[str(path.relative_to(self.study.path))] = tuple(lines)
        return found

    def until_grown(self, search: Search, before: Saved, networks: int, what: str) -> None:
        """Wait until so many networks have epochs that they had not, or the search has ended."""

        def grown() -> bool:
            now = self.saved()
            return sum(len(now[name]) > len(before.get(name, ())) for name in now) >= networks

        search.until(grown, what)


def archsearch(*args: str | Path) -> list[str]:
    """A command line."""
    return [sys.executable, "-m", "archsearch", *map(str, args)]


def well(drill: Drill) -> None:
    """That the study folder needs no mending.

    Raises:
        DrillError: it does.
    """
    done = subprocess.run(
        archsearch("doctor", drill.study.path), capture_output=True, text=True, check=False,
        env={**os.environ, **drill.environment},
    )  # fmt: skip
    if done.returncode or not done.stdout.endswith(": all is well\n"):
        raise DrillError(f"doctor: {done.stdout}{done.stderr}")


def actors() -> list[int]:
    """The processes that train for Ray on the nodes that this process started."""
    below = processes_below(os.getpid())
    found = [pid for pid in below if command_line(pid).startswith(b"ray::RayWorker")]
    return sorted(pid for pid in found if alive(pid))


def processes_below(pid: int) -> set[int]:
    """A process, its children, their children and so on."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, new = {pid}, {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def command_line(pid: int) -> bytes:
    """As the process list shows it; empty of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(process: int) -> bool:
    """Whether a process runs or is stopped; a zombie does neither."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
