"""A network's operations in groups: a table has a row for each, a diagram a box."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from archsearch.spec import ops
from archsearch.spec.network import Join, Node, Trunk

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
        return sum(ops.params(node.op) for node in self.nodes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(ops.macs(node.op, node.after.cells) for node in self.nodes)


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
