"""Worker processes that train nothing and fail on purpose; spawned, so they live in a module."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection

from archsearch.errors import DeviceLostError
from archsearch.executors.messages import Counter, Loading, Ready, WorkerConfig
from archsearch.executors.protocol import EpochDone, JobDone
from archsearch.training.records import Epoch, Run

RUN = Run(device="d", precision="fp32", seed=0, dataset="shapes", torch_version="t")
EPOCH = Epoch(
    epoch=1, lr=0.1, train_loss=1, train_acc=0.5, val_loss=None, val_acc=None,
    train_seconds=1, images_per_second=10,
)  # fmt: skip
WHY = "CUDA error: an illegal memory access was encountered"


def loses_its_device(pipe: Connection, place: WorkerConfig, _threads: int, _steps: Counter) -> None:
    """After each job's first epoch; where `place` names a folder, once for each of its files."""
    pipe.send(Ready(RUN, 0))
    while True:
        key = pipe.recv().key
        pipe.send(EpochDone(key, EPOCH))
        left = sorted(place.data.iterdir()) if place.data else []
        if place.data and not left:
            pipe.send(JobDone(key, 0.5))
            continue
        for path in left[:1]:
            path.unlink()
        pipe.send(DeviceLostError("the GPU", WHY))
        sys.exit()


def never_ready(pipe: Connection, _place: WorkerConfig, _threads: int, _steps: Counter) -> None:
    """It hangs while it loads."""
    pipe.send(Loading("torch"))
    signal.pause()


def cut_short(pipe: Connection, _place: WorkerConfig, _threads: int, _steps: Counter) -> None:
    """It dies in the middle of a write."""
    pipe.send(Ready(RUN, 0))
    folder = pipe.recv().folder
    folder.mkdir(parents=True)
    (folder / f".checkpoint.pt.{os.getpid()}.tmp").write_bytes(b"half")
    (folder / ".checkpoint.pt.1.tmp").write_bytes(b"another's")
    sys.exit(1)
