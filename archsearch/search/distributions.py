"""Knobs as Optuna's distributions."""

from __future__ import annotations

from itertools import pairwise

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from archsearch.space.four_blocks import Value
from archsearch.space.settings import AnySpace, knob_choices


def distributions(space: AnySpace) -> dict[str, BaseDistribution]:
    """Optuna's view of the knobs that have a choice; evenly spaced numbers keep their order."""
    return {
        name: _distribution(choices)
        for name, choices in knob_choices(space).items()
        if len(choices) > 1
    }


def _distribution(choices: tuple[Value, ...]) -> BaseDistribution:
    numbers = [choice for choice in choices if isinstance(choice, int)]
    gaps = {high - low for low, high in pairwise(numbers)}
    if len(numbers) == len(choices) and len(gaps) == 1 and (gap := gaps.pop()) > 0:
        return IntDistribution(numbers[0], numbers[-1], step=gap)
    return CategoricalDistribution(choices)
