"""What a search is for: one number to raise, and which networks nothing else beats."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Literal

from archsearch.training.records import Epoch

ObjectiveName = Literal["accuracy", "params", "time"]

_HALF_PARAMS = 10_000
_HALF_SECONDS = 60.0


def seconds_to(target: float | None, history: Iterable[Epoch]) -> float | None:
    """Training seconds until the hold-out first had `target`; None where it never had."""
    seconds = 0.0
    for epoch in history:
        seconds += epoch.train_seconds
        if target is not None and epoch.val_acc is not None and epoch.val_acc >= target:
            return seconds
    return None


def score(
    objective: ObjectiveName, target: float | None, history: Sequence[Epoch], params: int
) -> float:
    """What the search maximizes.

    Accuracy for its own sake; for the others below the target too, and above it, from 1 to 2, the
    more the fewer the parameters or the seconds: first the target, then what it costs. A network
    has the target where it ends with it; its time is up to the first epoch that has it.
    """
    val_acc = history[-1].val_acc or 0.0 if history else 0.0
    if objective == "params" and target is not None and val_acc >= target:
        return 1 + _HALF_PARAMS / (_HALF_PARAMS + params)
    if objective == "time" and (seconds := seconds_to(target, history)) is not None:
        return 1 + _HALF_SECONDS / (_HALF_SECONDS + seconds)
    return val_acc


def pareto_front(costs: Sequence[tuple[float, ...]]) -> list[bool]:
    """Which rows no other row beats: at most as high in every column, and lower in one."""
    front: list[tuple[float, ...]] = []
    for mine in sorted(set(costs)):  # what beats a row comes before it, and is itself on the front
        if not any(all(map(operator.le, other, mine)) for other in front):
            front.append(mine)
    on_front = set(front)
    return [mine in on_front for mine in costs]
