"""Branches that join: what must agree, and what the joined map sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from archsearch.errors import Problem
from archsearch.spec.formatting import shape_text
from archsearch.spec.network import FeatureMap
from archsearch.spec.receptive_field import Axis

Merge = Literal["add", "concat"]


def join_problems(place: str, merge: Merge, ends: Sequence[FeatureMap]) -> Iterator[Problem]:
    """What keeps the branches' ends from being joined."""
    rules: list[tuple[str, str, list[object]]] = [
        ("flat", "all be maps or all be vectors", [end.flat for end in ends]),
        ("size", "have maps of one size", [shape_text(end.size) for end in ends]),
    ]
    if merge == "add":
        rules.append(("channels", "have equal channels", [end.channels for end in ends]))
    for what, must, values in rules:
        if len(set(values)) > 1:
            got = " and ".join(map(str, values))
            message = f"the branches to {merge} must {must}, got {got}"
            yield Problem(place, f"join-{what}", message)
    for axis, name in enumerate(("height", "width")):
        jumps = {end.jump[axis] for end in ends}
        # On a single cell the jump has no meaning, so a stride there cannot disagree.
        if len(jumps) > 1 and ends[0].size[axis] > 1:
            yield Problem(
                place,
                "join-jump",
                f"the branches move {' and '.join(map(str, sorted(jumps)))} pixels a cell "
                f"({name}) though their maps are equal; give them the same strides",
            )


def join_maps(merge: Merge, ends: Sequence[FeatureMap]) -> FeatureMap:
    """The map that branches which fit leave together."""
    channels = [end.channels for end in ends]
    gates = [end.gate or end.rf for end in ends]
    pooled = any(end.gate for end in ends)
    return FeatureMap(
        sum(channels) if merge == "concat" else channels[0],
        _join_axes([end.height for end in ends]),
        _join_axes([end.width for end in ends]),
        ends[0].flat,
        (max(g[0] for g in gates), max(g[1] for g in gates)) if pooled else None,
    )


def _join_axes(axes: Sequence[Axis]) -> Axis:
    """What a cell sees over all paths: from the first pixel of any to the last of any.

    Where the paths' centres agree this is the longest path's receptive field.
    """
    left = min(axis.left for axis in axes)
    right = max(axis.left + axis.rf for axis in axes)
    return Axis(axes[0].size, max(axis.jump for axis in axes), right - left, left)
