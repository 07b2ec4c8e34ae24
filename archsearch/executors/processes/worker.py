"""A worker process: trains one job after the other, and tells its driver through a pipe."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import queue
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.executors import messages as msg
from archsearch.training.job import Job

if TYPE_CHECKING:
    from archsearch.training.trainer import Trainer

_PR_SET_PDEATHSIG = 1


def main(pipe: Connection, config: msg.WorkerConfig, threads: int, steps: msg.Counter) -> None:
    """Serve a driver until it is gone.

    Through the pipe jobs and drops come in; `Ready`, reports, warnings go out. `steps` counts
    optimizer steps and scored batches: the driver sees that this process lives.
    """
    _die_with_driver()
    if not hasattr(signal, "pthread_sigmask"):  # Windows, where the driver could not block it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded
    try:
        _serve(pipe, config, steps)
    except DeviceLostError as error:
        pipe.send(error)
    except ArchsearchError as error:
        pipe.send(ArchsearchError(str(error)))
    except BrokenPipeError:
        return  # the driver is gone
    except Exception as error:
        # The traceback goes to nobody: the driver tells of the death and starts another.
        if os.environ.get("ARCHSEARCH_DEBUG"):
            raise
        pipe.send(msg.Warned(f"a worker met {type(error).__name__}: {error}"))
        sys.exit(1)


def _die_with_driver() -> None:
    """Have Linux end this process with its driver, also where it hangs or is stopped.

    Elsewhere the end of the pipe tells, to a process that runs.
    """
    if hasattr(signal, "SIGKILL"):  # Windows has none
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    driver = multiprocessing.parent_process()
    if driver and os.getppid() != driver.pid:
        os._exit(0)  # it was gone before


def _serve(pipe: Connection, config: msg.WorkerConfig, steps: msg.Counter) -> None:
    inbox = _Inbox(pipe)  # first: a driver may die while torch is loaded
    pipe.send(msg.Loading("torch"))
    from archsearch.executors.in_process import train_job

    def warn(text: str) -> None:
        pipe.send(msg.Warned(text))

    trainer, gpus = _opened(pipe, config)
    pipe.send(msg.Ready(trainer.run_of(seed=0), gpus))
    while True:
        job = inbox.jobs.get()
        pipe.send(msg.JobBegun(job.key, trainer.steps_per_epoch(job)))

        def on_step(key: str = job.key) -> None:
            steps.value += 1
            if key in inbox.dropped:
                raise msg.DroppedError

        try:
            for report in train_job(trainer, job, warn, on_step):
                pipe.send(report)
        except msg.DroppedError:
            continue


def _opened(pipe: Connection, config: msg.WorkerConfig) -> tuple[Trainer, int]:
    import torch

    from archsearch.training.device import choose
    from archsearch.training.images import load
    from archsearch.training.trainer import Trainer

    device = choose(config.device, config.precision)
    any_gpu = device.torch.type == "cuda" and device.torch.index is None
    gpus = torch.cuda.device_count() if any_gpu else 0
    pipe.send(msg.Loading(f"{config.dataset}, which may have to be downloaded or decoded"))
    return Trainer.of(load(config.dataset, config.data), device), gpus


class _Inbox:
    """Reads the pipe beside training, so that a drop is seen and a driver's death too."""

    def __init__(self, pipe: Connection) -> None:
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.dropped: set[str] = set()
        self._pipe = pipe
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                match self._pipe.recv():
                    case msg.DropJob(key=key):
                        self.dropped.add(key)
                    case job:
                        self.jobs.put(job)
        except (EOFError, OSError):
            os._exit(0)  # checkpoints are whole at any moment
