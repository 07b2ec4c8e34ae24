"""Train in one Ray actor, and stream its reports and files back to the driver."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING

import numpy as np

from archsearch.common import folder_lock
from archsearch.common.version import __version__
from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.executors import messages as msg
from archsearch.training.job import Job
from archsearch.training.run_paths import RunPaths

if TYPE_CHECKING:
    from archsearch.training.images import Dataset
    from archsearch.training.trainer import Trainer

_PREFIX = "archsearch-job-"
_FRESH_S = 60.0
"""A folder is made, and locked only then."""
Splits = dict[str, tuple["np.ndarray", "np.ndarray"]]
"""Pixels and labels of `train`, `test`, `fit` and `held_out`; Ray keeps each once a node."""


@dataclass(frozen=True)
class Packed:
    """A data set as Ray shares it between processes: arrays, which are not copied."""

    name: str
    classes: tuple[str, ...]
    splits: Splits


@dataclass(frozen=True)
class Parcel:
    """Something told, and the files of the job's folder that are new since the last parcel."""

    told: msg.FromWorker
    files: dict[str, bytes]


def packed(dataset: Dataset) -> Packed:
    """A data set with its fixed hold-out, ready to be shared."""
    from archsearch.training.images import holdout

    fit, held_out = holdout(dataset.train)
    images = {"train": dataset.train, "test": dataset.test, "fit": fit, "held_out": held_out}
    splits = {name: (each.pixels.numpy(), each.labels.numpy()) for name, each in images.items()}
    return Packed(dataset.name, dataset.classes, splits)


class RayWorker:
    """What a slot of the cluster runs. Calls come one at a time, but for `steps` and `drop`."""

    def __init__(self, config: msg.WorkerConfig, threads: int, version: str) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded
        self._config, self._version = config, version
        self._steps = 0
        self._dropped: set[str] = set()
        self._trainer: Trainer | None = None

    def open(self, data: Packed) -> msg.Ready | ArchsearchError:
        """Load what training needs."""
        if self._version != __version__:
            where = f"{platform.node()} has archsearch {__version__}, the driver "
            return ArchsearchError(f"{where}{self._version}: install the same on every node")
        from archsearch.training import device as devices

        try:
            device = devices.choose(self._config.device, self._config.precision)
        except ArchsearchError as error:
            return ArchsearchError(f"{platform.node()}: {error}")
        self._trainer = _trainer(data, device)
        return msg.Ready(self._trainer.run_of(seed=0), 0)

    def steps(self) -> int:
        """How many steps were made: that this process lives."""
        return self._steps

    def drop(self, key: str) -> None:
        """Leave a job at its next step."""
        self._dropped.add(key)

    def train(self, job: Job, checkpoint: bytes | None) -> Iterator[Parcel]:
        """Train a job from its last epoch on; every report with the files that go with it."""
        # It has begun: whatever happens now may be its fault.
        yield Parcel(msg.Loading(job.key), {})
        try:
            with _job_folder() as folder:
                if checkpoint is not None:
                    RunPaths(folder).checkpoint.write_bytes(checkpoint)
                yield from self._parcels(replace(job, folder=folder))
        except msg.DroppedError:
            return
        except (OSError, ArchsearchError) as error:
            yield Parcel(ArchsearchError(f"{platform.node()}: {error}"), {})

    def _parcels(self, job: Job) -> Iterator[Parcel]:
        sent = _versions(job.folder)
        for told in self._told(job):
            found = _versions(job.folder)
            new = {
                path.name: path.read_bytes()
                for path, version in found.items()
                if sent.get(path) != version
            }
            sent = found
            yield Parcel(told, new)

    def _told(self, job: Job) -> Iterator[msg.FromWorker]:
        from archsearch.executors.in_process import train_job

        if self._trainer is None:
            raise AssertionError("it is opened first")

        def on_step() -> None:
            self._steps += 1
            if job.key in self._dropped:
                raise msg.DroppedError

        said: list[str] = []
        try:
            for report in train_job(self._trainer, job, said.append, on_step):
                while said:
                    yield msg.Warned(said.pop(0))
                yield report
        except DeviceLostError as error:
            yield error
        except ArchsearchError as error:
            yield ArchsearchError(f"{platform.node()}: {error}")


def _trainer(data: Packed, device: object) -> Trainer:
    """On the arrays as they are shared: nobody writes into images."""
    import torch

    from archsearch.training.images import Dataset, Images
    from archsearch.training.trainer import Trainer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch: they cannot be written
        images = {
            name: Images(torch.from_numpy(pixels), torch.from_numpy(labels))
            for name, (pixels, labels) in data.splits.items()
        }
    dataset = Dataset(data.name, data.classes, images["train"], images["test"])  # type: ignore[arg-type]
    return Trainer(dataset, images["fit"], images["held_out"], device)  # type: ignore[arg-type]


@contextmanager
def _job_folder() -> Iterator[Path]:
    """A folder for a job's files; what actors left that were killed on this node is removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            stat = left.lstat()
            # Windows has no user ids; each user has a temporary folder of their own there.
            others = hasattr(os, "geteuid") and stat.st_uid != os.geteuid()
            mine = S_ISDIR(stat.st_mode) and not others
            if mine and time.time() - stat.st_mtime > _FRESH_S and not folder_lock.holder(left):
                shutil.rmtree(left)
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX) as name,
        folder_lock.locked(folder := Path(name)),
    ):
        yield folder


def _versions(folder: Path) -> dict[Path, tuple[int, int]]:
    """The whole files of a folder, and what changes when one is replaced."""
    return {
        path: ((stat := path.stat()).st_mtime_ns, stat.st_ino)
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    }
