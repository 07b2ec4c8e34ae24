"""Rules on single convolutions and pools: stride, padding, dilation and downsampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count

from archsearch.analysis.analyze import Analysis
from archsearch.analysis.layer_table import LayerRow
from archsearch.diagnosis.apply_mend import layer_at
from archsearch.diagnosis.findings import Edit, Finding
from archsearch.diagnosis.paths import projections
from archsearch.space.edits.apply import strided_kernel
from archsearch.spec import models as s
from archsearch.spec import ops
from archsearch.spec.formatting import axes_text, shape_text
from archsearch.spec.network import Node

MOSTLY_PADDING = 0.5
"""A kernel meets mostly padding where fewer of its taps fall inside of the map."""
EARLY_JUMP = 4
"""Pixels between cells after two convolutions, from which on that is early."""


def skipped_cells(analysis: Analysis) -> Iterator[Finding]:
    """A stride that passes over cells: a kernel narrower than it, or dilated by it."""
    carried = set(map(id, projections(analysis.network.trunk)))
    for node in analysis.network.nodes():
        op = node.op
        if not isinstance(op, ops.Conv2d | ops.Pool2d) or id(node) in carried:
            continue
        dilation = op.dilation if isinstance(op, ops.Conv2d) else (1, 1)
        axes = zip(op.kernel_size, op.stride, dilation, node.after.size, strict=True)
        # Of the cells under all of its positions: one position passes over none.
        read = math.prod(
            len({tap * d % s for tap in range(min(k, s))}) / s if cells > 1 else 1.0
            for k, s, d, cells in axes
        )
        if read == 1:
            continue
        kind = f"{shape_text(op.kernel_size)} stride {axes_text(op.stride)}"
        dilated = f" dilation {axes_text(dilation)}" if max(dilation) > 1 else ""
        yield Finding(
            "skipped-cells",
            node.place,
            f"{kind}{dilated} reads {read:.0%} of the {shape_text(node.before.size)} map's cells: "
            f"{1 - read:.0%} of what was computed before it is thrown away unread",
            "a kernel at least as wide as the stride, whose dilation shares no factor with it",
            _reading_all(analysis, node, op),
        )


def _reading_all(analysis: Analysis, node: Node, op: ops.Conv2d | ops.Pool2d) -> Edit | None:
    layer = layer_at(analysis.spec, node.place)
    if not isinstance(layer, s.Convolution) or not isinstance(op, ops.Conv2d):
        return None
    if node.role not in ("conv", "depthwise"):
        return None
    narrow = any(k < s for k, s in zip(op.kernel_size, op.stride, strict=True))
    size = strided_kernel(layer) if narrow else layer.kernel_size
    dilation = _dilation_reading_all(op, ops.pair(size), node.before.size)
    fields = {"kernel_size": size, "dilation": dilation, "padding": "same"}
    return {node.place: fields, **_global_pools(analysis)}


def _dilation_reading_all(op: ops.Conv2d, kernel: ops.Pair, map_size: ops.Pair) -> s.SizePair:
    """The least dilation of the layer's or more under which its stride passes over no cell.

    Taps that are a multiple of the dilation apart fall on all cells if it shares no factor with
    the stride. 1 where it dilates nothing, or a wider one would mostly meet padding.
    """
    axes = zip(op.kernel_size, op.dilation, op.stride, strict=True)
    height, width = (
        next(d for d in count(at) if math.gcd(d, step) == 1) if taps > 1 else 1
        for taps, at, step in axes
    )
    padding = ops.conv_padding("same", kernel, (height, width))
    wide = op._replace(kernel_size=kernel, padding=padding, dilation=(height, width))
    rows, columns = (-(-cells // step) for cells, step in zip(map_size, op.stride, strict=True))
    if inside_share(wide, map_size, (rows, columns)) < MOSTLY_PADDING:
        return 1
    return height if height == width else (height, width)


def _global_pools(analysis: Analysis) -> Edit:
    """Pools that cover their map by its size, as pools that cover a map of any size."""
    return {
        row.place: {"op": "global_avg_pool"}
        for row in analysis.rows
        if row.op == "avg_pool" and row.after.gate is not None and row.before.gate is None
    }


def padded_pointwise(analysis: Analysis) -> Iterator[Finding]:
    """Padding around a 1x1 kernel: a ring of cells that see nothing."""
    for row in analysis.rows:
        op = row.window
        if not isinstance(op, ops.Conv2d) or op.kernel_size != (1, 1):
            continue
        if not any(side for pair in op.padding for side in pair):
            continue
        seen = row.seen
        blind = (
            f"{seen.blind_cells} of the {row.after.cells} cells after it see no image pixel"
            if seen
            else f"the map grows from {shape_text(row.before.size)} to {shape_text(row.after.size)}"
        )
        field = "pointwise_padding" if row.op == "pointwise" else "padding"
        yield Finding(
            "padded-pointwise",
            row.place,
            f"a 1x1 kernel with padding: {blind}, and they count in every norm and pool after it",
            "no padding: a 1x1 kernel needs none",
            {row.place: {field: 0}},
        )


def padding_kernel(analysis: Analysis) -> Iterator[Finding]:
    """Kernels that mostly meet padding, as the map has become too small for them."""
    strided: LayerRow | None = None
    for row in analysis.rows:
        op = row.window
        if op and max(op.stride) > 1 and _is_plain(row):
            strided = row
        if not isinstance(op, ops.Conv2d) or max(op.kernel_size) == 1 or row.before.cells == 1:
            continue
        inside = inside_share(op, row.before.size, row.after.size)
        if inside >= MOSTLY_PADDING:
            continue
        span = shape_text(ops.spans(op.kernel_size, op.dilation))
        yield Finding(
            "padding-kernel",
            row.place,
            f"a {shape_text(op.kernel_size)} kernel that spans {span} on a "
            f"{shape_text(row.before.size)} map: {1 - inside:.0%} of its taps fall on padding",
            "one stride fewer before it, or a smaller dilation",
            _roomier(row, op, strided, analysis),
        )


def inside_share(op: ops.Conv2d, before: ops.Pair, after: ops.Pair) -> float:
    """The share of a kernel's taps that fall inside of the map, over all of its positions.

    Args:
        op: the convolution.
        before: cells (height, width) that it meets.
        after: cells (height, width) that it leaves.
    """
    share = 1.0
    axes = zip(op.kernel_size, op.stride, op.padding, op.dilation, before, after, strict=True)
    for kernel, stride, pads, dilation, size, cells in axes:
        offsets = (tap * dilation - pads[0] for tap in range(kernel))
        share *= sum(_inside(size, cells, stride, at) for at in offsets) / (cells * kernel)
    return share


def _inside(size: int, cells: int, stride: int, offset: int) -> int:
    """How many of the cells i have 0 <= i * stride + offset < size."""
    first, last = max(0, -(offset // stride)), min(cells - 1, (size - 1 - offset) // stride)
    return max(0, last - first + 1)


def _is_plain(row: LayerRow) -> bool:
    """Whether a layer stands in a block, not in a branch."""
    return row.place.count(".") == 3 and row.place.startswith("blocks.")


def _roomier(
    row: LayerRow, op: ops.Conv2d, strided: LayerRow | None, analysis: Analysis
) -> Edit | None:
    if max(op.dilation) > 1 and max(op.stride) == 1:
        wide = {"dilation": 1, "padding": "same"}
        others = (each.window for each in analysis.rows if each is not row)
        convs = (window for window in others if isinstance(window, ops.Conv2d))
        # A brief may ask for a dilated kernel: the last one stays.
        spare = any(max(each.dilation) > 1 < max(each.kernel_size) for each in convs)
        return {row.place: wide, **_global_pools(analysis)} if spare else None
    if not strided or not isinstance(strided.window, ops.Conv2d):
        return None
    stride = [max(1, each // 2) for each in strided.window.stride]
    fields = {"stride": stride[0] if stride[0] == stride[1] else stride, "padding": "same"}
    return {strided.place: fields, **_global_pools(analysis)}


def idle_dilation(analysis: Analysis) -> Iterator[Finding]:
    """Dilation of a kernel that has but one tap."""
    for node in analysis.network.nodes():
        op = node.op
        if isinstance(op, ops.Conv2d) and op.kernel_size == (1, 1) and max(op.dilation) > 1:
            yield Finding(
                "idle-dilation",
                node.place,
                f"dilation {axes_text(op.dilation)} of a 1x1 kernel does nothing: the receptive "
                "field stays as it is",
                "dilate a wider kernel",
            )


def depthwise_on_image(analysis: Analysis) -> Iterator[Finding]:
    """The first convolution looks at each colour by itself."""
    for node in analysis.network.nodes():
        op = node.op
        if isinstance(op, ops.Conv2d):
            if node.before.rf == (1, 1) and op.groups == op.in_channels > 1:
                yield Finding(
                    "depthwise-on-image",
                    node.place,
                    f"a depthwise {shape_text(op.kernel_size)} on the image: "
                    f"{op.out_channels // op.in_channels} filter a colour, "
                    f"{op.out_channels} in all, and no edge between colours is seen",
                    "a full convolution first",
                    {node.place: {"op": "conv", "groups": 1}} if node.role == "depthwise" else None,
                )
            return


def downsampling(analysis: Analysis) -> Iterator[Finding]:
    """A map that is made small before anything was seen in it, or not at all."""
    wide = [
        row
        for row in analysis.rows
        if isinstance(row.window, ops.Conv2d)
        and max(row.window.kernel_size) > 1
        and row.op != "shortcut"
        and row.before.gate is None
    ]
    if not wide:
        return
    second = wide[:2][-1]
    if len(wide) > 2 and min(second.after.jump) >= EARLY_JUMP:
        yield Finding(
            "early-downsampling",
            second.place,
            f"after two convolutions the map is down to {shape_text(second.after.size)}, "
            f"{axes_text(second.after.jump)} pixels a cell, and {len(wide) - 2} follow",
            "stride later",
        )
    last = wide[-1]
    sides = zip(last.after.size, analysis.network.image.size, strict=True)
    if all(2 * cells > pixels for cells, pixels in sides):
        yield Finding(
            "late-downsampling",
            last.place,
            f"the last convolution still works on {shape_text(last.after.size)} cells: each layer "
            f"adds {max(last.after.jump)} pixels a tap to the receptive field and costs "
            f"{last.macs / max(1, analysis.macs):.0%} of all MACs",
            "stride between blocks",
        )
