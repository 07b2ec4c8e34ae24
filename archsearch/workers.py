"""Training in processes of this machine: spawned, watched, replaced when they die."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType

from archsearch import worker
from archsearch.errors import ArchsearchError
from archsearch.jobs import EpochDone, Job, JobDone, JobFailed, Report
from archsearch.machine import cores, threads_each
from archsearch.results import Run
from archsearch.worker import Counter, Drop, Place, Ready, Unusable, Warned

MAX_ATTEMPTS = 3
"""A job whose worker dies is tried again at most twice."""
STUCK_AFTER_S = 300.0
"""No optimizer step takes that long."""
MAX_CPU_WORKERS = 4
_POLL_S = 1.0


@dataclass(slots=True)
class _Worker:
    """One process, and what it has told.

    Attributes:
        silent_s: with a job and without an optimizer step, as far as this process was awake
            to see it.
    """

    slot: int
    process: SpawnProcess
    pipe: Connection
    steps: Counter
    job: Job | None = None
    ready: bool = False
    seen_steps: int = 0
    silent_s: float = 0.0


@dataclass(slots=True)
class Workers:
    """The executor whose jobs run in worker processes of this machine, one job in each.

    A context manager: workers start on entering and are gone on leaving.

    Attributes:
        place: what to train on, and where.
        count: of processes; None: one a GPU, or one a core and at most `MAX_CPU_WORKERS`.
        warn: is told what the user should know.
        capacity: how many there are.
    """

    place: Place
    count: int | None
    warn: Callable[[str], None]
    stuck_after_s: float = STUCK_AFTER_S
    capacity: int = 0
    _gpus: int = 0
    _run: Run | None = None
    _workers: list[_Worker] = field(default_factory=list)
    _deaths: dict[str, int] = field(default_factory=dict)
    _reported: dict[str, int] = field(default_factory=dict)
    _waiting: deque[Report] = field(default_factory=deque)
    _early_deaths: int = 0
    _polled: float = 0.0

    def __enter__(self) -> Workers:
        """Start the workers; return when the first one is ready.

        Raises:
            ArchsearchError: there is no such data set, device or precision here.
        """
        try:
            self.capacity = self.count or default_workers()
            self._start(0)
            while self._run is None:
                self._listen()
            if self._gpus:
                self.capacity = self.count or self._gpus
            for slot in range(1, self.capacity):
                self._start(slot)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End every worker; a checkpoint is whole at any moment."""
        for each in self._workers:
            each.process.kill()
        for each in self._workers:
            each.process.join()
            each.pipe.close()
        self._workers.clear()

    def run_of(self, seed: int) -> Run:
        """Where and how jobs are trained; all workers are alike."""
        if self._run is None:
            raise AssertionError("workers are started by `with`")
        return replace(self._run, seed=seed)

    @property
    def processes(self) -> list[int]:
        """The workers' process numbers."""
        return [each.process.pid or 0 for each in self._workers]

    def submit(self, job: Job) -> None:
        """Give a job to a worker that has none."""
        self._reported[job.key] = 0
        self._give(next(each for each in self._workers if each.job is None), job)

    def stop(self, key: str) -> None:
        """Drop a job; its worker takes the next one at its next step."""
        for each in self._workers:
            if each.job and each.job.key == key:
                each.job = None
                _send(each, Drop(key))

    def next_report(self) -> Report:
        """Wait for a report; watch the workers meanwhile.

        Raises:
            ArchsearchError: a worker found what no other network or worker would mend.
        """
        while not self._waiting:
            self._listen()
        return self._waiting.popleft()

    def _start(self, slot: int) -> _Worker:
        """Start a process in `slot`, in the place of the one before."""
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        steps = context.Value("L", 0, lock=False)
        place = self.place
        if self._gpus:
            place = replace(place, device=f"cuda:{slot % self._gpus}")
        args = (theirs, place, threads_each(self.capacity), steps)
        process = context.Process(target=worker.main, args=args, daemon=True)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is the driver's
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()
        started = _Worker(slot, process, ours, steps)
        self._workers = [each for each in self._workers if each.slot != slot] + [started]
        self._polled = time.monotonic()
        return started

    def _listen(self) -> None:
        """Take what workers have sent, at most a second's wait; see to those that are gone."""
        pipes = {each.pipe: each for each in self._workers}
        for pipe in connection.wait(list(pipes), _POLL_S):
            at = pipes[pipe]  # type: ignore[index] # the pipes that were given
            try:
                self._take(at, at.pipe.recv())
            except (EOFError, OSError):
                self._bury(at, _fate(at.process))
        now = time.monotonic()
        # Time that passed unseen (this machine slept) is no worker's silence.
        awake = min(now - self._polled, 2 * _POLL_S)
        self._polled = now
        for at in list(self._workers):
            idle = at.job is None or not at.ready  # a download may take its time
            moved = at.steps.value != at.seen_steps
            at.seen_steps, at.silent_s = (
                at.steps.value,
                0.0 if moved or idle else at.silent_s + awake,
            )
            if at.silent_s > self.stuck_after_s:
                self._bury(at, f"made no step in {self.stuck_after_s:.0f} s and was ended")

    def _take(self, at: _Worker, message: Ready | Warned | Unusable | Report) -> None:
        at.silent_s = 0.0
        match message:
            case Ready(run=run, gpus=gpus):
                at.ready = True
                self._run, self._gpus, self._early_deaths = run, gpus or self._gpus, 0
            case Warned(message=text):
                self.warn(text)
            case Unusable(message=text):
                raise ArchsearchError(text)
            case _ if at.job is None or message.key != at.job.key:
                return  # of a job that was dropped
            case EpochDone(key=key, epoch=epoch):
                if epoch.epoch > self._reported[key]:
                    self._reported[key] = epoch.epoch
                    self._waiting.append(message)
            case JobDone() | JobFailed():
                at.job = None
                self._waiting.append(message)

    def _bury(self, at: _Worker, how: str) -> None:
        """Replace a worker; its job goes to the new one, unless it has cost too many."""
        at.process.kill()
        at.process.join()
        at.pipe.close()
        if not at.ready:
            self._early_deaths += 1
            if self._early_deaths >= MAX_ATTEMPTS:
                raise ArchsearchError(
                    f"{self._early_deaths} worker processes in a row could not start, the last "
                    f"{how}; is there memory for {self.capacity}? Fewer may do: --workers 1"
                )
        new, job = self._start(at.slot), at.job
        if job is None:
            return
        # Who died before it was ready did not die of the job.
        deaths = self._deaths[job.key] = self._deaths.get(job.key, 0) + at.ready
        if deaths >= MAX_ATTEMPTS:
            reason = f"{deaths} worker processes died of it: the last {how}"
            self._waiting.append(JobFailed(job.key, reason))
            return
        self.warn(f"the worker of {job.key} {how}: another goes on from its last epoch")
        self._give(new, job)

    def _give(self, at: _Worker, job: Job) -> None:
        at.job, at.silent_s = job, 0.0
        _send(at, job)


def default_workers() -> int:
    """On a processor: small networks gain less from threads than from company."""
    return min(MAX_CPU_WORKERS, cores())


def _send(at: _Worker, message: Job | Drop) -> None:
    try:
        at.pipe.send(message)
    except OSError:
        return  # it is dead, and will be found so


def _fate(process: SpawnProcess) -> str:
    process.join(timeout=5)
    code = process.exitcode
    if code is not None and code < 0:
        return f"was killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"ended with status {code}"
