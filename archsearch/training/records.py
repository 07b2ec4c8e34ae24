"""The records that a training run leaves: its epochs, where and how it was trained, its result."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from archsearch.common import atomic_files, csv_files
from archsearch.common.csv_records import (
    Amount,
    Cells,
    Seconds,
    Share,
    SpecHash,
    Text,
    read_rows,
)
from archsearch.training.datasets import DatasetName


class Epoch(Cells):
    """One epoch of training: a row of `history.csv`."""

    epoch: Amount
    """1 for the first."""
    lr: float
    """At its last step."""
    train_loss: float
    """Mean over its steps, of augmented images, label smoothing included."""
    train_acc: Share
    """Of augmented images, as they were trained on."""
    val_loss: float | None = None
    val_acc: Share | None = None
    """Of the hold-out; None if there is none."""
    train_seconds: Seconds
    """Of its training steps alone."""
    images_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)]


def write_history(path: Path, history: Iterable[Epoch]) -> None:
    """Replace `history.csv`."""
    rows = (epoch.model_dump() for epoch in history)
    csv_files.write_csv(path, tuple(Epoch.model_fields), rows)


def read_history(path: Path) -> tuple[Epoch, ...]:
    """Read `history.csv`.

    Raises:
        ArchsearchError: it cannot be read, or has rows that are not epochs.
    """
    return read_rows(Epoch, path)


class Run(Cells):
    """Where and how a network was trained: report this beside every figure."""

    model_config = ConfigDict(strict=True)

    device: Text
    precision: Literal["fp32", "bf16"]
    seed: Amount
    dataset: DatasetName
    torch_version: Text


class TrainedOn(Run):
    """A run, and whether it was trained on all training images, the hold-out too."""

    full: bool


class RunRecord(TrainedOn):
    """`run.json`: a run and its network."""

    spec_hash: SpecHash


class _Tested(Cells):
    test_acc: Share
    val_acc: Share | None
    epochs: Amount
    train_seconds: Seconds
    target_accuracy: Share | None
    reached_target: bool
    full: bool
    spec_hash: SpecHash


class Result(Run, _Tested):  # the fields of `_Tested` come first, as they are written
    """`result.json`: the test at the end of training."""


def write_record(path: Path, record: BaseModel) -> None:
    """Replace a record's JSON file."""
    atomic_files.write_text(path, record_json(record))


def record_json(record: BaseModel) -> str:
    """Return a record as the JSON that is written to its file."""
    return json.dumps(record.model_dump(by_alias=True), indent=2) + "\n"
