"""Two worker processes against one: trials an hour, and what the driver itself costs.

Run: python benchmarks/workers.py [STUDY] [--data DIR] [--trials 8] [--epochs 1] [--rounds 2]
(nothing else may run meanwhile) > FILE.md

Every search proposes the same networks: at random, nothing pruned, no finalists. One worker has
all cores' threads, two share them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import optuna
import torch
from timed_training import about_images, as_markdown, has_cifar10, table

from archsearch.errors import ArchsearchError
from archsearch.study.config import DEFAULT_STUDY, Pruner, Sampler, Study, load_study, study_toml
from archsearch.study.folder import StudyFolder
from archsearch.training.device import choose

WORKERS = (1, 2)
_POLL_S = 0.2


@dataclass(frozen=True)
class Measured:
    """One search.

    Attributes:
        wall_s: from its first trial's start to its last one's end.
        driver_s: processor time of the driver process meanwhile.
        start_s: from the command to the first trial.
    """

    workers: int
    trials: int
    wall_s: float
    driver_s: float
    start_s: float

    @property
    def trials_per_hour(self) -> float:
        """Without the start."""
        return 3600 * self.trials / self.wall_s

    @property
    def driver_share(self) -> float:
        """Of one core's time."""
        return self.driver_s / self.wall_s


def simplified(study: Study, epochs: int, dataset: str) -> Study:
    """The same space, limits and recipe, so that every search trains the same networks."""
    changes = {
        "name": "workers",
        "dataset": dataset,
        "finalists": 0,
        "start": (),
        "sampler": Sampler(kind="random"),
        "pruner": Pruner(kind="none"),
        "recipe": study.recipe.model_copy(update={"epochs": epochs}),
    }
    return study.model_copy(update=changes)


def measure(study: Study, workers: int, trials: int, data: Path | None) -> Measured:
    """Run `archsearch search` in a folder of its own, and watch the driver's processor time.

    Raises:
        ArchsearchError: it failed; it told why on standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "workers.toml"
        file.write_text(study_toml(study), encoding="utf-8")
        command = [sys.executable, "-m", "archsearch", "search", str(file)]
        command += ["--trials", str(trials), "--workers", str(workers), "--device", "cpu"]
        command += ["--data", str(data.resolve())] if data else []
        began = time.time()
        log = Path(folder) / "log"
        with log.open("w") as stderr:
            driver = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=stderr)
            at_start, at_end = watched(driver, log)
        if driver.returncode:
            raise ArchsearchError(f"the search ended with {driver.returncode}: {log.read_text()}")
        storage = StudyFolder(Path(folder) / "studies" / study.name).storage
        ended = optuna.load_study(study_name=study.name, storage=storage).get_trials()
    starts = [t.datetime_start.timestamp() for t in ended if t.datetime_start]
    ends = [t.datetime_complete.timestamp() for t in ended if t.datetime_complete]
    wall_s = max(ends) - min(starts)
    return Measured(workers, trials, wall_s, at_end - at_start, min(starts) - began)


def watched(driver: subprocess.Popen[bytes], log: Path) -> tuple[float, float]:
    """The driver's own processor seconds when its first trial started, and at its end."""
    at_start = at_end = 0.0
    while driver.poll() is None:
        at_end = processor_seconds(driver.pid) or at_end
        if not at_start and " trial 0 " in log.read_text():
            at_start = at_end
        time.sleep(_POLL_S)
    return at_start, at_end


def processor_seconds(pid: int) -> float | None:
    """User and system time of one process, its children not counted; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows_of(found: list[Measured]) -> Sequence[tuple[str, ...]]:
    """A row a number of workers: medians over rounds, and the ratio to one worker's."""
    rows, rates = [], {}
    for workers in WORKERS:
        mine = [each for each in found if each.workers == workers]
        rates[workers] = statistics.median(each.trials_per_hour for each in mine)
        rows.append(
            (
                str(workers),
                f"{rates[workers]:,.1f}",
                f"{rates[workers] / rates[WORKERS[0]]:.2f}",
                f"{statistics.median(each.driver_share for each in mine):.2%}",
                f"{statistics.median(each.driver_s / each.trials for each in mine):.2f}",
                f"{statistics.median(each.start_s for each in mine):.1f}",
            )
        )
    return rows


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("study", nargs="?", default=DEFAULT_STUDY, metavar="STUDY")
    parser.add_argument("--data", type=Path, help="CIFAR-10; else ARCHSEARCH_DATA, else generated")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=1, help="of each trial")
    parser.add_argument("--rounds", type=int, default=2, help="one search of each kind a round")
    given = parser.parse_args()
    dataset = "cifar10" if has_cifar10(given.data) else "shapes"
    study = simplified(load_study(given.study), given.epochs, dataset)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    device = choose("cpu")
    found = [
        measure(study, workers, given.trials, given.data)
        for _ in range(given.rounds)
        for workers in WORKERS
    ]
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {device.name}, {device.precision}, "
        f"torch {torch.__version__}, optuna {optuna.__version__}",
        about_images(dataset),
        f"{given.trials} trials of {given.epochs} epochs a search, {given.rounds} rounds, medians",
        "the driver's share is of one core, from the first trial's start to the end; the start "
        "(imports, data, the first worker, counting the space) is told apart",
    ]
    headings = (
        "workers", "trials an hour", "times one worker's", "driver's share", "driver s a trial",
        "start s",
    )  # fmt: skip
    print(as_markdown("Worker processes", lines, table(headings, rows_of(found), 0)))


if __name__ == "__main__":
    try:
        main()
    except ArchsearchError as error:
        sys.exit(f"error: {error}")
