"""What training and searching leave behind, as records and CSV columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from archsearch.common import csv_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch of training.

    Attributes:
        epoch: 1 for the first.
        lr: at its last step.
        train_loss: mean over its steps, of augmented images, label smoothing included.
        train_acc: share right, of augmented images as they were trained on.
        val_acc: share right of the hold-out; None where there is none.
        train_seconds: of its training steps alone.
    """

    epoch: int
    lr: float
    train_loss: float
    train_acc: float
    val_loss: float | None
    val_acc: float | None
    train_seconds: float
    images_per_second: float


HISTORY_COLUMNS = tuple(field.name for field in fields(Epoch))


def write_history(path: Path, history: Iterable[Epoch]) -> None:
    """Replace `history.csv`."""
    csv_files.write_csv(path, HISTORY_COLUMNS, (asdict(epoch) for epoch in history))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where and how a network was trained: what must stand beside its figures."""

    device: str
    precision: str
    seed: int
    dataset: str
    torch_version: str
