"""The files of a study, line by line and checked: they may be old, cut short or hostile."""

from __future__ import annotations

from archsearch.common.csv_records import Amount, Cells, Figure, Text

MAX_TRIALS = 5_000
"""Rows of a leaderboard, which are held against one another."""


class RejectionRow(Cells):
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
