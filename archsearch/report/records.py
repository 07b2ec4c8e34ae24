"""The files of a study, line by line and checked: they may be old, cut short or hostile."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from archsearch.common.csv_records import (
    Amount,
    Axes,
    Cells,
    Figure,
    Seconds,
    Share,
    SpecHash,
    Text,
)
from archsearch.leaderboard.entry import Status

MAX_TRIALS = 5_000
"""Rows of a leaderboard, which are held against one another."""
MAX_CLASSES = 100


class Row(Cells):
    """A row of `leaderboard.csv`, as far as the page tells it: see `results.Entry`."""

    rank: Amount
    trial: Amount
    spec_hash: SpecHash
    status: Status
    val_acc: Share | None = None
    test_acc: Share | None = None
    test_acc_std: Share | None = None
    test_seeds: Amount = 0
    params: Amount
    receptive_field: Axes
    receptive_field_with_gap: Axes
    macs: Amount
    epochs: Amount
    train_seconds: Seconds
    device: Text = ""
    precision: Text = ""
    seed: Text = ""
    dataset: Text = ""
    torch_version: Text = ""
    final_epochs: Amount | None = None
    final_train_seconds: Seconds | None = None
    edits: Text = ""
    knobs: str = ""
    reason: Text = ""


class Rejection(Cells):
    """A row of `rejections.csv`: a proposal that cost no trial."""

    trial: Amount
    rules: Text


class EpochRow(Cells):
    """A row of `history.csv`: see `results.Epoch`; a loss that left the numbers is not told."""

    epoch: Amount
    train_acc: Share
    val_acc: Share | None = None


class Run(Cells):
    """`run.json` of a finalist: where and how it was trained."""

    device: Text
    precision: Text
    seed: Amount
    dataset: Text
    torch_version: Text


class Mistake(Cells):
    """An image that was taken for another class; `image` is its place in its data set."""

    image: Amount
    true: Text
    predicted: Text
    confidence: Share


class ClassScore(Cells):
    """How the images of one class did."""

    name: Annotated[Text, Field(alias="class")]
    images: Amount
    accuracy: Share | None
    low: Share
    high: Share


class Evaluation(Cells):
    """`evaluation.json`, as far as the page tells it."""

    spec_hash: SpecHash
    images: Amount
    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share
    accuracy_with_flip: Share
    mean_confidence: Share
    calibration_error: Share
    device: Text
    precision: Text
    seed: Amount
    torch_version: Text
    classes: Annotated[tuple[ClassScore, ...], Field(max_length=MAX_CLASSES)]
    confusion: Annotated[tuple[tuple[Amount, ...], ...], Field(max_length=MAX_CLASSES)]
    mistakes: Annotated[tuple[Mistake, ...], Field(max_length=100)]
    notes: Annotated[tuple[Text, ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _is_square(self) -> Evaluation:
        sides = {len(self.classes), len(self.confusion), *map(len, self.confusion)}
        if len(sides) != 1:
            raise ValueError("a confusion matrix of one row and one column a class")
        return self


class PublicSolution(Cells):
    """A network that others have published for the same task, as they trained it."""

    solution: str
    params: Amount
    macs_million: Figure | None = None
    receptive_field: Amount | None = None
    best_test_acc_percent: Figure
