"""Pixels from a second direction: every pixel that every cell of every map depends on, in 2-D.

Works forwards over a spec's JSON with one boolean image a cell. Maps are bounded: a tap in the
padding adds nothing. Shares nothing with the analyzer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]
Seen = NDArray[np.bool_]
"""[row of the map, column of the map, row of the image, column of the image]"""


@dataclass(frozen=True)
class Map:
    """What the cells of a map see, and how far apart they are in pixels (height, width)."""

    channels: int
    seen: Seen
    jump: tuple[int, int] = (1, 1)
    flat: bool = False


@dataclass(frozen=True)
class Step:
    """A convolution, pool, join or head at its place; `dead` kernel weights meet no pixel."""

    place: str
    op: str
    after: Map
    dead: int = 0

    @property
    def blind(self) -> int:
        """Cells that see nothing."""
        return int((~self.after.seen.any(axis=(2, 3))).sum())

    @property
    def clipped(self) -> tuple[int, int]:
        """The longest reach of a cell, first seen pixel to last, per axis."""
        return _most(self.after.seen, first_to_last)

    @property
    def skipped(self) -> tuple[int, int]:
        """The most pixels that a cell leaves out within its reach, per axis."""
        return _most(self.after.seen, lambda line: first_to_last(line) - int(line.sum()))


def first_to_last(line: NDArray[np.bool_]) -> int:
    """From the first true entry to the last, both counted."""
    (where,) = line.nonzero()
    return int(where[-1] - where[0]) + 1 if where.size else 0


def _most(seen: Seen, measure: Any) -> tuple[int, int]:
    cells = seen.reshape(-1, *seen.shape[2:])
    most = []
    for axis in (2, 1):  # what is left after removing columns is rows, and the other way round
        lines = np.unique(cells.any(axis=axis), axis=0)
        most.append(max(measure(line) for line in lines))
    return most[0], most[1]


def follow(spec: Json) -> list[Step]:
    """Every step of `spec`, branches in order, from the image to the logits."""
    image = spec["input"]
    height, width = image["height"], image["width"]
    seen = np.eye(height * width, dtype=bool).reshape(height, width, height, width)
    at = Map(image["channels"], seen)
    steps: list[Step] = []
    for i, block in enumerate(spec["blocks"]):
        at = _layers(block["layers"], f"blocks.{i}.layers", at, steps)
    _layers(spec["output"]["layers"], "output.layers", at, steps)
    return steps


def _layers(layers: list[Json], place: str, at: Map, steps: list[Step]) -> Map:
    for i, layer in enumerate(layers):
        at = _layer(layer, f"{place}.{i}", at, steps)
    return at


def _layer(layer: Json, place: str, at: Map, steps: list[Step]) -> Map:
    match layer["op"]:
        case "conv":
            return _plain_conv(layer, place, at, steps)
        case "depthwise_separable":
            return _separable(layer, place, at, steps)
        case "max_pool" | "avg_pool":
            return _pool(layer, place, at, steps)
        case "residual":
            return _residual(layer, place, at, steps)
        case "parallel":
            return _parallel(layer, place, at, steps)
        case "norm" | "activation" | "dropout":
            return at
        case op:
            after = _unmoved(layer, at)
            steps.append(Step(place, op, after))
            return after


def _unmoved(layer: Json, at: Map) -> Map:
    """The map after a layer that moves no window."""
    match layer["op"]:
        case "global_avg_pool":
            return Map(at.channels, _all(at.seen), at.jump)
        case "flatten":
            channels = at.channels * at.seen.shape[0] * at.seen.shape[1]
            return Map(channels, _all(at.seen), at.jump, flat=True)
        case "linear":
            return Map(layer["out_features"], at.seen, at.jump, flat=True)
        case "squeeze_excite":
            return at  # gates are not counted
        case op:
            raise AssertionError(op)


def _plain_conv(layer: Json, place: str, at: Map, steps: list[Step]) -> Map:
    groups = layer.get("groups", 1)
    groups = at.channels if groups == "depthwise" else groups
    return _conv(layer, place, "conv", at, layer["out_channels"], groups, steps)


def _separable(layer: Json, place: str, at: Map, steps: list[Step]) -> Map:
    inner = at.channels * layer.get("depth_multiplier", 1)
    at = _conv(layer, place, "depthwise", at, inner, at.channels, steps)
    pointwise = {"kernel_size": 1, "padding": layer.get("pointwise_padding", 0)}
    return _conv(pointwise, place, "pointwise", at, layer["out_channels"], 1, steps)


def _conv(
    layer: Json, place: str, op: str, at: Map, out_channels: int, groups: int, steps: list[Step]
) -> Map:
    windows = [_window(layer, axis) for axis in (0, 1)]
    seen, alive = _slide(at.seen, *windows)
    taps = windows[0].kernel * windows[1].kernel
    dead = (taps - alive) * out_channels * (at.channels // groups)
    after = Map(out_channels, seen, _jump(at, windows))
    steps.append(Step(place, op, after, dead))
    return after


def _pool(layer: Json, place: str, at: Map, steps: list[Step]) -> Map:
    kernel = layer.get("kernel_size", 2)
    stride = layer.get("stride")
    settings = {
        "kernel_size": kernel,
        "stride": kernel if stride is None else stride,
        "padding": layer.get("padding", 0),
    }
    windows = [_window(settings, axis) for axis in (0, 1)]
    seen, _ = _slide(at.seen, *windows)
    after = Map(at.channels, seen, _jump(at, windows))
    steps.append(Step(place, layer["op"], after))
    return after


def _residual(layer: Json, place: str, at: Map, steps: list[Step]) -> Map:
    end = _layers(layer["body"], f"{place}.body", at, steps)
    side = at
    if end.channels != at.channels or end.seen.shape != at.seen.shape:
        stride = [max(1, there // here) for there, here in zip(end.jump, at.jump, strict=True)]
        point = {"kernel_size": 1, "stride": stride}
        side = _conv(point, place, "shortcut", at, end.channels, 1, steps)
    after = Map(end.channels, end.seen | side.seen, end.jump, end.flat)
    steps.append(Step(place, "add", after))
    return after


def _parallel(layer: Json, place: str, at: Map, steps: list[Step]) -> Map:
    branches, merge = layer["branches"], layer.get("merge", "concat")
    start = at
    if layer.get("split"):
        start = Map(at.channels // len(branches), at.seen, at.jump, at.flat)
    ends = [
        _layers(branch, f"{place}.branches.{i}", start, steps) for i, branch in enumerate(branches)
    ]
    seen = np.logical_or.reduce([end.seen for end in ends])
    channels = [end.channels for end in ends]
    jump = (max(end.jump[0] for end in ends), max(end.jump[1] for end in ends))
    total = sum(channels) if merge == "concat" else channels[0]
    after = Map(total, seen, jump, ends[0].flat)
    steps.append(Step(place, merge, after))
    return after


@dataclass(frozen=True)
class _Window:
    """How a kernel moves along one axis; `before` and `after` are padding."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    def cells(self, size: int) -> int:
        span = self.dilation * (self.kernel - 1) + 1
        return (size + self.before + self.after - span) // self.stride + 1

    def inputs(self, tap: int, size: int) -> tuple[list[int], list[int]]:
        """The cells at which a tap lies inside the map, and the map's cell under it."""
        pairs = [
            (cell, cell * self.stride - self.before + tap * self.dilation)
            for cell in range(self.cells(size))
        ]
        inside = [(cell, under) for cell, under in pairs if 0 <= under < size]
        return [cell for cell, _ in inside], [under for _, under in inside]


def _window(layer: Json, axis: int) -> _Window:
    kernel, dilation = _on(layer.get("kernel_size", 3), axis), _on(layer.get("dilation", 1), axis)
    padding = layer.get("padding", "same")
    if padding == "same":
        before = dilation * (kernel - 1) // 2
        after = dilation * (kernel - 1) - before
    else:
        before = after = 0 if padding == "valid" else _on(padding, axis)
    return _Window(kernel, _on(layer.get("stride", 1), axis), dilation, before, after)


def _slide(seen: Seen, rows: _Window, columns: _Window) -> tuple[Seen, int]:
    """What the output's cells see, and the kernel's taps that meet a seeing cell anywhere."""
    height, width = seen.shape[:2]
    out = np.zeros((rows.cells(height), columns.cells(width), *seen.shape[2:]), dtype=bool)
    alive = 0
    for row in range(rows.kernel):
        down, from_rows = rows.inputs(row, height)
        for column in range(columns.kernel):
            across, from_columns = columns.inputs(column, width)
            met = seen[np.ix_(from_rows, from_columns)]
            out[np.ix_(down, across)] |= met
            alive += bool(met.any())
    return out, alive


def _jump(at: Map, windows: list[_Window]) -> tuple[int, int]:
    return at.jump[0] * windows[0].stride, at.jump[1] * windows[1].stride


def _all(seen: Seen) -> Seen:
    return np.logical_or.reduce(seen, axis=(0, 1), keepdims=True)


def _on(value: Any, axis: int) -> int:
    return int(value[axis] if isinstance(value, list | tuple) else value)
