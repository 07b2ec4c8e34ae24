"""Verdicts on many specs: what was met before is not read, checked and counted again.

Candidates of a search, or variants of one network, share most of their blocks. A spec's text is
cut where its lists of layers begin; a list that was met before is known by its text, a layer by
its JSON, and what either adds by the shape of the map it meets. Only what is new goes through the
models and the resolver. Whatever is out of the ordinary is left to them altogether, so that its
problems are told in their words.
"""

from __future__ import annotations

import json
import marshal
import re
from typing import Annotated, NamedTuple, TypeVar

from pydantic import Field

from archsearch.analysis.constraints import (
    Constraints,
    Violation,
    active_rules,
    verdict_on,
    violations,
)
from archsearch.analysis.totals import Segment, Totals, add_up, concatenated, measure
from archsearch.errors import InputError
from archsearch.spec.models import MAX_BLOCKS, Block, Output, Spec
from archsearch.spec.network import FeatureMap
from archsearch.spec.receptive_field import Axis
from archsearch.spec.resolve import resolve_run
from archsearch.spec.size_limits import MAX_LAYERS, MAX_NESTING, count_layers

MAX_REMEMBERED = 30_000
"""Lists, layers and what they add, each; then all is forgotten."""
MAX_TEXT = 4_000
"""Characters of what is remembered, so that memory is bounded too."""
_CUT = '"layers":'
"""Can only be a key, or the end of one: a quote inside a string is escaped."""
_NAMED = re.compile(
    r'\s*\{\s*(?:"format"\s*:\s*1\s*,\s*)?"name"\s*:\s*"([^"\\\x00-\x1f]{1,200})"\s*,'
)
"""The start of a spec whose name needs no reading."""
_DETACHED = re.compile(r'"layers"\s')
_BLANK = " \t\r\n"
_PLACEHOLDER = "name"
_DECODER = json.JSONDecoder()
_MARSHAL_VERSION = 2
"""Later ones write equal values in different ways."""

K = TypeVar("K")
V = TypeVar("V")


class _BlockOutline(Block):
    layers: tuple[int]  # type: ignore[assignment] # stands for the layers


class _OutputOutline(Output):
    layers: tuple[int]  # type: ignore[assignment] # stands for the layers


class _Outline(Spec):
    """A spec with the number of each list of layers in its place."""

    blocks: Annotated[tuple[_BlockOutline, ...], Field(min_length=1, max_length=MAX_BLOCKS)]
    output: _OutputOutline


class Screened(NamedTuple):
    """A spec's totals, held against limits."""

    name: str
    totals: Totals
    violations: list[Violation]

    @property
    def accepted(self) -> bool:
        """Whether no limit is broken."""
        return not self.violations


_Shape = tuple[int, int, int, bool]
"""(channels, height, width, flat)"""
_Layers = tuple[bytes, ...]
"""Layers' JSON, as bytes that tell 1, 1.0 and true apart."""


class _Known(NamedTuple):
    """Layers that fit a map of some shape: what they add, how many, and the shape after them."""

    run: Segment
    layers: int
    after: _Shape


class _Frame(NamedTuple):
    """A spec but for its name and layers: which list of layers each section has, and the image."""

    order: tuple[int, ...]
    image: _Shape
    classes: int


class _UnusualError(Exception):
    """To be left to the models and the resolver."""


class Screen:
    """Screens specs against one set of limits, remembering what it meets from one to the next."""

    def __init__(self, constraints: Constraints) -> None:
        self._constraints = constraints
        self._rules = active_rules(constraints)
        self._cut: dict[str, tuple[_Layers, str]] = {}
        self._frames: dict[tuple[str, ...], _Frame] = {}
        self._lists: dict[tuple[_Layers, _Shape], _Known] = {}
        self._layers: dict[tuple[bytes, _Shape], _Known] = {}
        _Outline.model_rebuild()
        self._read = _Outline.__pydantic_validator__.validate_json

    def __call__(self, text: str, source: str) -> Screened:
        """The verdict on one spec's JSON.

        Raises:
            InputError: with every problem in it, told of `source`.
        """
        try:
            name, totals = self._screen(text)
        except (InputError, ValueError, RecursionError, _UnusualError):
            # pydantic's and json's errors are ValueErrors
            verdict = verdict_on(text, source, self._constraints)
            name, totals = verdict.analysis.spec.name, verdict.analysis.totals
        return Screened(name, totals, violations(totals, self._rules))

    def _screen(self, text: str) -> tuple[str, Totals]:
        head, *rest = text.split(_CUT)
        named = _NAMED.match(head)
        if named is None:
            raise _UnusualError
        cut, lists = self._cut.get, self._lists.get
        pieces = [cut(piece) or self._cut_off(piece) for piece in rest]
        around = (head[named.end() :], *[tail for _, tail in pieces])
        order, at, classes = self._frames.get(around) or self._add_frame(around)
        runs, count = [], 0
        for i in order:
            key = (pieces[i][0], at)
            run, layers, at = lists(key) or self._add(key)
            runs.append(run)
            count += layers
        channels, height, width, _ = at
        if channels != classes or height * width != 1 or count > MAX_LAYERS:
            raise _UnusualError
        return named[1], add_up(runs)

    def _add_frame(self, around: tuple[str, ...]) -> _Frame:
        """What a spec says around its lists of layers, whatever it is called."""
        head, *tails = around
        numbered = "".join([f"{_CUT}[{i}]{tail}" for i, tail in enumerate(tails)])
        outline = self._read(f'{{"name":"{_PLACEHOLDER}",{head}{numbered}')
        blocks, image = outline.blocks, outline.input
        order = (*[block.layers[0] for block in blocks], outline.output.layers[0])
        again = outline.name != _PLACEHOLDER or len({block.name for block in blocks}) < len(blocks)
        # A number that the text itself gave (`"layers" : [0]` is not cut) is not one of ours.
        own = any(_DETACHED.search(part) for part in around)
        if again or own or sorted(order) != list(range(len(tails))):
            raise _UnusualError
        at = (image.channels, image.height, image.width, False)
        found = _Frame(order, at, outline.classes)
        if sum(map(len, around)) <= MAX_TEXT:
            _remember(self._frames, around, found)
        return found

    def _cut_off(self, piece: str) -> tuple[_Layers, str]:
        """A list of layers, and the text after it."""
        if len(piece) > MAX_TEXT:
            raise _UnusualError
        layers, end = _DECODER.raw_decode(piece, len(piece) - len(piece.lstrip(_BLANK)))
        if not isinstance(layers, list) or not layers:
            raise _UnusualError
        found = tuple([marshal.dumps(layer, _MARSHAL_VERSION) for layer in layers]), piece[end:]
        _remember(self._cut, piece, found)
        return found

    def _add(self, key: tuple[_Layers, _Shape]) -> _Known:
        layers, at = key
        runs, count = [], 0
        for layer in layers:
            run, inside, at = self._layers.get((layer, at)) or self._add_layer((layer, at))
            runs.append(run)
            count += inside
        found = _Known(concatenated(runs), count, at)
        _remember(self._lists, key, found)
        return found

    def _add_layer(self, key: tuple[bytes, _Shape]) -> _Known:
        data, (channels, height, width, flat) = key
        layers = Output.model_validate({"layers": [marshal.loads(data)]}).layers  # noqa: S302 (our own bytes)
        count, nesting = count_layers(layers)
        if nesting > MAX_NESTING:
            raise _UnusualError
        before = FeatureMap(channels, Axis(height), Axis(width), flat)
        trunk, after = resolve_run(layers, before)
        shape = (after.channels, *after.size, after.flat)
        found = _Known(measure(trunk, before, after), count, shape)
        _remember(self._layers, key, found)
        return found


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    if len(memory) >= MAX_REMEMBERED:
        memory.clear()
    memory[key] = value
