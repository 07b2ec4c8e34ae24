"""What the limits are about: a network's sums and traits, added up segment by segment.

A segment is some layers in a row. What it does to a map's receptive field does not depend on where
it stands, but for the jump of its input: r grows by `growth * jump`, the jump by a factor. So a
segment is measured once and counts wherever the same layers meet a map of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from archsearch.spec import ops, params_and_macs
from archsearch.spec.network import FeatureMap, Join, Network, Trunk, is_global_avg_pool, walk
from archsearch.spec.ops import Pair


class Totals(NamedTuple):
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
        no_pooling: no pool but such a one.
        strided_dilated: a convolution with stride > 1, dilation > 1 and kernel > 1 on one axis.
    """

    params: int
    macs: int
    receptive_field: Pair
    receptive_field_with_gap: Pair
    conv_blocks: int
    depthwise_separable: bool
    dilated: bool
    global_avg_pool: bool
    no_pooling: bool
    strided_dilated: bool


class Segment(NamedTuple):
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
    gate_w: int | None
    conv: bool
    dilated: bool
    global_avg_pool: bool
    no_pooling: bool
    strided_dilated: bool
    depthwise_separable: bool
    opens: bool
    closes: bool
    clear: bool


def totals_of(network: Network) -> Totals:
    """The totals of a whole network."""
    at = network.image
    segments = []
    for section in network.sections:
        after = section[-1].after if section else at
        segments.append(measure(section, at, after))
        at = after
    return add_up(segments)


def measure(trunk: Trunk, before: FeatureMap, after: FeatureMap) -> Segment:
    """What `trunk` adds between two maps, one of them its input."""
    params = macs = 0
    conv = dilated = pooled = strided = False
    no_pooling = True
    for node in walk(trunk):
        op = node.op
        params += params_and_macs.params(op)
        macs += params_and_macs.macs(op, node.after.cells)
        if isinstance(op, ops.Conv2d):
            conv = True
            dilated = dilated or _dilated(op)
            strided = strided or _dilated(op, min_stride=2)
        elif is_global_avg_pool(node):
            pooled = True
        elif isinstance(op, ops.Pool2d):
            no_pooling = False
    h, w = before.height, before.width
    gate = after.gate if before.gate is None else None
    return Segment(
        params,
        macs,
        after.height.jump // h.jump,
        after.width.jump // w.jump,
        (after.height.rf - h.rf) // h.jump,
        (after.width.rf - w.rf) // w.jump,
        (gate[0] - h.rf) // h.jump if gate else None,
        (gate[1] - w.rf) // w.jump if gate else None,
        conv,
        dilated,
        pooled,
        no_pooling,
        strided,
        *_separable(trunk),
    )


def concatenated(segments: Iterable[Segment]) -> Segment:
    """Join segments in a row into one."""
    params = macs = growth_h = growth_w = 0
    jump_h = jump_w = 1
    gate_h = gate_w = None
    conv = dilated = pooled = strided = separable = opened = closed = False
    no_pooling = clear = True
    for (
        more_params, more_macs, factor_h, factor_w, more_h, more_w, to_gate_h, to_gate_w,
        has_conv, has_dilated, has_pool, is_poolless, has_strided,
        has_separable, opens, closes, is_clear,
    ) in segments:  # fmt: skip
        params += more_params
        macs += more_macs
        if gate_h is None and to_gate_h is not None and to_gate_w is not None:
            gate_h = growth_h + to_gate_h * jump_h
            gate_w = growth_w + to_gate_w * jump_w
        growth_h += more_h * jump_h
        growth_w += more_w * jump_w
        jump_h *= factor_h
        jump_w *= factor_w
        conv |= has_conv
        dilated |= has_dilated
        pooled |= has_pool
        no_pooling &= is_poolless
        strided |= has_strided
        separable |= has_separable or (opened and closes)
        opened = opens or (opened and is_clear)
        closed |= clear and closes
        clear &= is_clear
    return Segment(
        params, macs, jump_h, jump_w, growth_h, growth_w, gate_h, gate_w,
        conv, dilated, pooled, no_pooling, strided, separable, opened, closed, clear,
    )  # fmt: skip


def add_up(sections: Sequence[Segment]) -> Totals:
    """The totals of a network's blocks and, last, its output."""
    (
        params, macs, _, _, growth_h, growth_w, gate_h, gate_w,
        _, dilated, pooled, no_pooling, strided, separable, _, _, _,
    ) = concatenated(sections)  # fmt: skip
    with_gap = (1 + growth_h, 1 + growth_w)
    gate = with_gap if gate_h is None or gate_w is None else (1 + gate_h, 1 + gate_w)
    blocks = sum([section.conv for section in sections]) - sections[-1].conv
    return Totals(
        params, macs, gate, with_gap, blocks, separable, dilated, pooled, no_pooling, strided
    )


def _dilated(op: ops.Conv2d, min_stride: int = 1) -> bool:
    axes = zip(op.dilation, op.kernel_size, op.stride, strict=True)
    return any(d > 1 and k > 1 and s >= min_stride for d, k, s in axes)


def _separable(trunk: Trunk) -> tuple[bool, bool, bool, bool]:
    """A segment's `depthwise_separable`, `opens`, `closes` and `clear`."""
    inside = opens = False
    closes: bool | None = None
    for node in trunk:
        if isinstance(node, Join):
            inside = inside or any(_separable(branch)[0] for branch in node.branches)
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
    return inside, opens, closes or False, closes is None
