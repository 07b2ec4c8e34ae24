"""What ends workers, counted: three deaths of one network, or before any work, are enough."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from archsearch.common.machine import seconds_from
from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.executors.protocol import JobFailed
from archsearch.training.job import Job

MAX_ATTEMPTS = 3
"""A job whose worker dies is tried again at most twice."""


@dataclass(slots=True)
class Deaths:
    """The deaths of an executor's workers.

    Attributes:
        kind: of worker, as the user is told.
        advice: what may help where none can start.
    """

    kind: str
    advice: str
    _early: int = 0
    _of: Counter[str] = field(default_factory=Counter)

    def one_started(self) -> None:
        """That workers can start."""
        self._early = 0

    def early(self, how: str) -> None:
        """A worker died before it was ready.

        Raises:
            ArchsearchError: so did those before it.
        """
        self._early += 1
        if self._early >= MAX_ATTEMPTS:
            raise ArchsearchError(
                f"{self._early} {self.kind} in a row could not start, the last {how}; {self.advice}"
            )

    def of(
        self, job: Job, how: str, *, blame: bool, lost: DeviceLostError | None
    ) -> JobFailed | None:
        """A worker died with a job: how that has failed, if it is not to be tried again.

        Args:
            job: what it was given.
            how: it died.
            blame: whether it had begun with it, so that the job may be what killed it.
            lost: the device that failed under it.

        Raises:
            DeviceLostError: `lost`, once too often: the next job would fare no better.
        """
        self._of[job.key] += blame
        if self._of[job.key] < MAX_ATTEMPTS:
            return None
        if lost:
            raise lost
        return JobFailed(job.key, f"{MAX_ATTEMPTS} {self.kind} died of it: the last {how}")


STUCK_AFTER_S = 300.0
"""No optimizer step takes that long, and no batch that is scored."""


SLOW_START_S = 60.0
"""Then the user is told what is waited for."""


def stuck_after_s() -> float:
    """`STUCK_AFTER_S`, or what the environment variable ARCHSEARCH_STUCK_AFTER says.

    Raises:
        ArchsearchError: it is no number of seconds.
    """
    return seconds_from("ARCHSEARCH_STUCK_AFTER", STUCK_AFTER_S)
