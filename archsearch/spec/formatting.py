"""How figures and names read, in tables, code and pictures alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from archsearch.spec.network import FeatureMap
from archsearch.spec.ops import Conv2d, Pool2d, extent
from archsearch.spec.receptive_field import Axis

Figure = TypeVar("Figure", int, str)
Number = TypeVar("Number", int, float)


def shape_text(shape: Iterable[object]) -> str:
    """A map's shape.

    >>> shape_text((64, 16, 16))
    '64x16x16'
    """
    return "x".join(map(str, shape))


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

    Without a `window` nothing moved over the map, or (`pools_all`) one window over all of it did.
    """

    def step(axis: int, old: Axis, new: Axis) -> str:
        if window is None and not pools_all:
            return f"{new.rf}"
        kernel = old.size if window is None or pools_all else window.kernel_size[axis]
        span, note = kernel, ""
        if isinstance(window, Conv2d) and window.dilation[axis] > 1 and kernel > 1:
            span = extent(kernel, window.dilation[axis])
            note = f"  ({kernel}x dilated by {window.dilation[axis]} spans {span})"
        return f"{old.rf} + ({span} - 1) * {old.jump} = {new.rf}{note}"

    height, width = step(0, before.height, after.height), step(1, before.width, after.width)
    return height if height == width else f"h: {height}; w: {width}"


def axes_data(pair: tuple[Number, Number]) -> Number | list[Number]:
    """One value where both axes agree, else [height, width]."""
    return pair[0] if pair[0] == pair[1] else list(pair)
