"""What can be changed about one layer: its knobs, their choices, and the words that tell them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from archsearch.space.edits.apply import Value, ends_branch, lacks, strided_kernel
from archsearch.space.edits.width_ties import Around
from archsearch.spec import models as s
from archsearch.spec import ops
from archsearch.spec.formatting import axes_text, shape_text

Choices = dict[Value, str]
"""What a knob can be, each with the words that tell it."""
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


@dataclass(frozen=True, slots=True)
class Site:
    """A layer where it stands.

    Attributes:
        label: its place as a person would say it: its block's label and its number there.
        after: the layers that follow it in its list.
        branch: whether it is inside of a residual or a parallel.
    """

    layer: s.Layer
    place: str
    label: str
    after: tuple[s.Layer, ...]
    branch: bool


def sites(
    layers: tuple[s.Layer, ...], place: str, label: str, *, branch: bool = False
) -> Iterator[Site]:
    """Every layer of a list, and those inside of them."""
    for i, layer in enumerate(layers):
        at, called = f"{place}.{i}", f"{label}.{i}"
        yield Site(layer, at, called, layers[i + 1 :], branch)
        if isinstance(layer, s.Residual):
            yield from sites(layer.body, f"{at}.body", f"{called}.body", branch=True)
        elif isinstance(layer, s.Parallel):
            for j, inside in enumerate(layer.branches):
                below = f"branches.{j}"
                yield from sites(inside, f"{at}.{below}", f"{called}.{below}", branch=True)


def layer_knobs(site: Site, around: Around | None) -> Iterator[Knob]:
    """A layer's knobs, but for its width, which others may share.

    `around`: the maps before and after it; None where the layer does nothing.
    """

    def knob(kind: str, choices: Choices, as_is: Value) -> Knob:
        return Knob(site.label, kind, choices, as_is, site.place)

    layer = site.layer
    keeps_shape = around is not None and around.keeps_shape
    again = isinstance(layer, s.Convolution) or (isinstance(layer, s.Residual) and keeps_shape)
    yield knob("depth", dict(enumerate(_TIMES if again else _TIMES[:2])), 1)
    if isinstance(layer, s.Residual) and not site.branch:
        yield knob("residual", {"residual": "residual", "plain": "no residual"}, "residual")
    if isinstance(layer, s.Convolution):
        for kind, (choices, as_is) in _convolution_choices(layer, site, keeps_shape).items():
            yield knob(kind, choices, as_is)


def _convolution_choices(
    layer: s.Convolution, site: Site, keeps_shape: bool
) -> dict[str, tuple[Choices, Value]]:
    """By kind of edit, its choices and which of them the layer has."""
    # Of a 1x1 kernel, dilation and being separable change little; but another edit may widen it.
    # Kernels are those under which the layer's stride passes over no cell.
    kernels = tuple(size for size in (1, 3, 5) if size >= max(ops.pair(layer.stride)))
    found: dict[str, tuple[Choices, Value]] = {
        "kernel": _numbers(layer.kernel_size, kernels, lambda k: shape_text(ops.pair(k))),
        "dilation": _numbers(
            layer.dilation, (1, 2), lambda d: f"dilation {axes_text(ops.pair(d))}"
        ),
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
        text = axes_text(ops.pair(as_is))
        return {text: words(as_is), **{value: words(value) for value in usual}}, text
    return {value: words(value) for value in sorted({height, *usual})}, height


def _other_padding(layer: s.Convolution) -> str | None:
    """The padding in words where it is another than "same"."""
    kernel, dilation = ops.pair(layer.kernel_size), ops.pair(layer.dilation)
    same = ops.conv_padding("same", kernel, dilation)
    pointwise = ops.pair(getattr(layer, "pointwise_padding", 0))
    if ops.conv_padding(layer.padding, kernel, dilation) == same and pointwise == (0, 0):
        return None
    told = layer.padding if isinstance(layer.padding, str) else axes_text(ops.pair(layer.padding))
    return told if pointwise == (0, 0) else f"{told}, pointwise {axes_text(ops.pair(pointwise))}"


def _downsampling(layer: s.Convolution) -> tuple[Choices, Value]:
    kernel = shape_text(ops.pair(layer.kernel_size))
    strided = max(ops.pair(layer.stride)) > 1
    stride: s.SizePair = layer.stride if strided else 2
    wide = layer.model_copy(update={"stride": stride})
    enough = all(
        k >= at for k, at in zip(ops.pair(layer.kernel_size), ops.pair(stride), strict=True)
    )
    kept = kernel if enough else shape_text(ops.pair(strided_kernel(wide)))
    choices: Choices = {
        "none": f"{kernel} stride 1",
        "stride": f"{kept} stride {axes_text(ops.pair(stride))}",
        "max_pool": f"{kernel} stride 1, max pool {shape_text(ops.pair(stride))}",
    }
    if not strided:
        return choices, "none"
    if enough:
        return choices, "stride"
    return {"skip": f"{kernel} stride {axes_text(ops.pair(stride))}", **choices}, "skip"
