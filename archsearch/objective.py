"""What a search is for: one number to raise, and which networks nothing else beats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from archsearch.results import Epoch

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
    objective: ObjectiveName, *, val_acc: float, params: int, seconds_to_target: float | None
) -> float:
    """What the search maximizes.

    Accuracy for its own sake; for the others below the target too, and above it, from 1 to 2, the
    more the fewer the parameters or the seconds: first the target, then what it costs.
    """
    if objective == "accuracy" or seconds_to_target is None:
        return val_acc
    if objective == "params":
        return 1 + _HALF_PARAMS / (_HALF_PARAMS + params)
    return 1 + _HALF_SECONDS / (_HALF_SECONDS + seconds_to_target)


def pareto_front(costs: Sequence[tuple[float, ...]]) -> list[bool]:
    """Which rows no other row beats: at most as high in every column, and lower in one."""
    return [
        not any(
            other != mine and all(o <= m for o, m in zip(other, mine, strict=True))
            for other in costs
        )
        for mine in costs
    ]
