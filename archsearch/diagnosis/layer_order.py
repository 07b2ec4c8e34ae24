"""Rules on the order of layers: missing activations, missing norms and channel bottlenecks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from archsearch.analysis.analyze import Analysis
from archsearch.diagnosis.apply_mend import layer_at
from archsearch.diagnosis.findings import Edit, Fields, Finding
from archsearch.diagnosis.paths import WEIGHTED, is_depthwise, is_nonlinear, is_one, links
from archsearch.spec import models as s
from archsearch.spec import ops
from archsearch.spec.formatting import axes_text, shape_text
from archsearch.spec.models import ActivationKind
from archsearch.spec.network import Join, Node, Trunk

NEW_ACTIVATION: ActivationKind = "silu"
"""Where a network has none of its own; better than relu by studies/recipes."""
NARROWED = 2
"""A bottleneck has at least so many times fewer channels than what is before and after it."""


def linear_network(analysis: Analysis) -> Iterator[Finding]:
    """No nonlinearity anywhere."""
    nodes = list(analysis.network.nodes())
    weighted = [node for node in nodes if isinstance(node.op, WEIGHTED)]
    if len(weighted) < 2 or any(is_nonlinear(node.op) for node in nodes):
        return
    places = dict.fromkeys(node.place for node in weighted if node.place != weighted[-1].place)
    edits: dict[str, Fields | None] = {}
    for place in places:
        edits |= _setting(analysis, place, "activation", NEW_ACTIVATION) or {}
    yield Finding(
        "linear-network",
        "",
        f"{len(weighted)} convolutions and linear layers and not one activation: together they "
        "compute one linear map of the image, but for what norms do",
        f"an activation after every convolution but the last ({NEW_ACTIVATION})",
        edits or None,
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
            _setting(analysis, first.place, "activation", kind),
        )


def no_norm(analysis: Analysis) -> Iterator[Finding]:
    """A convolution whose output nobody normalises.

    The image comes normalised, and what its first convolution makes of it has a known scale.
    """
    met = set()
    for link in links(analysis.network.trunk):
        first = link.first
        if link.normed or not isinstance(first.op, ops.Conv2d) or first.place in met:
            continue
        if first.before.rf == (1, 1) and first.op.groups == 1:
            continue
        met.add(first.place)
        yield Finding(
            "no-norm",
            first.place,
            f"no norm after {_told(first)}: what it passes on has whatever scale its weights have",
            "a batch norm after it",
            _setting(analysis, first.place, "norm", "batch"),
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
    last: Node | None = None
    for node in trunk:
        if isinstance(node, Join):
            last = None
        elif isinstance(node.op, ops.Conv2d) and not is_depthwise(node.op):
            if last and not is_one(last, node):
                yield last, node
            last = node


def _usual_activation(analysis: Analysis) -> str:
    kinds = [n.op.kind for n in analysis.network.nodes() if isinstance(n.op, ops.Activation)]
    return Counter(kinds).most_common(1)[0][0] if kinds else NEW_ACTIVATION


def _setting(analysis: Analysis, place: str, field: str, value: str) -> Edit | None:
    """The edit that sets a field of a layer; None where the layer has no such field of its own."""
    layer = layer_at(analysis.spec, place)
    own = isinstance(layer, s.Conv | s.DepthwiseSeparable | s.Linear)
    return {place: {field: value}} if own and field in type(layer).model_fields else None


def _told(node: Node) -> str:
    op = node.op
    if isinstance(op, ops.Conv2d):
        stride = f" stride {axes_text(op.stride)}" if max(op.stride) > 1 else ""
        kind = "depthwise " if is_depthwise(op) else ""
        return f"the {kind}{shape_text(op.kernel_size)}{stride} convolution"
    return "the linear layer"
