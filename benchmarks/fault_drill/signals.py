"""Signals at random moments of `search`, `train` and `export`; each must end them well within 5 s.

Run: python -m fault_drill.signals --count 1000   (in benchmarks/; about 3 hours on two idle cores)
     python -m fault_drill.signals --count 100 --first 300 --folder signals   (the next hundred)

A signal (Ctrl-C, SIGTERM, a closed terminal) must end a command with status 130, without a
traceback, and leave no process behind. The same command is then run again; whatever was on disk
must still be there, and once it is done its results must be those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import optuna
from timed_training import as_markdown, table

from archsearch.common.csv_files import read_csv
from archsearch.common.machine import cores, load
from fault_drill.checks import left_over, lost, wrong
from fault_drill.drill import STUDY, Drill, Saved, Search, alive, archsearch, processes_below

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WITHIN_S = 5.0
SPAN_S = {"search": 25.0, "train": 12.0, "export": 10.0}
"""Moments are drawn from so many seconds after the start."""
WEIGHTS = {"search": 5, "train": 3, "export": 2}
AFTER_A_LINE_S = 0.35
"""Half of all moments are drawn from so short a time after a line of output: a trial's start."""
BAD_WORDS = ("Traceback", "a bug in archsearch", "Exception ignored", "terminate called")
SPEC = """
{"name": "signals", "blocks": [
  {"name": "a", "layers": [{"op": "conv", "out_channels": 8, "stride": 2}]},
  {"name": "b", "layers": [{"op": "depthwise_separable", "out_channels": 16, "stride": 2}]}],
 "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]}}
"""
RECIPE = '{"epochs": 4, "batch_size": 256, "target_accuracy": null}'


class Command(Protocol):
    """A command that is interrupted until it is done."""

    def start(self) -> Search:
        """Run it, the same every time."""
        ...

    def saved(self) -> Saved:
        """What is on disk, and must stay there."""
        ...

    def problems(self) -> Iterator[str]:
        """What is wrong with its results, now that it is done."""
        ...


@dataclass
class SearchCommand:
    """`archsearch search`."""

    drill: Drill

    @classmethod
    def new(cls, folder: Path, rng: random.Random) -> SearchCommand:
        """A study of its own, in this process (0 workers) or with workers."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "drill.toml").write_text(STUDY)
        return cls(Drill(folder, trials=6, workers=rng.choice((0, 2)), rng=rng))

    def start(self) -> Search:
        """See `Command`."""
        return self.drill.start()

    def saved(self) -> Saved:
        """See `Command`."""
        return self.drill.saved()

    def problems(self) -> Iterator[str]:
        """See `Command`."""
        yield from wrong(self.drill)
        yield from left_over(self.drill)


@dataclass
class TrainCommand:
    """`archsearch train`, whose figures must be those of a run that nobody disturbed."""

    folder: Path
    undisturbed: Path

    def start(self) -> Search:
        """See `Command`."""
        return started(self.folder, *train_args(self.folder / "run"))

    def saved(self) -> Saved:
        """See `Command`."""
        return {"run": tuple(f"{row}" for row in history(self.folder / "run"))}

    def problems(self) -> Iterator[str]:
        """See `Command`."""
        found, wanted = (
            [(row["train_loss"], row["val_acc"]) for row in history(run)]
            for run in (self.folder / "run", self.undisturbed)
        )
        if found != wanted:
            yield f"{self.folder}: trained to {found}, undisturbed to {wanted}"
        yield from temporaries(self.folder)


@dataclass
class ExportCommand:
    """`archsearch export --to onnx`, which writes a whole model or none."""

    folder: Path
    wanted: bytes

    def start(self) -> Search:
        """See `Command`."""
        return started(self.folder, *export_args(self.folder / "x.onnx"))

    def saved(self) -> Saved:
        """See `Command`."""
        return {}

    def problems(self) -> Iterator[str]:
        """See `Command`."""
        if (self.folder / "x.onnx").read_bytes() != self.wanted:
            yield f"{self.folder}: x.onnx is not as an undisturbed command writes it"
        yield from temporaries(self.folder)


def train_args(out: Path) -> list[str]:
    """Arguments of `archsearch`."""
    where = ["--device", "cpu", "--precision", "fp32", "--out", str(out)]
    return ["train", "../spec.json", "--recipe", "../recipe.json", "--dataset", "shapes", *where]


def export_args(out: Path) -> list[str]:
    """Arguments of `archsearch`."""
    return ["export", "../spec.json", "--to", "onnx", "--out", str(out)]


def started(folder: Path, *args: str) -> Search:
    """Run a command in a session of its own, as a terminal does."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    with log.open("ab") as file:
        offset = file.tell()
        process = subprocess.Popen(
            archsearch(*args), cwd=folder, stdout=file, stderr=file, start_new_session=True
        )
    return Search(process, log, offset)


def history(run: Path) -> list[dict[str, str]]:
    """The epochs of a run that are on disk."""
    path = run / "history.csv"
    return read_csv(path) if path.exists() else []


def temporaries(folder: Path) -> Iterator[str]:
    """Half written files."""
    if left := [str(path) for path in folder.rglob(".*.tmp")]:
        yield f"half written files are left: {left}"


def heeds(process: int) -> bool:
    """Whether a process handles SIGTERM; Python's own start, before our first line, does not."""
    with suppress(OSError, StopIteration, ValueError):
        rows = Path(f"/proc/{process}/status").read_text().splitlines()
        caught = next(row for row in rows if row.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))
    return False


# The drill


@dataclass
class Signals:
    """The drill's commands, what happened to them, and all that is wrong.

    Attributes:
        seed: of commands, signals and moments.
        within_s: how soon a command must end.
        outcomes: times of (command, outcome).
        seconds: of each command, from a signal to its end.
    """

    folder: Path
    seed: int
    within_s: float = WITHIN_S
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _commands: dict[str, Command] = field(default_factory=dict)
    _made: Counter[str] = field(default_factory=Counter)

    def prepare(self) -> None:
        """Write the inputs, and run what is to be disturbed without disturbing it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "spec.json").write_text(SPEC)
        (self.folder / "recipe.json").write_text(RECIPE)
        calm = self.folder / "undisturbed"
        shutil.rmtree(calm, ignore_errors=True)
        for args in (train_args(calm / "run"), export_args(calm / "x.onnx")):
            started(calm, *args).ended((0,), "")

    def send(self, number: int) -> None:
        """Start a command, send it a signal at a random moment, and see how it ends."""
        rng = random.Random(f"{self.seed}:{number}")
        [name] = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))
        command = self._command(name, rng)
        at_work = command.start()
        self._await_a_moment(at_work, name, rng)
        before = command.saved()
        family = processes_below(at_work.process.pid)
        early, kind = not heeds(at_work.process.pid), rng.choice(SIGNALS)
        sent = time.monotonic()
        if at_work.process.poll() is None:
            with suppress(ProcessLookupError):
                whom = os.killpg if rng.random() < 0.5 else os.kill
                whom(at_work.process.pid, kind)
        at_work.pause(60.0)
        took = time.monotonic() - sent
        outcome = self.judged(f"{number}: {name}, {kind.name}", at_work, took, early=early)
        self.outcomes[name, outcome] += 1
        if outcome == "130":
            self.seconds.setdefault(name, []).append(took)
        self._leave_nobody(number, family)
        if any(lost([before, command.saved()])):
            self.problems.append(f"{number}: {name} lost epochs that were on disk")
        if at_work.process.returncode == 0:
            self._done(name)

    def finish(self) -> None:
        """Run what was interrupted last to its end."""
        for name, command in list(self._commands.items()):
            at_work = command.start()
            at_work.ended((0, 1), "")
            self._done(name)

    def _command(self, name: str, rng: random.Random) -> Command:
        if name not in self._commands:
            self._made[name] += 1
            folder = self.folder / f"{name}-{self._made[name]}"
            shutil.rmtree(folder, ignore_errors=True)
            self._commands[name] = self._new(name, folder, rng)
        return self._commands[name]

    def _new(self, name: str, folder: Path, rng: random.Random) -> Command:
        calm = self.folder / "undisturbed"
        if name == "search":
            return SearchCommand.new(folder, rng)
        if name == "train":
            return TrainCommand(folder, calm / "run")
        return ExportCommand(folder, (calm / "x.onnx").read_bytes())

    def _done(self, name: str) -> None:
        self.problems.extend(f"{name}: {each}" for each in self._commands.pop(name).problems())

    def _await_a_moment(self, at_work: Search, name: str, rng: random.Random) -> None:
        if name == "export" or rng.random() < 0.5:
            at_work.pause(rng.uniform(0, SPAN_S[name]))
            return
        lines = rng.randint(1, 8)
        at_work.until(lambda: at_work.said().count("\n") >= lines, "a line of output")
        at_work.pause(rng.uniform(0, AFTER_A_LINE_S))

    def judged(self, what: str, at_work: Search, took: float, *, early: bool) -> str:
        """Return how it ended: "130", "done first", "too early" or "PROBLEM"."""
        status, said = at_work.process.poll(), at_work.said()
        if early and status != 0:
            return "too early"
        if status is None:
            at_work.process.kill()
            at_work.process.wait()
        bad = [word for word in BAD_WORDS if word in said]
        if status in (0, 1) and not bad and "interrupted" not in said:
            return "done first"
        if status != 130 or bad or took > self.within_s:
            self.problems.append(f"{what}: status {status} after {took:.1f} s:\n{said[-1500:]}")
            print(self.problems[-1], file=sys.stderr, flush=True)
            return "PROBLEM"
        return "130"

    def _leave_nobody(self, number: int, family: set[int]) -> None:
        until = time.monotonic() + self.within_s
        while (left := [pid for pid in family if alive(pid)]) and time.monotonic() < until:
            time.sleep(0.05)
        if left:
            self.problems.append(f"{number}: processes {left} are left")

    def rows(self) -> list[list[str]]:
        """The table: a row a command."""
        rows = []
        for name in WEIGHTS:
            counts = [self.outcomes[name, o] for o in ("130", "done first", "too early", "PROBLEM")]
            seconds = self.seconds.get(name, [0.0])
            times = f"{statistics.median(seconds):.1f} (at most {max(seconds):.1f})"
            rows.append([name, *map(str, counts), times])
        return rows


def main() -> int:
    """Run the drill; 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=50, help="of signals")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0, help="of commands, signals and moments")
    parser.add_argument("--folder", type=Path, help="to keep; a temporary one else")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for each in SIGNALS:
        if signal.getsignal(each) is signal.SIG_IGN:  # a shell's background jobs; it is inherited
            signal.signal(each, signal.SIG_DFL)
    with TemporaryDirectory() as temporary:
        drill = Signals((given.folder or Path(temporary)).resolve(), given.seed)
        began, busy = time.monotonic(), load()
        drill.prepare()
        for number in range(given.first, given.first + given.count):
            drill.send(number)
            print(f"{number} {dict(drill.outcomes)}", file=sys.stderr, flush=True)
        drill.finish()
    minutes = (time.monotonic() - began) / 60
    lines = [
        f"{cores()} cores; {busy} before; seed {given.seed}, from {given.first}; {minutes:.0f} min",
        "done first: the command ended before the signal came",
        "too early: the signal came while Python itself started, before archsearch's first line",
    ]
    headings = ("command", "130", "done first", "too early", "problems", "seconds to its end")
    print(as_markdown("Signals", lines, table(headings, drill.rows(), left=1)))
    print("\n".join(["", *(drill.problems or ["every check passed"])]))
    return 1 if drill.problems else 0


if __name__ == "__main__":
    sys.exit(main())
