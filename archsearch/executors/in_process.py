"""The executor that trains in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from archsearch.common import atomic_files, interruption
from archsearch.errors import CheckpointError, TrainingError
from archsearch.executors.protocol import EpochDone, JobDone, JobFailed, JobReport
from archsearch.training.job import Job
from archsearch.training.records import Epoch, Run
from archsearch.training.run_paths import RunPaths
from archsearch.training.trainer import Trainer


def train_job(
    trainer: Trainer,
    job: Job,
    warn: Callable[[str], None],
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[JobReport]:
    """Train a job of the search to its end, or to what ends it.

    Raises:
        DeviceLostError: nothing more will run on the device.
        ArchsearchError: its folder cannot be written.
    """
    test_acc = None
    try:
        for step in trainer.train(job, test=job.final, warn=warn, on_step=on_step):
            if isinstance(step, Epoch):
                yield EpochDone(job.key, step)
            else:
                test_acc = step
    except CheckpointError as error:
        # Losing this job's epochs beats losing the search; what is there is kept aside.
        warn(f"{error}. It is set aside and the trial starts over")
        _set_aside(RunPaths(job.folder))
        yield from train_job(trainer, job, warn, on_step)
    except TrainingError as error:
        yield JobFailed(job.key, str(error))
    else:
        yield JobDone(job.key, test_acc)


@dataclass(slots=True)
class InProcessExecutor:
    """The executor that trains here, one job after the other."""

    trainer: Trainer
    warn: Callable[[str], None]
    capacity: int = 1
    ready: int = 1
    _running: dict[str, Iterator[JobReport]] = field(default_factory=dict)
    _steps: int = 0
    _steps_per_epoch: int = 0

    def run_of(self, seed: int, key: str | None = None) -> Run:
        """See `Trainer.run_of`."""
        return self.trainer.run_of(seed)

    def submit(self, job: Job) -> None:
        """Take a job; it makes progress while `next_report` waits."""
        self._running[job.key] = train_job(self.trainer, job, self.warn, self._on_step)
        self._steps_per_epoch = self.trainer.steps_per_epoch(job)

    def epoch_share(self, key: str) -> float:
        """See `Executor`."""
        oldest = next(iter(self._running), None)
        return min(1.0, self._steps / self._steps_per_epoch) if key == oldest else 0.0

    def stop(self, key: str) -> None:
        """Drop a job."""
        del self._running[key]

    def next_report(self) -> JobReport:
        """Train the oldest job's next epoch."""
        key, progress = next(iter(self._running.items()))
        report = next(progress)
        self._steps = 0
        if not isinstance(report, EpochDone):
            self.stop(key)
        return report

    def _on_step(self) -> None:
        interruption.check()
        self._steps += 1


def _set_aside(paths: RunPaths) -> None:
    try:
        paths.checkpoint.replace(paths.damaged_checkpoint)
    except OSError as error:
        raise atomic_files.unwritable(paths.checkpoint, error) from error
