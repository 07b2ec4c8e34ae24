"""The interface between the search, which decides, and the executors, which train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from archsearch.training.job import Job
from archsearch.training.records import Epoch, Run


@dataclass(frozen=True, slots=True)
class EpochDone:
    """An epoch of a job, trained now or before an interruption."""

    key: str
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class JobDone:
    """A job's end; `test_acc` where it was a final one."""

    key: str
    test_acc: float | None


@dataclass(frozen=True, slots=True)
class JobFailed:
    """A job that cannot end well, whoever tries."""

    key: str
    reason: str


JobReport = EpochDone | JobDone | JobFailed


@dataclass(frozen=True, slots=True)
class MoreRoom:
    """`ready` has grown: another job may be submitted."""


class Executor(Protocol):
    """Trains jobs. The search submits up to `ready` of them and reads their reports.

    Attributes:
        capacity: how many it trains at a time, once all of it is there.
    """

    capacity: int

    @property
    def ready(self) -> int:
        """How many it trains at a time now; at least 1."""
        ...

    def run_of(self, seed: int, key: str | None = None) -> Run:
        """Where and how a job with this seed is trained, where `key` is given that job."""
        ...

    def epoch_share(self, key: str) -> float:
        """How much of a job's current epoch is done, from 0 to 1; 0 if that is not known."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job."""
        ...

    def next_report(self) -> JobReport | MoreRoom:
        """Wait for the next report of any job, or for room."""
        ...

    def stop(self, key: str) -> None:
        """Drop a job: no more reports of it."""
        ...
