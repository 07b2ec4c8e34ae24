"""The events that a search reports while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from archsearch.analysis.analyze import Analysis
from archsearch.analysis.constraints import Verdict
from archsearch.leaderboard.entry import Entry
from archsearch.space.counting.account import Accounting
from archsearch.space.four_blocks import Knobs
from archsearch.training.records import Epoch, Run


@dataclass(frozen=True, slots=True)
class ExecutorReady:
    """Who trains is there.

    Attributes:
        run: where and how.
        capacity: how many networks are trained side by side.
    """

    study: str
    folder: Path
    run: Run
    capacity: int


@dataclass(frozen=True, slots=True)
class StudyOpened:
    """What earlier calls have left on the leaderboard.

    Attributes:
        curves: hold-out accuracy by epoch, by trial.
    """

    entries: list[Entry]
    curves: dict[int, list[float]]


@dataclass(frozen=True, slots=True)
class SpaceCounted:
    """Before the first trial: how much of the space is within the limits."""

    accounting: Accounting


@dataclass(frozen=True, slots=True)
class SpaceExhausted:
    """The trials end early: all networks of the space within the limits are trained."""

    networks: int


@dataclass(frozen=True, slots=True)
class Started:
    """A trial goes into training, or with `final_seed` a finalist into retraining.

    Attributes:
        key: its job's, until it has ended.
        number: the trial's; None: it is the reference.
        again: it was interrupted before.
    """

    key: str
    number: int | None
    analysis: Analysis
    epochs: int
    again: bool = False
    final_seed: int | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """A trial, or a finalist, has one more epoch."""

    key: str
    epoch: Epoch
    final: bool


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial is on the leaderboard."""

    key: str
    number: int
    board: list[Entry]

    @property
    def entry(self) -> Entry:
        """The trial's row."""
        return next(entry for entry in self.board if entry.trial == self.number)


@dataclass(frozen=True, slots=True)
class FinalEnded:
    """A finalist has been tested."""

    key: str
    number: int
    test_acc: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class ReferenceEnded:
    """The spec that the search started from has been trained as the trials were."""

    key: str
    val_acc: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class DatabaseAway:
    """The study's database does not answer; the search waits for it, at most so long."""

    why: str
    patience_s: float


@dataclass(frozen=True, slots=True)
class DatabaseBack:
    """It answers again."""

    away_s: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """A proposal broke a rule; no trial was spent on it."""

    trial: int
    rules: tuple[str, ...]
    knobs: Knobs
    verdict: Verdict | None


Event = (
    ExecutorReady
    | StudyOpened
    | SpaceCounted
    | SpaceExhausted
    | Started
    | Trained
    | TrialEnded
    | FinalEnded
    | ReferenceEnded
    | Rejection
    | DatabaseAway
    | DatabaseBack
)
