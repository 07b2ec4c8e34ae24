"""What a training log says of the run that wrote it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from archsearch.common import csv_files
from archsearch.diagnosis.findings import Finding
from archsearch.errors import InputError, Problem, shown
from archsearch.training.datasets import CLASSES, DATASETS
from archsearch.training.records import Epoch

MAX_EPOCHS = 100_000
GAP = 0.10
"""Training accuracy this far above the scored one is overfitting."""
LOW = 0.90
"""Training accuracy below that leaves something to learn."""
FLAT_GAIN = 0.005
"""Of the last third's accuracy; below that a curve has stopped."""
OF_CHANCE = 0.02
"""Accuracy above guessing that is still guessing."""
DECAYED = 0.1
"""Of the peak learning rate, at the end."""
TRAIN_IMAGES = DATASETS["cifar10"].train
_NUMBER = re.compile(
    r"[-+]?(\d{1,18}\.?\d{0,18}|\.\d{1,18})([eE][-+]?\d{1,2})?%?|nan|[-+]?inf", re.ASCII
)


class Logged(NamedTuple):
    """One epoch, as far as it was logged; accuracies are shares.

    Attributes:
        scored_acc: on the hold-out or test images.
    """

    epoch: int
    train_acc: float | None
    scored_acc: float | None
    train_loss: float | None
    lr: float | None

    @classmethod
    def of(cls, epoch: Epoch) -> Logged:
        """An epoch that was trained here."""
        return cls(epoch.epoch, epoch.train_acc, epoch.val_acc, epoch.train_loss, epoch.lr)


def read_training_log(path: Path) -> tuple[Logged, ...]:
    """A training log: archsearch's history.csv, or any CSV with such columns.

    `epoch`; `train_acc`; `val_acc` or `test_acc`; `train_loss`; `lr`: those that are there.
    Accuracies may be shares or percentages.

    Raises:
        ArchsearchError: it cannot be read.
        InputError: it is no such CSV.
    """
    rows = csv_files.read_csv(path)[:MAX_EPOCHS]
    if not rows or not {"val_acc", "test_acc"} & rows[0].keys():
        message = "needs rows, and a column val_acc or test_acc (and train_acc, train_loss, lr)"
        raise InputError(str(path), [Problem("", "history", message)])
    problems: list[Problem] = []
    scored = "val_acc" if any(row.get("val_acc") for row in rows) else "test_acc"
    columns = {
        column: [_number(row, column, i, problems) for i, row in enumerate(rows, start=1)]
        for column in ("epoch", "train_acc", scored, "train_loss", "lr")
    }
    for column in ("train_acc", scored):
        columns[column] = _as_shares(columns[column])
        problems += [
            Problem(f"row {i}.{column}", "share", f"is no share of images: {value:g}")
            for i, value in enumerate(columns[column], start=1)
            if value is not None and math.isfinite(value) and not 0 <= value <= 1
        ]
    if problems:
        raise InputError(str(path), problems)
    return tuple(
        Logged(i if epoch is None or not math.isfinite(epoch) else int(epoch), *others)
        for i, (epoch, *others) in enumerate(zip(*columns.values(), strict=True), start=1)
    )


def _number(
    row: Mapping[str, str | None], column: str, number: int, problems: list[Problem]
) -> float | None:
    text = (row.get(column) or "").strip()
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        problems.append(Problem(f"row {number}.{column}", "number", f"is no number: {shown(text)}"))
        return None
    return float(text.removesuffix("%"))


def _as_shares(values: list[float | None]) -> list[float | None]:
    """A column of accuracies as shares: where one is above 1, all are percentages."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if max(finite, default=0.0) <= 1:
        return values
    return [None if value is None else value / 100 for value in values]


def history_findings(history: Sequence[Logged], classes: int) -> Iterator[Finding]:
    """Everything that a log says."""
    scored = [(each.epoch, each.scored_acc) for each in history if each.scored_acc is not None]
    yield from _diverged(history, scored, classes)
    if classes == CLASSES:
        yield from _scored_on_training(scored)
    yield from _fit(history)
    yield from _plateau(scored)
    yield from _never_decayed(history)


_ROUNDED = 0.03
"""Of an image: six digits of a share of 50,000, or a 32-bit number."""
Scored = Sequence[tuple[int, float]]


def _diverged(history: Sequence[Logged], scored: Scored, classes: int) -> Iterator[Finding]:
    for each in history:
        if any(v is not None and not math.isfinite(v) for v in (each.train_loss, each.scored_acc)):
            yield Finding(
                "diverged",
                f"epoch {each.epoch}",
                "the loss left the numbers",
                "a lower lr, a warm-up, or gradients clipped by their norm",
            )
            return
    chance = 1 / classes
    if len(scored) > 1 and (best := max(acc for _, acc in scored)) < chance + OF_CHANCE:
        yield Finding(
            "diverged",
            "",
            f"never above {best:.1%}, where guessing has {chance:.1%}",
            "a lower lr; labels, normalisation and the loss looked at first",
        )
        return
    peak_epoch, peak = max(scored, key=lambda each: each[1], default=(0, 0.0))
    if scored and scored[-1][1] < 0.7 * peak:
        yield Finding(
            "diverged",
            f"epoch {peak_epoch}",
            f"{peak:.1%} there, {scored[-1][1]:.1%} at the end: it was lost again",
            "a lower lr, and a schedule that ends near 0",
        )


def _scored_on_training(scored: Scored) -> Iterator[Finding]:
    """Accuracies that 50,000 images can have, and no part of them."""
    accuracies = [acc for _, acc in scored if math.isfinite(acc)]
    if len(accuracies) < 3 or not _are_counts(accuracies, TRAIN_IMAGES):
        return
    parts = [TRAIN_IMAGES // n for n in range(2, 51) if TRAIN_IMAGES % n == 0]
    if not any(_are_counts(accuracies, part) for part in parts):
        yield Finding(
            "scored-on-training",
            "",
            f"{len(accuracies)} accuracies are whole numbers of {TRAIN_IMAGES:,} images, and of no "
            "part of them such as the 10,000 test images: those are the training images",
            "score the test images (train=False), or a hold-out that is not trained on",
        )


def _are_counts(shares: Sequence[float], images: int) -> bool:
    """Whether all are whole numbers of images, as closely as logs are written."""
    return all(abs(share * images - round(share * images)) < _ROUNDED for share in shares)


def _fit(history: Sequence[Logged]) -> Iterator[Finding]:
    last = history[-1]
    if last.train_acc is None or last.scored_acc is None:
        return
    gap = last.train_acc - last.scored_acc
    told = (
        f"training accuracy {last.train_acc:.1%} and {last.scored_acc:.1%} of the images that it "
        f"is scored on, at the end"
    )
    if gap > GAP:
        yield Finding(
            "overfits",
            f"epoch {last.epoch}",
            f"{told}: {gap:.1%} apart",
            "more augmentation, weight decay, or fewer epochs; more parameters will not help",
        )
    elif last.train_acc < LOW and gap < GAP / 3:
        yield Finding(
            "underfits",
            f"epoch {last.epoch}",
            f"{told}: it has not learned the training images, so nothing is gained by "
            "regularising it",
            "no dropout, lighter augmentation, longer steps, more epochs, a better network",
        )


def _plateau(scored: Scored) -> Iterator[Finding]:
    if len(scored) < 9:
        return
    third = len(scored) // 3
    before = max(acc for _, acc in scored[:-third])
    gain = max(acc for _, acc in scored[-third:]) - before
    if gain < FLAT_GAIN:
        yield Finding(
            "plateau",
            f"epoch {scored[-third][0]}",
            f"the last {third} of {len(scored)} epochs gained {100 * gain:+.2f} points",
            "not more epochs of the same: what holds it back is told above, or the schedule "
            "decayed too early",
        )


def _never_decayed(history: Sequence[Logged]) -> Iterator[Finding]:
    rates = [each.lr for each in history if each.lr is not None]
    if len(rates) > 1 and max(rates) > 0 and rates[-1] > DECAYED * max(rates):
        yield Finding(
            "never-decayed",
            f"epoch {history[-1].epoch}",
            f"the last epoch ended at lr {rates[-1]:g}, {rates[-1] / max(rates):.0%} of the "
            "highest",
            "a schedule that ends near 0, as long as the run",
        )
