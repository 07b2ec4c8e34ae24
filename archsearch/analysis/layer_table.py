"""A network as the rows of a table: one a convolution, pool, linear layer or merge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from archsearch.analysis.pixel_coverage import Seen, Sight, Sights
from archsearch.spec import ops, params_and_macs
from archsearch.spec.network import FeatureMap, Join, Network, Node, Trunk
from archsearch.spec.ops import Pair

STARTS_GROUP = (ops.Conv2d, ops.Pool2d, ops.GlobalAvgPool, ops.Linear, ops.SqueezeExcite)
"""Operations that a group always starts at."""


class Group(NamedTuple):
    """A convolution, pool, linear layer or join, with the norm, activation, dropout after it.

    Attributes:
        first: what the group is named after; a join's branches have groups of their own.
        rest: what follows it in the same layer of the spec, and leaves the map's shape alone.
    """

    first: Node | Join
    rest: tuple[Node, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Its operations; a join is none itself."""
        return self.rest if isinstance(self.first, Join) else (self.first, *self.rest)

    @property
    def params(self) -> int:
        """Learnable scalars."""
        return sum(params_and_macs.params(node.op) for node in self.nodes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(params_and_macs.macs(node.op, node.after.cells) for node in self.nodes)


def groups_of(trunk: Trunk) -> Iterator[Group]:
    """A trunk's operations in order; a group ends where the next operation has its own layer."""
    first: Node | Join | None = None
    rest: list[Node] = []
    for node in trunk:
        if first and isinstance(node, Node) and _continues(first, node):
            rest.append(node)
            continue
        if first:
            yield Group(first, tuple(rest))
        first, rest = node, []
    if first:
        yield Group(first, tuple(rest))


def _continues(first: Node | Join, node: Node) -> bool:
    return node.place == first.place and not isinstance(node.op, STARTS_GROUP)


class LayerRow(NamedTuple):
    """A convolution, pool, linear layer or merge, with the norm, activation, dropout after it.

    Attributes:
        op: what it is (`conv`, `depthwise`, `pointwise`, `pool`, `shortcut`, `add`, ...).
        window: the operation that moved a window over the map, where there is one.
        params: learnable scalars.
        macs: multiply-accumulates of convolutions and linear layers, for one image.
        sight: which pixels its input's and its output's cells see; None where that is too large
            to follow.
        image: (height, width) of the image.
    """

    block: str
    place: str
    op: str
    window: ops.Conv2d | ops.Pool2d | None
    before: FeatureMap
    after: FeatureMap
    params: int
    macs: int
    sight: Sight | None
    image: Pair

    @property
    def activation_bytes(self) -> int:
        """Bytes of the output, fp32, one image."""
        return map_bytes(self.after)

    @property
    def weights(self) -> int:
        """Kernel weights; 0 but for a convolution."""
        op = self.window
        return params_and_macs.conv_weights(op) if isinstance(op, ops.Conv2d) else 0

    @property
    def dead_weights(self) -> int:
        """Kernel weights that meet no cell that sees a pixel; 0 too where not followed."""
        return self.sight.dead_weights if self.sight else 0

    @property
    def seen(self) -> Seen | None:
        """Which pixels its output's cells see."""
        return self.sight.after if self.sight else None

    @property
    def unproductive(self) -> bool:
        """A convolution wider than 1x1 whose input's receptive field already covers the image.

        Source: Richter, Schöning, Wiedenroth, Krumnack, "Should You Go Deeper? Optimizing
        Convolutional Neural Network Architectures without Training", ICMLA 2021.
        """
        op = self.window
        return (
            isinstance(op, ops.Conv2d)
            and max(op.kernel_size) > 1
            and self.before.gate is None
            and all(rf >= size for rf, size in zip(self.before.rf, self.image, strict=True))
        )

    @property
    def effective_padding(self) -> tuple[Pair, Pair]:
        """((top, bottom), (left, right)) pixels by which the cells' fields leave the image.

        -left before it and left + r + (n - 1) * j - size after it; negative: pixels short of it.
        """
        height, width = (
            (-axis.left, axis.left + axis.rf_of_all - size)
            for axis, size in zip((self.after.height, self.after.width), self.image, strict=True)
        )
        return height, width

    @property
    def centre_offset(self) -> tuple[float, float]:
        """(down, right) pixels from the image's centre to the centre of what the map sees."""
        (top, bottom), (left, right) = self.effective_padding
        return (bottom - top) / 2, (right - left) / 2


def rows_of(network: Network, sights: Sights | None) -> tuple[LayerRow, ...]:
    """The layers, block by block."""
    names = [block.name for block in network.spec.blocks] + ["output"]
    nodes = sights.nodes if sights else {}
    return tuple(
        _row(name, group, nodes.get(id(group.first)), network.image.size)
        for name, section in zip(names, network.sections, strict=True)
        for group in _every_group(section)
    )


def map_bytes(at: FeatureMap) -> int:
    """Bytes of a map, fp32, one image."""
    return at.channels * at.cells * 4


def _every_group(trunk: Trunk) -> Iterator[Group]:
    """The groups of a trunk, and before each join those of its branches."""
    for group in groups_of(trunk):
        if isinstance(group.first, Join):
            for branch in group.first.branches:
                yield from _every_group(branch)
        yield group


def _row(block: str, group: Group, sight: Sight | None, image: Pair) -> LayerRow:
    first = group.first
    op = first.op if isinstance(first, Node) else None
    return LayerRow(
        block,
        first.place,
        _label(first),
        op if isinstance(op, ops.Conv2d | ops.Pool2d) else None,
        first.before,
        first.after,
        group.params,
        group.macs,
        sight,
        image,
    )


def _label(first: Node | Join) -> str:
    match first:
        case Join():
            return first.merge
        case Node(op=ops.Pool2d(kind=kind)):
            return f"{kind}_pool"
        case Node(op=ops.GlobalAvgPool()):
            return "global_avg_pool"
        case _:
            return first.role
