"""A whole search space at once: sums of any number of candidates by table look-up, with numpy.

A candidate of the space is four entries and four bodies. The analyzer measures each entry and
each body layer once, on each shape of map that can reach it; what a candidate costs and sees is
then read from tables and added up as `totals.add_up` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.network import FeatureMap
from archsearch.ops import Axis
from archsearch.resolve import image_of, resolve_run
from archsearch.space import BLOCKS, HEAD, LayerData, Space, body_layer, entry_layer, knob_choices
from archsearch.spec import Input, Output
from archsearch.totals import Run, measure

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Picks = Mapping[str, NDArray[Any]]
"""By knob, each candidate's choice as its index into `knob_choices`, (N,) integers."""

CHUNK = 16_384
"""Candidates looked up at a time: what they need stays in the processor's cache."""

_State = tuple[int, int]
"""(channels, cells a side) of a map between blocks; maps of this space are square."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Candidates' totals, each (N,), named as in `Totals`."""

    params: Integers
    macs: Integers
    receptive_field: Integers
    receptive_field_with_gap: Integers
    conv_blocks: Integers
    depthwise_separable: Booleans
    dilated: Booleans
    global_avg_pool: Booleans


@dataclass(frozen=True)
class BlockTable:
    """One block's sums.

    Attributes:
        entries: (states, widths, strides, entries, 5): params, macs, growth of the receptive
            field in jumps of the input, factor of the jump, state after it.
        bodies: (states after, bodies, dilations, 3): params, macs, growth in jumps after the
            entry, of one layer.
        depths: (depths,) layers in the body.
        entry_separable: (entries,) whether it is depthwise separable.
        body_separable, body_dilated: (bodies, dilations).
    """

    entries: Integers
    bodies: Integers
    depths: Integers
    entry_separable: Booleans
    body_separable: Booleans
    body_dilated: Booleans
    states_after: tuple[_State, ...]

    @cached_property
    def choices(self) -> tuple[int, ...]:
        """How many choices each knob has, in the order of `BlockSpace`'s fields."""
        _, widths, strides, entries, _ = self.entries.shape
        bodies, dilations = self.body_separable.shape
        return widths, strides, entries, bodies, len(self.depths), dilations


@dataclass(frozen=True)
class SpaceTable:
    """`blocks` in order; `heads`: (states after the last, 3): params, macs, growth."""

    space: Space
    blocks: tuple[BlockTable, ...]
    heads: Integers


def tabulate(space: Space) -> SpaceTable:
    """Measure every part of `space` on every map that can reach it."""
    image = image_of(Input())
    states: tuple[_State, ...] = ((image.channels, image.height.size),)
    blocks = []
    for name in BLOCKS:
        blocks.append(_block(space, name, states))
        states = blocks[-1].states_after
    heads = [_sums(_measure(HEAD, state)[0]) for state in states]
    return SpaceTable(space, tuple(blocks), np.array(heads, np.int64))


def _block(space: Space, name: str, states: tuple[_State, ...]) -> BlockTable:
    block = getattr(space, name)
    act = space.activation[0]  # an activation costs and sees nothing
    after: dict[_State, int] = {}
    shape = (len(states), len(block.width), len(block.stride), len(block.entry))
    entries = np.zeros((*shape, 5), np.int64)
    separable = np.zeros(len(block.entry), np.bool_)
    for index in np.ndindex(*shape):
        i, w, s, e = index
        layer = entry_layer(block.entry[e], block.width[w], block.stride[s], act)
        run, state = _measure([layer], states[i])
        number = after.setdefault(state, len(after))
        entries[index] = (*_sums(run), run.jump_h, number)
        separable[e] = run.depthwise_separable
    kinds = (len(block.body), len(block.dilation))
    bodies = np.zeros((len(after), *kinds, 3), np.int64)
    flags = np.zeros((2, *kinds), np.bool_)
    for (channels, size), i in after.items():
        for b, d in np.ndindex(*kinds):
            layer = body_layer(block.body[b], channels, block.dilation[d], act)
            run, _ = _measure([layer], (channels, size))
            bodies[i, b, d] = _sums(run)
            flags[:, b, d] = run.depthwise_separable, run.dilated
    depths = np.array(block.depth, np.int64)
    return BlockTable(entries, bodies, depths, separable, flags[0], flags[1], tuple(after))


def _measure(layers: list[LayerData], state: _State) -> tuple[Run, _State]:
    channels, size = state
    before = FeatureMap(channels, Axis(size), Axis(size))
    trunk, after = resolve_run(Output.model_validate({"layers": layers}).layers, before)
    return measure(trunk, before, after), (after.channels, after.height.size)


def _sums(run: Run) -> tuple[int, int, int]:
    return run.params, run.macs, run.growth_h


def look_up(table: SpaceTable, picks: Picks) -> Columns:
    """The totals of candidates, (N,) each."""
    count = len(next(iter(picks.values())))
    parts = [
        _look_up(table, {knob: pick[at : at + CHUNK] for knob, pick in picks.items()})
        for at in range(0, count, CHUNK)
    ]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    params, macs, rf, with_gap, separable, dilated = columns
    return Columns(
        params, macs, rf, with_gap, np.full(count, len(BLOCKS)), separable, dilated,
        np.ones(count, np.bool_),
    )  # fmt: skip


def _look_up(table: SpaceTable, picks: Picks) -> tuple[NDArray[Any], ...]:
    count = len(next(iter(picks.values())))
    state: Any = np.zeros(count, np.intp)
    params, macs = np.zeros(count, np.int64), np.zeros(count, np.int64)
    rf, jump = np.ones(count, np.int64), np.ones(count, np.int64)
    separable, dilated = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    for name, block in zip(BLOCKS, table.blocks, strict=True):
        width, stride, entry, body, depth, dilation = (
            picks[f"{name}.{knob}"]
            for knob in ("width", "stride", "entry", "body", "depth", "dilation")
        )
        widths, strides, entries, bodies, _, dilations = block.choices
        at = ((state * widths + width) * strides + stride) * entries + entry
        more_params, more_macs, growth, factor, state = _columns(block.entries, at)
        params += more_params
        macs += more_macs
        rf += growth * jump
        jump *= factor
        kind = body * dilations + dilation
        at = state * (bodies * dilations) + kind
        layers = block.depths.take(depth)
        more_params, more_macs, growth = _columns(block.bodies, at)
        params += layers * more_params
        macs += layers * more_macs
        rf += layers * growth * jump
        some = layers > 0
        separable |= block.entry_separable.take(entry) | (block.body_separable.take(kind) & some)
        dilated |= block.body_dilated.take(kind) & some
    more_params, more_macs, growth = _columns(table.heads, state)
    return params + more_params, macs + more_macs, rf, rf + growth * jump, separable, dilated


def _columns(table: Integers, at: Any) -> NDArray[Any]:
    """Rows `at` of a table whose last axis holds its columns, as columns."""
    columns: NDArray[Any] = table.reshape(-1, table.shape[-1]).take(at, axis=0).T
    return columns


def draw(space: Space, count: int, rng: np.random.Generator) -> dict[str, NDArray[np.intp]]:
    """`count` settings, each as likely as any other."""
    return {
        knob: rng.integers(len(choices), size=count, dtype=np.intp)
        for knob, choices in knob_choices(space).items()
    }
