"""The arithmetic of one operation: integers in, integers out.

A spec's layers resolve to these few operations (see `network`); each knows everything that its
numbers depend on. Sizes are per axis, height before width.
"""

from __future__ import annotations

from collections.abc import Callable
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


def spans(op: Conv2d) -> Pair:
    """Pixels of its input that a kernel spans (height, width)."""
    (k_h, k_w), (d_h, d_w) = op.kernel_size, op.dilation
    return extent(k_h, d_h), extent(k_w, d_w)


def conv_padding(padding: str | int | Pair, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """A spec's padding ("same", "valid" or pixels) as ((top, bottom), (left, right))."""
    if padding == "same":
        return (
            same_padding(extent(kernel[0], dilation[0])),
            same_padding(extent(kernel[1], dilation[1])),
        )
    if isinstance(padding, str):
        return (0, 0), (0, 0)
    pad_h, pad_w = pair(padding)
    return (pad_h, pad_h), (pad_w, pad_w)


def pointwise(
    in_channels: int, out_channels: int, stride: Pair, padding: tuple[Pair, Pair], *, bias: bool
) -> Conv2d:
    """A 1x1 convolution over all channels."""
    return Conv2d(in_channels, out_channels, (1, 1), stride, padding, (1, 1), 1, bias)


class Axis(NamedTuple):
    """One axis of a map, as seen from the image.

    Recurrence: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural
    Networks", Distill 2019, doi:10.23915/distill.00021.

    Attributes:
        size: cells.
        jump: image pixels from one cell to the next.
        rf: image pixels that one cell can see, first to last.
        left: the first image pixel that cell 0 can see; negative in the padding.
    """

    size: int
    jump: int = 1
    rf: int = 1
    left: int = 0

    @property
    def start(self) -> float:
        """The centre of what cell 0 sees, in image pixels."""
        return self.left + (self.rf - 1) / 2

    @property
    def rf_of_all(self) -> int:
        """Image pixels that all cells together see: r + (n - 1) * j."""
        return self.rf + (self.size - 1) * self.jump

    def slide(self, size: int, span: int, stride: int, padding_before: int) -> Axis:
        """The axis after a window of `span` pixels has moved over it."""
        jump = self.jump
        return Axis(
            size, jump * stride, self.rf + (span - 1) * jump, self.left - padding_before * jump
        )

    def pooled(self) -> Axis:
        """The axis after one window over all of it."""
        return Axis(size=1, jump=self.jump, rf=self.rf_of_all, left=self.left)


def conv_weights(op: Conv2d) -> int:
    """Kernel weights: each output channel sees the input channels of its group."""
    height, width = op.kernel_size
    return op.out_channels * (op.in_channels // op.groups) * height * width


def conv_params(op: Conv2d) -> int:
    """Weights, and a bias per output channel.

    >>> conv_params(Conv2d(3, 16, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, False))
    432
    """
    return conv_weights(op) + (op.out_channels if op.bias else 0)


def linear_params(op: Linear) -> int:
    """Weights and, with a bias, one more per output."""
    return op.out_features * (op.in_features + (1 if op.bias else 0))


def norm_params(op: BatchNorm | GroupNorm) -> int:
    """A scale and a shift per channel; running statistics are buffers."""
    return 2 * op.channels


def squeeze_excite_params(op: SqueezeExcite) -> int:
    """Two 1x1 convolutions with biases."""
    return 2 * op.channels * op.squeezed + op.squeezed + op.channels


def conv_macs(op: Conv2d, cells: int) -> int:
    """Each weight is used once a cell."""
    return cells * conv_weights(op)


def _none(_op: Op, _cells: int = 0) -> int:
    return 0


PARAMS: dict[type, Callable[..., int]] = {
    Conv2d: conv_params,
    Linear: linear_params,
    BatchNorm: norm_params,
    GroupNorm: norm_params,
    SqueezeExcite: squeeze_excite_params,
    Pool2d: _none,
    GlobalAvgPool: _none,
    Flatten: _none,
    Activation: _none,
    Dropout: _none,
}
MACS: dict[type, Callable[..., int]] = {
    Conv2d: conv_macs,
    Linear: lambda op, _cells: op.in_features * op.out_features,
    SqueezeExcite: lambda op, _cells: 2 * op.channels * op.squeezed,
    BatchNorm: _none,
    GroupNorm: _none,
    Pool2d: _none,
    GlobalAvgPool: _none,
    Flatten: _none,
    Activation: _none,
    Dropout: _none,
}


def params(op: Op) -> int:
    """Learnable scalars."""
    return PARAMS[type(op)](op)


def macs(op: Op, cells: int) -> int:
    """Multiply-accumulates for one image, `cells` = output height * width.

    Convolutions and linear layers count (padding included), nothing else does.
    """
    return MACS[type(op)](op, cells)
