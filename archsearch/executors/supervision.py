"""Supervise workers: pass on their reports once, retry the jobs of those that crash."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from archsearch.common.machine import seconds_from
from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.executors.messages import Warned
from archsearch.executors.protocol import EpochDone, JobFailed, JobReport
from archsearch.training.job import Job

MAX_ATTEMPTS = 3
"""A job whose worker crashes is retried at most twice."""
STUCK_AFTER_S = 300.0
"""No optimizer step and no scored batch takes this long."""
SLOW_START_S = 60.0
"""After this time, a message says what the search is waiting for."""
_MOST_AWAKE_S = 2.0


@dataclass(slots=True)
class Supervisor:
    """Handle the messages and crashes of any executor's workers.

    Attributes:
        kind: how messages refer to the workers.
        advice: a hint to print if no worker can start.
        warn: called with each warning for the user.
        deliver: called with each report, exactly once.
    """

    kind: str
    advice: str
    warn: Callable[[str], None]
    deliver: Callable[[JobReport], None]
    _early: int = 0
    _crashes: Counter[str] = field(default_factory=Counter)
    _epochs: Counter[str] = field(default_factory=Counter)
    _looked: float = field(default_factory=time.monotonic)

    def awake_s(self) -> float:
        """Return the seconds since the last call, without those that this machine slept."""
        now = time.monotonic()
        passed, self._looked = now - self._looked, now
        return min(passed, _MOST_AWAKE_S)

    def submitted(self, job: Job) -> None:
        """Expect a job's epochs from the first one on."""
        self._epochs[job.key] = 0

    def take(self, message: Warned | ArchsearchError | JobReport) -> None:
        """Pass on a message, unless it is an epoch that was reported before a crash.

        Raises:
            ArchsearchError: no other network or worker would fix what the worker found.
        """
        match message:
            case Warned(message=text):
                self.warn(text)
            case ArchsearchError():
                raise message
            case EpochDone(key=key, epoch=epoch):
                if epoch.epoch > self._epochs[key]:
                    self._epochs[key] = epoch.epoch
                    self.deliver(message)
            case _:
                self.deliver(message)

    def one_started(self) -> None:
        """Note that workers can start."""
        self._early = 0

    def crashed_early(self, how: str) -> None:
        """Count a worker that crashed before it was ready.

        Raises:
            ArchsearchError: so did those before it.
        """
        self._early += 1
        if self._early >= MAX_ATTEMPTS:
            raise ArchsearchError(
                f"{self._early} {self.kind} in a row could not start, the last {how}; {self.advice}"
            )

    def retries(self, job: Job, how: str, *, blame: bool, lost: DeviceLostError | None) -> bool:
        """Return whether another worker should resume the job of a crashed worker.

        Args:
            job: the job of the crashed worker; if it is not retried, its failure is delivered.
            how: how the worker crashed, in words.
            blame: whether the worker had started the job, which may therefore be the cause.
            lost: the device failure that made the worker crash, if any.

        Raises:
            DeviceLostError: `lost`, if the job has no attempts left; the next job would fail too.
        """
        self._crashes[job.key] += blame
        if self._crashes[job.key] < MAX_ATTEMPTS:
            self.warn(f"the worker of {job.key} {how}: another goes on from its last epoch")
            return True
        if lost:
            raise lost
        why = f"{MAX_ATTEMPTS} {self.kind} died of it: the last {how}"
        self.deliver(JobFailed(job.key, why))
        return False


def stuck_after_s() -> float:
    """Return `STUCK_AFTER_S`, or the value of the environment variable ARCHSEARCH_STUCK_AFTER.

    Raises:
        ArchsearchError: it is no number of seconds.
    """
    return seconds_from("ARCHSEARCH_STUCK_AFTER", STUCK_AFTER_S)
