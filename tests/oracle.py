"""Receptive fields from a second direction: which pixels a cell depends on, cell by cell.

Works backwards over the spec's JSON on an unbounded line, one axis at a time; shares nothing
with the analyzer.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def seen(layers: list[Json], cells: set[int], axis: int) -> set[int]:
    """The cells before `layers` that `cells` after them depend on."""
    for layer in reversed(layers):
        cells = _before(layer, cells, axis)
    return cells


def extent(cells: set[int]) -> int:
    """First to last."""
    return max(cells) - min(cells) + 1


def stride_of(layers: list[Json], axis: int) -> int:
    """The product of all strides on the main path."""
    product = 1
    for layer in layers:
        match layer["op"]:
            case "conv" | "depthwise_separable":
                product *= _on(layer.get("stride", 1), axis)
            case "max_pool" | "avg_pool":
                product *= _on(layer.get("stride") or layer.get("kernel_size", 2), axis)
            case "residual":
                product *= stride_of(layer["body"], axis)
            case _:
                pass
    return product


def _before(layer: Json, cells: set[int], axis: int) -> set[int]:
    match layer["op"]:
        case "conv" | "depthwise_separable":
            cells = {c - _on(layer.get("pointwise_padding", 0), axis) for c in cells}
            kernel = _on(layer.get("kernel_size", 3), axis)
            dilation = _on(layer.get("dilation", 1), axis)
            stride = _on(layer.get("stride", 1), axis)
            padding = layer.get("padding", "same")
            if padding == "same":
                first = (dilation * (kernel - 1)) // 2
            else:
                first = 0 if padding == "valid" else _on(padding, axis)
            return {c * stride - first + dilation * tap for c in cells for tap in range(kernel)}
        case "max_pool" | "avg_pool":
            kernel = _on(layer.get("kernel_size", 2), axis)
            stride = _on(layer.get("stride") or layer.get("kernel_size", 2), axis)
            first = _on(layer.get("padding", 0), axis)
            return {c * stride - first + tap for c in cells for tap in range(kernel)}
        case "residual":
            stride = stride_of(layer["body"], axis)
            return seen(layer["body"], cells, axis) | {c * stride for c in cells}
        case "parallel":
            return set().union(*(seen(branch, cells, axis) for branch in layer["branches"]))
        case _:
            return cells


def _on(value: Any, axis: int) -> int:
    return int(value[axis] if isinstance(value, list | tuple) else value)
