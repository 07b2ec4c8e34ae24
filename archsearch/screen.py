"""Verdicts on many specs: layers that were met before are not checked and counted again.

Candidates of a search, or variants of one network, share most of their blocks. A block is looked
up by its JSON and by the shape of the map it meets; only what is new goes through the models and
the resolver. Whatever is out of the ordinary is left to them altogether, so that their problems
are told in their words.
"""

from __future__ import annotations

import marshal
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from archsearch.analyze import analyze
from archsearch.bounds import MAX_LAYERS, count_layers, size_problems
from archsearch.constraints import Constraints, Violation, active_rules, violations
from archsearch.errors import InputError
from archsearch.network import FeatureMap
from archsearch.ops import Axis
from archsearch.parse import from_json
from archsearch.resolve import resolve_run
from archsearch.spec import MAX_BLOCKS, Block, Output, Spec
from archsearch.totals import Run, Totals, add_up, measure

MAX_REMEMBERED = 50_000
"""Blocks; at some hundred bytes each."""
_MARSHAL_VERSION = 2
"""Later ones write equal values in different ways."""

_Unread = Annotated[tuple[Any, ...], Field(min_length=1)]


class _BlockOutline(Block):
    layers: _Unread


class _OutputOutline(Output):
    layers: _Unread


class _Outline(Spec):
    """A spec whose layers are not looked into."""

    blocks: Annotated[tuple[_BlockOutline, ...], Field(min_length=1, max_length=MAX_BLOCKS)]
    output: _OutputOutline


@dataclass(frozen=True, slots=True)
class Screened:
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


@dataclass(frozen=True, slots=True)
class _Known:
    """A run of layers that fits a map of some shape."""

    run: Run
    layers: int
    after: _Shape


class Screen:
    """Screens specs against one set of limits, remembering blocks from one to the next."""

    def __init__(self, constraints: Constraints) -> None:
        self._rules = active_rules(constraints)
        self._known: dict[tuple[bytes, _Shape], _Known] = {}
        _Outline.model_rebuild()
        self._read = _Outline.__pydantic_validator__.validate_json

    def __call__(self, text: str, source: str) -> Screened:
        """The verdict on one spec's JSON.

        Raises:
            InputError: with every problem in it, told of `source`.
        """
        try:
            outline = self._read(text)
            totals = self._totals(outline)
        except (InputError, ValueError):  # pydantic's errors are ValueErrors
            return self._thorough(text, source)
        if totals is None:
            return self._thorough(text, source)
        return Screened(outline.name, totals, violations(totals, self._rules))

    def _thorough(self, text: str, source: str) -> Screened:
        spec = from_json(Spec, text, source)
        try:
            totals = analyze(spec).totals
        except InputError as error:
            raise error.named(source) from error
        return Screened(spec.name, totals, violations(totals, self._rules))

    def _totals(self, outline: _Outline) -> Totals | None:
        """None where something is out of the ordinary."""
        blocks, image, known = outline.blocks, outline.input, self._known
        if len({block.name for block in blocks}) != len(blocks):
            return None
        at: _Shape = (image.channels, image.height, image.width, False)
        runs, layers = [], 0
        for unread in (*[block.layers for block in blocks], outline.output.layers):
            key = (marshal.dumps(unread, _MARSHAL_VERSION), at)
            found = known.get(key) or self._remember(key, unread)
            runs.append(found.run)
            layers += found.layers
            at = found.after
        channels, height, width, _ = at
        if channels != outline.classes or height * width != 1 or layers > MAX_LAYERS:
            return None
        return add_up(runs)

    def _remember(self, key: tuple[bytes, _Shape], unread: tuple[Any, ...]) -> _Known:
        layers = Output(layers=unread).layers
        count, nesting = count_layers(layers)
        if size_problems(count, nesting):
            raise ValueError
        channels, height, width, flat = key[1]
        before = FeatureMap(channels, Axis(height), Axis(width), flat)
        trunk, after = resolve_run(layers, before)
        shape = (after.channels, *after.size, after.flat)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[key] = found = _Known(measure(trunk, before, after), count, shape)
        return found
