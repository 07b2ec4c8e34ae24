"""The settings of a search space as pairs of halves, so that billions of them can be counted.

A half is two blocks. Equal settings of a block are listed once, with their number (its weight).
Two halves that meet at the same map make a network; it keeps a limit where their sums do.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.space.counting.lookup import BlockTable, Integers, SpaceTable
from archsearch.space.four_blocks import BLOCKS
from archsearch.spec.models import MAX_PIXELS

MAX_LISTED = 6_000_000
"""Rows: the settings of one block on every map before it, and all halves together."""
MAX_CELLS = 2_000_000
"""Of the histogram that one count takes; an account takes hundreds, in seconds."""
MAX_SETTINGS = 1 << 53
"""Counts are held in float64, which is exact up to here."""
_UNLIMITED = 1 << 60
_SIDE = MAX_PIXELS + 1


class TooLargeError(Exception):
    """The halves are too many to list."""


@dataclass(frozen=True)
class _Half:
    """Some blocks' settings on one map, (n,) each.

    Attributes:
        growth: of the receptive field, in jumps of the map before them.
        factor: of the jump.
        state: of the map after them.
        traits: bit 0: depthwise separable, bit 1: dilated.
        weight: settings that are alike.
    """

    params: Integers
    macs: Integers
    growth: Integers
    factor: Integers
    state: Integers
    traits: Integers
    weight: Integers

    def __len__(self) -> int:
        return len(self.params)

    def where(self, rows: NDArray[Any]) -> _Half:
        return _Half(*(getattr(self, field.name)[rows] for field in fields(self)))


SEPARABLE, DILATED = 1, 2


@dataclass(frozen=True)
class Halves:
    """`first`: blocks 1 and 2; `second`: blocks 3, 4 and the output, by the map between."""

    first: _Half
    second: Mapping[int, _Half]

    @property
    def pairs(self) -> list[tuple[_Half, _Half]]:
        """The first halves that end in each map, and the second ones that begin there."""
        return [
            (self.first.where(self.first.state == state), half)
            for state, half in self.second.items()
        ]


def halve(table: SpaceTable) -> Halves:
    """List both halves of a space.

    Raises:
        TooLargeError: there are too many.
    """
    if math.prod(n for block in table.blocks for n in block.choices) > MAX_SETTINGS:
        raise TooLargeError
    states = [_state(0, table.image)]
    stages: list[dict[int, _Half]] = []
    for block in table.blocks:
        if len(states) * math.prod(block.choices) > MAX_LISTED:
            raise TooLargeError
        stages.append({state: _settings(block, state) for state in states})
        states = sorted({after for half in stages[-1].values() for after in half.state.tolist()})
    one, two, three, four = stages
    ends = {state: _with_head(half, table) for state, half in four.items()}
    start = one[_state(0, table.image)]
    if _chained(start, two) + sum(_chained(half, ends) for half in three.values()) > MAX_LISTED:
        raise TooLargeError
    return Halves(_chain(start, two), {state: _chain(half, ends) for state, half in three.items()})


def _state(width: Any, size: Any) -> Any:
    """A map between blocks as a number: which of the block's widths, and its cells a side."""
    return width * _SIDE + size


def _settings(block: BlockTable, state: int) -> _Half:
    """Every setting of a block on one map."""
    width_before, size = divmod(state, _SIDE)
    width, stride, entry, body, depth, dilation = (
        index.ravel() for index in np.indices(block.choices)
    )
    steps, layers = block.strides[stride], block.depths[depth]
    after = -(-size // steps)
    of_entry = block.entries[width_before, width, entry]
    of_body = layers[:, None] * block.bodies[width, body, dilation]
    some = layers > 0
    separable = block.entry_separable[entry] | (block.body_separable[body, dilation] & some)
    dilated = block.body_dilated[body, dilation] & some
    rows = np.stack(
        [
            of_entry[:, 0] + of_body[:, 0],
            (of_entry[:, 1] + of_body[:, 1]) * after * after,
            of_entry[:, 2] + of_body[:, 2] * steps,
            steps,
            _state(width, after),
            SEPARABLE * separable + DILATED * dilated,
        ],
        axis=1,
    )
    rows, weight = np.unique(rows, axis=0, return_counts=True)
    params, macs, growth, factor, states, traits = rows.T
    return _Half(params, macs, growth, factor, states, traits, weight)


def _chained(before: _Half, after: Mapping[int, _Half]) -> int:
    """How many rows `_chain` makes."""
    return sum(len(after[state]) for state in before.state.tolist())


def _chain(before: _Half, after: Mapping[int, _Half]) -> _Half:
    """Every setting of `before` with every one that can follow it."""
    parts = [
        _pairs(before.where(before.state == state), following) for state, following in after.items()
    ]
    return _Half(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(_Half)))


def _pairs(a: _Half, b: _Half) -> _Half:
    def outer(operation: np.ufunc, x: Integers, y: Integers) -> Integers:
        result: Integers = operation.outer(x, y).ravel()
        return result

    ones = np.ones(len(a), np.int64)
    return _Half(
        params=outer(np.add, a.params, b.params),
        macs=outer(np.add, a.macs, b.macs),
        growth=np.repeat(a.growth, len(b)) + outer(np.multiply, a.factor, b.growth),
        factor=outer(np.multiply, a.factor, b.factor),
        state=outer(np.multiply, ones, b.state),
        traits=outer(np.bitwise_or, a.traits, b.traits),
        weight=outer(np.multiply, a.weight, b.weight),
    )


def _with_head(half: _Half, table: SpaceTable) -> _Half:
    """The output's parameters and MACs added; it pools, so its growth is not the limit's."""
    head = table.heads[half.state // _SIDE]
    return replace(half, params=half.params + head[:, 0], macs=half.macs + head[:, 1])


def count(halves: Halves, limits: Mapping[str, int]) -> int:
    """Settings that keep all `limits`.

    Raises:
        TooLargeError: the limits tell too many first halves apart.
    """
    if limits.get("conv_blocks", len(BLOCKS)) != len(BLOCKS):
        return 0  # every block's entry is a convolution
    if limits.get("strided_dilated"):
        return 0  # entries stride, and only bodies are dilated
    return sum(_count(first, second, limits) for first, second in halves.pairs if len(first))


def _count(first: _Half, second: _Half, limits: Mapping[str, int]) -> int:
    """By a cumulative histogram of the second halves over what the first ones leave to them."""
    params, params_at = _leaves(limits.get("max_params"), first.params)
    macs, macs_at = _leaves(limits.get("max_macs"), first.macs)
    needed = limits.get("min_receptive_field", 0)
    # rf = 1 + growth: the second half's growth is in jumps after the first.
    lacking = -((1 + first.growth - needed) // first.factor)
    growth, growth_at = np.unique(lacking, return_inverse=True)
    shape = (len(params) + 1, len(macs) + 1, len(growth) + 1, 4)
    if math.prod(shape) > MAX_CELLS:
        raise TooLargeError
    cell = np.ravel_multi_index(
        (
            np.searchsorted(params, second.params),
            np.searchsorted(macs, second.macs),
            np.searchsorted(growth, second.growth, side="right"),
            second.traits,
        ),
        shape,
    )
    histogram = np.bincount(cell, second.weight, math.prod(shape)).reshape(shape)
    within = histogram.cumsum(axis=0).cumsum(axis=1)[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    wanted = SEPARABLE * bool(limits.get("depthwise_separable"))
    wanted += DILATED * bool(limits.get("dilated"))
    missing = wanted & ~first.traits
    found = np.zeros(len(first), np.float64)
    for traits in range(4):
        fits = (missing & ~traits) == 0
        found += np.where(fits, within[params_at, macs_at, growth_at + 1, traits], 0)
    return int(found @ first.weight)


def _leaves(limit: int | None, used: Integers) -> tuple[Integers, NDArray[np.intp]]:
    """What a limit leaves after what is used: the different amounts, and which is whose."""
    left = np.full(len(used), _UNLIMITED) if limit is None else limit - used
    amounts, index = np.unique(left, return_inverse=True)
    return amounts, index


def quantiles(halves: Halves, figure: str, fractions: Sequence[float]) -> tuple[int, ...]:
    """The least values of `params`, `macs` or `receptive_field` that so many settings keep to.

    Fraction 0 is the least value there is, 1 the largest.
    """
    sums = [_Sums.of(first, second, figure) for first, second in halves.pairs if len(first)]
    low, high = min(each.low for each in sums), max(each.high for each in sums)
    total = sum(each.up_to(high) for each in sums)
    return tuple(
        bisect_left(
            range(low, high),
            max(1, math.ceil(f * total)),
            key=lambda x: sum(each.up_to(x) for each in sums),
        )
        + low
        for f in fractions
    )


@dataclass(frozen=True)
class _Sums:
    """A figure of first and second halves: base + scale * second, counted by its size.

    Attributes:
        second: (n,) in order; `below`: (n + 1,) settings before each.
    """

    base: Integers
    scale: Integers
    weight: Integers
    second: Integers
    below: NDArray[np.float64]

    @staticmethod
    def of(first: _Half, second: _Half, figure: str) -> _Sums:
        if figure == "receptive_field":
            base, scale, values = 1 + first.growth, first.factor, second.growth
        else:
            base, values = getattr(first, figure), getattr(second, figure)
            scale = np.ones_like(base)
        order = np.argsort(values)
        below = np.concatenate([[0.0], np.cumsum(second.weight[order], dtype=np.float64)])
        return _Sums(base, scale, first.weight, values[order], below)

    @property
    def low(self) -> int:
        return int((self.base + self.scale * self.second[0]).min())

    @property
    def high(self) -> int:
        return int((self.base + self.scale * self.second[-1]).max())

    def up_to(self, value: int) -> int:
        """Settings whose figure is at most `value`."""
        at = np.searchsorted(self.second, (value - self.base) // self.scale, side="right")
        return int(self.below[at] @ self.weight)
