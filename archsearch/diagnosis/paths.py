"""Find consecutive convolutions and linear layers on every path through a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from archsearch.spec import ops
from archsearch.spec.network import Join, Node, Trunk, walk

_NORMS = (ops.BatchNorm, ops.GroupNorm)
WEIGHTED = (ops.Conv2d, ops.Linear)


class Link(NamedTuple):
    """A convolution (or linear layer) and the next one on a path.

    Attributes:
        activated: whether something nonlinear lies between.
        normed: whether a norm does.
    """

    first: Node
    second: Node
    activated: bool
    normed: bool


class _Pending(NamedTuple):
    node: Node
    activated: bool = False
    normed: bool = False


_At = tuple[_Pending, ...]
"""The last weighted operations of the paths that lead here."""


def links(trunk: Trunk) -> list[Link]:
    """Every pair of weighted operations that follow on one another, on any path.

    Left out are pairs that are one convolution in two parts (`is_one`), what leads through a
    projection (`projections`), and what a sum carries past its branches. Where a summed branch
    has something nonlinear in it, its last convolution may do without: the sum is not linear.
    """
    found: dict[Link, None] = {}
    _follow(trunk, (), found)
    return list(found)


def _follow(trunk: Trunk, at: _At, found: dict[Link, None]) -> _At:
    for node in trunk:
        if isinstance(node, Join):
            at = tuple(_joined(node, at, found))
        elif isinstance(node.op, WEIGHTED):
            for before in at:
                if not is_one(before.node, node):
                    found[Link(before.node, node, before.activated, before.normed)] = None
            at = (_Pending(node),)
        elif is_nonlinear(node.op):
            at = tuple(each._replace(activated=True) for each in at)
        elif isinstance(node.op, _NORMS):
            at = tuple(each._replace(normed=True) for each in at)
    return at


def _joined(join: Join, at: _At, found: dict[Link, None]) -> Iterator[_Pending]:
    for branch in join.branches:
        if join.merge == "concat":
            yield from _follow(branch, at, found)
        elif branch and not _is_projection(branch):
            nonlinear = any(is_nonlinear(node.op) for node in walk(branch))
            for end in _follow(branch, at, found):
                yield end._replace(activated=end.activated or nonlinear)


def projections(trunk: Trunk) -> Iterator[Node]:
    """1x1 convolutions that only fit a map to the sum that it is carried to."""
    for join in trunk:
        if isinstance(join, Join):
            for branch in join.branches:
                if join.merge == "add" and _is_projection(branch):
                    yield from (node for node in walk(branch) if isinstance(node.op, ops.Conv2d))
                else:
                    yield from projections(branch)


def _is_projection(branch: Trunk) -> bool:
    weighted = [node for node in walk(branch) if isinstance(node.op, WEIGHTED)]
    return (
        len(weighted) == 1
        and isinstance(weighted[0].op, ops.Conv2d)
        and weighted[0].op.kernel_size == (1, 1)
        and not any(is_nonlinear(node.op) for node in walk(branch))
    )


def is_one(first: Node, second: Node) -> bool:
    """Whether two convolutions are one in two parts.

    A depthwise-separable one, or 1x1 convolutions that narrow and widen again: a linear bottleneck
    (Sandler et al., "MobileNetV2", CVPR 2018, arXiv 1801.04381).
    """
    one, two = first.op, second.op
    if not isinstance(one, ops.Conv2d) or not isinstance(two, ops.Conv2d):
        return False
    if two.kernel_size != (1, 1):
        return False
    narrow = one.out_channels < min(one.in_channels, two.out_channels)
    return is_depthwise(one) or (one.kernel_size == (1, 1) and narrow)


def is_depthwise(op: ops.Op) -> bool:
    """Whether each channel is convolved by itself."""
    return isinstance(op, ops.Conv2d) and op.groups == op.in_channels > 1


def is_nonlinear(op: ops.Op) -> bool:
    """Whether an operation is more than a linear map, for one image."""
    if isinstance(op, ops.Pool2d):
        return op.kind == "max"
    return isinstance(op, ops.Activation | ops.SqueezeExcite)
