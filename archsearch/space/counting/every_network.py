"""Every network of a small search space that is within the limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import combinations, product

import numpy as np

from archsearch.analysis.constraints import Constraints, active_rules
from archsearch.space.counting.account import keeps
from archsearch.space.counting.lookup import look_up, tabulate
from archsearch.space.counting.near import count_near
from archsearch.space.edits.knobs import knobs_of
from archsearch.space.four_blocks import Space, Value
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.settings import AnySpace, complete, judge_setting, knob_choices

MAX_SETTINGS = 200_000
"""Settings of four blocks whose totals are looked up, which takes a fraction of a second."""
MAX_JUDGED = 2_000
"""Settings that are analyzed one by one, which takes a second or two."""

Setting = dict[str, Value]


def every_network(space: AnySpace, constraints: Constraints) -> dict[str, Setting] | None:
    """Return a setting of each network within the limits, by spec hash.

    Near a spec it is the setting with the fewest edits. None if there may be too many to try.
    """
    settings = (
        _near(space) if isinstance(space, Neighbourhood) else _within_limits(space, constraints)
    )
    if settings is None:
        return None
    found: dict[str, Setting] = {}
    for setting in settings:
        verdict, rules = judge_setting(space, setting, constraints, "every")
        if verdict and not rules:
            found.setdefault(verdict.analysis.spec_hash, setting)
    return found


def _within_limits(space: Space, constraints: Constraints) -> Iterable[Setting] | None:
    choices = knob_choices(space)
    sizes = [len(values) for values in choices.values()]
    if (total := math.prod(sizes)) > MAX_SETTINGS:
        return None
    picks = dict(zip(choices, np.unravel_index(np.arange(total), sizes), strict=True))
    kept = np.flatnonzero(keeps(look_up(tabulate(space), picks), active_rules(constraints)))
    if len(kept) > MAX_JUDGED:
        return None
    return ({name: choices[name][picks[name][at]] for name in choices} for at in kept)


def _near(space: Neighbourhood) -> Iterable[Setting] | None:
    if count_near(space) > MAX_JUDGED:
        return None
    return _edited(space)


def _edited(space: Neighbourhood) -> Iterator[Setting]:
    knobs = list(knobs_of(space.base).values())
    for count in range(min(space.max_edits, len(knobs)) + 1):
        for chosen in combinations(knobs, count):
            others = ([v for v in knob.choices if v != knob.as_is] for knob in chosen)
            for values in product(*others):
                names = (knob.name for knob in chosen)
                yield complete(space, dict(zip(names, values, strict=True)))
