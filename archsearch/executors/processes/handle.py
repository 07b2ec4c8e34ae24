"""One worker process, seen from the driver: started, given jobs, watched, ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from archsearch.common import atomic_files
from archsearch.executors.messages import Counter, DropJob, WorkerConfig
from archsearch.executors.processes import worker
from archsearch.training.job import Job


@dataclass(slots=True)
class WorkerProcess:
    """One process, and what it has told.

    Attributes:
        steps: its signs of life, counted in shared memory.
        doing: until it is ready.
        silent_s: without a sign of life that is due, as far as its driver was awake to see it.
        slow_told: whether the user knows that it takes long to start.
        steps_per_epoch: of its job; 0 until it has begun it.
    """

    slot: int
    process: SpawnProcess
    pipe: Connection
    steps: Counter
    job: Job | None = None
    ready: bool = False
    doing: str = "starting"
    silent_s: float = 0.0
    slow_told: bool = False
    steps_per_epoch: int = 0
    _seen_steps: int = 0
    _epoch_began: int = 0
    _folder: Path | None = None

    @classmethod
    def start(cls, slot: int, config: WorkerConfig, threads: int) -> WorkerProcess:
        """A new process, which begins to load what it needs."""
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        steps = context.Value("L", 0, lock=False)
        args = (theirs, config, threads, steps)
        process = context.Process(target=worker.main, args=args, daemon=True)
        with _deaf_to_ctrl_c():
            process.start()
        theirs.close()
        return cls(slot, process, ours, steps)

    def give(self, job: Job) -> None:
        """Have it train a job."""
        self.job, self.silent_s, self._folder = job, 0.0, job.folder
        self.steps_per_epoch = 0
        self._send(job)

    def begin_epoch(self) -> None:
        """Count the steps of an epoch from here on."""
        self._epoch_began = self.steps.value

    @property
    def epoch_share(self) -> float:
        """How much of the current epoch is done, from 0 to 1."""
        if not self.steps_per_epoch:
            return 0.0
        return min(1.0, (self.steps.value - self._epoch_began) / self.steps_per_epoch)

    def drop(self) -> None:
        """Let it leave its job at its next step."""
        if self.job:
            self._send(DropJob(self.job.key))
            self.job = None

    def watch(self, awake_s: float) -> None:
        """See whether it moved in the seconds since the last look."""
        moved = self.steps.value != self._seen_steps
        idle = self.ready and self.job is None
        self._seen_steps = self.steps.value
        self.silent_s = 0.0 if moved or idle else self.silent_s + awake_s

    def end(self) -> None:
        """Kill it, and clear away what it was writing; a checkpoint is whole at any moment."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        if self._folder and self.process.pid:
            atomic_files.drop_temporaries(self._folder, self.process.pid)

    def fate(self) -> str:
        """How it ended."""
        self.process.join(timeout=5)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"was killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
        return f"ended with status {code}"

    def _send(self, message: Job | DropJob) -> None:
        with suppress(OSError):  # it is dead, and will be found so
            self.pipe.send(message)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started here does not hear Ctrl-C, which is the driver's; the driver hears it later.

    Ignoring it instead would lose the one that comes meanwhile. Blocking it is inherited, but holds
    for this thread alone: another one (a live view's) may take it, and then it is only noted.
    Windows cannot block it; there a worker ignores it once it has started.
    """
    # Python lets only the main thread set handlers; elsewhere Ctrl-C is somebody else's to handle.
    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "pthread_sigmask")):
        yield
        return
    heard = False

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal heard
        heard = True

    resource_tracker.ensure_running()  # else it is started below, and unblocks signals when it is
    handler = signal.signal(signal.SIGINT, note)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)
