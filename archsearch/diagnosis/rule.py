"""What a rule is, and what was measured of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""error: a limit is broken, or training cannot work; warning: costs accuracy; note: to know."""
Subject = Literal["network", "recipe", "history"]


class Measured(NamedTuple):
    """What an ablation on CIFAR-10 found.

    Attributes:
        points: of hold-out accuracy, with it minus without it, its mean over seeds.
        csv: where the trainings are kept.
        variant: its name there.
    """

    points: float
    csv: str
    variant: str


class Rule(NamedTuple):
    """A rule.

    Attributes:
        what: it looks for.
        why: that costs accuracy.
        source: of the why.
        measured: where the cost was measured; None where none is claimed or it goes without.
    """

    subject: Subject
    level: Level
    what: str
    why: str
    source: str
    measured: Measured | None = None
