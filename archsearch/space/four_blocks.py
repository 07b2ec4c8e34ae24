"""The search space: every knob with its choices, and the spec that a setting of them stands for.

Four blocks and an output. A block is an entry layer, which may stride and widen, and a body of
equal layers. Every knob is drawn every time; settings that make no difference (the dilation of
an empty body) give the same network, which the search recognises by its hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field

from archsearch.spec.models import ActivationKind, Frozen, Spec

Entry = Literal["conv", "depthwise_separable"]
Body = Literal[
    "conv",
    "residual",
    "basic_block",
    "depthwise_separable",
    "residual_depthwise_separable",
    "basic_block_depthwise_separable",
    "bottleneck",
]
Width = Annotated[int, Field(strict=True, ge=4, le=4_096)]
Stride = Annotated[int, Field(strict=True, ge=1, le=4)]
Depth = Annotated[int, Field(strict=True, ge=0, le=16)]
Dilation = Annotated[int, Field(strict=True, ge=1, le=8)]
_AT_LEAST_ONE = Field(min_length=1, max_length=64, json_schema_extra={"uniqueItems": True})


def _different(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(choices)) < len(choices):
        raise ValueError("a list of different choices")  # the parser says "must be"
    return choices


_Different = AfterValidator(_different)

Value = int | str
Knobs = Mapping[str, Value]
"""One setting: knob name (`block2.width`) to value."""
LayerData = dict[str, Any]
"""A layer as a spec's JSON has it."""
BOTTLENECK = 2
"""A bottleneck's inner width is the block's width over this."""


class BlockSpace(Frozen):
    """The choices of one block."""

    width: Annotated[tuple[Width, ...], _AT_LEAST_ONE, _Different]
    """Channels out."""
    stride: Annotated[tuple[Stride, ...], _AT_LEAST_ONE, _Different] = (1, 2)
    """Of the entry layer."""
    entry: Annotated[tuple[Entry, ...], _AT_LEAST_ONE, _Different] = get_args(Entry)
    body: Annotated[tuple[Body, ...], _AT_LEAST_ONE, _Different] = get_args(Body)
    """The kind of the layers after the entry; a basic block is a residual of two (ResNet's)."""
    depth: Annotated[tuple[Depth, ...], _AT_LEAST_ONE, _Different] = (0, 1, 2, 3)
    """How many of them."""
    dilation: Annotated[tuple[Dilation, ...], _AT_LEAST_ONE, _Different] = (1, 2)
    """Of the body's 3x3 kernels; in a basic block of the first one."""


class Space(Frozen):
    """The choices of a whole network.

    Example:
        >>> import archsearch as asr
        >>> space = asr.Space(block2={"width": [24, 32], "entry": ["conv"]})
        >>> space.block2.width
        (24, 32)
    """

    block1: BlockSpace = BlockSpace(
        width=(16, 24, 32), stride=(1,), entry=("conv",), depth=(0, 1), dilation=(1,)
    )
    block2: BlockSpace = BlockSpace(width=(32, 40, 48, 56, 64), entry=("conv",))
    block3: BlockSpace = BlockSpace(width=(48, 64, 80, 96, 112, 128))
    block4: BlockSpace = BlockSpace(width=(64, 80, 96, 112, 128, 144, 160))
    activation: Annotated[tuple[ActivationKind, ...], _AT_LEAST_ONE, _Different] = ("relu", "silu")


BLOCKS = tuple(name for name in Space.model_fields if name.startswith("block"))


def knob_choices(space: Space) -> dict[str, tuple[Value, ...]]:
    """Every knob's choices, in order, by name."""
    blocks = ((block, getattr(space, block)) for block in BLOCKS)
    choices = {f"{block}.{knob}": values for block, knobs in blocks for knob, values in knobs}
    return {**choices, "activation": space.activation}


def spec_of(knobs: Knobs, name: str) -> Spec:
    """The spec that a setting stands for: 3x32x32 images, 10 classes."""
    return Spec.model_validate(spec_data(knobs, name))


def spec_data(knobs: Knobs, name: str) -> dict[str, Any]:
    """The same as plain data, without what a spec need not say."""
    blocks = [
        {"name": f"conv{i}", "layers": _layers(knobs, block)}
        for i, block in enumerate(BLOCKS, start=1)
    ]
    return {"name": name, "blocks": blocks, "output": {"layers": HEAD}}


def _layers(knobs: Knobs, block: str) -> list[LayerData]:
    def knob(name: str) -> Any:
        return knobs[f"{block}.{name}"]

    activation = str(knobs["activation"])
    entry = conv_layer(knob("entry"), knob("width"), activation, stride=knob("stride"))
    body = body_layer(knob("body"), knob("width"), knob("dilation"), activation)
    return [entry, *[body] * knob("depth")]


HEAD: list[LayerData] = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
"""The output's layers."""


def body_layer(kind: str, width: int, dilation: int, activation: str) -> LayerData:
    """One of the layers after a block's entry; it keeps the map's shape."""
    match kind:
        case "conv" | "depthwise_separable":
            return conv_layer(kind, width, activation, dilation=dilation)
        case "bottleneck":
            inner = max(1, width // BOTTLENECK)
            inside = [
                conv_layer("conv", inner, activation, kernel_size=1),
                conv_layer("conv", inner, activation, dilation=dilation),
                conv_layer("conv", width, activation, kernel_size=1),
            ]
        case _:
            op = "depthwise_separable" if kind.endswith("depthwise_separable") else "conv"
            inside = [conv_layer(op, width, activation, dilation=dilation)]
            if kind.startswith("basic_block"):
                inside.append(conv_layer(op, width, activation))
    return {"op": "residual", "body": inside}


_DEFAULTS = {"activation": "relu", "kernel_size": 3, "stride": 1, "dilation": 1}


def conv_layer(op: str, width: int, activation: str, **fields: int) -> LayerData:
    """Return a convolution's fields, without those that have a layer's defaults."""
    given = {"activation": activation, **fields}
    changed = {name: value for name, value in given.items() if value != _DEFAULTS[name]}
    return {"op": op, "out_channels": width, **changed}
