"""Random specs over every op: valid by construction, so that no example is wasted."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from archsearch.errors import InputError
from archsearch.spec.models import Spec
from archsearch.spec.resolve import resolve

Json = dict[str, Any]


def examples(usual: int) -> settings:
    """`usual` examples, or as many as `ARCHSEARCH_EXAMPLES` asks for (`make test-slow`: 2,000)."""
    return settings(max_examples=int(os.environ.get("ARCHSEARCH_EXAMPLES", usual)))


NORMS = st.sampled_from(["batch", "group", "layer", None])
ACTIVATIONS = st.sampled_from(["relu", "gelu", "silu", "hardswish", "leaky_relu", None])


def sizes(low: int, high: int) -> st.SearchStrategy[Any]:
    """One value, or one an axis."""
    one = st.integers(low, high)
    return st.one_of(one, st.lists(one, min_size=2, max_size=2))


@st.composite
def finish(draw: st.DrawFn) -> Json:
    """Norm, activation, dropout and their order."""
    return {
        "norm": draw(NORMS),
        "num_groups": 2,
        "activation": draw(ACTIVATIONS),
        "dropout": draw(st.sampled_from([0.0, 0.0, 0.25])),
        "dropout_kind": draw(st.sampled_from(["element", "channel"])),
        "order": draw(st.sampled_from(["norm_act", "act_norm"])),
        "bias": draw(st.sampled_from([None, True, False])),
    }


@st.composite
def convs(draw: st.DrawFn, *, same: bool = False, out: int | None = None) -> Json:
    """A conv or depthwise_separable; `same` keeps the map's size."""
    op = draw(st.sampled_from(["conv", "depthwise_separable"]))
    layer: Json = {
        "op": op,
        "out_channels": out or 2 * draw(st.integers(1, 5)),
        "kernel_size": draw(sizes(1, 5)),
        "dilation": draw(sizes(1, 3)),
        **draw(finish()),
    }
    if not same:
        layer["stride"] = draw(st.sampled_from([1, 1, 2, [1, 2], [2, 1]]))
        layer["padding"] = draw(st.one_of(st.sampled_from(["same", "valid"]), sizes(0, 3)))
    if op == "conv":
        layer["groups"] = draw(st.sampled_from([1, 1, 2, "depthwise"]))
    else:
        layer["depth_multiplier"] = draw(st.integers(1, 2))
        layer["mid_norm"] = draw(st.sampled_from(["batch", "layer", None]))
        layer["mid_activation"] = draw(ACTIVATIONS)
        if not same:
            layer["pointwise_padding"] = draw(sizes(0, 1))
    return layer


SIMPLE = st.one_of(
    st.builds(lambda r: {"op": "squeeze_excite", "reduction": r}, st.integers(1, 20)),
    st.builds(lambda k: {"op": "norm", "kind": k, "num_groups": 2}, NORMS.filter(bool)),
    st.builds(lambda k: {"op": "activation", "kind": k}, ACTIVATIONS.filter(bool)),
    st.builds(
        lambda p, k: {"op": "dropout", "p": p, "kind": k},
        st.sampled_from([0.0, 0.3]),
        st.sampled_from(["element", "channel"]),
    ),
)


@st.composite
def pools(draw: st.DrawFn) -> Json:
    """A max_pool or avg_pool."""
    return {
        "op": draw(st.sampled_from(["max_pool", "avg_pool"])),
        "kernel_size": draw(sizes(2, 3)),
        "stride": draw(st.sampled_from([None, 1, 2])),
        "padding": draw(st.sampled_from([0, 0, 1])),
    }


@st.composite
def even_pools(draw: st.DrawFn) -> Json:
    """A pool that keeps the map's size."""
    pad = draw(sizes(0, 1))
    return {
        "op": draw(st.sampled_from(["max_pool", "avg_pool"])),
        "kernel_size": [2 * p + 1 for p in pad] if isinstance(pad, list) else 2 * pad + 1,
        "stride": 1,
        "padding": pad,
    }


UNCHANGING = st.one_of(SIMPLE, even_pools())
"""Layers that keep size and channels."""


@st.composite
def runs(draw: st.DrawFn, joins: int, out: int | None = None) -> list[Json]:
    """What a branch may hold: layers that keep the size, with joins nested in up to `joins` others.

    Gives `out` channels where that is said.
    """
    kinds = [convs(same=True), convs(same=True), UNCHANGING]
    if joins:
        kinds += [residuals(joins=joins - 1, strides=False), parallels(joins=joins - 1)]
    layers = draw(st.lists(st.one_of(kinds), min_size=0 if out else 1, max_size=2))
    if out:
        last = draw(convs(same=True, out=out))
        layers += [last, *draw(st.lists(UNCHANGING, max_size=1))]
    return layers


@st.composite
def residuals(draw: st.DrawFn, *, joins: int = 1, strides: bool = True) -> Json:
    """A residual whose body keeps the size, or strides evenly."""
    body = draw(runs(joins))
    if strides and draw(st.booleans()):
        stride = draw(st.sampled_from([2, [1, 2]]))
        body.insert(0, draw(convs(same=True)) | {"stride": stride})
    return {"op": "residual", "body": body, "activation": draw(ACTIVATIONS)}


@st.composite
def parallels(draw: st.DrawFn, *, joins: int = 1) -> Json:
    """Branches that end in maps of one size."""
    merge = draw(st.sampled_from(["concat", "add"]))
    out = 2 * draw(st.integers(1, 4)) if merge == "add" else None
    split = draw(st.booleans())  # in halves, mostly: few channels divide by three
    count = draw(st.sampled_from([2, 2, 3]) if split else st.integers(1, 3))
    branches = [draw(runs(joins, out)) for _ in range(count)]
    if merge == "concat" and draw(st.booleans()):
        branches[-1] = []
    return {"op": "parallel", "branches": branches, "merge": merge, "split": split}


LAYERS = st.one_of(convs(), convs(), pools(), residuals(), parallels(), SIMPLE)


def spec_of(blocks: list[list[Json]], output: list[Json], height: int, width: int) -> Json:
    """A spec's JSON."""
    return {
        "name": "drawn",
        "input": {"channels": 4, "height": height, "width": width},
        "blocks": [{"name": f"b{i}", "layers": layers} for i, layers in enumerate(blocks)],
        "output": {"layers": output},
    }


HIDDEN: Json = {"op": "linear", "out_features": 8, "activation": "relu", "dropout": 0.1}
HEADS: list[list[Json]] = [
    [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}],
    [{"op": "conv", "out_channels": 10, "kernel_size": 1}, {"op": "global_avg_pool"}],
    [
        {"op": "flatten"},
        {"op": "linear", "out_features": 12, "activation": "relu", "dropout": 0.1},
        {"op": "norm", "kind": "batch"},
        {"op": "linear", "out_features": 10, "bias": False},
    ],
    [
        {"op": "flatten"},
        {"op": "linear", "out_features": 8},
        {"op": "residual", "body": [HIDDEN, {"op": "norm", "kind": "layer"}], "activation": "gelu"},
        {"op": "parallel", "split": True, "branches": [[], [HIDDEN]]},
        {"op": "parallel", "merge": "add", "branches": [[HIDDEN], [HIDDEN, HIDDEN]]},
        {"op": "linear", "out_features": 10},
    ],
]


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """A valid spec; a layer that does not fit what comes before it is left out."""
    height, width = draw(st.integers(9, 24)), draw(st.integers(9, 24))
    head = draw(st.sampled_from(HEADS))
    layers: list[Json] = [{"op": "conv", "out_channels": 4, "kernel_size": 1}]
    for layer in draw(st.lists(LAYERS, min_size=1, max_size=6)):
        if fits([*layers, layer], height, width):
            layers.append(layer)
    half = len(layers) // 2
    blocks = [part for part in (layers[:half], layers[half:]) if part]
    return Spec.model_validate(spec_of(blocks, head, height, width))


def fits(layers: list[Json], height: int, width: int) -> bool:
    """Whether these layers resolve, and keep a map of at least two cells a side."""
    spec = Spec.model_validate(spec_of([layers], HEADS[0], height, width))
    try:
        network = resolve(spec)
    except InputError:
        return False
    return min(network.sections[0][-1].after.size) >= 2
