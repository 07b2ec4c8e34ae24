"""Compare the best network of a search with the spec that the search started from."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.common.page import Grid, Line, Page
from archsearch.errors import one_line
from archsearch.leaderboard.entry import Entry
from archsearch.search.trials import REFERENCE
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.spec.formatting import axes
from archsearch.study.config import Study


@dataclass(frozen=True, slots=True)
class Gain:
    """The spec beside the best network near it.

    Attributes:
        val_acc: of the spec on the hold-out, trained as the trials were; None where it was not.
        reason: why it was not, or not to its end.
    """

    base: Analysis
    val_acc: float | None
    reason: str
    best: Entry


def gain_of(study: optuna.Study, config: Study, entries: list[Entry]) -> Gain | None:
    """What there is to tell so far; None where there is nothing."""
    if not isinstance(config.space, Neighbourhood):
        return None
    trained = [entry for entry in entries if entry.status == "trained"]
    if not trained:
        return None
    base = analyze(config.space.base)
    return Gain(base, *_of_base(study, base.spec_hash, entries), trained[0])


def _of_base(study: optuna.Study, spec_hash: str, entries: list[Entry]) -> tuple[float | None, str]:
    """The spec's hold-out accuracy, or why it has none that the best one's may be held against."""
    entry = next((entry for entry in entries if entry.spec_hash == spec_hash), None)
    if entry and entry.status == "trained":
        return entry.val_acc, ""
    if reference := REFERENCE.of(study):
        return reference.val_acc, reference.reason
    if entry is None:
        return None, "not trained yet"
    if entry.status == "pruned":
        return None, f"stopped early after epoch {entry.epochs}"
    return None, entry.reason or "failed"


def gain_page(gain: Gain) -> Page:
    """The edits, then the figures of both."""
    base, best = gain.base, gain.best
    name = one_line(base.spec.name)
    if best.spec_hash == base.spec_hash:
        return [Line(f"nothing near {name} was better than {name} itself (trial {best.trial})")]
    rows = [
        ("hold-out %", *_accuracies(gain)),
        ("parameters", *_figures(base.params, best.params)),
        ("MACs", *_figures(base.macs, best.macs)),
        ("receptive field", *_figures(axes(base.receptive_field), axes(best.receptive_field))),
    ]
    return [
        Line(f"the best network (trial {best.trial}) is {name} with these edits:", "bold"),
        *(Line(f"  {one_line(edit)}") for edit in best.edits.split("; ")),
        Grid(rows, frozenset({0}), ("", name, f"trial {best.trial}", "difference")),
    ]


def _accuracies(gain: Gain) -> tuple[str, str, str]:
    before, after = gain.val_acc, gain.best.val_acc
    told = "" if after is None else f"{100 * after:.2f}"
    if before is None or after is None:
        return gain.reason, told, ""
    return f"{100 * before:.2f}", told, f"{100 * (after - before):+.2f}"


def _figures(before: int | str, after: int | str) -> tuple[str, str, str]:
    """Of both, and their difference where they are numbers: a field may be "9x5"."""
    if isinstance(before, int) and isinstance(after, int):
        return f"{before:,}", f"{after:,}", f"{after - before:+,}"
    return str(before), str(after), ""
