"""What can be changed about a spec, one knob a change, and the spec that a setting stands for.

A knob belongs to a layer (`conv2.1.kernel`) or to the whole network (`network.width`). One of
its choices is the spec as it is. A setting may not fit together; that is found out as for any
spec, when its shapes are worked out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from archsearch import ops
from archsearch import spec as s
from archsearch.edited import (
    CONVOLUTIONS,
    Changes,
    Convolution,
    Setting,
    Value,
    edited,
    ends_branch,
    lacks,
    strided_kernel,
)
from archsearch.resolve import resolve
from archsearch.ties import Around, Tie, around_layers, is_depthwise, ties

NETWORK = "network"
AS_IS = "as it is"
Choices = dict[Value, str]
"""What a knob can be, each with the words that tell it."""
_FRACTIONS = (0.5, 0.75, 1.0, 1.25, 1.5)
_PERCENT = range(20, 160, 10)
_ACTIVATIONS: tuple[s.ActivationKind, ...] = ("relu", "silu", "gelu")
_TIMES = ("left out", "once", "twice", "three times")


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing that can be changed.

    Attributes:
        where: the layer, as its block and its number there; or the network.
        kind: of edit.
        as_is: what it is in the spec.
        place: of its layer, as messages about the spec have it; "" where it is no one layer's.
    """

    where: str
    kind: str
    choices: Choices
    as_is: Value
    place: str = ""

    @property
    def name(self) -> str:
        """Which it is, of all of the spec's."""
        return f"{self.where}.{self.kind}"

    def told(self, value: Value) -> str:
        """The edit in words."""
        return f"{self.where}: {self.choices[self.as_is]} -> {self.choices[value]}"


def knobs_of(spec: s.Spec) -> Mapping[str, Knob]:
    """Every knob of a spec, by name.

    Raises:
        InputError: its shapes do not fit together.
    """
    return _view(spec).knobs


def edits_of(spec: s.Spec, setting: Setting) -> dict[str, Value]:
    """What of a setting is not as it is in the spec."""
    knobs = knobs_of(spec)
    return {name: value for name, value in setting.items() if value != knobs[name].as_is}


def apply(spec: s.Spec, setting: Setting, name: str) -> s.Spec:
    """The spec that a setting stands for; a knob that is left out stays as it is.

    Raises:
        InputError: it cannot be written down. Whether its shapes fit is not looked at.
    """
    view, edits = _view(spec), edits_of(spec, setting)
    if not edits:
        return spec.model_copy(update={"name": name})
    layers: dict[str, dict[str, Value]] = {}
    network: dict[str, Value] = {}
    for knob in (view.knobs[knob] for knob in edits):
        if not knob.place:
            network[knob.kind] = edits[knob.name]
        elif knob.kind != "width":
            layers.setdefault(knob.place, {})[knob.kind] = edits[knob.name]
    widths = dict(_widths(view, edits))
    return edited(spec, name, Changes(layers, widths, view.depthwise, network))


@dataclass(frozen=True, slots=True)
class _View:
    """A spec, seen as what can be changed about it.

    Attributes:
        ties: by the name of their knob.
        widths: by place, of every layer that has one.
        depthwise: places of depthwise convolutions.
    """

    knobs: Mapping[str, Knob]
    ties: Mapping[str, Tie]
    widths: Mapping[str, int]
    depthwise: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Site:
    """A layer where it stands.

    Attributes:
        label: its place as a person would say it: its block's name and its number there.
        after: the layers that follow it in its list.
        branch: whether it is inside of a residual or a parallel.
    """

    layer: s.Layer
    place: str
    label: str
    after: tuple[s.Layer, ...]
    branch: bool


@lru_cache(maxsize=16)
def _view(spec: s.Spec) -> _View:
    network = resolve(spec)
    around = around_layers(network)
    blocks = [
        site
        for i, block in enumerate(spec.blocks)
        for site in _sites(block.layers, f"blocks.{i}.layers", block.name)
    ]
    output = list(_sites(spec.output.layers, "output.layers", _output_label(spec)))
    labels = {site.place: site.label for site in (*blocks, *output)}
    widths = {
        site.place: site.layer.out_features
        if isinstance(site.layer, s.Linear)
        else site.layer.out_channels
        for site in (*blocks, *output)
        if isinstance(site.layer, (*CONVOLUTIONS, s.Linear))
    }
    depthwise = frozenset(
        site.place
        for site in (*blocks, *output)
        if isinstance(site.layer, s.Conv)
        and is_depthwise(site.layer, around[site.place].before.channels)
    )
    tied = {f"{labels[tie.places[0]]}.width": tie for tie in ties(network)}
    knobs = [
        *_network_knobs(spec, [site.layer for site in blocks]),
        *(_width_knob(tie, widths, labels) for tie in tied.values()),
        *(knob for site in blocks for knob in _layer_knobs(site, around.get(site.place))),
    ]
    with_choice = {knob.name: knob for knob in knobs if len(knob.choices) > 1}
    return _View(with_choice, tied, widths, depthwise)


def _sites(
    layers: tuple[s.Layer, ...], place: str, label: str, *, branch: bool = False
) -> Iterator[_Site]:
    for i, layer in enumerate(layers):
        at, called = f"{place}.{i}", f"{label}.{i}"
        yield _Site(layer, at, called, layers[i + 1 :], branch)
        if isinstance(layer, s.Residual):
            yield from _sites(layer.body, f"{at}.body", f"{called}.body", branch=True)
        elif isinstance(layer, s.Parallel):
            for j, inside in enumerate(layer.branches):
                below = f"branches.{j}"
                yield from _sites(inside, f"{at}.{below}", f"{called}.{below}", branch=True)


def _output_label(spec: s.Spec) -> str:
    """The output's, which a block may have taken."""
    label = "output"
    while label in {block.name for block in spec.blocks}:
        label += "_"
    return label


# Of the network


def _network_knobs(spec: s.Spec, layers: list[s.Layer]) -> Iterator[Knob]:
    percents: Choices = {percent: f"widths {percent} %" for percent in _PERCENT}
    yield Knob(NETWORK, "width", percents, 100)
    yield _as_is_or("activation", {kind: f"{kind} throughout" for kind in _ACTIVATIONS})
    convs = [layer for layer in layers if isinstance(layer, CONVOLUTIONS)]
    if any(layer.norm is None for layer in convs):
        yield _as_is_or("norm", {"batch": "batch norm throughout"})
    if any(getattr(layer, "dropout", getattr(layer, "p", 0)) for layer in layers):
        yield _as_is_or("dropout", {"none": "no dropout"})
    if not any(isinstance(layer, s.GlobalAvgPool) for layer in (*layers, *spec.output.layers)):
        yield _as_is_or("head", {"global_avg_pool": "global average pooling, a linear layer"})


def _as_is_or(kind: str, others: Choices) -> Knob:
    return Knob(NETWORK, kind, {AS_IS: f"{kind} {AS_IS}", **others}, AS_IS)


# Of widths


def _widths(view: _View, edits: Setting) -> Iterator[tuple[str, int]]:
    """By place, the widths that change; a layer's own knob goes before the network's."""
    percent = int(edits.get(f"{NETWORK}.width", 100))
    for name, tie in view.ties.items():
        first = view.widths[tie.places[0]]
        if name in edits:
            width = int(edits[name])
        else:
            width = first if percent == 100 else _rounded(first * percent / 100, first, tie)
        if width != first:
            for place in tie.places:
                yield place, max(1, round(view.widths[place] * width / first))


def _width_knob(tie: Tie, widths: Mapping[str, int], labels: Mapping[str, str]) -> Knob:
    first = widths[tie.places[0]]
    choices = {first} | {_rounded(first * part, first, tie) for part in _FRACTIONS}
    others = [labels[place] for place in tie.places[1:]]
    along = f" (and {', '.join(others)} with it)" if others else ""
    words: Choices = {
        width: f"{width} channels{along if width != first else ''}" for width in choices
    }
    return Knob(labels[tie.places[0]], "width", dict(sorted(words.items())), first, tie.places[0])


def _rounded(width: float, first: int, tie: Tie) -> int:
    """A width near `width` that is as round as `first`: where that is eights, so is this."""
    step = next(step for step in (8, 4, 2, 1) if first % step == 0 and (first > step or step == 1))
    step = math.lcm(step, tie.multiple)
    return max(step, round(width / step) * step)


# Of a layer


def _layer_knobs(site: _Site, around: Around | None) -> Iterator[Knob]:
    def knob(kind: str, choices: Choices, as_is: Value) -> Knob:
        return Knob(site.label, kind, choices, as_is, site.place)

    layer = site.layer
    keeps_shape = around is not None and around.keeps_shape
    again = isinstance(layer, CONVOLUTIONS) or (isinstance(layer, s.Residual) and keeps_shape)
    yield knob("depth", dict(enumerate(_TIMES if again else _TIMES[:2])), 1)
    if isinstance(layer, s.Residual) and not site.branch:
        yield knob("residual", {"residual": "residual", "plain": "no residual"}, "residual")
    if isinstance(layer, CONVOLUTIONS):
        for kind, (choices, as_is) in _convolution_choices(layer, site, keeps_shape).items():
            yield knob(kind, choices, as_is)


def _convolution_choices(
    layer: Convolution, site: _Site, keeps_shape: bool
) -> dict[str, tuple[Choices, Value]]:
    """By kind of edit, its choices and which of them the layer has."""
    # Of a 1x1 kernel, dilation and being separable change little; but another edit may widen it.
    found: dict[str, tuple[Choices, Value]] = {
        "kernel": _numbers(layer.kernel_size, _kernels(layer), _cross),
        "dilation": _numbers(layer.dilation, (1, 2), lambda d: f"dilation {_text(d)}"),
    }
    if isinstance(layer, s.DepthwiseSeparable) or layer.groups == 1:
        found["op"] = {op: op for op in ("conv", "depthwise_separable")}, layer.op
    if (padding := _other_padding(layer)) is not None:
        found["padding"] = {padding: f"padding {padding}", "same": "padding same"}, padding
    if not site.branch:
        found["downsampling"] = _downsampling(layer)
        if keeps_shape:
            found["residual"] = {"plain": "no residual", "residual": "in a residual"}, "plain"
    if not ends_branch(site.after, branch=site.branch):
        if lacks(s.Norm, layer, site.after):
            found["norm"] = {"none": "no norm", "batch": "batch norm"}, "none"
        if lacks(s.Activation, layer, site.after):
            kinds: Choices = {"none": "no activation"}
            kinds |= {kind: kind for kind in ("relu", "silu")}
            found["activation"] = kinds, "none"
    return found


def _numbers(
    as_is: s.SizePair, usual: tuple[int, ...], words: Callable[[s.SizePair], str]
) -> tuple[Choices, Value]:
    """Usual choices beside what there is, which may be a pair."""
    height, width = ops.pair(as_is)
    if height != width:
        text = _text(as_is)
        return {text: words(as_is), **{value: words(value) for value in usual}}, text
    return {value: words(value) for value in sorted({height, *usual})}, height


def _kernels(layer: Convolution) -> tuple[int, ...]:
    """Those under which the layer's stride passes over no cell."""
    return tuple(size for size in (1, 3, 5) if size >= max(ops.pair(layer.stride)))


def _other_padding(layer: Convolution) -> str | None:
    """The padding in words where it is another than "same"."""
    kernel, dilation = ops.pair(layer.kernel_size), ops.pair(layer.dilation)
    same = ops.conv_padding("same", kernel, dilation)
    pointwise = ops.pair(getattr(layer, "pointwise_padding", 0))
    if ops.conv_padding(layer.padding, kernel, dilation) == same and pointwise == (0, 0):
        return None
    told = layer.padding if isinstance(layer.padding, str) else _text(layer.padding)
    return told if pointwise == (0, 0) else f"{told}, pointwise {_text(pointwise)}"


def _downsampling(layer: Convolution) -> tuple[Choices, Value]:
    kernel = _cross(layer.kernel_size)
    strided = max(ops.pair(layer.stride)) > 1
    stride: s.SizePair = layer.stride if strided else 2
    wide = layer.model_copy(update={"stride": stride})
    enough = all(
        k >= at for k, at in zip(ops.pair(layer.kernel_size), ops.pair(stride), strict=True)
    )
    kept = kernel if enough else _cross(strided_kernel(wide))
    choices: Choices = {
        "none": f"{kernel} stride 1",
        "stride": f"{kept} stride {_text(stride)}",
        "max_pool": f"{kernel} stride 1, max pool {_cross(stride)}",
    }
    if not strided:
        return choices, "none"
    if enough:
        return choices, "stride"
    return {"skip": f"{kernel} stride {_text(stride)}", **choices}, "skip"


def _text(value: s.SizePair) -> str:
    height, width = ops.pair(value)
    return str(height) if height == width else f"{height}x{width}"


def _cross(value: s.SizePair) -> str:
    height, width = ops.pair(value)
    return f"{height}x{width}"
