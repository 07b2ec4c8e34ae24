"""The files of a study, line by line and checked: they may be old, cut short or hostile."""

from __future__ import annotations

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


class PublicSolution(Cells):
    """A network that others have published for the same task, as they trained it."""

    solution: str
    params: Amount
    macs_million: Figure | None = None
    receptive_field: Amount | None = None
    best_test_acc_percent: Figure
