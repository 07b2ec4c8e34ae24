"""A whole search space at once: sums of any number of candidates by table look-up, with numpy.

A candidate of the space is four entries and four bodies. The analyzer measures each entry and
each body layer once, between every two widths that can meet; what a candidate costs and sees is
then read from tables and added up as `totals.add_up` does. Every layer of the space works on the
map that it leaves, so its multiply-accumulates grow with that map's cells, and nothing else with
its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.analysis.totals import Segment, measure
from archsearch.space import four_blocks
from archsearch.space.four_blocks import BLOCKS, BlockSpace, LayerData, Space, knob_choices
from archsearch.spec.models import Input, Output
from archsearch.spec.network import FeatureMap
from archsearch.spec.receptive_field import Axis
from archsearch.spec.resolve import image_of, resolve_run

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Picks = Mapping[str, NDArray[Any]]
"""By knob, each candidate's choice as its index into `knob_choices`, (N,) integers."""

CHUNK = 16_384
"""Candidates looked up at a time: what they need stays in the processor's cache."""


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
    no_pooling: Booleans
    strided_dilated: Booleans


@dataclass(frozen=True)
class BlockTable:
    """One block's sums.

    Attributes:
        entries: (widths before, widths, entries, 3): parameters, multiply-accumulates a cell,
            growth of the receptive field in jumps of the input.
        bodies: (widths, bodies, dilations, 3): the same of one layer, in jumps after the entry.
        strides: (strides,); depths: (depths,), layers in the body.
        entry_separable: (entries,) whether it is depthwise separable.
        body_separable, body_dilated: (bodies, dilations).
    """

    entries: Integers
    bodies: Integers
    strides: Integers
    depths: Integers
    entry_separable: Booleans
    body_separable: Booleans
    body_dilated: Booleans

    @property
    def choices(self) -> tuple[int, ...]:
        """How many choices each knob has, in the order of `BlockSpace`'s fields."""
        _, widths, entries, _ = self.entries.shape
        bodies, dilations = self.body_separable.shape
        return widths, len(self.strides), entries, bodies, len(self.depths), dilations


@dataclass(frozen=True)
class SpaceTable:
    """Blocks in order.

    Attributes:
        image: cells a side; maps of this space are square.
        heads: (last widths, 2): the output's parameters and multiply-accumulates.
    """

    image: int
    blocks: tuple[BlockTable, ...]
    heads: Integers


def tabulate(space: Space) -> SpaceTable:
    """Measure every part of `space` between all widths that can meet."""
    image = image_of(Input())
    before: tuple[int, ...] = (image.channels,)
    blocks = []
    for name in BLOCKS:
        block = getattr(space, name)
        blocks.append(_block(block, before, space.activation[0]))
        before = block.width
    heads = [_measure(four_blocks.HEAD, width)[:2] for width in before]
    return SpaceTable(image.height.size, tuple(blocks), np.array(heads, np.int64))


def _block(block: BlockSpace, before: tuple[int, ...], activation: str) -> BlockTable:
    # Which activation it is costs and sees nothing; nor does the stride, but for the map's size.
    entries = np.zeros((len(before), len(block.width), len(block.entry), 3), np.int64)
    separable = np.zeros(len(block.entry), np.bool_)
    for i, w, e in np.ndindex(*entries.shape[:3]):
        layer = four_blocks.conv_layer(block.entry[e], block.width[w], activation)
        run = _measure([layer], before[i])
        entries[i, w, e] = run.params, run.macs, run.growth_h
        separable[e] = run.depthwise_separable
    bodies = np.zeros((len(block.width), len(block.body), len(block.dilation), 3), np.int64)
    flags = np.zeros((2, len(block.body), len(block.dilation)), np.bool_)
    for w, b, d in np.ndindex(*bodies.shape[:3]):
        width = block.width[w]
        layer = four_blocks.body_layer(block.body[b], width, block.dilation[d], activation)
        run = _measure([layer], width)
        bodies[w, b, d] = run.params, run.macs, run.growth_h
        flags[:, b, d] = run.depthwise_separable, run.dilated
    strides, depths = np.array(block.stride, np.int64), np.array(block.depth, np.int64)
    return BlockTable(entries, bodies, strides, depths, separable, flags[0], flags[1])


def _measure(layers: list[LayerData], channels: int) -> Segment:
    """What layers add to a map of one cell."""
    before = FeatureMap(channels, Axis(1), Axis(1))
    trunk, after = resolve_run(Output.model_validate({"layers": layers}).layers, before)
    return measure(trunk, before, after)


def look_up(table: SpaceTable, picks: Picks) -> Columns:
    """The totals of candidates, (N,) each."""
    count = len(next(iter(picks.values())))
    parts = [
        _look_up(table, {knob: pick[at : at + CHUNK] for knob, pick in picks.items()})
        for at in range(0, count, CHUNK)
    ]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    params, macs, rf, with_gap, separable, dilated = columns
    every, none = np.ones(count, np.bool_), np.zeros(count, np.bool_)
    return Columns(
        params, macs, rf, with_gap, np.full(count, len(BLOCKS)), separable, dilated,
        global_avg_pool=every, no_pooling=every, strided_dilated=none,
    )  # fmt: skip


def _look_up(table: SpaceTable, picks: Picks) -> tuple[NDArray[Any], ...]:
    count = len(next(iter(picks.values())))
    before: Any = 0
    size = np.full(count, table.image, np.int64)
    params, macs = np.zeros(count, np.int64), np.zeros(count, np.int64)
    rf, jump = np.ones(count, np.int64), np.ones(count, np.int64)
    separable, dilated = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    for name, block in zip(BLOCKS, table.blocks, strict=True):
        width, stride, entry, body, depth, dilation = (
            picks[f"{name}.{knob}"] for knob in BlockSpace.model_fields
        )
        widths, _, entries, bodies, _, dilations = block.choices
        more_params, a_cell, growth = _rows(
            block.entries, (before * widths + width) * entries + entry
        )
        kind = body * dilations + dilation
        body_params, body_a_cell, body_growth = _rows(
            block.bodies, width * (bodies * dilations) + kind
        )
        steps, layers = block.strides.take(stride), block.depths.take(depth)
        size = -(-size // steps)
        params += more_params + layers * body_params
        macs += (a_cell + layers * body_a_cell) * (size * size)
        rf += growth * jump
        jump *= steps
        rf += layers * body_growth * jump
        some = layers > 0
        separable |= block.entry_separable.take(entry) | (block.body_separable.take(kind) & some)
        dilated |= block.body_dilated.take(kind) & some
        before = width
    more_params, more_macs = _rows(table.heads, before)
    # The output pools first: r + (n - 1) * j.
    with_gap = rf + (size - 1) * jump
    return params + more_params, macs + more_macs, rf, with_gap, separable, dilated


def _rows(table: Integers, at: Any) -> NDArray[Any]:
    """Rows `at` of a table whose last axis holds its columns, as columns."""
    columns: NDArray[Any] = table.reshape(-1, table.shape[-1]).take(at, axis=0).T
    return columns


def draw_many(space: Space, count: int, rng: np.random.Generator) -> dict[str, NDArray[np.intp]]:
    """Draw `count` settings, each as likely as any other."""
    return {
        knob: rng.integers(len(choices), size=count, dtype=np.intp)
        for knob, choices in knob_choices(space).items()
    }
