"""A call of a torch module, function or method, as it is translated to a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archsearch.convert.from_module.steps import Op, Step
from archsearch.convert.from_module.traced import Where
from archsearch.spec import models as s

MAX_PATHS_SHOWN = 3

Notes = dict[str, list[str]]
"""What was noticed, and where."""


def note_lines(notes: Notes) -> tuple[str, ...]:
    """Return notes as sentences, each with its first places."""
    return tuple(f"{text}: {listed(paths)}" for text, paths in notes.items())


def listed(paths: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = len(paths) - MAX_PATHS_SHOWN
    return ", ".join(paths[:MAX_PATHS_SHOWN]) + (f" and {more} more" if more > 0 else "")


class InexpressibleError(Exception):
    """A spec has no words for this."""


@dataclass(frozen=True, slots=True)
class Call:
    """One node of the graph, as its translation sees it.

    Attributes:
        given: settings by torch's names; where they are tensors, see `inputs`.
        shapes: of what it gives, for one image; several where it cuts a map.
    """

    name: str
    given: Mapping[str, Any]
    inputs: tuple[Step, ...]
    shapes: tuple[tuple[int, ...], ...]
    where: Where
    module: Any
    notes: Notes

    @property
    def source(self) -> Step:
        """The first input."""
        return self.inputs[0]

    def step(self, op: Op) -> Step:
        """The step that this call is."""
        modules = () if self.module is None else (self.module,)
        weighted = isinstance(op, s.Conv | s.Linear | s.Norm)
        return Step(op, self.inputs, self.shapes[0], self.where, modules if weighted else ())

    def note(self, text: str) -> None:
        """Something to tell of this place."""
        self.notes.setdefault(text, []).append(self.where.path or self.where.node)
