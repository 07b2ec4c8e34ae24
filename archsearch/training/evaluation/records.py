"""What an evaluation leaves in `evaluation.json`; needs no torch, so that a report can read it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from archsearch.common.csv_records import Amount, Cells, Share, SpecHash, Text
from archsearch.training.datasets import DatasetName
from archsearch.training.records import TrainedOn

Split = Literal["test", "holdout"]
MAX_CLASSES = 100


class Bin(Cells):
    """Images whose confidence is in (low, high]; the means are None if there are no images."""

    low: Share
    high: Share
    images: Amount
    confidence: Share | None
    accuracy: Share | None


class ClassRecord(Cells):
    """How many images of one class were classified correctly, with the 95% interval."""

    name: Annotated[Text, Field(alias="class")]
    images: Amount
    right: Amount
    accuracy: Share | None
    low: Share
    high: Share


class MistakeRecord(Cells):
    """An image that was taken for another class; `image` is its index in its data set."""

    image: Amount
    true: Text
    predicted: Text
    confidence: Share


class EvaluationRecord(Cells):
    """`evaluation.json`; shares are from 0 to 1."""

    name: str
    spec_hash: SpecHash
    dataset: DatasetName
    split: Split
    images: Amount
    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share
    accuracy_with_flip: Share
    loss: float
    val_acc: Share | None
    target_accuracy: Share | None
    reached_target: bool
    finished: bool
    epochs: Amount
    device: Text
    precision: Text
    seed: Amount
    torch_version: Text
    trained: TrainedOn
    test_acc_after_training: Share | None
    mean_confidence: Share
    calibration_error: Share
    calibration: Annotated[tuple[Bin, ...], Field(max_length=MAX_CLASSES)]
    classes: Annotated[tuple[ClassRecord, ...], Field(max_length=MAX_CLASSES)]
    confusion: Annotated[tuple[tuple[Amount, ...], ...], Field(max_length=MAX_CLASSES)]
    mistakes: Annotated[tuple[MistakeRecord, ...], Field(max_length=100)]
    notes: Annotated[tuple[Text, ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _is_square(self) -> EvaluationRecord:
        sides = {len(self.classes), len(self.confusion), *map(len, self.confusion)}
        if len(sides) != 1:
            raise ValueError("a confusion matrix of one row and one column a class")
        return self
