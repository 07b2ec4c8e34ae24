"""What no limit forbids and the author of a network should know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from archsearch.analysis.layer_table import LayerRow
from archsearch.analysis.pixel_coverage import Seen, Sights
from archsearch.spec import ops
from archsearch.spec.network import Join, Network, Node, Trunk, is_global_avg_pool

_BRANCH = re.compile(r"\.(body|branches)\.")


class SpecWarning(NamedTuple):
    """Something to know of a network.

    Attributes:
        code: what it is, in a word or two.
        place: the layer, as in the spec; empty for the network as a whole.
        message: one sentence: what is so, why it matters, what to do.
    """

    code: str
    place: str
    message: str


def spec_warnings(
    network: Network, rows: Sequence[LayerRow], sights: Sights | None
) -> Iterator[SpecWarning]:
    """All there is to know, in the order of the layers by kind."""
    yield from _misaligned(network.trunk)
    yield from islice(_on_single_cells(network.trunk, None), 1)
    yield from _blind_cells(rows)
    yield from _dead_weights(rows)
    if sights:
        yield from _gridding(rows, sights.gate)
    yield from _unproductive(rows)
    yield from _off_centre(rows)
    if sights is None:
        height, width = network.image.size
        yield SpecWarning(
            "not-followed",
            "",
            f"{height}x{width} pixels through these layers are too many to follow one by one: "
            "blind cells, dead weights, clipped fields and gridding are not told",
        )


def _misaligned(trunk: Trunk) -> Iterator[SpecWarning]:
    for node in trunk:
        if not isinstance(node, Join):
            continue
        for branch in node.branches:
            yield from _misaligned(branch)
        ends = [branch[-1].after if branch else node.before for branch in node.branches]
        centres = {(end.height.start, end.width.start) for end in ends}
        if len(centres) > 1 and node.before.cells > 1:
            listed = ", ".join(f"{y:g},{x:g}" for y, x in sorted(centres))
            yield SpecWarning(
                "misaligned-branches",
                node.place,
                f"the branches' cells are centred on different pixels ({listed}): the "
                f"{node.merge} mixes neighbours; odd kernels and equal paddings align them",
            )


def _on_single_cells(trunk: Trunk, collapsed: Node | None) -> Iterator[SpecWarning]:
    """A map that strides shrink to one cell while kernels larger than one still follow."""
    for node in trunk:
        if isinstance(node, Join):
            for branch in node.branches:
                yield from _on_single_cells(branch, collapsed)
            continue
        op = node.op
        if collapsed and isinstance(op, ops.Conv2d) and max(op.kernel_size) > 1:
            yield SpecWarning(
                "single-cell-map",
                collapsed.place,
                f"the map is down to one cell here, and the {op.kernel_size[0]}x"
                f"{op.kernel_size[1]} kernel at {node.place} meets padding alone around it; "
                "use fewer strides or a smaller kernel",
            )
        shrinks = node.before.cells > 1 and node.after.cells == 1
        if shrinks and isinstance(op, ops.Conv2d | ops.Pool2d) and not is_global_avg_pool(node):
            collapsed = node


def _blind_cells(rows: Sequence[LayerRow]) -> Iterator[SpecWarning]:
    """Where they come to be: a layer that only hands its input's on is not told."""
    for row in rows:
        sight = row.sight
        if sight and row.window and sight.after.blind_cells > sight.before.blind_cells:
            yield SpecWarning(
                "blind-cells",
                row.place,
                f"{sight.after.blind_cells:,} of {row.after.cells:,} cells see no image "
                "pixel, only padding, and count all the same in pooling and norms; use less "
                "padding here (a 1x1 kernel needs none)",
            )


def _dead_weights(rows: Sequence[LayerRow]) -> Iterator[SpecWarning]:
    for row in rows:
        if row.dead_weights:
            yield SpecWarning(
                "dead-weights",
                row.place,
                f"{row.dead_weights:,} of {row.weights:,} kernel weights meet nothing but "
                "padding, at any position: they count as parameters and compute nothing; use a "
                "smaller dilation or kernel, or fewer strides before it",
            )


def _gridding(rows: Sequence[LayerRow], gate: Seen) -> Iterator[SpecWarning]:
    """Holes that are still there at the last map before global pooling: where they came first."""
    since: LayerRow | None = None
    for row in rows:
        if row.sight and row.after.gate is None:
            skips_before, skips = max(row.sight.before.skipped), max(row.sight.after.skipped)
            if skips > skips_before:
                since = since or row
            elif skips_before and not skips:
                since = None
    if since and max(gate.skipped):
        yield SpecWarning(
            "gridding",
            since.place,
            "from here on cells skip pixels between the first and the last that they see "
            f"(up to {max(gate.skipped)} of {max(gate.clipped)} before global pooling): the "
            "receptive field is wide but sparse; vary dilations (1, 2, 3 instead of 2, 2, 2), or "
            "put an undilated kernel as wide as the stride before it",
        )


def _unproductive(rows: Sequence[LayerRow]) -> Iterator[SpecWarning]:
    found = [row for row in rows if row.unproductive]
    if found:
        field, (height, width) = min(found[0].before.rf), found[0].image
        others = f" and {len(found) - 1} after it get" if len(found) > 1 else " gets"
        yield SpecWarning(
            "unproductive-layers",
            found[0].place,
            f"this convolution{others} input whose receptive field ({field}) already covers the "
            f"{height}x{width} image: little context is left to add, and such layers seldom raise "
            "accuracy; stride later or spend the parameters earlier",
        )


def _off_centre(rows: Sequence[LayerRow]) -> Iterator[SpecWarning]:
    on_map = (row for row in reversed(rows) if row.after.gate is None and not row.after.flat)
    last = next((row for row in on_map if not _BRANCH.search(row.place)), None)
    offset = last.centre_offset if last else (0.0, 0.0)
    if last and any(abs(off) >= at for off, at in zip(offset, last.after.jump, strict=True)):
        yield SpecWarning(
            "off-centre",
            last.place,
            f"the map looks {offset[0]:g} pixels below and {offset[1]:g} right of the image's "
            "centre, a whole cell or more: even kernels and unequal paddings add up; use odd "
            "kernels",
        )
