"""How much of either kind of space is within the limits: counted, or near a spec sampled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archsearch.analysis.constraints import Constraints, active_rules
from archsearch.space.counting import account
from archsearch.space.four_blocks import Knobs
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.sampling import draw_setting
from archsearch.space.settings import MISFIT, AnySpace, judge_setting, knob_choices
from archsearch.spec.resolve import resolve

_MOST_SAMPLES, _FEWEST_SAMPLES = 2_000, 50
_MOST_LAYERS = 100_000
"""Of all samples together, which takes seconds; the fewest of a very large spec take longer."""


def account_any(
    space: AnySpace, constraints: Constraints, *, start: Sequence[Knobs] = (), seed: int = 0
) -> account.Accounting:
    """Return the size of a space and the share of it within the limits.

    Four blocks of choices are counted exactly; a spec's neighborhood is sampled around `start`.
    """
    if isinstance(space, Neighbourhood):
        return _account_near(space, constraints, start, seed)
    return account.account(space, constraints, seed=seed)


def _account_near(
    space: Neighbourhood, constraints: Constraints, start: Sequence[Knobs], seed: int
) -> account.Accounting:
    """Shares of what random proposals are, which no other draws would tell of."""
    rng = np.random.default_rng(seed)
    layers = sum(1 for _ in resolve(space.base).nodes())
    samples = min(_MOST_SAMPLES, max(_FEWEST_SAMPLES, _MOST_LAYERS // layers))
    broken: list[set[str]] = []
    figures: list[tuple[int, int, int]] = []
    for _ in range(samples):
        verdict, rules = judge_setting(space, draw_setting(space, start, rng), constraints, "near")
        broken.append(set(rules))
        if verdict:
            totals = verdict.analysis.totals
            figures.append((totals.params, totals.macs, min(totals.receptive_field)))
    limits = {name: limit for name, limit, _ in active_rules(constraints)}

    def share(kept: set[str]) -> account.Proportion:
        """Of the draws that keep some limits, and are networks at all."""
        return account.estimate_proportion(
            sum(not rules & (kept | {MISFIT}) for rules in broken), samples
        )

    settings = count_near(space)
    return account.Accounting(
        settings=settings,
        networks=settings,
        knobs=len(knob_choices(space)),
        limits=limits,
        alone={name: share({name}) for name in limits},
        without={name: share(limits.keys() - {name}) for name in limits},
        feasible=share(set(limits)),
        quantiles=dict(
            zip(account.FIGURES, map(account.sample_quantiles, np.array(figures).T), strict=False)
        ),
        choices=(),
        choices_of="",
        samples=samples,
    )


def count_near(space: Neighbourhood) -> int:
    """Return the number of settings that have at most `max_edits` edits."""
    # ways[n]: of the knobs so far, with n edits.
    ways = [1] + [0] * space.max_edits
    for values in knob_choices(space).values():
        ways = [at + (len(values) - 1) * (ways[n - 1] if n else 0) for n, at in enumerate(ways)]
    return sum(ways)
