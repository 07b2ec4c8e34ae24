"""The fewest edits that bring a spec within limits, and the study that starts from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import (
    ActiveRules,
    Constraints,
    active_rules,
    met_exactly,
    violations,
)
from archsearch.analysis.totals import Totals
from archsearch.errors import HopelessSpaceError, InputError, one_line
from archsearch.space.edits.knobs import apply, knobs_of
from archsearch.space.four_blocks import Value
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.settings import minimal_edits
from archsearch.spec.models import Spec
from archsearch.spec.resolve import resolve

_KEPT = 12
"""Settings that are gone on from, of each number of edits."""
_MOST_LAYERS = 500_000
"""Looked at in all, which takes half a minute."""
_LITTLE = 1.1
"""Times as many parameters and MACs are not too many to clear a limit by a margin."""
_OTHER_KINDS = frozenset({"op", "residual", "head"})
"""Edits that make another kind of layer."""

Edits = dict[str, Value]


def mend(
    space: Neighbourhood,
    constraints: Constraints,
    sound: Callable[[Spec], bool] = lambda _spec: True,
    *,
    clear: bool = False,
) -> Edits:
    """The fewest edits with which the spec breaks no limit; none where it breaks none.

    A beam search: of each number of edits, the settings nearest to the limits are gone on from.
    Of several that keep them, the one that keeps the kinds of layers, then one that is not exactly
    on a limit, then the one whose size and reach change least. If all are exactly on a limit, one
    more edit is made, if a small one is enough. `sound` is what a network should be besides; where
    none of the nearest is, that is let go. `clear` moves a spec off a limit that it is exactly on.

    Raises:
        HopelessSpaceError: none were found within `max_edits`.
    """
    search = _Search(space.base, active_rules(constraints), analyze(space.base).totals)
    kept = [search.at({}, search.totals)]
    best = kept[0]
    left = _MOST_LAYERS // sum(1 for _ in resolve(space.base).nodes())
    of_one = sum(len(knob.choices) - 1 for knob in knobs_of(space.base).values())
    for _ in range(space.max_edits):
        if not best.distance:
            break
        # Half of what is left, so that later edits have their turn; at least all of one setting.
        tried = list(islice(search.one_more(kept), min(left, max(of_one, left // 2))))
        left -= len(tried)
        kept = sorted(filter(None, tried), key=_order)[:_KEPT]
        best = min([best, *kept], key=_order)
        within = (at for at in kept if not at.distance)
        best = next((at for at in within if sound(search.spec_of(at))), best)
    if best.distance:
        raise HopelessSpaceError(_hopeless(space, search, best, cut_short=not left))
    if best.on_limit and (best.edits or clear) and len(best.edits) < space.max_edits:
        beyond = (at for at in search.one_more([best]) if at and _clears(at, best))
        best = next((at for at in sorted(beyond, key=_order) if sound(search.spec_of(at))), best)
    return minimal_edits(space, dict(best.edits))


class _At(NamedTuple):
    """A setting where it is: first of all how far from the limits, 0 within them.

    Attributes:
        kinds: edits that replace the author's kind of layer.
        on_limit: within the limits, and exactly on one.
        change: of size and reach, against the spec.
        edits: sorted by knob.
    """

    distance: float
    kinds: int
    on_limit: bool
    change: float
    edits: tuple[tuple[str, Value], ...]
    totals: Totals


def _order(at: _At) -> tuple[float, int, bool, float, str]:
    """Order by distance, kinds kept, limit cleared and change; equally good ones by their text."""
    return at.distance, at.kinds, at.on_limit, at.change, str(at.edits)


def _clears(at: _At, best: _At) -> bool:
    """Whether a setting is off the limit that the best one is on, for little more."""
    costs = zip(at.totals[:2], best.totals[:2], strict=True)  # parameters and MACs
    cheap = all(more <= _LITTLE * before for more, before in costs)
    return cheap and not at.distance and not at.on_limit and at.kinds <= best.kinds


@dataclass(frozen=True, slots=True)
class _Search:
    base: Spec
    rules: ActiveRules
    totals: Totals

    def at(self, edits: Edits, totals: Totals) -> _At:
        # How far beyond each limit, as the logarithm of a factor; 1 for a trait that is not there.
        broken = violations(totals, self.rules)
        distance = sum(_factor(each.actual, each.limit) or 1.0 for each in broken)
        return _At(
            distance,
            self._other_kinds(edits),
            not distance and bool(met_exactly(totals, self.rules)),
            _change(totals, self.totals),
            tuple(sorted(edits.items())),
            totals,
        )

    def _other_kinds(self, edits: Edits) -> int:
        """Count the edits that make another kind of layer, a pool or an undilated kernel."""
        knobs = knobs_of(self.base)
        return sum(
            knobs[name].kind in _OTHER_KINDS
            or value == "max_pool"
            or (knobs[name].kind == "dilation" and value == 1)
            for name, value in edits.items()
        )

    def spec_of(self, at: _At) -> Spec:
        return apply(self.base, dict(at.edits), self.base.name)

    def one_more(self, settings: Sequence[_At]) -> Iterator[_At | None]:
        """Every setting with one edit more, once; None for one that fits no network."""
        met = set()
        for before in settings:
            edits = dict(before.edits)
            for knob in knobs_of(self.base).values():
                for value in knob.choices if knob.name not in edits else ():
                    more = {**edits, knob.name: value}
                    key = frozenset(more.items())
                    if value != knob.as_is and key not in met:
                        met.add(key)
                        totals = _totals(self.base, more)
                        yield self.at(more, totals) if totals else None


def _totals(base: Spec, edits: Edits) -> Totals | None:
    try:
        return analyze(apply(base, edits, base.name)).totals
    except InputError:
        return None


def _change(totals: Totals, base: Totals) -> float:
    pairs = [(totals.params, base.params), (totals.macs, base.macs)]
    pairs += zip(totals.receptive_field, base.receptive_field, strict=True)
    return sum(_factor(now, before) for now, before in pairs)


def _factor(one: int, other: int) -> float:
    return abs(math.log(max(1, one) / max(1, other)))


def _hopeless(space: Neighbourhood, search: _Search, best: _At, *, cut_short: bool) -> str:
    def told(totals: Totals) -> str:
        return "; ".join(broken.message for broken in violations(totals, search.rules))

    broken = ", ".join(broken.rule for broken in violations(best.totals, search.rules))
    some = " (it is so large that only some were looked at)" if cut_short else ""
    return (
        f"{one_line(space.base.name)}: no network within {space.max_edits} edits{some} was found "
        f"that keeps {broken} and the other limits ({told(search.totals)}); the nearest: "
        f"{told(best.totals)}. Allow more edits (--max-edits) or relax the limits"
    )
