"""The Wilson interval of a share that was counted on few images."""

from __future__ import annotations

import math
from typing import NamedTuple

_Z_95 = 1.959963984540054
"""95% of a normal distribution lie within this many standard deviations."""


class Interval(NamedTuple):
    """Both ends of a 95% interval."""

    low: float
    high: float


def wilson(right: int, count: int) -> Interval:
    """The 95% interval of a share (Wilson 1927); 0 to 1 where nothing was counted."""
    if not count:
        return Interval(0.0, 1.0)
    share, z2 = right / count, _Z_95**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count)) / (1 + z2)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))
