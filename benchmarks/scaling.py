"""How many workers one driver keeps busy: real driver, real database, workers of a simulated clock.

Run: python benchmarks/scaling.py [--workers 1 16 64 256 1024] [--trial-seconds 60]
         [--storage URL] > FILE.md

The driver is `archsearch.search.driver.search` itself. Its executor trains nothing: a trial takes
as long as one of studies/cifar10-200k took, epoch by epoch, all made longer or shorter alike so
that they take `--trial-seconds` on average; that time passes on a simulated clock. What the
driver does between two reports takes the time that it really takes, on that same clock. A worker
trains, or waits for the driver to give it its next trial.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import optuna
import sqlalchemy
from timed_training import STUDIES, as_markdown, table

from archsearch.common.csv_files import read_csv
from archsearch.common.machine import cores, load
from archsearch.errors import ArchsearchError
from archsearch.executors.protocol import EpochDone, JobDone, JobReport
from archsearch.search.driver import search
from archsearch.search.storage.url import database_url, is_postgres
from archsearch.study.config import Sampler, Study, load_study
from archsearch.study.folder import StudyFolder
from archsearch.training.job import Job
from archsearch.training.records import Epoch, Run

WORKERS = (1, 16, 64, 256, 1024)
LATE = 0.75
"""Of a search's trials: what comes after is told apart, for the driver slows as the study grows."""

Curve = tuple[tuple[float, float], ...]
"""A trial: its epochs' seconds and hold-out accuracies."""


def curves_of(study: Path, epochs: int) -> list[Curve]:
    """The trials of a study that were trained to their end.

    Raises:
        ArchsearchError: it has none.
    """
    found = []
    for path in sorted(study.glob("trials/*/history.csv")):
        rows = read_csv(path)
        if len(rows) == epochs and all(row["val_acc"] for row in rows):
            found.append(
                tuple((float(row["train_seconds"]), float(row["val_acc"])) for row in rows)
            )
    if not found:
        raise ArchsearchError(f"{study}: has no history of {epochs} epochs")
    return found


@dataclass
class Simulated:
    """The executor. Time is simulated, but for what passes between its calls.

    Attributes:
        scale: of the curves' seconds.
        now: seconds since the first call, on the simulated clock.
        busy_s: of the driver, by trials submitted so far.
        processor_s: of the driver: less than it was busy where it waits for the disk, the database
            or, on a busy machine, for its turn.
        trained_s: of workers, in epochs that were told.
        marks: the clock and `trained_s` as each trial was submitted.
    """

    capacity: int
    curves: Sequence[Curve]
    scale: float
    seed: int
    now: float = 0.0
    busy_s: list[float] = field(default_factory=lambda: [0.0])
    trained_s: float = 0.0
    marks: list[tuple[float, float]] = field(default_factory=list)
    processor_s: float = 0.0
    _left: float = 0.0
    _left_processor: float = 0.0
    _events: list[tuple[float, int, str, int]] = field(default_factory=list)
    _jobs: dict[str, tuple[Curve, float]] = field(default_factory=dict)
    _order: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self._back_to_driver()

    def _back_to_driver(self) -> None:
        self._left, self._left_processor = time.perf_counter(), time.process_time()

    @property
    def ready(self) -> int:
        """All are there from the beginning."""
        return self.capacity

    def run_of(self, seed: int, key: str | None = None) -> Run:
        """Nothing trains."""
        return Run(device="none", precision="fp32", seed=seed, dataset="shapes", torch_version="-")

    def _driver_worked(self) -> None:
        passed = time.perf_counter() - self._left
        self.now += passed
        self.busy_s[-1] += passed
        self.processor_s += time.process_time() - self._left_processor

    def epoch_share(self, key: str) -> float:
        """Return 0: an epoch takes no steps."""
        return 0.0

    def submit(self, job: Job) -> None:
        """A worker takes it at this moment."""
        self._driver_worked()
        self.busy_s.append(0.0)
        self.marks.append((self.now, self.trained_s + sum(map(self._under_way, self._events))))
        curve = random.Random(f"{self.seed} {job.spec_hash}").choice(self.curves)
        self._jobs[job.key] = curve, self.now
        self._await(job.key, 0)
        self._back_to_driver()

    def _under_way(self, event: tuple[float, int, str, int]) -> float:
        """Seconds of an epoch that was not told yet."""
        at, _, key, epoch = event
        curve, _ = self._jobs[key]
        seconds = self.scale * curve[epoch][0] if epoch < len(curve) else 0.0
        return min(seconds, max(0.0, self.now - (at - seconds)))

    def _await(self, key: str, epoch: int) -> None:
        curve, began = self._jobs[key]
        at = began + self.scale * sum(seconds for seconds, _ in curve[: epoch + 1])
        heapq.heappush(self._events, (at, next(self._order), key, epoch))

    def stop(self, key: str) -> None:
        """Its worker is free."""
        self._driver_worked()
        del self._jobs[key]
        self._events = [event for event in self._events if event[2] != key]
        heapq.heapify(self._events)
        self._back_to_driver()

    def next_report(self) -> JobReport:
        """The earliest; the clock moves on to it, unless it has waited for the driver."""
        self._driver_worked()
        at, _, key, epoch = heapq.heappop(self._events)
        self.now = max(self.now, at)
        curve, _ = self._jobs[key]
        if epoch == len(curve):
            del self._jobs[key]
            report: JobReport = JobDone(key, None)
        else:
            self.trained_s += self.scale * curve[epoch][0]
            self._await(key, epoch + 1)
            report = EpochDone(key, _epoch(epoch + 1, *curve[epoch]))
        self._back_to_driver()
        return report


def _epoch(number: int, seconds: float, val_acc: float) -> Epoch:
    return Epoch(
        epoch=number,
        lr=0.1,
        train_loss=1.0,
        train_acc=0.5,
        val_loss=1.0,
        val_acc=val_acc,
        train_seconds=seconds,
        images_per_second=1_000.0,
    )


@dataclass(frozen=True)
class Measured:
    """One search.

    Attributes:
        busy: the driver's share of the time.
        training: the workers' share, while the second half of the trials was submitted.
        driver_s: a trial, median; `late_s` of the last quarter; `processor_s` on a processor, mean.
    """

    workers: int
    trials: int
    busy: float
    training: float
    driver_s: float
    late_s: float
    processor_s: float
    an_hour: float


def measure(
    study: Study,
    workers: int,
    trials: int,
    curves: list[Curve],
    trial_s: float,
    storage: str | None,
) -> Measured:
    """Run a search of `trials`, with `workers` at a time."""
    mean_s = statistics.fmean(sum(seconds for seconds, _ in curve) for curve in curves)
    executor = Simulated(workers, curves, trial_s / mean_s, study.seed)
    config = study.model_copy(update={"name": f"scaling-{workers}-{time.time_ns()}"})
    with tempfile.TemporaryDirectory() as folder:
        search(config, StudyFolder(Path(folder)), executor, trials, lambda _event: None, storage)
    found = executor.busy_s[workers:-1]  # without the start, and what follows the last one
    (began, before), (ended, after) = executor.marks[trials // 2], executor.marks[-1]
    return Measured(
        workers,
        trials,
        sum(executor.busy_s) / executor.now,
        (after - before) / (workers * (ended - began)),
        statistics.median(found),
        statistics.median(found[int(LATE * len(found)) :]),
        executor.processor_s / trials,
        3600 * trials / executor.now,
    )


def rows_of(found: Sequence[Measured], trial_s: float) -> list[list[str]]:
    """A row a number of workers."""
    return [
        [
            f"{each.workers:,}",
            f"{each.trials:,}",
            f"{1_000 * each.driver_s:.0f}",
            f"{1_000 * each.late_s:.0f}",
            f"{1_000 * each.processor_s:.0f}",
            f"{each.busy:.1%}",
            f"{each.training:.1%}",
            f"{each.an_hour:,.0f}",
            f"{trial_s / each.late_s:,.0f}",
        ]
        for each in found
    ]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--trial-seconds", type=float, default=60.0, help="a trial, on average")
    parser.add_argument("--rounds", type=float, default=4, help="trials a worker, at least 100")
    parser.add_argument("--most", type=int, default=4_096, help="trials of a search, at most")
    parser.add_argument("--sampler", choices=("tpe", "random"), default="tpe")
    parser.add_argument("--storage", help="a PostgreSQL database; SQLite in a folder unless given")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = database_url(given.storage)
    study = load_study("cifar10-200k")
    curves = curves_of(STUDIES / study.name, study.recipe.epochs)
    sampler = Sampler(**{**study.sampler.model_dump(), "kind": given.sampler})
    study = study.model_copy(update={"finalists": 0, "sampler": sampler})
    before = load()
    found = []
    for workers in given.workers:
        trials = min(given.most, max(100, int(given.rounds * workers)))
        found.append(measure(study, workers, trials, curves, given.trial_seconds, storage))
        print(f"{workers} workers: {found[-1]}", file=sys.stderr)
    kind = "PostgreSQL" if storage and is_postgres(storage) else "SQLite"
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {kind}, optuna {optuna.__version__}, "
        f"sqlalchemy {sqlalchemy.__version__}; {cores()} cores, {before} before",
        f"trials of {given.trial_seconds:g} s on average, lengths and curves of the {len(curves)} "
        f"trials of `studies/{study.name}` that were trained to their end; sampler {given.sampler}",
        "driver ms a trial: median, then of a search's last quarter of trials; workers that one "
        "driver could keep busy: a trial's seconds by the latter",
    ]
    headings = (
        "workers", "trials", "driver ms a trial", "late", "of a processor", "driver busy",
        "workers in training", "trials an hour", "workers at most",
    )  # fmt: skip
    print(as_markdown("Scaling", lines, table(headings, rows_of(found, given.trial_seconds), 0)))


if __name__ == "__main__":
    try:
        main()
    except ArchsearchError as error:
        sys.exit(f"error: {error}")
