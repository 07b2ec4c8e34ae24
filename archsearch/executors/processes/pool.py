"""Training in processes of this machine: spawned, watched, replaced when they die."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import connection

from archsearch.common import interruption
from archsearch.common.machine import cores, threads_each
from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.executors import messages as msg
from archsearch.executors.processes.handle import WorkerProcess
from archsearch.executors.protocol import EpochDone, JobReport
from archsearch.executors.supervision import SLOW_START_S, Supervisor, stuck_after_s
from archsearch.training.job import Job
from archsearch.training.records import Run

START_WITHIN_S = 1_800.0
"""For each thing that a worker loads; CIFAR-10 at 100 KB/s."""
MAX_CPU_WORKERS = 4
_POLL_S = 1.0


@dataclass(slots=True)
class WorkerPool:
    """The executor whose jobs run in worker processes of this machine, one job in each.

    A context manager: workers start on entering and are gone on leaving.

    Attributes:
        config: what to train on, and where.
        count: of processes; None: one a GPU, or one a core and at most `MAX_CPU_WORKERS`.
        warn: is told what the user should know.
        stuck_after_s: a worker that trains for so long without a sign of life is replaced.
        start_within_s: so is one that loads one thing for so long.
        capacity: how many there are.
    """

    config: msg.WorkerConfig
    count: int | None
    warn: Callable[[str], None]
    stuck_after_s: float = field(default_factory=stuck_after_s)
    start_within_s: float = START_WITHIN_S
    capacity: int = 0
    _gpus: int = 0
    _run: Run | None = None
    _workers: list[WorkerProcess] = field(default_factory=list)
    _supervisor: Supervisor = field(init=False)
    _waiting: deque[JobReport] = field(default_factory=deque)

    def __enter__(self) -> WorkerPool:
        """Start the workers; return when the first one is ready.

        Raises:
            ArchsearchError: there is no such data set, device or precision here.
        """
        try:
            self.capacity = self.count or default_workers()
            advice = f"is there memory for {self.capacity}? Fewer may do: --workers 1"
            self._supervisor = Supervisor(
                "worker processes", advice, self.warn, self._waiting.append
            )
            self._start(0)
            while self._run is None:
                self._listen()
            if self._gpus:
                self.capacity = self.count or self._gpus
            for slot in range(1, self.capacity):
                self._start(slot)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """End every worker."""
        for each in self._workers:
            each.process.kill()  # all at once, then one after the other
        for each in self._workers:
            with suppress(ArchsearchError):  # what ended the search is what to tell
                each.end()
        self._workers.clear()

    @property
    def ready(self) -> int:
        """As many: a job that is given to a worker which still loads waits for seconds."""
        return self.capacity

    def run_of(self, seed: int, key: str | None = None) -> Run:
        """Where and how jobs are trained; all workers are alike."""
        if self._run is None:
            raise AssertionError("workers are started by `with`")
        return self._run.model_copy(update={"seed": seed})

    @property
    def processes(self) -> list[int]:
        """The workers' process numbers."""
        return [each.process.pid or 0 for each in self._workers]

    def epoch_share(self, key: str) -> float:
        """See `Executor`."""
        shares = (each.epoch_share for each in self._workers if each.job and each.job.key == key)
        return next(shares, 0.0)

    def submit(self, job: Job) -> None:
        """Give a job to a worker that has none."""
        self._supervisor.submitted(job)
        next(each for each in self._workers if each.job is None).give(job)

    def stop(self, key: str) -> None:
        """Drop a job; its worker takes the next one at its next step."""
        for each in self._workers:
            if each.job and each.job.key == key:
                each.drop()

    def next_report(self) -> JobReport:
        """Wait for a report; watch the workers meanwhile.

        Raises:
            ArchsearchError: no other network or worker would fix what a worker found.
        """
        while not self._waiting:
            self._listen()
        return self._waiting.popleft()

    def _start(self, slot: int) -> WorkerProcess:
        """Start a process in `slot`, replacing the one before."""
        config = self.config
        if self._gpus:
            config = replace(config, device=f"cuda:{slot % self._gpus}")
        started = WorkerProcess.start(slot, config, threads_each(self.capacity))
        self._workers = [each for each in self._workers if each.slot != slot] + [started]
        self._supervisor.awake_s()  # starting it is no other worker's silence
        return started

    def _listen(self) -> None:
        """Take what workers have sent, at most a second's wait; see to those that are gone."""
        pipes = {each.pipe: each for each in self._workers}
        ready = connection.wait(list(pipes), _POLL_S)
        interruption.check()
        for pipe in ready:
            at = pipes[pipe]  # type: ignore[index] # the pipes that were given
            try:
                self._take(at, at.pipe.recv())
            except (EOFError, OSError):
                how = at.fate()
                interruption.check()  # the signal that ended it may be ours, too
                self._bury(at, how)
        awake_s = self._supervisor.awake_s()
        for at in list(self._workers):
            at.watch(awake_s)
            self._judge(at)

    def _judge(self, at: WorkerProcess) -> None:
        """End a worker that stands still; tell of one that takes long to start."""
        if at.ready:
            if at.silent_s > self.stuck_after_s:
                self._bury(at, f"made no step in {self.stuck_after_s:.0f} s and was ended")
        elif at.silent_s > self.start_within_s:
            limit = f"{self.start_within_s:.0f} s"
            self._bury(at, f"was still {at.doing} after {limit} and was ended")
        elif at.silent_s > SLOW_START_S and not at.slow_told:
            at.slow_told = True
            left = (self.start_within_s - at.silent_s) / 60
            self.warn(
                f"a worker has been {at.doing} for {SLOW_START_S:.0f} s; "
                f"it is replaced if that takes {left:.0f} minutes more"
            )

    def _take(self, at: WorkerProcess, message: msg.FromWorker | msg.JobBegun) -> None:
        at.silent_s = 0.0
        match message:
            case msg.Loading(what=what):
                at.doing = f"loading {what}"
            case msg.Ready(run=run, gpus=gpus):
                at.ready = True
                self._run, self._gpus = run, gpus or self._gpus
                self._supervisor.one_started()
            case msg.JobBegun(key=key, steps_per_epoch=steps):
                if at.job and at.job.key == key:
                    at.steps_per_epoch = steps
                    at.begin_epoch()
            case DeviceLostError():
                self._bury(at, f"lost {message.device} ({message.why})", message)
            case msg.Warned() | ArchsearchError():
                self._supervisor.take(message)
            case _ if at.job and message.key == at.job.key:  # else of a job that was dropped
                if isinstance(message, EpochDone):
                    at.begin_epoch()
                else:
                    at.job = None
                self._supervisor.take(message)

    def _bury(self, at: WorkerProcess, how: str, lost: DeviceLostError | None = None) -> None:
        """Replace a worker; its job goes to the new one, unless it has cost too many.

        Raises:
            DeviceLostError: it is what ended a worker once too often.
            ArchsearchError: no worker can start.
        """
        at.end()
        if not at.ready:
            self._supervisor.crashed_early(how)
        new, job = self._start(at.slot), at.job
        # Who died before it was ready did not die of the job.
        if job and self._supervisor.retries(job, how, blame=at.ready, lost=lost):
            new.give(job)


def default_workers() -> int:
    """On a processor: small networks gain less from threads than from company."""
    return min(MAX_CPU_WORKERS, cores())
