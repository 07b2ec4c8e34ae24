"""A network as archsearch reasons about it: operations in order, every shape known.

`resolve` makes it from a spec. It is what the analyzer counts, what torch builds, and what
`spec_hash` identifies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from archsearch.spec import ops
from archsearch.spec.models import DropoutKind, Spec
from archsearch.spec.ops import Pair
from archsearch.spec.receptive_field import Axis


class FeatureMap(NamedTuple):
    """What flows between two operations, for one image.

    Attributes:
        channels: channels, or features where `flat`.
        flat: a vector (C,) rather than a map (C, H, W).
        gate: receptive field (height, width) at the last map before global pooling,
            once that has happened.
    """

    channels: int
    height: Axis
    width: Axis
    flat: bool = False
    gate: Pair | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(C,) or (C, H, W)."""
        return (self.channels,) if self.flat else (self.channels, *self.size)

    @property
    def size(self) -> Pair:
        """Cells (height, width)."""
        return self.height.size, self.width.size

    @property
    def cells(self) -> int:
        """Height times width."""
        return self.height.size * self.width.size

    @property
    def rf(self) -> Pair:
        """Receptive field of one cell (height, width), in image pixels."""
        return self.height.rf, self.width.rf

    @property
    def jump(self) -> Pair:
        """Image pixels between neighbouring cells (height, width)."""
        return self.height.jump, self.width.jump


class Node(NamedTuple):
    """One operation at its place.

    Attributes:
        place: the layer that it came from, as in the spec (`blocks.0.layers.2`).
        role: which part of that layer it is (`conv`, `depthwise`, `norm`, ...).
    """

    place: str
    role: str
    op: ops.Op
    before: FeatureMap
    after: FeatureMap


class Join(NamedTuple):
    """Branches over one input, merged; an empty branch is the identity.

    Attributes:
        role: `residual` (body, then shortcut) or `parallel`.
    """

    place: str
    role: Literal["residual", "parallel"]
    branches: tuple[Trunk, ...]
    merge: Literal["add", "concat"]
    split: bool
    before: FeatureMap
    after: FeatureMap


Trunk = tuple[Node | Join, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """A resolved spec: `sections` are the blocks' trunks and, last, the output's."""

    spec: Spec
    image: FeatureMap
    sections: tuple[Trunk, ...]
    logits: FeatureMap

    @property
    def trunk(self) -> Trunk:
        """All sections, end to end."""
        return tuple(node for section in self.sections for node in section)

    def nodes(self) -> Iterator[Node]:
        """Every operation, branches in order."""
        return walk(self.trunk)


@dataclass
class Trail:
    """What one layer has become so far, and the map that this leaves."""

    place: str
    at: FeatureMap
    nodes: list[Node | Join] = field(default_factory=list)

    def add(self, role: str, op: ops.Op, after: FeatureMap | None = None) -> None:
        """One more operation; without `after` it leaves the map as it was."""
        node = Node(self.place, role, op, self.at, after or self.at)
        self.nodes.append(node)
        self.at = node.after

    def activation(self, kind: str | None, role: str = "activation") -> None:
        """An activation, if there is one."""
        if kind:
            self.add(role, ops.Activation(kind))

    def dropout(self, p: float, kind: DropoutKind) -> None:
        """Dropout, if there is any; a vector has no maps to drop whole."""
        if p:
            self.add("dropout", ops.Dropout(p, channel=kind == "channel" and not self.at.flat))


def walk(trunk: Trunk) -> Iterator[Node]:
    """Every operation of a trunk, depth first."""
    for node in trunk:
        if isinstance(node, Join):
            for branch in node.branches:
                yield from walk(branch)
        else:
            yield node


def covers_map(op: ops.Pool2d, before: FeatureMap, after: FeatureMap) -> bool:
    """Whether a pool is global: one window, over every cell of its map."""
    axes = zip(op.kernel_size, op.padding, before.size, strict=True)
    return after.cells == 1 and all(kernel - pad >= size for kernel, pad, size in axes)


def is_global_avg_pool(node: Node) -> bool:
    """A global average pool by that name, or an average pool that covers its whole map."""
    op = node.op
    if isinstance(op, ops.Pool2d):
        return op.kind == "avg" and covers_map(op, node.before, node.after)
    return isinstance(op, ops.GlobalAvgPool)
