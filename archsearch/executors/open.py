"""An executor on this machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from archsearch.executors.messages import WorkerConfig
from archsearch.executors.protocol import Executor


def open_executor(
    place: WorkerConfig, workers: int | None, warn: Callable[[str], None]
) -> AbstractContextManager[Executor]:
    """Open the executor that trains in this process (0 workers) or in processes of its own.

    Raises:
        ArchsearchError: the data set or the device cannot be had.
    """
    if workers == 0:
        from archsearch.executors.in_process import InProcessExecutor
        from archsearch.training.trainer import Trainer

        trainer = Trainer.open(place.dataset, place.data, place.device, place.precision)
        return nullcontext(InProcessExecutor(trainer, warn))
    from archsearch.executors.processes.pool import WorkerPool

    return WorkerPool(place, workers, warn)
