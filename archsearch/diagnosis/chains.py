"""What follows on what: no activation or norm between convolutions, channels cut and widened."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from archsearch import ops
from archsearch import spec as s
from archsearch.analyze import Analysis
from archsearch.diagnosis.carry_out import layer_at
from archsearch.diagnosis.findings import Finding
from archsearch.network import Join, Node, Trunk
from archsearch.spec import ActivationKind
from archsearch.wording import axes_text, shape_text

NEW_ACTIVATION: ActivationKind = "silu"
"""Where a network has none of its own; better than relu by studies/recipes."""
_NONLINEAR = (ops.Activation, ops.SqueezeExcite)
_NORMS = (ops.BatchNorm, ops.GroupNorm)
_WEIGHTED = (ops.Conv2d, ops.Linear)
NARROWED = 2
"""A bottleneck has at least so many times fewer channels than what is before and after it."""


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


def links(trunk: Trunk) -> list[Link]:
    """Every pair of weighted operations that follow on one another, on every path.

    What a residual adds up counts as neither: its sum begins a path anew. The parts of one
    depthwise-separable convolution are no pair, nor are 1x1 convolutions that narrow and widen
    again: a linear bottleneck (Sandler et al., "MobileNetV2", CVPR 2018, arXiv 1801.04381).
    """
    found: list[Link] = []
    _follow(trunk, None, found)
    return found


def _follow(trunk: Trunk, at: _Pending | None, found: list[Link]) -> _Pending | None:
    for node in trunk:
        if isinstance(node, Join):
            for branch in node.branches:
                _follow(branch, at, found)
            at = None
        elif isinstance(node.op, _WEIGHTED):
            if at and not _is_one(at.node, node):
                found.append(Link(at.node, node, at.activated, at.normed))
            at = _Pending(node)
        elif at and (isinstance(node.op, _NONLINEAR) or _is_max(node.op)):
            at = at._replace(activated=True)
        elif at and isinstance(node.op, _NORMS):
            at = at._replace(normed=True)
    return at


def _is_max(op: ops.Op) -> bool:
    return isinstance(op, ops.Pool2d) and op.kind == "max"


def _is_one(first: Node, second: Node) -> bool:
    """Whether two convolutions are one in two parts: by place and channel, or by a narrow map."""
    one, two = first.op, second.op
    if not isinstance(one, ops.Conv2d) or not isinstance(two, ops.Conv2d):
        return False
    if two.kernel_size != (1, 1):
        return False
    narrow = one.out_channels < min(one.in_channels, two.out_channels)
    return _is_depthwise(one) or (one.kernel_size == (1, 1) and narrow)


def linear_network(analysis: Analysis) -> Iterator[Finding]:
    """No nonlinearity anywhere."""
    nodes = list(analysis.network.nodes())
    if any(isinstance(node.op, _NONLINEAR) or _is_max(node.op) for node in nodes):
        return
    weighted = [node for node in nodes if isinstance(node.op, _WEIGHTED)]
    places = dict.fromkeys(link.first.place for link in links(analysis.network.trunk))
    edits = {place: {"activation": NEW_ACTIVATION} for place in places}
    if not places:
        return
    yield Finding(
        "linear-network",
        "",
        f"{len(weighted)} convolutions and linear layers and not one activation: together they "
        "compute one linear map of the image, but for what norms do",
        f"an activation after every convolution but the last ({NEW_ACTIVATION})",
        edits if all(_is_layer(analysis, place) for place in places) else None,
    )


def no_activation(analysis: Analysis) -> Iterator[Finding]:
    """Two convolutions that are one, as nothing nonlinear lies between them."""
    kind = _usual_activation(analysis)
    for link in links(analysis.network.trunk):
        if link.activated:
            continue
        first = link.first
        yield Finding(
            "no-activation",
            first.place,
            f"nothing nonlinear between {_told(first)} and {_told(link.second)} at "
            f"{link.second.place}: two linear maps in a row are one",
            "an activation after it",
            {first.place: {"activation": kind}} if _is_layer(analysis, first.place) else None,
        )


def no_norm(analysis: Analysis) -> Iterator[Finding]:
    """A convolution whose output nobody normalises."""
    met = set()
    for link in links(analysis.network.trunk):
        first = link.first
        if link.normed or not isinstance(first.op, ops.Conv2d) or first.place in met:
            continue
        met.add(first.place)
        yield Finding(
            "no-norm",
            first.place,
            f"no norm after {_told(first)}: what it passes on has whatever scale its weights have",
            "a batch norm after it",
            {first.place: {"norm": "batch"}} if _is_layer(analysis, first.place) else None,
        )


def bottleneck(analysis: Analysis) -> Iterator[Finding]:
    """Channels cut to half or less, and widened again by the next convolution."""
    for one, two in _neighbours(analysis.network.trunk):
        narrow, wide = one.op, two.op
        if not isinstance(narrow, ops.Conv2d) or not isinstance(wide, ops.Conv2d):
            continue
        least = min(narrow.in_channels, wide.out_channels)
        if narrow.out_channels * NARROWED > least:
            continue
        before, after = (at.channels * at.cells for at in (one.before, one.after))
        yield Finding(
            "bottleneck",
            one.place,
            f"{narrow.in_channels} channels are cut to {narrow.out_channels}, and the next "
            f"convolution makes {wide.out_channels} of them: {before:,} values become {after:,}, "
            f"{before / after:.0f} times fewer",
            f"about {least} channels here",
        )


def _neighbours(trunk: Trunk) -> Iterator[tuple[Node, Node]]:
    """Convolutions outside of branches, each with the next that may change channels."""
    convs = [node for node in trunk if isinstance(node, Node) and isinstance(node.op, ops.Conv2d)]
    mixing = [node for node in convs if not _is_depthwise(node.op)]
    joins = any(isinstance(node, Join) for node in trunk)
    return iter(()) if joins else pairwise(mixing)


def _is_depthwise(op: ops.Op) -> bool:
    return isinstance(op, ops.Conv2d) and op.groups == op.in_channels > 1


def _usual_activation(analysis: Analysis) -> str:
    kinds = [n.op.kind for n in analysis.network.nodes() if isinstance(n.op, ops.Activation)]
    return max(set(kinds), key=kinds.count) if kinds else NEW_ACTIVATION


def _is_layer(analysis: Analysis, place: str) -> bool:
    """Whether the layer at `place` has an activation and a norm of its own to set."""
    return isinstance(layer_at(analysis.spec, place), s.Conv | s.DepthwiseSeparable)


def _told(node: Node) -> str:
    op = node.op
    if isinstance(op, ops.Conv2d):
        stride = f" stride {axes_text(op.stride)}" if max(op.stride) > 1 else ""
        kind = "depthwise " if _is_depthwise(op) else ""
        return f"the {kind}{shape_text(op.kernel_size)}{stride} convolution"
    return "the linear layer"
