"""Calls that are layers of a spec: convolutions, norms, pools, activations, dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import nn

from archsearch.convert.from_module.calls import Call, InexpressibleError
from archsearch.convert.from_module.steps import Pad, Step
from archsearch.convert.from_module.traced import EvalFlag
from archsearch.spec import models as s
from archsearch.spec import ops
from archsearch.spec.formatting import shape_text
from archsearch.spec.ops import Pair

EPS = 1e-5
MOMENTUM = 0.1
"""Of the batch norms that a spec builds."""


def conv(call: Call) -> Step:
    """A convolution, with the zeros that a pad before it adds."""
    conv, source = call.module, call.source
    padding = _own_padding(conv)
    if conv.padding_mode != "zeros" and padding != ((0, 0), (0, 0)):
        raise InexpressibleError(f"padding_mode={conv.padding_mode!r}; a spec pads with zeros")
    if isinstance(source.op, Pad):
        more = source.op.padding
        padding = tuple((a + c, b + d) for (a, b), (c, d) in zip(padding, more, strict=True))
        source = source.inputs[0]
    depthwise = conv.groups == conv.in_channels > 1
    layer = s.Conv(
        op="conv",
        out_channels=conv.out_channels,
        kernel_size=_size(conv.kernel_size),
        stride=_size(conv.stride),
        padding=_padding(conv, *padding),
        dilation=_size(conv.dilation),
        groups="depthwise" if depthwise else conv.groups,
        bias=conv.bias is not None,
        norm=None,
        activation=None,
    )
    return replace(call.step(layer), inputs=(source,))


def _own_padding(conv: nn.Conv2d) -> tuple[Pair, ...]:
    """Of the height and the width, both sides."""
    if conv.padding == "same":
        return _same_padding(conv)
    height, width = (0, 0) if isinstance(conv.padding, str) else conv.padding
    return (height, height), (width, width)


def _same_padding(conv: nn.Conv2d) -> tuple[Pair, ...]:
    spans = map(ops.extent, conv.kernel_size, conv.dilation)
    return tuple(map(ops.same_padding, spans))


def _padding(conv: nn.Conv2d, height: Pair, width: Pair) -> Literal["same"] | int | Pair:
    if (height, width) == _same_padding(conv):
        return "same"
    if height[0] != height[1] or width[0] != width[1]:
        raise InexpressibleError(
            f"pads {height[0]} above, {height[1]} below, {width[0]} left, {width[1]} right; a "
            'spec pads both sides alike, or keeps the size with "same"'
        )
    return _size((height[0], width[0]))


def linear(call: Call) -> Step:
    """A fully connected layer on a vector."""
    if len(call.source.shape) != 1:
        raise InexpressibleError("works on a map's last axis; flatten before it")
    features, bias = call.module.out_features, call.module.bias is not None
    return call.step(s.Linear(op="linear", out_features=features, bias=bias))


def batch_norm(call: Call) -> Step:
    """A batch norm with running statistics, a scale and a shift."""
    norm = call.module
    if norm.running_mean is None:
        raise InexpressibleError("track_running_stats=False; a spec's batch norm keeps them")
    if norm.momentum != MOMENTUM:
        call.note(f"momentum {norm.momentum} becomes {MOMENTUM}")
    if len(call.source.shape) == 2:
        raise InexpressibleError("normalises sequences; a spec has maps and vectors")
    return _normed(call, s.Norm(op="norm"))


def group_norm(call: Call) -> Step:
    """A group norm; with one group, the layer norm of a spec."""
    if call.module.num_groups == 1:
        return _normed(call, s.Norm(op="norm", kind="layer"))
    return _normed(call, s.Norm(op="norm", kind="group", num_groups=call.module.num_groups))


def layer_norm(call: Call) -> Step:
    """A layer norm of a vector."""
    if len(call.source.shape) != 1:
        raise InexpressibleError("normalises a map's last axes; use nn.GroupNorm(1, channels)")
    return _normed(call, s.Norm(op="norm", kind="layer"))


def _normed(call: Call, layer: s.Norm) -> Step:
    if call.module.weight is None or call.module.bias is None:
        raise InexpressibleError("affine=False or no bias; a spec's norms have a scale and a shift")
    if call.module.eps != EPS:
        call.note(f"eps {call.module.eps} becomes {EPS}")
    return call.step(layer)


def activation(kind: s.ActivationKind, call: Call) -> Step:
    """An activation with torch's default settings."""
    slope, approximate = call.given.get("negative_slope"), call.given.get("approximate")
    if slope not in (None, 0.01):
        raise InexpressibleError(f"negative_slope={slope}; a spec's leaky_relu has 0.01")
    if approximate not in (None, "none"):
        raise InexpressibleError(f"approximate={approximate!r}; a spec's gelu is exact")
    return call.step(s.Activation(op="activation", kind=kind))


def dropout(call: Call) -> Step:
    """Dropout of elements, or of whole maps."""
    p, training = call.given["p"], call.given["training"]
    if not isinstance(training, EvalFlag) and training:
        raise InexpressibleError("drops in evaluation too; pass training=self.training")
    if p == 0:
        call.note("dropout that never drops is left out")
        return call.source
    if call.module is None and not isinstance(training, EvalFlag):
        call.note("dropout with training=False is left out")
        return call.source
    maps = call.name in ("Dropout2d", "dropout2d") and len(call.shapes[0]) == 3
    return call.step(s.Dropout(op="dropout", p=p, kind="channel" if maps else "element"))


def pool(call: Call) -> Step:
    """A maximum or mean over windows."""
    given = call.given
    kernel, padding = _pair(given["kernel_size"]), _pair(given["padding"])
    stride = _pair(given["stride"]) if given["stride"] else kernel
    _check_pool(given, kernel, padding)
    floor = tuple(
        ops.output_size(size, k, step, 2 * pad)
        for size, k, step, pad in zip(call.source.shape[1:], kernel, stride, padding, strict=True)
    )
    if floor != call.shapes[0][1:]:
        raise InexpressibleError(
            f"ceil_mode=True gives {call.shapes[0][1:]} cells; a spec's pools give {floor}"
        )
    if given["ceil_mode"]:
        call.note("ceil_mode changes nothing at this size and is left out")
    fields = {
        "kernel_size": _size(kernel),
        "stride": None if stride == kernel else _size(stride),
        "padding": _size(padding),
    }
    if "count_include_pad" in given:
        return call.step(s.AvgPool(op="avg_pool", **fields))
    return call.step(s.MaxPool(op="max_pool", **fields))


def _check_pool(given: Mapping[str, Any], kernel: Pair, padding: Pair) -> None:
    if _pair(given.get("dilation", 1)) != (1, 1):
        raise InexpressibleError(f"dilation={given['dilation']}; a spec's pools have none")
    if given.get("return_indices"):
        raise InexpressibleError("return_indices=True; a spec's pools give maps alone")
    if given.get("count_include_pad") is False and padding != (0, 0):
        raise InexpressibleError("count_include_pad=False; a spec's avg_pool counts the padding")
    if given.get("divisor_override") not in (None, math.prod(kernel)):
        raise InexpressibleError("divisor_override; a spec's avg_pool divides by the window")


def adaptive_pool(call: Call) -> Step:
    """A pool to a given size, where windows of one size lead there."""
    average = "vg" in call.name
    before, after = call.source.shape[1:], call.shapes[0][1:]
    if average and after == (1, 1):
        return call.step(s.GlobalAvgPool(op="global_avg_pool"))
    if before == after:
        call.note(f"adaptive pooling to {shape_text(after)} changes nothing at this size; left out")
        return call.source
    if any(size % cells for size, cells in zip(before, after, strict=True)):
        raise InexpressibleError(
            f"adaptive pooling from {shape_text(before)} to {shape_text(after)} has windows of "
            "several sizes; pool to a divisor of the map"
        )
    kernel = _size((before[0] // after[0], before[1] // after[1]))
    if after != (1, 1):
        call.note(f"adaptive pooling to {shape_text(after)} becomes a pool of {kernel}")
    if average:
        return call.step(s.AvgPool(op="avg_pool", kernel_size=kernel))
    return call.step(s.MaxPool(op="max_pool", kernel_size=kernel))


def mean(call: Call) -> Step:
    """A mean over the map."""
    shape, dim = call.source.shape, call.given["dim"]
    dims = {d % (len(shape) + 1) for d in ((dim,) if isinstance(dim, int) else dim or ())}
    if len(shape) != 3 or dims != {2, 3}:
        raise InexpressibleError("a mean over other axes than a map's two; use dim=(2, 3)")
    pooled = replace(call.step(s.GlobalAvgPool(op="global_avg_pool")), shape=(shape[0], 1, 1))
    if call.given["keepdim"]:
        return pooled
    return replace(call.step(s.Flatten(op="flatten")), inputs=(pooled,))


def _pair(value: Any) -> Pair:
    values = (value,) if isinstance(value, int) else tuple(value)
    return (values[0], values[-1])


def _size(value: Any) -> int | Pair:
    """One number where both axes agree."""
    height, width = _pair(value)
    return height if height == width else (height, width)
