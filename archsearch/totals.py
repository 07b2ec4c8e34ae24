"""What the limits are about: a network's sums and traits, added up run by run.

A run is some layers in a row. What it does to a map's receptive field does not depend on where
it stands, but for the jump of its input: r grows by `growth * jump`, the jump by a factor. So a
run is measured once and counts wherever the same layers meet a map of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from archsearch import ops
from archsearch.network import FeatureMap, Join, Network, Trunk, is_global_avg_pool, walk
from archsearch.ops import Pair


@dataclass(frozen=True, slots=True)
class Totals:
    """All that limits are held against.

    Attributes:
        receptive_field: (height, width) in pixels, of one cell of the last map before global
            pooling.
        receptive_field_with_gap: (height, width) in pixels, of the logits.
        macs: multiply-accumulates of convolutions and linear layers, for one image.
        conv_blocks: blocks that hold a convolution; the output is none.
        depthwise_separable: a depthwise convolution, kernel > 1, then a pointwise one.
        dilated: a convolution with dilation > 1 and kernel > 1.
        global_avg_pool: an average pool over the whole map.
    """

    params: int
    macs: int
    receptive_field: Pair
    receptive_field_with_gap: Pair
    conv_blocks: int
    depthwise_separable: bool
    dilated: bool
    global_avg_pool: bool


class Run(NamedTuple):
    """What some layers add, wherever they stand.

    Attributes:
        jump_h, jump_w: factors of the jump.
        growth_h, growth_w: of the receptive field, in jumps of the input.
        gate_h, gate_w: the growth up to the first global pool; None where there is none.
        conv: whether it holds a convolution.
        opens: ends in a depthwise convolution that a pointwise one may follow.
        closes: begins with a pointwise convolution that may follow a depthwise one.
        clear: holds norms, activations and dropout alone, so that both may stand around it.
    """

    params: int
    macs: int
    jump_h: int
    jump_w: int
    growth_h: int
    growth_w: int
    gate_h: int | None
    gate_w: int
    conv: bool
    dilated: bool
    global_avg_pool: bool
    depthwise_separable: bool
    opens: bool
    closes: bool
    clear: bool


def totals_of(network: Network) -> Totals:
    """The totals of a whole network."""
    at = network.image
    runs = []
    for section in network.sections:
        after = section[-1].after if section else at
        runs.append(measure(section, at, after))
        at = after
    return add_up(runs)


def measure(trunk: Trunk, before: FeatureMap, after: FeatureMap) -> Run:
    """What `trunk` adds between two maps, one of them its input."""
    nodes = list(walk(trunk))
    h, w = before.height, before.width
    gate = after.gate if before.gate is None else None
    separable = _separable(trunk)
    return Run(
        params=sum(ops.params(node.op) for node in nodes),
        macs=sum(ops.macs(node.op, node.after.cells) for node in nodes),
        jump_h=after.height.jump // h.jump,
        jump_w=after.width.jump // w.jump,
        growth_h=(after.height.rf - h.rf) // h.jump,
        growth_w=(after.width.rf - w.rf) // w.jump,
        gate_h=(gate[0] - h.rf) // h.jump if gate else None,
        gate_w=(gate[1] - w.rf) // w.jump if gate else 0,
        conv=any(isinstance(node.op, ops.Conv2d) for node in nodes),
        dilated=any(isinstance(node.op, ops.Conv2d) and _dilated(node.op) for node in nodes),
        global_avg_pool=any(is_global_avg_pool(node) for node in nodes),
        depthwise_separable=separable.inside,
        opens=separable.opens,
        closes=separable.closes,
        clear=separable.clear,
    )


def add_up(runs: Iterable[Run]) -> Totals:
    """The totals of runs in a row, from the image on; the last one is the output."""
    params = macs = conv_blocks = 0
    jump_h = jump_w = rf_h = rf_w = 1
    gate: Pair | None = None
    dilated = pooled = separable = opened = has_conv = False
    for (
        more_params, more_macs, factor_h, factor_w, growth_h, growth_w, gate_h, gate_w,
        has_conv, has_dilated, has_pool, has_separable, opens, closes, clear,
    ) in runs:  # fmt: skip
        params += more_params
        macs += more_macs
        if gate_h is not None and gate is None:
            gate = (rf_h + gate_h * jump_h, rf_w + gate_w * jump_w)
        rf_h += growth_h * jump_h
        rf_w += growth_w * jump_w
        jump_h *= factor_h
        jump_w *= factor_w
        conv_blocks += has_conv
        dilated |= has_dilated
        pooled |= has_pool
        separable |= has_separable or (opened and closes)
        opened = opens or (opened and clear)
    return Totals(
        params, macs, gate or (rf_h, rf_w), (rf_h, rf_w), conv_blocks - has_conv,
        separable, dilated, pooled,
    )  # fmt: skip


def _dilated(op: ops.Conv2d) -> bool:
    return any(d > 1 and k > 1 for d, k in zip(op.dilation, op.kernel_size, strict=True))


class _Separable(NamedTuple):
    inside: bool
    opens: bool
    closes: bool
    clear: bool


def _separable(trunk: Trunk) -> _Separable:
    """Two convolutions in a row, with nothing but norms, activations and dropout between."""
    inside = opens = False
    closes: bool | None = None
    for node in trunk:
        if isinstance(node, Join):
            inside = inside or any(_separable(branch).inside for branch in node.branches)
            opens, closes = False, closes or False
            continue
        op = node.op
        if isinstance(op, ops.Conv2d):
            pointwise = op.kernel_size == (1, 1) and op.groups == 1
            inside = inside or (opens and pointwise)
            closes = pointwise if closes is None else closes
            opens = op.groups == op.in_channels > 1 and max(op.kernel_size) > 1
        elif not isinstance(op, ops.BatchNorm | ops.GroupNorm | ops.Activation | ops.Dropout):
            opens, closes = False, closes or False
    return _Separable(inside, opens, closes or False, clear=closes is None)
