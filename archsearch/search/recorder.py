"""Write a study's CSVs while it is searched: the leaderboard and the rejections."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import optuna

from archsearch.common import csv_files
from archsearch.leaderboard.entry import (
    REJECTION_COLUMNS,
    Entry,
    keep_if_longer,
    write_leaderboard,
)
from archsearch.search.entries import KnownRows, leaderboard
from archsearch.search.events import Rejection
from archsearch.space.settings import cell, knob_choices
from archsearch.spec.formatting import axes
from archsearch.study.config import Study
from archsearch.study.folder import StudyFolder

_ALWAYS_WRITTEN = 200
"""Rows of a leaderboard that is written after every trial."""
_MOST_OF_A_LEADERBOARD = 10
"""A longer one is not written again before so many times the time that writing took: with a
thousand workers and as many rows, the driver would do nothing else."""


@dataclass
class LeaderboardWriter:
    """The leaderboard of a study, written as its database has it."""

    study: optuna.Study
    config: Study
    folder: StudyFolder
    _known_rows: KnownRows = field(init=False, default_factory=dict)
    _write_after: float = field(init=False, default=0.0)
    _written: bool = field(init=False, default=False)

    def write(self) -> list[Entry]:
        """Write the leaderboard, and return it."""
        entries = self._entries()
        self._write(entries)
        return entries

    def write_soon(self) -> list[Entry]:
        """Write the leaderboard unless it is long and was written a moment ago; return it."""
        began = time.monotonic()
        entries = self._entries()
        if len(entries) <= _ALWAYS_WRITTEN or began >= self._write_after:
            self._write(entries)
            ended = time.monotonic()
            self._write_after = ended + _MOST_OF_A_LEADERBOARD * (ended - began)
        return entries

    def _write(self, entries: list[Entry]) -> None:
        if not self._written:
            keep_if_longer(self.folder.leaderboard, len(entries))
            self._written = True
        write_leaderboard(self.folder.leaderboard, entries, knob_choices(self.config.space))

    def _entries(self) -> list[Entry]:
        return leaderboard(self.study, self.config, self.folder, self._known_rows)


@dataclass
class Rejections:
    """`rejections.csv`, which grows by a row a rejected proposal."""

    config: Study
    folder: StudyFolder
    notify: Callable[[Rejection], None]
    _count: int = field(init=False, default=0)

    def begin(self) -> None:
        """Go on where the file ends."""
        # What a crash or another program left there is no reason to stop.
        csv_files.mended_csv(self.folder.rejections, REJECTION_COLUMNS)
        self._count = csv_files.count_rows(self.folder.rejections)

    def add(self, rejection: Rejection) -> None:
        """Add a row, and tell of it."""
        self._count += 1
        analysis = rejection.verdict.analysis if rejection.verdict else None
        row = {
            "proposal": self._count,
            "trial": rejection.trial,
            "rules": " ".join(rejection.rules),
            "spec_hash": analysis.spec_hash if analysis else "",
            "params": analysis.params if analysis else "",
            "receptive_field": axes(analysis.receptive_field) if analysis else "",
            "macs": analysis.macs if analysis else "",
            "knobs": cell(self.config.space, rejection.knobs),
        }
        csv_files.append_csv(self.folder.rejections, REJECTION_COLUMNS, row)
        self.notify(rejection)
