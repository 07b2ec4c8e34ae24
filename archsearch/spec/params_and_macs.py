"""Learnable scalars and multiply-accumulates of each operation: what counts, and what does not."""

from __future__ import annotations

from collections.abc import Callable

from archsearch.spec import ops


def conv_weights(op: ops.Conv2d) -> int:
    """Kernel weights: each output channel sees the input channels of its group."""
    height, width = op.kernel_size
    return op.out_channels * (op.in_channels // op.groups) * height * width


def conv_params(op: ops.Conv2d) -> int:
    """Weights, and a bias per output channel.

    >>> conv_params(ops.Conv2d(3, 16, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, False))
    432
    """
    return conv_weights(op) + (op.out_channels if op.bias else 0)


def linear_params(op: ops.Linear) -> int:
    """Weights and, with a bias, one more per output."""
    return op.out_features * (op.in_features + (1 if op.bias else 0))


def norm_params(op: ops.BatchNorm | ops.GroupNorm) -> int:
    """A scale and a shift per channel; running statistics are buffers."""
    return 2 * op.channels


def squeeze_excite_params(op: ops.SqueezeExcite) -> int:
    """Two 1x1 convolutions with biases."""
    return 2 * op.channels * op.squeezed + op.squeezed + op.channels


def _none(_op: ops.Op, _cells: int = 0) -> int:
    return 0


_FREE = (ops.Pool2d, ops.GlobalAvgPool, ops.Flatten, ops.Activation, ops.Dropout)
PARAMS: dict[type, Callable[..., int]] = {
    ops.Conv2d: conv_params,
    ops.Linear: linear_params,
    ops.BatchNorm: norm_params,
    ops.GroupNorm: norm_params,
    ops.SqueezeExcite: squeeze_excite_params,
    **dict.fromkeys(_FREE, _none),
}
MACS: dict[type, Callable[..., int]] = {
    ops.Conv2d: lambda op, cells: cells * conv_weights(op),  # each is used once a cell
    ops.Linear: lambda op, _cells: op.in_features * op.out_features,
    ops.SqueezeExcite: lambda op, _cells: 2 * op.channels * op.squeezed,
    **dict.fromkeys((ops.BatchNorm, ops.GroupNorm, *_FREE), _none),
}


def params(op: ops.Op) -> int:
    """Learnable scalars."""
    return PARAMS[type(op)](op)


def macs(op: ops.Op, cells: int) -> int:
    """Multiply-accumulates for one image, `cells` = output height * width.

    Convolutions and linear layers count (padding included), nothing else does.
    """
    return MACS[type(op)](op, cells)
