"""What workers and the driver send one another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from archsearch.errors import ArchsearchError
from archsearch.executors.protocol import JobReport
from archsearch.training.datasets import DatasetName
from archsearch.training.records import Run


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The data set, device and precision that workers train with.

    Attributes:
        data: the folder of CIFAR-10, or None: see `images.load`.
        device: as torch has it (`cpu`, `cuda`, `cuda:1`); None: the best there is.
        precision: of forward passes; None: the faster one.
    """

    dataset: DatasetName
    data: Path | None
    device: str | None
    precision: Literal["fp32", "bf16"] | None


@dataclass(frozen=True, slots=True)
class Loading:
    """What a worker is about to load, which may take its time."""

    what: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has loaded what it needs.

    Attributes:
        gpus: on its machine, where it was told of no GPU in particular and uses one.
    """

    run: Run
    gpus: int


@dataclass(frozen=True, slots=True)
class JobBegun:
    """A worker has begun a job, each of whose epochs takes so many steps."""

    key: str
    steps_per_epoch: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that the user should know."""

    message: str


FromWorker = Loading | Ready | Warned | JobReport | ArchsearchError
"""An error is one that no other network would fix: a worker's last word if the device is lost."""


@dataclass(frozen=True, slots=True)
class DropJob:
    """The driver wants no more of this job."""

    key: str


class Counter(Protocol):
    """A number in shared memory."""

    value: int


class DroppedError(Exception):
    """The job in training was dropped."""
