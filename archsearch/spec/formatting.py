"""How figures and names read, in tables, code and pictures alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from archsearch.spec.network import FeatureMap
from archsearch.spec.ops import Conv2d, Pool2d, extent
from archsearch.spec.receptive_field import Axis


def shape_text(shape: Iterable[object]) -> str:
    """A map's shape.

    >>> shape_text((64, 16, 16))
    '64x16x16'
    """
    return "x".join(map(str, shape))


Figure = TypeVar("Figure", int, str)


def axes(pair: tuple[Figure, Figure]) -> Figure | str:
    """A (height, width) as a cell: one figure where both agree."""
    return pair[0] if pair[0] == pair[1] else shape_text(pair)


def axes_text(pair: tuple[Figure, Figure]) -> str:
    """One figure where both axes agree.

    >>> axes_text((3, 3)), axes_text((3, 5))
    ('3', '3x5')
    """
    return str(axes(pair))


def receptive_field_step(
    window: Conv2d | Pool2d | None, before: FeatureMap, after: FeatureMap, *, pools_all: bool
) -> str:
    """The step as it is written by hand: r + (k - 1) * j, with k the dilated kernel's extent.

    Args:
        window: what moved over the map; null where nothing did.
        before: the map that it met.
        after: the map that it left.
        pools_all: a global pool, one window over all of the map.
    """
    axes = ((before.height, after.height), (before.width, after.width))
    steps = [
        _pooled_step(old, new) if pools_all else _step(window, axis, old, new)
        for axis, (old, new) in enumerate(axes)
    ]
    return steps[0] if steps[0] == steps[1] else f"h: {steps[0]}; w: {steps[1]}"


def _pooled_step(before: Axis, after: Axis) -> str:
    return f"{before.rf} + ({before.size} - 1) * {before.jump} = {after.rf}"


def _step(window: Conv2d | Pool2d | None, axis: int, before: Axis, after: Axis) -> str:
    if window is None:
        return f"{after.rf}"
    kernel = window.kernel_size[axis]
    span, note = kernel, ""
    if isinstance(window, Conv2d) and window.dilation[axis] > 1 and kernel > 1:
        span = extent(kernel, window.dilation[axis])
        note = f"  ({kernel}x dilated by {window.dilation[axis]} spans {span})"
    return f"{before.rf} + ({span} - 1) * {before.jump} = {after.rf}{note}"


Number = TypeVar("Number", int, float)


def axes_data(pair: tuple[Number, Number]) -> Number | list[Number]:
    """One value where both axes agree, else [height, width]."""
    return pair[0] if pair[0] == pair[1] else list(pair)
