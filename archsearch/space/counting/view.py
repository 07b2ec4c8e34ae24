"""A search space's accounting, as a page and as plain data."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import Any

from archsearch.common.page import Grid, Line, Page
from archsearch.space.counting.account import FRACTIONS, Accounting, Proportion, advice, percent

_TITLES = {"params": "parameters", "macs": "MACs", "receptive_field": "receptive field"}


def accounting_data(name: str, accounting: Accounting) -> dict[str, Any]:
    """For `--format json`; shares are fractions with their 95% interval."""
    data = asdict(accounting)
    data["quantiles"] = {
        figure: {f"{fraction:g}": value for fraction, value in zip(FRACTIONS, values, strict=True)}
        for figure, values in accounting.quantiles.items()
    }
    return {"study": name, "exact": accounting.exact, **data}


def accounting_page(name: str, accounting: Accounting) -> Page:
    """Size, shares by limit, distributions, and what helps."""
    choices: Page = [_choices(accounting), Line("")] if accounting.choices else []
    return [
        Line(
            f"{name}  {accounting.settings:,} settings of {accounting.knobs} knobs, "
            f"at most {accounting.networks:,} different networks",
            "bold",
        ),
        Line(""),
        _limits(accounting),
        *([] if accounting.exact else [Line(_sampled(accounting), "dim")]),
        Line(""),
        _distributions(accounting),
        Line(""),
        *choices,
        *(Line(f"note: {line}", "yellow") for line in advice(accounting)),
    ]


def _limits(accounting: Accounting) -> Grid:
    how = "counted" if accounting.exact else "sampled"
    rows = [
        (
            name,
            "" if limit is True else f"{limit:,}",
            _percent(accounting.alone[name]),
            _percent(accounting.without[name]),
        )
        for name, limit in accounting.limits.items()
    ]
    rows.append(("all limits", "", _percent(accounting.feasible), ""))
    titles = ("limit", "", f"keep it, {how}", "keep all others")
    last = frozenset({len(rows) - 1})
    return Grid(rows, frozenset({0}), titles, bold=last)


def _sampled(accounting: Accounting) -> str:
    return f"sampled: {accounting.samples:,} settings drawn; in parentheses 95% intervals"


def _distributions(accounting: Accounting) -> Grid:
    titles = ("settings up to", "least", *(f"{100 * f:g} %" for f in FRACTIONS[1:-1]), "most")
    rows = [
        (_TITLES[figure], *(f"{value:,}" for value in values))
        for figure, values in accounting.quantiles.items()
    ]
    outer_first = (2, len(titles) - 2, 3, len(titles) - 3)
    hint = "use a wider terminal or --format json"
    return Grid(rows, frozenset({0}), titles, optional=outer_first, hint=hint)


def _choices(accounting: Accounting) -> Grid:
    title = f"by choice, % that keep {accounting.choices_of} (of {accounting.samples:,} drawn)"
    rows = []
    for knob, group in groupby(accounting.choices, key=lambda choice: choice.knob):
        shares = [f"{choice.value}: {percent(choice.feasible.fraction)}" for choice in group]
        rows.append((knob, "   ".join(shares)))
    return Grid(rows, frozenset({0, 1}), ("knob", title), wrapped=frozenset({1}))


def _percent(share: Proportion) -> str:
    fraction, low, high = (percent(f) for f in (share.fraction, share.low, share.high))
    return f"{fraction} %" if share.count is not None else f"{fraction} % ({low} to {high})"
