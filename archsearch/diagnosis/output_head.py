"""What happens on the way from the last map to the logits."""

from __future__ import annotations

from collections.abc import Iterator

from archsearch.analysis.analyze import Analysis
from archsearch.diagnosis.apply_mend import layer_at
from archsearch.diagnosis.findings import Edit, Finding
from archsearch.spec import models as s
from archsearch.spec import ops
from archsearch.spec.network import Join, Node, Trunk, covers_map

_ON_LOGITS = {
    ops.Activation: (
        "activation-on-logits",
        "activation",
        "negative logits are cut off or squeezed: a class cannot be ruled out, and where all are "
        "cut no gradient flows",
    ),
    ops.BatchNorm: (
        "norm-on-logits",
        "norm",
        "every class's logit is scaled to the same spread over a batch, whatever the network "
        "would say",
    ),
    ops.GroupNorm: (
        "norm-on-logits",
        "norm",
        "logits are scaled to the same spread in every image: the network cannot be more or less "
        "sure",
    ),
    ops.Dropout: (
        "dropout-on-logits",
        "dropout",
        "in training a class's logit is set to 0 at random, the right one's too: noise in the "
        "loss that no weight can answer",
    ),
}


def on_logits(analysis: Analysis) -> Iterator[Finding]:
    """An activation, norm or dropout after the last convolution or linear layer."""
    for node in _after_the_last(analysis.network.trunk):
        if type(node.op) in _ON_LOGITS:
            code, field, why = _ON_LOGITS[type(node.op)]
            kind = f" ({node.op.kind})" if isinstance(node.op, ops.Activation) else ""
            yield Finding(
                code,
                node.place,
                f"{field}{kind} on the {node.after.channels} logits: {why}",
                f"no {field} after the last convolution or linear layer",
                _without(analysis, node.place, field),
            )


def _after_the_last(trunk: Trunk) -> Iterator[Node]:
    """What follows the last convolution, linear layer or join."""
    tail = []
    for node in reversed(trunk):
        if isinstance(node, Join) or isinstance(node.op, ops.Conv2d | ops.Linear):
            break
        tail.append(node)
    return reversed(tail)


def _without(analysis: Analysis, place: str, field: str) -> Edit | None:
    layer = layer_at(analysis.spec, place)
    if isinstance(layer, s.Conv | s.DepthwiseSeparable | s.Linear | s.Residual):
        return {place: {field: 0.0 if field == "dropout" else None}}
    alone = isinstance(layer, s.Norm | s.Activation | s.Dropout)
    return {place: None} if alone else None


def head(analysis: Analysis) -> Iterator[Finding]:
    """A map that becomes a vector otherwise than by its mean."""
    for node in analysis.network.nodes():
        op = node.op
        if (
            isinstance(op, ops.Pool2d)
            and op.kind == "max"
            and covers_map(op, node.before, node.after)
        ):
            if node.before.cells > 1 and node.before.gate is None:
                yield Finding(
                    "max-pool-head",
                    node.place,
                    f"the maximum of {node.before.cells} cells stands for the map: one cell a "
                    "channel gets the gradient, and one bright spot decides",
                    "global average pooling",
                    {node.place: {"op": "global_avg_pool"}},
                )
        elif isinstance(op, ops.Flatten) and node.before.cells > 1:
            yield Finding(
                "flatten-head",
                node.place,
                f"{node.before.cells} cells of {node.before.channels} channels become "
                f"{node.after.channels:,} features: the next layer has a weight for every place",
                "global average pooling, then the linear layer",
                {node.place: {"op": "global_avg_pool"}},
            )


def dropout(analysis: Analysis) -> Iterator[Finding]:
    """Dropout in a network that is too small to overfit soon."""
    dropped = {
        node.place: node.op.p
        for node in analysis.network.nodes()
        if isinstance(node.op, ops.Dropout) and node.op.p >= WORTH_TELLING
    }
    if not dropped or analysis.params > SMALL:
        return
    fields = {
        place: None if isinstance(layer_at(analysis.spec, place), s.Dropout) else {"dropout": 0.0}
        for place in dropped
    }
    yield Finding(
        "dropout",
        next(iter(dropped)),
        f"dropout of up to {max(dropped.values()):g} in {len(dropped)} layers of a network of "
        f"{analysis.params:,} parameters for 50,000 images: it is more likely to underfit",
        "no dropout until training accuracy leaves the hold-out's behind",
        fields,
    )


WORTH_TELLING = 0.05
"""Dropout below that changes little."""
SMALL = 1_000_000
"""Parameters."""
