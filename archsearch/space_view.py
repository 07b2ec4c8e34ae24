"""A search space's accounting, as a table and as plain data."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archsearch.accounting import FRACTIONS, Accounting, Share, advice

_TITLES = {"params": "parameters", "macs": "MACs", "receptive_field": "receptive field"}


def accounting_data(name: str, accounting: Accounting) -> dict[str, Any]:
    """For `--format json`; shares are fractions with their 95% interval."""
    data = asdict(accounting)
    data["quantiles"] = {
        figure: {f"{fraction:g}": value for fraction, value in zip(FRACTIONS, values, strict=True)}
        for figure, values in accounting.quantiles.items()
    }
    return {"study": name, "exact": accounting.exact, **data}


def accounting_view(name: str, accounting: Accounting) -> RenderableType:
    """Size, shares by limit, distributions, and what helps."""
    knobs = len({choice.knob for choice in accounting.choices})
    return Group(
        Text.assemble(
            (name, "bold"),
            f"  {accounting.settings:,} settings of {knobs} knobs, "
            f"at most {accounting.networks:,} different networks",
        ),
        Text(),
        _limits(accounting),
        Text(),
        _distributions(accounting),
        Text(),
        _choices(accounting),
        *(Text(f"note: {line}", "yellow") for line in advice(accounting)),
    )


def _limits(accounting: Accounting) -> Table:
    how = "counted" if accounting.exact else f"from {accounting.samples:,} drawn, 95% interval"
    table = _table("limit", "", f"keep it, {how}", "keep all others")
    for name, limit in accounting.limits.items():
        value = "" if limit is True else f"{limit:,}"
        alone, without = accounting.alone[name], accounting.without[name]
        table.add_row(name, value, _percent(alone), _percent(without))
    table.add_row("all limits", "", _percent(accounting.feasible), "", style="bold")
    return table


def _distributions(accounting: Accounting) -> Table:
    names = ["least", *(f"{100 * f:g} %" for f in FRACTIONS[1:-1]), "most"]
    table = _table("settings up to", *names)
    for figure, values in accounting.quantiles.items():
        table.add_row(_TITLES[figure], *(f"{value:,}" for value in values))
    return table


def _choices(accounting: Accounting) -> Table:
    of = accounting.choices_of
    title = f"by choice, % that keep {of} (of {accounting.samples:,} drawn)"
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("knob")
    table.add_column(title)
    for knob, group in groupby(accounting.choices, key=lambda choice: choice.knob):
        shares = [f"{choice.value}: {100 * choice.feasible.fraction:.2g}" for choice in group]
        table.add_row(Text(knob), Text("   ".join(shares)))
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if i else "left", no_wrap=True)
    return table


def _percent(share: Share) -> str:
    if share.count is not None:
        return f"{100 * share.fraction:.3g} %"
    return f"{100 * share.fraction:.3g} % ({100 * share.low:.2g} to {100 * share.high:.2g})"
