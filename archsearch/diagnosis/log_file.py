"""Read the training logs of archsearch, Lightning, Keras, Hugging Face, fastai and timm."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pydantic_core

from archsearch.common import csv_files
from archsearch.common.parse import read_text
from archsearch.errors import InputError, Problem, one_line, shown
from archsearch.training.datasets import CLASSES
from archsearch.training.records import Epoch

MAX_ROWS = 100_000
MAX_COLUMNS_SHOWN = 20
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")

Row = Mapping[str, str]
"""By column, its cell; "" where it holds nothing."""


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
        """Return an epoch that was trained here."""
        return cls(epoch.epoch, epoch.train_acc, epoch.val_acc, epoch.train_loss, epoch.lr)


# Which column holds what

_HELD_OUT = ("val", "valid", "validation", "eval", "dev", "test")
_TRAIN = ("train", "training", "tr")
_ACCURACIES = (
    "acc", "accuracy", "top1", "acc1", "top_1", "top1_acc", "top1_accuracy", "acc_top1",
    "accuracy_top1", "categorical_accuracy", "sparse_categorical_accuracy", "binary_accuracy",
)  # fmt: skip
_ERRORS = ("error_rate", "error", "err", "top1_error", "err1")


def _names(parts: Sequence[str], figures: Sequence[str]) -> tuple[str, ...]:
    """Return `val_acc`, `acc_val` and so on, the usual order first."""
    pairs = tuple(product(parts, figures))
    return (*(f"{a}_{b}" for a, b in pairs), *(f"{b}_{a}" for a, b in pairs))


NAMES: Mapping[str, tuple[str, ...]] = {
    "epoch": ("epoch", "epochs"),
    "scored_acc": (*_names(_HELD_OUT, _ACCURACIES), "metrics_accuracy_top1"),
    "scored_error": (*_names(_HELD_OUT, _ERRORS), "error_rate"),
    "scored_loss": _names(_HELD_OUT, ("loss",)),
    "train_acc": _names(_TRAIN, _ACCURACIES),
    "accuracy": _ACCURACIES,
    "train_loss": (*_names(_TRAIN, ("loss",)), "loss"),
    "lr": ("lr", "learning_rate", "lr_0", "lr_pg0", "lr_pg1"),
}
"""What a column may be called, in lower case with one underscore between words, best name first.

`accuracy` without a prefix is of the training images where held-out ones have a column of their
own (Keras), and of the held-out ones where there is no other (fastai).
"""
_PER_EPOCH = re.compile(r"(?<=.)_(epoch|step)$")
"""Lightning's suffixes of a figure that is logged both ways."""


def _spelled(column: str) -> str:
    """Return a column's name as `NAMES` spells it."""
    return re.sub(r"[\W_]+", "_", column.lower()).strip("_")


class _Columns:
    """The columns of a log by what they hold; of several that hold the same, the fullest."""

    def __init__(self, epochs: Sequence[Row]) -> None:
        filled: dict[str, int] = {}
        for epoch in epochs:
            for column, cell in epoch.items():
                filled[column] = filled.get(column, 0) + bool(cell)
        self.filled = filled

    def holding(self, what: str) -> str | None:
        names = NAMES[what]
        found = []
        for column, count in self.filled.items():
            spelled = _spelled(column)
            name = _PER_EPOCH.sub("", spelled)
            if what == "lr" and name not in names and name.startswith("lr_"):
                found.append((-count, len(names), False, column))
            if name in names:
                found.append((-count, names.index(name), spelled.endswith("_step"), column))
        return min(found)[-1] if found else None

    def roles(self) -> dict[str, str | None]:
        """Return the column of each figure of `Logged`, None where there is none."""
        bare, scored = self.holding("accuracy"), self.holding("scored_acc")
        train = self.holding("train_acc")
        if not scored and (train or self.holding("scored_loss")):
            scored, bare = bare, None
        return {
            "train_acc": train or bare,
            "scored_acc": scored or self.holding("scored_error"),
            "train_loss": self.holding("train_loss"),
            "lr": self.holding("lr"),
        }


# Rows


def read_training_log(path: Path, classes: int = CLASSES) -> tuple[Logged, ...]:
    """Read a training log, one record per epoch, whichever of the usual names its columns have.

    Rows of the same epoch are merged. Accuracies may be shares or percentages; `classes` decides
    where a figure could be either.

    Raises:
        ArchsearchError: it cannot be read.
        InputError: it is not such a log; the error lists the columns that are there.
    """
    rows = _json_rows(path) if path.suffix in JSON_SUFFIXES else _csv_rows(path)
    problems: list[Problem] = []
    epochs = _epochs(rows, problems)
    roles = _Columns([_merged(rows, group) for _, group in epochs]).roles()
    if not rows or not roles["scored_acc"]:
        raise InputError(str(path), [Problem("", "history", _missing(rows))])
    columns = {role: _figures(rows, column, problems) for role, column in roles.items()}
    _make_shares(columns, rows, roles, classes, problems)
    if problems:
        raise InputError(str(path), problems)
    return tuple(
        Logged(number, *(_last(columns[role], group) for role in roles)) for number, group in epochs
    )


def _csv_rows(path: Path) -> list[Row]:
    # Cells beyond the last column have no name, and those that are not there are None.
    return [
        {name: (text or "").strip() for name, text in row.items() if name}
        for row in csv_files.read_csv(path)[:MAX_ROWS]
    ]


def _json_rows(path: Path) -> list[Row]:
    """Return the rows of JSON lines, a list, `trainer_state.json` or Keras' `history`."""
    text = read_text(str(path))
    try:
        if path.suffix == ".json":
            data = pydantic_core.from_json(text)
        else:
            data = [pydantic_core.from_json(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        message = f"is not valid JSON: {error}; give a CSV, JSON lines or trainer_state.json"
        raise InputError(str(path), [Problem("", "json", message)]) from error
    if isinstance(data, dict):
        lists = {name: values for name, values in data.items() if isinstance(values, list)}
        longest = max(map(len, lists.values()), default=0)
        data = lists.get("log_history") or [
            {name: values[i] for name, values in lists.items() if i < len(values)}
            for i in range(min(longest, MAX_ROWS))
        ]
    rows = data[:MAX_ROWS] if isinstance(data, list) else []
    return [_json_row(row) for row in rows if isinstance(row, dict)]


def _json_row(row: Mapping[str, Any]) -> Row:
    return {name: _json_cell(value).strip() for name, value in row.items()}


def _json_cell(value: object) -> str:
    """Return a value as a CSV would hold it; "" for what is no figure."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    if isinstance(value, int) and abs(value) >= _HUGE:
        return "a huge integer"  # which Python may refuse to write out
    return str(value)


_HUGE = 10**18


def _epochs(rows: Sequence[Row], problems: list[Problem]) -> list[tuple[int, list[int]]]:
    """Return (epoch, its rows) in order; a row without its epoch goes with the one after it."""
    column = _Columns(rows).holding("epoch")
    known = [_finite(number) for number in _figures(rows, column, problems)]
    fractions = any(number is not None and number % 1 for number in known)
    # Of Hugging Face's, 0.25 to 1 are the first epoch. Whole numbers are as they are.
    numbers = [
        number if number is None else math.ceil(number - _ROUNDING if fractions else number)
        for number in known
    ]
    last: int | None = next((n for n in reversed(numbers) if n is not None), None)
    if last is None:
        return [(i + 1, [i]) for i in range(len(rows))]
    filled: list[tuple[int, int]] = []
    for i in reversed(range(len(rows))):
        last = last if (number := numbers[i]) is None else number
        filled.append((last, i))
    return [
        (number, [i for _, i in group]) for number, group in groupby(filled[::-1], itemgetter(0))
    ]


_ROUNDING = 1e-6


def _merged(rows: Sequence[Row], group: Sequence[int]) -> Row:
    merged: dict[str, str] = {}
    for i in group:
        merged |= {name: cell for name, cell in rows[i].items() if cell or name not in merged}
    return merged


def _last(figures: Sequence[float | None], group: Sequence[int]) -> float | None:
    return next((figures[i] for i in reversed(group) if figures[i] is not None), None)


# Cells

_NUMBER = re.compile(
    r"[-+]?(\d{1,18}\.?\d{0,40}|\.\d{1,40})(e[-+]?\d{1,3})?%?|nan|[-+]?inf(inity)?",
    re.ASCII | re.IGNORECASE,
)


def _figures(
    rows: Sequence[Row], column: str | None, problems: list[Problem]
) -> list[float | None]:
    """Return a column's numbers, None where it has none."""
    found: list[float | None] = []
    for number, row in enumerate(rows, start=1):
        text = row.get(column, "") if column else ""
        if text and not _NUMBER.fullmatch(text):
            message = f"is no number: {shown(text)}"
            problems.append(Problem(f"row {number}.{column}", "number", message))
            text = ""
        found.append(float(text.removesuffix("%")) if text else None)
    return found


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _make_shares(
    columns: dict[str, list[float | None]],
    rows: Sequence[Row],
    roles: Mapping[str, str | None],
    classes: int,
    problems: list[Problem],
) -> None:
    """Turn the accuracies of `columns` into shares; an error rate into the accuracy."""
    accuracies = {role: column for role in ("train_acc", "scored_acc") if (column := roles[role])}
    in_percent = {
        role for role, column in accuracies.items() if _in_percent(columns[role], rows, column)
    }
    for role, column in accuracies.items():
        guessing = in_percent and _is_guessing_in_percent(columns[role], classes)
        scale = 100 if role in in_percent or guessing else 1
        is_error = role == "scored_acc" and _spelled(column) in NAMES["scored_error"]
        shares = [None if value is None else value / scale for value in columns[role]]
        problems += [
            Problem(f"row {i}.{column}", "share", f"is no share of images: {value:g}")
            for i, value in enumerate(shares, start=1)
            if value is not None and math.isfinite(value) and not 0 <= value <= 1
        ]
        columns[role] = [1 - at if is_error and at is not None else at for at in shares]


def _in_percent(figures: Sequence[float | None], rows: Sequence[Row], column: str) -> bool:
    """Return whether a column says so itself: by a percent sign, or a number above 1."""
    signed = any(row.get(column, "").endswith("%") for row in rows)
    return signed or any(number > 1 for number in map(_finite, figures) if number is not None)


def _is_guessing_in_percent(figures: Sequence[float | None], classes: int) -> bool:
    """Return whether figures up to 1, read as percentages, are those of guessing."""
    known = [figure / 100 for figure in figures if figure is not None]
    return all(0.5 <= share * classes <= 1.5 for share in known)


# What is missing


def _missing(rows: Sequence[Row]) -> str:
    """Say which columns are there, and which was probably meant."""
    if not rows:
        return (
            "needs rows, one per epoch, below the names of the columns "
            "(epoch, train_acc, val_acc, train_loss, lr)"
        )
    columns = list(dict.fromkeys(name for row in rows for name in row))
    listed = ", ".join(one_line(name)[:40] for name in columns[:MAX_COLUMNS_SHOWN])
    more = f" and {len(columns) - MAX_COLUMNS_SHOWN} more" * (len(columns) > MAX_COLUMNS_SHOWN)
    message = (
        f"has no accuracy of held-out images, got the columns {listed}{more}; "
        "name it val_acc or test_acc (val_accuracy, eval_accuracy and eval_top1 are read, too)"
    )
    return "; ".join([message, *_meant(columns)])


def _meant(columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        name = _PER_EPOCH.sub("", _spelled(column))
        if name in NAMES["accuracy"]:
            yield (
                f"{one_line(column)} is taken as the training accuracy: rename it if it is of "
                "held-out images"
            )
        elif not any(name in names for names in NAMES.values()):
            near = difflib.get_close_matches(name[:40], NAMES["scored_acc"], 1, cutoff=0.7)
            if near:
                yield f"did you mean {near[0]} by {one_line(column)[:40]}?"
