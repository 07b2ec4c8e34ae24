"""The operations that layers resolve to, and the window arithmetic of their shapes.

Each record knows everything that its parameters, multiply-accumulates and receptive field
depend on. Sizes are per axis, height before width.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Pair = tuple[int, int]
"""(height, width)"""


class Conv2d(NamedTuple):
    """`padding` is ((top, bottom), (left, right))."""

    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int
    bias: bool


class Pool2d(NamedTuple):
    """A window's maximum or mean."""

    kind: Literal["max", "avg"]
    kernel_size: Pair
    stride: Pair
    padding: Pair


class GlobalAvgPool(NamedTuple):
    """The mean over the map."""


class Flatten(NamedTuple):
    """A map to a vector."""


class Linear(NamedTuple):
    """A fully connected layer."""

    in_features: int
    out_features: int
    bias: bool


class BatchNorm(NamedTuple):
    """Over batch and map; `flat`: over the batch alone."""

    channels: int
    flat: bool = False


class GroupNorm(NamedTuple):
    """Over `channels / num_groups` channels and the map of one image."""

    channels: int
    num_groups: int


class Activation(NamedTuple):
    """An elementwise function."""

    kind: str


class Dropout(NamedTuple):
    """`channel`: whole maps at a time."""

    p: float
    channel: bool


class SqueezeExcite(NamedTuple):
    """1x1 convolutions channels -> squeezed -> channels on the pooled map, then gates."""

    channels: int
    squeezed: int


Op = (
    Conv2d
    | Pool2d
    | GlobalAvgPool
    | Flatten
    | Linear
    | BatchNorm
    | GroupNorm
    | Activation
    | Dropout
    | SqueezeExcite
)


def extent(kernel_size: int, dilation: int) -> int:
    """Pixels that a dilated kernel spans.

    >>> extent(3, 2)
    5
    """
    return dilation * (kernel_size - 1) + 1


def output_size(size: int, span: int, stride: int, padding: int) -> int:
    """Cells after a window of `span` moved by `stride`; `padding` is both sides' total.

    Below 1 where the window does not fit. Source: torch.nn.Conv2d, "Shape".

    >>> output_size(32, 5, 2, 0)
    14
    """
    return (size + padding - span) // stride + 1


def same_padding(span: int) -> Pair:
    """(before, after) that keeps ceil(size / stride) cells; the odd pixel goes after.

    At stride 1 this is what PyTorch's padding="same" does.

    >>> same_padding(4)
    (1, 2)
    """
    total = span - 1
    return total // 2, total - total // 2


def pair(value: int | Pair) -> Pair:
    """(height, width) of one value for both axes, or of one an axis."""
    return (value, value) if isinstance(value, int) else value


def spans(kernel: Pair, dilation: Pair) -> Pair:
    """Pixels of its input that a kernel spans (height, width)."""
    return extent(kernel[0], dilation[0]), extent(kernel[1], dilation[1])


def conv_padding(padding: str | int | Pair, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """A spec's padding ("same", "valid" or pixels) as ((top, bottom), (left, right))."""
    if padding == "same":
        height, width = spans(kernel, dilation)
        return same_padding(height), same_padding(width)
    if isinstance(padding, str):
        return (0, 0), (0, 0)
    pad_h, pad_w = pair(padding)
    return (pad_h, pad_h), (pad_w, pad_w)


def pointwise(
    in_channels: int, out_channels: int, stride: Pair, padding: tuple[Pair, Pair], *, bias: bool
) -> Conv2d:
    """A 1x1 convolution over all channels."""
    return Conv2d(in_channels, out_channels, (1, 1), stride, padding, (1, 1), 1, bias)
