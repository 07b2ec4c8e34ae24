"""The search space: every knob with its choices, and the spec that a setting of them stands for.

Four blocks and an output. A block is an entry layer, which may stride and widen, and a body of
equal layers. Every knob is drawn every time; settings that make no difference (the dilation of
an empty body) give the same network, which the search recognises by its hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from archsearch.errors import Problem, shown
from archsearch.spec import ActivationKind, Frozen, Spec

Entry = Literal["conv", "depthwise_separable"]
Body = Literal[
    "conv", "residual", "depthwise_separable", "residual_depthwise_separable", "bottleneck"
]
Width = Annotated[int, Field(strict=True, ge=4, le=4_096)]
Stride = Annotated[int, Field(strict=True, ge=1, le=4)]
Depth = Annotated[int, Field(strict=True, ge=0, le=16)]
Dilation = Annotated[int, Field(strict=True, ge=1, le=8)]
_AT_LEAST_ONE = Field(min_length=1, max_length=64)

Value = int | str
Knobs = Mapping[str, Value]
"""One setting: knob name (`block2.width`) to value."""

BOTTLENECK = 2
"""A bottleneck's inner width is the block's width over this."""


class BlockSpace(Frozen):
    """The choices of one block."""

    width: Annotated[tuple[Width, ...], _AT_LEAST_ONE]
    """Channels out."""
    stride: Annotated[tuple[Stride, ...], _AT_LEAST_ONE] = (1, 2)
    """Of the entry layer."""
    entry: Annotated[tuple[Entry, ...], _AT_LEAST_ONE] = ("conv", "depthwise_separable")
    body: Annotated[tuple[Body, ...], _AT_LEAST_ONE] = (
        "conv",
        "residual",
        "depthwise_separable",
        "residual_depthwise_separable",
        "bottleneck",
    )
    """The kind of the layers after the entry."""
    depth: Annotated[tuple[Depth, ...], _AT_LEAST_ONE] = (0, 1, 2, 3)
    """How many of them."""
    dilation: Annotated[tuple[Dilation, ...], _AT_LEAST_ONE] = (1, 2)
    """Of the body's 3x3 kernels."""


class Space(Frozen):
    """The choices of a whole network."""

    block1: BlockSpace = BlockSpace(
        width=(16, 24, 32), stride=(1,), entry=("conv",), depth=(0, 1), dilation=(1,)
    )
    block2: BlockSpace = BlockSpace(
        width=(32, 40, 48, 56), entry=("conv",), body=("conv", "residual", "bottleneck")
    )
    block3: BlockSpace = BlockSpace(width=(48, 64, 80, 96))
    block4: BlockSpace = BlockSpace(width=(64, 96, 128, 160))
    activation: Annotated[tuple[ActivationKind, ...], _AT_LEAST_ONE] = ("relu",)


_BLOCKS = tuple(name for name in Space.model_fields if name.startswith("block"))


def knob_choices(space: Space) -> dict[str, tuple[Value, ...]]:
    """Every knob's choices, in order, by name."""
    choices: dict[str, tuple[Value, ...]] = {}
    for block in _BLOCKS:
        for knob in BlockSpace.model_fields:
            choices[f"{block}.{knob}"] = tuple(getattr(getattr(space, block), knob))
    choices["activation"] = tuple(space.activation)
    return choices


def setting_problems(space: Space, knobs: Knobs, place: str) -> list[Problem]:
    """Why `knobs` is not a setting of `space`."""
    choices = knob_choices(space)
    problems = [
        Problem(f"{place}.{name}", "unknown-knob", f"no such knob; choose {', '.join(choices)}")
        for name in knobs
        if name not in choices
    ]
    for name, values in choices.items():
        if name not in knobs:
            problems.append(Problem(f"{place}.{name}", "missing", "is required and not there"))
        elif knobs[name] not in values:
            told = ", ".join(map(str, values))
            message = f"must be one of the space's choices ({told}), got {shown(knobs[name])}"
            problems.append(Problem(f"{place}.{name}", "choice", message))
    return problems


def spec_of(knobs: Knobs, name: str) -> Spec:
    """The spec that a setting stands for: 3x32x32 images, 10 classes."""
    blocks = []
    for i, block in enumerate(_BLOCKS, start=1):
        setting = {knob: knobs[f"{block}.{knob}"] for knob in BlockSpace.model_fields}
        blocks.append({"name": f"conv{i}", "layers": _layers(setting, knobs["activation"])})
    output = {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]}
    return Spec.model_validate({"name": name, "blocks": blocks, "output": output})


def _layers(setting: Knobs, activation: Value) -> list[dict[str, Any]]:
    layer = {"out_channels": setting["width"], "activation": activation}
    stride = {"stride": setting["stride"]} if setting["stride"] != 1 else {}
    dilation = {"dilation": setting["dilation"]} if setting["dilation"] != 1 else {}
    entry = {"op": setting["entry"], **layer, **stride}
    body = _body(str(setting["body"]), layer, dilation)
    return [entry, *[body] * int(setting["depth"])]


def _body(kind: str, layer: dict[str, Any], dilation: dict[str, Any]) -> dict[str, Any]:
    if kind in ("conv", "depthwise_separable"):
        return {"op": kind, **layer, **dilation}
    if kind == "bottleneck":
        inner = {**layer, "out_channels": max(1, layer["out_channels"] // BOTTLENECK)}
        inside = [
            {"op": "conv", **inner, "kernel_size": 1},
            {"op": "conv", **inner, **dilation},
            {"op": "conv", **layer, "kernel_size": 1},
        ]
    elif kind == "residual":
        inside = [{"op": "conv", **layer, **dilation}]
    else:
        inside = [{"op": "depthwise_separable", **layer, **dilation}]
    return {"op": "residual", "body": inside}
