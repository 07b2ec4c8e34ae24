"""A run of layers with fewer of them: norms, activations and dropout within their convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import nn

from archsearch.spec import models as s


@dataclass(frozen=True, slots=True)
class Piece:
    """A layer of a spec, and where it comes from.

    Attributes:
        modules: those that hold its weights, in the order in which `build` makes its own.
        paths: of all modules that it is made of.
        before, after: shapes of one image, (C, H, W) or (C,).
    """

    layer: s.Layer
    modules: tuple[nn.Module, ...]
    paths: tuple[str, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


def fold(pieces: Sequence[Piece]) -> list[Piece]:
    """The same layers, folded into as few as say exactly that."""
    folded = _merged(without_idle_flattens(pieces), _absorbing)
    paired = _merged(folded, _separable)
    return [replace(piece, layer=_with_default_bias(piece.layer)) for piece in paired]


def _merged(
    pieces: Sequence[Piece], one_layer: Callable[[Piece, s.Layer], s.Layer | None]
) -> list[Piece]:
    """Each piece with the next, as long as one layer says the same as both."""
    merged: list[Piece] = []
    for piece in pieces:
        layer = one_layer(merged[-1], piece.layer) if merged else None
        if layer:
            first = merged[-1]
            modules, paths = first.modules + piece.modules, first.paths + piece.paths
            merged[-1] = Piece(layer, modules, paths, first.before, piece.after)
        else:
            merged.append(piece)
    return merged


def without_idle_flattens(pieces: Sequence[Piece], *, logits: bool = False) -> list[Piece]:
    """Leave out flattens of a single cell that end in a linear layer (or the logits)."""
    kept: list[Piece] = []
    linear = logits  # whether a linear layer comes next, behind what takes maps and vectors alike
    for piece in reversed(pieces):
        layer = piece.layer
        if isinstance(layer, s.Flatten) and linear and prod(piece.before[1:]) == 1:
            continue
        alike = isinstance(layer, s.Norm | s.Activation | s.Dropout)
        linear = isinstance(layer, s.Linear) or (linear and alike)
        kept.append(piece)
    return kept[::-1]


def _absorbing(piece: Piece, then: s.Layer) -> s.Layer | None:
    fields = _absorbed(piece.layer, then)
    return piece.layer.model_copy(update=fields) if fields else None


def _absorbed(layer: s.Layer, then: s.Layer) -> dict[str, Any] | None:
    """Fields of `layer` that say what `then` does after it."""
    match layer, then:
        case s.Conv(norm=None, dropout=0), s.Norm():
            order = "act_norm" if layer.activation else "norm_act"
            return {"norm": then.kind, "num_groups": then.num_groups, "order": order}
        case s.Conv(dropout=0) | s.Linear(dropout=0) | s.Residual(), s.Activation():
            return None if layer.activation else {"activation": then.kind}
        case s.Conv(dropout=0), s.Dropout():
            return {"dropout": then.p, "dropout_kind": then.kind}
        case s.Linear(dropout=0), s.Dropout(kind="element"):
            return {"dropout": then.p}
        case _:
            return None


def _separable(piece: Piece, point: s.Layer) -> s.DepthwiseSeparable | None:
    """A depthwise convolution and a pointwise one as one layer, where its fields say that."""
    depth = piece.layer
    if not isinstance(depth, s.Conv) or not isinstance(point, s.Conv):
        return None
    if depth.groups != "depthwise" or depth.order != "norm_act" or depth.dropout:
        return None
    if (point.kernel_size, point.stride, point.groups) != (1, 1, 1) or point.bias != depth.bias:
        return None
    groups = {conv.num_groups for conv in (depth, point) if conv.norm == "group"}
    if len(groups) > 1:
        return None
    fields = point.model_dump(exclude={"op", "groups", "padding", "num_groups", "dilation"})
    fields |= {name: getattr(depth, name) for name in ("kernel_size", "stride", "padding")}
    return s.DepthwiseSeparable(
        op="depthwise_separable",
        **fields,
        dilation=depth.dilation,
        num_groups=min(groups, default=s.DEFAULT_NUM_GROUPS),
        depth_multiplier=depth.out_channels // piece.before[0],
        mid_norm=depth.norm,
        mid_activation=depth.activation,
        pointwise_padding=0 if isinstance(point.padding, str) else point.padding,
    )


def _with_default_bias(layer: s.Layer) -> s.Layer:
    if isinstance(layer, s.Conv | s.DepthwiseSeparable) and layer.bias == (layer.norm is None):
        return layer.model_copy(update={"bias": None})
    return layer
