"""A spec's network: every default made explicit, every shape worked out and checked, here alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from archsearch.errors import InputError, Problem
from archsearch.spec import models as s
from archsearch.spec import ops
from archsearch.spec.formatting import shape_text
from archsearch.spec.joins import join_maps, join_problems
from archsearch.spec.network import FeatureMap, Join, Network, Node, Trail, Trunk, covers_map
from archsearch.spec.ops import Pair
from archsearch.spec.receptive_field import Axis
from archsearch.spec.size_limits import count_layers, size_problems

MAX_FEATURES = 10**9
"""Bounds what concatenation can add up to, as a field of a spec is bounded by itself."""


def resolve(spec: s.Spec) -> Network:
    """Work out every shape of `spec`.

    Raises:
        InputError: shapes do not fit; with every place where they do not.
    """
    every = (*(layer for block in spec.blocks for layer in block.layers), *spec.output.layers)
    if problems := size_problems(*count_layers(every)):
        raise InputError(spec.name, problems)
    image = image_of(spec.input)
    resolver = _Resolver()
    at = image
    sections: list[Trunk] = []
    names: set[str] = set()
    for i, block in enumerate(spec.blocks):
        if block.name in names:
            message = f"{block.name!r} is taken; rename this block"
            resolver.problem(f"blocks.{i}.name", "unique-name", message)
        names.add(block.name)
        nodes, at = resolver.layers(block.layers, f"blocks.{i}.layers", at)
        sections.append(nodes)
    nodes, at = resolver.layers(spec.output.layers, "output.layers", at)
    sections.append(nodes)
    last = f"output.layers.{len(spec.output.layers) - 1}"
    if problems := [*resolver.problems, *_logits_problems(last, spec.classes, at)]:
        raise InputError(spec.name, problems)
    return Network(spec, image, tuple(sections), at)


def resolve_run(layers: tuple[s.Layer, ...], before: FeatureMap) -> tuple[Trunk, FeatureMap]:
    """Some layers on a map of their own: their operations and the map after them.

    Raises:
        InputError: shapes do not fit.
    """
    resolver = _Resolver()
    trunk, after = resolver.layers(layers, "layers", before)
    if resolver.problems:
        raise InputError("layers", resolver.problems)
    return trunk, after


def image_of(image: s.Input) -> FeatureMap:
    """One image, as a map whose cells are its pixels."""
    return FeatureMap(image.channels, Axis(image.height), Axis(image.width))


def _logits_problems(place: str, classes: int, at: FeatureMap) -> Iterator[Problem]:
    if at.cells != 1:
        yield Problem(
            place,
            "logits",
            f"ends in a map of {shape_text(at.size)}; end in one logit a class: "
            'add {"op": "global_avg_pool"} (or flatten and linear)',
        )
    if at.channels != classes:
        yield Problem(
            place,
            "logits",
            f"ends in {at.channels:,} channels for {classes:,} classes; "
            f"set the last out_channels or out_features to {classes}",
        )


class _Resolver:
    """Follows one spec from the image to the logits, and notes what does not fit.

    After a problem it goes on with the likeliest shape, so that the rest is checked too.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._collapsed = False

    def problem(self, place: str, rule: str, message: str) -> None:
        self.problems.append(Problem(place, rule, message))

    def layers(
        self, layers: tuple[s.Layer, ...], place: str, at: FeatureMap
    ) -> tuple[Trunk, FeatureMap]:
        """What `layers` are made of, and the map after them."""
        nodes: list[Node | Join] = []
        for i, layer in enumerate(layers):
            trail = Trail(f"{place}.{i}", at)
            _RESOLVE[type(layer)](self, layer, trail)
            nodes += trail.nodes
            at = trail.at
            if at.channels > MAX_FEATURES:
                message = f"{at.channels:,} channels; at most {MAX_FEATURES:,} are counted"
                self.problem(trail.place, "channels", message)
                at = at._replace(channels=MAX_FEATURES)
        return tuple(nodes), at

    # Convolutions

    def conv(self, layer: s.Conv, trail: Trail) -> None:
        self._want_map(layer.op, trail)
        channels = trail.at.channels
        groups = channels if layer.groups == "depthwise" else layer.groups
        for what, count in (("input", channels), ("output", layer.out_channels)):
            if count % groups:
                self.problem(
                    f"{trail.place}.groups",
                    "groups",
                    f"{groups} groups do not divide {count} {what} channels; "
                    f"use a divisor of {count}",
                )
        self._convolve(layer, "conv", layer.out_channels, groups, trail)
        self._finish(layer, trail)

    def depthwise_separable(self, layer: s.DepthwiseSeparable, trail: Trail) -> None:
        self._want_map(layer.op, trail)
        channels = trail.at.channels
        self._convolve(layer, "depthwise", channels * layer.depth_multiplier, channels, trail)
        self.norm(layer.mid_norm, layer.num_groups, "mid_norm", trail)
        trail.activation(layer.mid_activation, "mid_activation")
        pad_h, pad_w = ops.pair(layer.pointwise_padding)
        padding = ((pad_h, pad_h), (pad_w, pad_w))
        op = ops.pointwise(
            trail.at.channels, layer.out_channels, (1, 1), padding, bias=_bias(layer)
        )
        self._append_conv(op, "pointwise", trail)
        self._finish(layer, trail)

    def _convolve(
        self,
        layer: s.Convolution,
        role: str,
        out_channels: int,
        groups: int,
        trail: Trail,
    ) -> None:
        kernel, dilation = ops.pair(layer.kernel_size), ops.pair(layer.dilation)
        op = ops.Conv2d(
            trail.at.channels,
            out_channels,
            kernel,
            ops.pair(layer.stride),
            ops.conv_padding(layer.padding, kernel, dilation),
            dilation,
            groups,
            _bias(layer),
        )
        self._append_conv(op, role, trail)

    def _append_conv(self, op: ops.Conv2d, role: str, trail: Trail) -> None:
        spans = ops.spans(op.kernel_size, op.dilation)
        after = self._slide(trail, spans, op.stride, op.padding)
        trail.add(role, op, after._replace(channels=op.out_channels))

    def _finish(self, layer: s.Convolution, trail: Trail) -> None:
        """Norm and activation in the layer's order, then dropout."""
        if layer.order == "act_norm":
            trail.activation(layer.activation)
        self.norm(layer.norm, layer.num_groups, "norm", trail)
        if layer.order == "norm_act":
            trail.activation(layer.activation)
        trail.dropout(layer.dropout, layer.dropout_kind)

    # Pools and heads

    def pool(self, layer: s.MaxPool | s.AvgPool, trail: Trail) -> None:
        self._want_map(layer.op, trail)
        kernel, padding = ops.pair(layer.kernel_size), ops.pair(layer.padding)
        stride = kernel if layer.stride is None else ops.pair(layer.stride)
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            self.problem(
                f"{trail.place}.padding",
                "pool-padding",
                f"must be at most half the kernel, got {shape_text(padding)} for "
                f"{shape_text(kernel)}",
            )
        kind: Literal["max", "avg"] = "max" if isinstance(layer, s.MaxPool) else "avg"
        op = ops.Pool2d(kind, kernel, stride, padding)
        sides = ((padding[0], padding[0]), (padding[1], padding[1]))
        after = self._slide(trail, kernel, stride, sides)
        if covers_map(op, trail.at, after) and trail.at.gate is None:
            after = after._replace(gate=trail.at.rf)
        trail.add("pool", op, after)

    def global_avg_pool(self, layer: s.GlobalAvgPool, trail: Trail) -> None:
        self._want_map(layer.op, trail)
        at = trail.at
        pooled = at._replace(height=at.height.pooled(), width=at.width.pooled())
        trail.add("pool", ops.GlobalAvgPool(), pooled._replace(gate=at.gate or at.rf))

    def linear(self, layer: s.Linear, trail: Trail) -> None:
        at = trail.at
        if not at.flat and at.cells != 1:
            self.problem(
                trail.place,
                "linear-input",
                f"a linear layer takes a vector, not a map of {shape_text(at.size)}; "
                'put {"op": "global_avg_pool"} or {"op": "flatten"} before it',
            )
        op = ops.Linear(at.channels, layer.out_features, layer.bias)
        trail.add("linear", op, at._replace(channels=layer.out_features, flat=True))
        trail.activation(layer.activation)
        trail.dropout(layer.dropout, "element")

    def flatten(self, _layer: s.Flatten, trail: Trail) -> None:
        at = trail.at
        gate = at.gate or (at.rf if at.cells > 1 else None)
        height, width = at.height.pooled(), at.width.pooled()
        after = FeatureMap(at.channels * at.cells, height, width, flat=True, gate=gate)
        trail.add("flatten", ops.Flatten(), after)

    # What leaves the map's size as it is

    def squeeze_excite(self, layer: s.SqueezeExcite, trail: Trail) -> None:
        self._want_map(layer.op, trail)
        channels = trail.at.channels
        squeezed = max(1, channels // layer.reduction)
        trail.add("squeeze_excite", ops.SqueezeExcite(channels, squeezed))

    def norm(self, kind: s.NormKind | None, num_groups: int, role: str, trail: Trail) -> None:
        channels = trail.at.channels
        match kind:
            case "batch":
                trail.add(role, ops.BatchNorm(channels, trail.at.flat))
            case "layer":
                trail.add(role, ops.GroupNorm(channels, 1))
            case "group":
                if channels % num_groups:
                    self.problem(
                        f"{trail.place}.num_groups",
                        "num-groups",
                        f"{num_groups} groups do not divide {channels} channels; "
                        f"use a divisor of {channels}",
                    )
                trail.add(role, ops.GroupNorm(channels, num_groups))
            case None:
                pass

    # Branches

    def residual(self, layer: s.Residual, trail: Trail) -> None:
        at = trail.at
        body, end = self.layers(layer.body, f"{trail.place}.body", at)
        side = Trail(trail.place, at)
        if end.flat != at.flat:
            message = "the body flattens its map; a sum needs a map: flatten after the residual"
            self.problem(trail.place, "residual", message)
        elif at.flat and end.shape != at.shape:
            message = f"the body turns {at.channels} features into {end.channels}; keep them equal"
            self.problem(trail.place, "residual", message)
            side.at = end
        elif end.shape != at.shape:
            self._project(end, side)
        branches = [(body, end), (tuple(side.nodes), side.at)]
        self._merge("residual", branches, "add", trail)
        trail.activation(layer.activation)

    def _project(self, end: FeatureMap, side: Trail) -> None:
        """The automatic shortcut: a 1x1 conv with the body's stride, and a batch norm."""
        at = side.at
        height, width = (max(1, new // old) for new, old in zip(end.jump, at.jump, strict=True))
        op = ops.pointwise(at.channels, end.channels, (height, width), ((0, 0), (0, 0)), bias=False)
        self._append_conv(op, "shortcut", side)
        side.add("shortcut_norm", ops.BatchNorm(end.channels))

    def parallel(self, layer: s.Parallel, trail: Trail) -> None:
        count, start = len(layer.branches), trail.at
        if layer.split:
            if start.channels % count:
                self.problem(
                    f"{trail.place}.split",
                    "split",
                    f"{start.channels} channels do not split evenly among {count} branches; "
                    "change out_channels before them",
                )
            start = start._replace(channels=max(1, start.channels // count))
        branches = [
            self.layers(branch, f"{trail.place}.branches.{i}", start)
            for i, branch in enumerate(layer.branches)
        ]
        self._merge("parallel", branches, layer.merge, trail, split=layer.split)

    def _merge(
        self,
        role: Literal["residual", "parallel"],
        branches: list[tuple[Trunk, FeatureMap]],
        merge: Literal["add", "concat"],
        trail: Trail,
        *,
        split: bool = False,
    ) -> None:
        """Sum or concatenate the branches' ends; what does not fit is a problem."""
        trunks, ends = zip(*branches, strict=True)
        self.problems += join_problems(trail.place, merge, ends)
        after = join_maps(merge, ends)
        trail.nodes.append(Join(trail.place, role, trunks, merge, split, trail.at, after))
        trail.at = after

    # Maps

    def _want_map(self, op: str, trail: Trail) -> None:
        if trail.at.flat:
            message = f"{op} takes a map, and this follows a flatten or linear layer"
            self.problem(trail.place, "map-input", message)
            trail.at = trail.at._replace(flat=False)

    def _slide(
        self, trail: Trail, spans: Pair, stride: Pair, padding: tuple[Pair, Pair]
    ) -> FeatureMap:
        """The map after a window has moved over both axes."""
        at = trail.at
        height = self._slide_axis(trail, "height", at.height, spans[0], stride[0], padding[0])
        if (at.height, spans[0], stride[0], padding[0]) == (
            at.width, spans[1], stride[1], padding[1],
        ):  # fmt: skip
            width = height
        else:
            width = self._slide_axis(trail, "width", at.width, spans[1], stride[1], padding[1])
        return FeatureMap(at.channels, height, width, at.flat, at.gate)

    def _slide_axis(
        self, trail: Trail, name: str, axis: Axis, span: int, stride: int, padding: Pair
    ) -> Axis:
        size = ops.output_size(axis.size, span, stride, padding[0] + padding[1])
        if size < 1 and not self._collapsed:
            self._collapsed = True  # what follows from it would only repeat it
            self.problem(
                trail.place,
                "map-collapsed",
                f"a window of {span} does not fit a map of {name} {axis.size} with "
                f"{padding[0] + padding[1]} of padding: no cell is left; use padding "
                '"same", a smaller kernel or dilation, or fewer strides before it',
            )
        return axis.slide(max(1, size), span, stride, padding[0])


_RESOLVE: dict[type, Callable[..., None]] = {
    s.Conv: _Resolver.conv,
    s.DepthwiseSeparable: _Resolver.depthwise_separable,
    s.MaxPool: _Resolver.pool,
    s.AvgPool: _Resolver.pool,
    s.GlobalAvgPool: _Resolver.global_avg_pool,
    s.Linear: _Resolver.linear,
    s.Residual: _Resolver.residual,
    s.Parallel: _Resolver.parallel,
    s.SqueezeExcite: _Resolver.squeeze_excite,
    s.Norm: lambda self, layer, trail: self.norm(layer.kind, layer.num_groups, "norm", trail),
    s.Activation: lambda _, layer, trail: trail.activation(layer.kind),
    s.Dropout: lambda _, layer, trail: trail.dropout(layer.p, layer.kind),
    s.Flatten: _Resolver.flatten,
}


def _bias(layer: s.Convolution) -> bool:
    return layer.norm is None if layer.bias is None else layer.bias
