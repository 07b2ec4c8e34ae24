"""Random settings of a search space; of a spec's neighbourhood, near ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archsearch.space.edits.knobs import edits_of, knobs_of
from archsearch.space.edits.layer_knobs import Knob
from archsearch.space.four_blocks import Knobs, Value
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.settings import AnySpace, complete, knob_choices

_OF_NETWORK = 0.25
"""Of random edits, the share that is the whole network's: its knobs are few, and change much."""


def draw_setting(
    space: AnySpace, starts: Sequence[Knobs], rng: np.random.Generator
) -> dict[str, Value]:
    """Draw a setting; in a neighbourhood a few edits from one of `starts` or from the spec."""
    if isinstance(space, Neighbourhood):
        return _draw_near(space, starts[int(rng.integers(len(starts)))] if starts else {}, rng)
    choices = knob_choices(space)
    return {name: values[rng.integers(len(values))] for name, values in choices.items()}


def trim_edits(
    space: Neighbourhood, knobs: Knobs, rng: np.random.Generator, keep: Knobs
) -> dict[str, Value]:
    """Undo edits of a setting, chosen at random, until there are no more than allowed.

    Those that `keep` has too go last.
    """
    edits = edits_of(space.base, knobs)
    names = [str(name) for name in rng.permutation(sorted(edits))]
    names.sort(key=lambda name: edits[name] == keep.get(name))
    for name in names[: max(0, len(edits) - space.max_edits)]:
        del edits[name]
    return complete(space, edits)


def _draw_near(space: Neighbourhood, start: Knobs, rng: np.random.Generator) -> dict[str, Value]:
    knobs, edits = list(knobs_of(space.base).values()), edits_of(space.base, start)
    room = min(len(knobs), max(1, space.max_edits - len(edits)))
    count = rng.integers(1, room, endpoint=True)
    for i in rng.choice(len(knobs), count, replace=False, p=_weights(knobs)):
        knob = knobs[i]
        now = edits.get(knob.name, knob.as_is)
        others = [value for value in knob.choices if value != now]
        edits[knob.name] = others[rng.integers(len(others))]
    return trim_edits(space, edits, rng, {})


def _weights(knobs: Sequence[Knob]) -> NDArray[np.float64]:
    """How often each knob is turned, (N,); they sum to 1."""
    whole = np.array([not knob.place for knob in knobs])
    if whole.all():
        return np.full(len(knobs), 1 / len(knobs))
    weights: NDArray[np.float64] = np.where(
        whole, _OF_NETWORK / whole.sum(), (1 - _OF_NETWORK) / (~whole).sum()
    )
    return weights
