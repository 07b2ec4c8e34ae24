"""Learnable scalars and multiply-accumulates of each operation: what counts, and what does not."""

from __future__ import annotations

from collections.abc import Callable

from archsearch.spec.ops import (
    Activation,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Linear,
    Op,
    Pool2d,
    SqueezeExcite,
)


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
