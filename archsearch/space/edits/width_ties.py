"""Which layers' widths go together: what is summed, or convolved channel by channel, must agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archsearch.spec import models as s
from archsearch.spec.network import FeatureMap, Join, Network, Node, Trunk

_IMAGE, _LOGITS = "image", "logits"
"""Widths that nobody may change."""

Parts = tuple[str, ...]
"""The layers whose outputs, one after another, a map's channels are."""


@dataclass(frozen=True, slots=True)
class Tie:
    """Layers whose widths change together.

    Attributes:
        places: of the layers, as in the spec, in order.
        multiples: what must divide the width of each, for groups and splits of channels.
    """

    places: tuple[str, ...]
    multiples: tuple[int, ...]

    def step(self, widths: Mapping[str, int]) -> int:
        """What must divide the first one's width, so that all `widths` scale to whole multiples."""
        first = widths[self.places[0]]
        needed = zip(self.places, self.multiples, strict=True)
        return math.lcm(*(n * first // math.gcd(n * first, widths[place]) for place, n in needed))


@dataclass(frozen=True, slots=True)
class Around:
    """The maps around a layer; `identity`: it is a residual whose shortcut is none."""

    before: FeatureMap
    after: FeatureMap
    identity: bool = False

    @property
    def keeps_shape(self) -> bool:
        """Whether the layer may stand there twice, or not at all."""
        return self.before.shape == self.after.shape


def around_layers(network: Network) -> dict[str, Around]:
    """By place, what is around every layer that does anything."""
    found: dict[str, Around] = {}
    for node in _every(network.trunk):
        first = found.get(node.place)
        identity = isinstance(node, Join) and node.role == "residual" and not node.branches[1]
        # Each part of a layer (conv, norm, activation) takes it one map further.
        before = first.before if first else node.before
        found[node.place] = Around(before, node.after, identity or bool(first and first.identity))
    return found


def ties(network: Network) -> list[Tie]:
    """The widths of `network` that can be chosen, each with all that must follow it."""
    finder = _Finder(around_layers(network))
    at: Parts = (_IMAGE,)
    for i, block in enumerate(network.spec.blocks):
        at = finder.run(block.layers, f"blocks.{i}.layers", at)
    at = finder.run(network.spec.output.layers, "output.layers", at)
    finder.tie(at, (_LOGITS,))
    return list(finder.groups())


def _every(trunk: Trunk) -> Iterator[Node | Join]:
    for node in trunk:
        if isinstance(node, Join):
            for branch in node.branches:
                # A shortcut's nodes stand at the residual's own place: they are no layer of it.
                yield from (inner for inner in _every(branch) if inner.place != node.place)
        yield node


@dataclass
class _Finder:
    """Follows channels through a spec; `parents` is a forest of what goes together."""

    around: Mapping[str, Around]
    parents: dict[str, str] = field(default_factory=dict)
    multiples: dict[str, int] = field(default_factory=dict)

    def groups(self) -> Iterator[Tie]:
        tied: dict[str, list[str]] = {}
        for part in self.parents:
            tied.setdefault(self._root(part), []).append(part)
        for parts in tied.values():
            if not {_IMAGE, _LOGITS} & set(parts):
                yield Tie(tuple(parts), tuple(self.multiples.get(part, 1) for part in parts))

    def tie(self, *maps: Parts) -> None:
        roots = [self._root(part) for parts in maps for part in parts]
        for root in roots[1:]:
            self.parents[self._root(root)] = self._root(roots[0])

    def run(self, layers: Sequence[s.Layer], place: str, at: Parts) -> Parts:
        for i, layer in enumerate(layers):
            at = self._layer(layer, f"{place}.{i}", at)
        return at

    def _layer(self, layer: s.Layer, place: str, at: Parts) -> Parts:
        match layer:
            case s.Conv() | s.DepthwiseSeparable():
                return self._conv(layer, place, at)
            case s.Linear():
                return self._new(place)
            case s.Residual():
                after = self.run(layer.body, f"{place}.body", at)
                if self.around[place].identity:
                    self.tie(at, after)
                return after
            case s.Parallel():
                return self._parallel(layer, place, at)
            case s.Norm(kind="group"):
                self._divide(at, layer.num_groups)
                return at
            case _:
                return at

    def _conv(self, layer: s.Convolution, place: str, at: Parts) -> Parts:
        after = self._new(place)
        if layer.norm == "group":
            self._divide(after, layer.num_groups)
        if isinstance(layer, s.Conv) and layer.groups != 1:
            if is_depthwise(layer, self.around[place].before.channels):
                self.tie(at, after)
            elif isinstance(layer.groups, int):
                self._divide((*at, *after), layer.groups)
        return after

    def _parallel(self, layer: s.Parallel, place: str, at: Parts) -> Parts:
        if layer.split:
            self._divide(at, len(layer.branches))
        ends = [
            self.run(branch, f"{place}.branches.{i}", at) for i, branch in enumerate(layer.branches)
        ]
        if layer.merge == "add":
            self.tie(*ends)
            return ends[0]
        return tuple(part for end in ends for part in end)

    def _new(self, place: str) -> Parts:
        self.parents[place] = place
        return (place,)

    def _divide(self, parts: Parts, number: int) -> None:
        for part in parts:
            self.multiples[part] = math.lcm(self.multiples.get(part, 1), number)

    def _root(self, part: str) -> str:
        self.parents.setdefault(part, part)
        while self.parents[part] != part:
            part = self.parents[part]
        return part


def is_depthwise(layer: s.Conv, channels: int) -> bool:
    """Whether a convolution of a map of so many channels works channel by channel."""
    return layer.groups in ("depthwise", channels) and layer.groups != 1
