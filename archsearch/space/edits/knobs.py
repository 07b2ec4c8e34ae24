"""What can be changed about a spec, one knob a change, and the spec that a setting stands for.

A knob belongs to a layer (`conv2.1.kernel`) or to the whole network (`network.width`). One of
its choices is the spec as it is. A setting may not fit together; that is found out as for any
spec, when its shapes are worked out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from archsearch.errors import one_line
from archsearch.space.edits.apply import Changes, Setting, Value, apply_changes
from archsearch.space.edits.layer_knobs import Choices, Knob, layer_knobs, sites
from archsearch.space.edits.width_ties import Tie, around_layers, is_depthwise, ties
from archsearch.spec import models as s
from archsearch.spec.resolve import resolve

NETWORK = "network"
AS_IS = "as it is"
_FRACTIONS = (0.5, 0.75, 1.0, 1.25, 1.5)
_PERCENT = range(10, 160, 10)
_APART = re.compile(r"[.;=\s\ufffd]")
"""What sets labels apart from what is around them; and what bytes that are no text become."""
_ACTIVATIONS: tuple[s.ActivationKind, ...] = ("relu", "silu", "gelu")


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
    return apply_changes(spec, name, Changes(layers, widths, view.depthwise, network))


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


@lru_cache(maxsize=16)
def _view(spec: s.Spec) -> _View:
    network = resolve(spec)
    around = around_layers(network)
    *block_labels, output_label = _labels(spec)
    blocks = [
        site
        for i, (block, label) in enumerate(zip(spec.blocks, block_labels, strict=True))
        for site in sites(block.layers, f"blocks.{i}.layers", label)
    ]
    output = list(sites(spec.output.layers, "output.layers", output_label))
    labels = {site.place: site.label for site in (*blocks, *output)}
    widths = {
        site.place: site.layer.out_features
        if isinstance(site.layer, s.Linear)
        else site.layer.out_channels
        for site in (*blocks, *output)
        if isinstance(site.layer, s.Convolution | s.Linear)
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
        *(knob for site in blocks for knob in layer_knobs(site, around.get(site.place))),
    ]
    with_choice = {knob.name: knob for knob in knobs if len(knob.choices) > 1}
    return _View(with_choice, tied, widths, depthwise)


def _labels(spec: s.Spec) -> list[str]:
    """What the blocks and then the output are called, each otherwise than all before it.

    Names may hold anything. A label goes into cells and lists as it is, and as it has no dot, no
    layer inside of one block is called as a layer of another.
    """
    labels: list[str] = []
    for name in (*(block.name for block in spec.blocks), "output"):
        label = _APART.sub("_", one_line(name))
        while label in labels:
            label += "_"
        labels.append(label)
    return labels


# Of the network


def _network_knobs(spec: s.Spec, layers: list[s.Layer]) -> Iterator[Knob]:
    percents: Choices = {percent: f"widths {percent} %" for percent in _PERCENT}
    yield Knob(NETWORK, "width", percents, 100)
    yield _as_is_or("activation", {kind: f"{kind} throughout" for kind in _ACTIVATIONS})
    convs = [layer for layer in layers if isinstance(layer, s.Convolution)]
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
        width = first = view.widths[tie.places[0]]
        if name in edits:
            width = int(edits[name])
        elif percent != 100:
            width = _rounded(first * percent / 100, first, tie.step(view.widths))
        if width != first:
            for place in tie.places:
                yield place, max(1, round(view.widths[place] * width / first))


def _width_knob(tie: Tie, widths: Mapping[str, int], labels: Mapping[str, str]) -> Knob:
    first = widths[tie.places[0]]
    step = tie.step(widths)
    choices = {first} | {_rounded(first * part, first, step) for part in _FRACTIONS}
    others = [labels[place] for place in tie.places[1:]]
    along = f" (and {', '.join(others)} with it)" if others else ""
    words: Choices = {
        width: f"{width} channels{along if width != first else ''}" for width in choices
    }
    return Knob(labels[tie.places[0]], "width", dict(sorted(words.items())), first, tie.places[0])


def _rounded(width: float, first: int, step: int) -> int:
    """A multiple of `step` near `width`, as round as `first`: where that is eights, so is this."""
    even = next(even for even in (8, 4, 2, 1) if first % even == 0 and (first > even or even == 1))
    step = math.lcm(step, even)
    return max(step, round(width / step) * step)
