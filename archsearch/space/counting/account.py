"""How large a search space is, and how much of it keeps the limits.

Counted exactly wherever the space's halves can be listed (see `half_spaces`); else from a sample,
and then every share comes with its interval. Which choice of a knob helps is always from a sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.analysis.constraints import LIMIT_RULES, ActiveRules, Constraints, active_rules
from archsearch.common.interval import wilson
from archsearch.space.counting.half_spaces import Halves, TooLargeError, count, halve, quantiles
from archsearch.space.counting.lookup import Booleans, Columns, draw_many, look_up, tabulate
from archsearch.space.four_blocks import BLOCKS, Space, Value, knob_choices

SAMPLES = 400_000
FIGURES = ("params", "macs", "receptive_field")
ALL = "all limits"
FRACTIONS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_DROPS_TOLD = 3


@dataclass(frozen=True, slots=True)
class Proportion:
    """A proportion of some settings, with its interval.

    Attributes:
        fraction: of all.
        low, high: its 95% interval; both equal it where it was counted.
        count: settings; None where they were sampled.
    """

    fraction: float
    low: float
    high: float
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of a knob, and the share of its settings that keeps all limits."""

    knob: str
    value: Value
    feasible: Proportion


@dataclass(frozen=True, slots=True)
class Accounting:
    """A space held against limits.

    Attributes:
        settings: of all knobs.
        networks: settings, those that make no difference counted once: at most so many differ.
        knobs: that have a choice.
        limits: those that are on.
        alone: by limit, what keeps it.
        without: by limit, what keeps all others.
        feasible: what keeps all limits.
        quantiles: by figure of `FIGURES`, its values at `FRACTIONS` of the settings.
        choices: of every knob that has several, from `samples` settings.
        choices_of: what their shares keep: `ALL` limits, or, where no sample does, the limit
            that fewest keep.
    """

    settings: int
    networks: int
    knobs: int
    limits: Mapping[str, int]
    alone: Mapping[str, Proportion]
    without: Mapping[str, Proportion]
    feasible: Proportion
    quantiles: Mapping[str, tuple[int, ...]]
    choices: tuple[Choice, ...]
    choices_of: str
    samples: int

    @property
    def exact(self) -> bool:
        """Whether the shares (but for the choices') were counted."""
        return self.feasible.count is not None

    @property
    def hopeless(self) -> bool:
        """Whether it is certain that nothing keeps all limits."""
        return any(share.count == 0 for share in (self.feasible, *self.alone.values()))

    @property
    def drops(self) -> list[Choice]:
        """Choices without which a larger share would fit, those that gain most first."""
        gains = []
        for _, group in groupby(self.choices, key=lambda choice: choice.knob):
            shares = list(group)
            mean = sum(choice.feasible.fraction for choice in shares) / len(shares)
            rest = len(shares) - 1
            gains += [
                ((mean - choice.feasible.fraction) / rest, choice)
                for choice in shares
                if choice.feasible.high < mean
            ]
        return [choice for _, choice in sorted(gains, key=lambda gain: -gain[0])]


def account(space: Space, constraints: Constraints, *, seed: int = 0) -> Accounting:
    """Size up `space` under `constraints`."""
    table = tabulate(space)
    picks = draw_many(space, SAMPLES, np.random.default_rng(seed))
    columns = look_up(table, picks)
    rules = active_rules(constraints)
    try:
        halves = halve(table)
    except TooLargeError:
        halves = None

    def share(kept_rules: ActiveRules) -> Proportion:
        return _share(kept_rules, space, halves, columns)

    alone = {rule[0]: share([rule]) for rule in rules}
    kept, choices_of = keeps(columns, rules), ALL
    if not kept.any():
        choices_of = min(alone, key=lambda name: alone[name].fraction)
        kept = keeps(columns, [rule for rule in rules if rule[0] == choices_of])
    return Accounting(
        settings=_settings(space),
        networks=_networks(space),
        knobs=sum(len(choices) > 1 for choices in knob_choices(space).values()),
        limits={name: limit for name, limit, _ in rules},
        alone=alone,
        without={rule[0]: share([r for r in rules if r is not rule]) for rule in rules},
        feasible=share(rules),
        quantiles={figure: _quantiles(figure, halves, columns) for figure in FIGURES},
        choices=tuple(_choices(space, picks, kept)),
        choices_of=choices_of,
        samples=SAMPLES,
    )


def advice(accounting: Accounting) -> list[str]:
    """What would let more settings fit, in a sentence each."""
    told = []
    for name, share in accounting.alone.items():
        figure = LIMIT_RULES[name].field
        if share.fraction:
            continue
        counted = share.count is not None
        none = "no setting" if counted else f"none of {accounting.samples:,} drawn"
        if figure not in accounting.quantiles:
            told.append(f"{none} keeps {name}; relax it, or search near a spec that does (--from)")
        else:
            least, most = accounting.quantiles[figure][0], accounting.quantiles[figure][-1]
            told.append(
                f"{none} keeps {name} {accounting.limits[name]:,}: "
                f"{'the space reaches' if counted else 'they reach'} from {least:,} to {most:,}"
            )
    if accounting.without:
        costliest = max(accounting.without, key=lambda name: accounting.without[name].fraction)
        fraction = accounting.without[costliest].fraction
        if fraction > accounting.feasible.fraction:
            told.append(f"{costliest} costs most: {percent(fraction)} % keep all other limits")
    if drops := accounting.drops[:_DROPS_TOLD]:
        listed = ", ".join(f"{choice.knob} = {choice.value}" for choice in drops)
        told.append(f"to keep {accounting.choices_of}, dropping {listed} helps most")
    return told


def percent(fraction: float) -> str:
    """Three figures of a share."""
    return f"{100 * fraction:.3g}"


def keeps(columns: Columns, rules: ActiveRules) -> Booleans:
    """Which candidates, (N,), break none of `rules`."""
    kept = np.ones(len(columns.params), np.bool_)
    for _, limit, rule in rules:
        kept &= ~rule.breaks(getattr(columns, rule.field), limit)
    return kept


def estimate_proportion(hits: int, samples: int) -> Proportion:
    """Estimate a proportion from a sample, with its 95% interval (Wilson)."""
    low, high = wilson(hits, samples)
    return Proportion(hits / samples, low if hits else 0.0, high if hits < samples else 1.0)


def _share(rules: ActiveRules, space: Space, halves: Halves | None, columns: Columns) -> Proportion:
    if halves:
        limits = {name: limit for name, limit, _ in rules}
        with suppress(TooLargeError):
            kept = count(halves, limits) * len(space.activation)
            fraction = kept / _settings(space)
            return Proportion(fraction, fraction, fraction, kept)
    return estimate_proportion(int(keeps(columns, rules).sum()), SAMPLES)


def _quantiles(figure: str, halves: Halves | None, columns: Columns) -> tuple[int, ...]:
    if halves:
        return quantiles(halves, figure, FRACTIONS)
    return sample_quantiles(getattr(columns, figure))


def sample_quantiles(values: NDArray[np.int64]) -> tuple[int, ...]:
    """Return the quantiles at `FRACTIONS` of (N,) values."""
    return tuple(map(int, np.quantile(values, FRACTIONS, method="inverted_cdf")))


def _settings(space: Space) -> int:
    return math.prod(len(choices) for choices in knob_choices(space).values())


def _networks(space: Space) -> int:
    """An empty body has no kind and no dilation."""
    total = len(space.activation)
    for name in BLOCKS:
        block = getattr(space, name)
        entries = len(block.width) * len(block.stride) * len(block.entry)
        filled = len(block.depth) - (0 in block.depth)
        bodies = filled * len(block.body) * len(block.dilation) + (0 in block.depth)
        total *= entries * bodies
    return total


def _choices(space: Space, picks: Mapping[str, NDArray[Any]], kept: Booleans) -> Sequence[Choice]:
    found = []
    for knob, values in knob_choices(space).items():
        if len(values) == 1:
            continue
        drawn = np.bincount(picks[knob], minlength=len(values))
        hits = np.bincount(picks[knob], kept, len(values))
        found += [
            Choice(knob, value, estimate_proportion(int(hits[i]), max(1, int(drawn[i]))))
            for i, value in enumerate(values)
        ]
    return found
