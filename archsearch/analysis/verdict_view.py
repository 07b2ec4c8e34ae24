"""Verdicts as pages and as the objects that `--format json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archsearch.analysis.analyze import Analysis
from archsearch.analysis.constraints import Verdict, Violation
from archsearch.analysis.layer_table import LayerRow
from archsearch.analysis.totals import Totals
from archsearch.common.page import Grid, Line, Page
from archsearch.errors import MAX_PROBLEMS_SHOWN, InputError, Problem, one_line
from archsearch.spec.formatting import axes, axes_data, axes_text, receptive_field_step, shape_text
from archsearch.spec.ops import Conv2d, Pool2d


def network_figures(analysis: Analysis) -> str:
    """A network's figures on one line."""
    return (
        f"{analysis.spec_hash[:12]}: {analysis.params:,} params, "
        f"RF {axes(analysis.receptive_field)}, {analysis.macs / 1e6:.1f}M MACs"
    )


def verdict_data(source: str, verdict: Verdict) -> dict[str, Any]:
    """One object a spec, which came from `source`.

    Sizes in pixels, `macs` for one image, bytes for fp32 and one image.
    """
    analysis = verdict.analysis
    return {
        **totals_data(source, analysis.spec.name, analysis.totals, verdict.violations),
        "spec_hash": analysis.spec_hash,
        "receptive_field_clipped": axes_data(clipped) if (clipped := analysis.clipped) else None,
        "peak_activation_bytes": analysis.peak_activation_bytes,
        "warnings": [warning._asdict() for warning in verdict.warnings],
        "layers": [_row_data(row) for row in analysis.rows],
    }


def totals_data(
    source: str, name: str, totals: Totals, violations: Sequence[Violation]
) -> dict[str, Any]:
    """What is known without looking at layers."""
    return {
        "file": source,
        "name": name,
        "verdict": "rejected" if violations else "accepted",
        "params": totals.params,
        "macs": totals.macs,
        "receptive_field": axes_data(totals.receptive_field),
        "receptive_field_with_gap": axes_data(totals.receptive_field_with_gap),
        "violations": [violation.data() for violation in violations],
    }


def invalid_data(source: str, error: Exception) -> dict[str, Any]:
    """What stands in for the verdict on a spec that is none."""
    if not isinstance(error, InputError):
        error = InputError(source, [Problem("", "input", str(error))])
    problems = [problem._asdict() for problem in error.problems[:MAX_PROBLEMS_SHOWN]]
    data = {"file": source, "verdict": "invalid", "problems": problems}
    more = len(error.problems) - len(problems)
    return data | {"more_problems": more} if more else data


def _row_data(row: LayerRow) -> dict[str, Any]:
    window = row.window
    data: dict[str, Any] = {"block": row.block, "place": row.place, "op": row.op}
    if window:
        data |= {
            "kernel_size": axes_data(window.kernel_size),
            "stride": axes_data(window.stride),
            "padding": [list(sides) for sides in window.padding]
            if isinstance(window, Conv2d)
            else [[side, side] for side in window.padding],
        }
    if isinstance(window, Conv2d):
        data |= {"dilation": axes_data(window.dilation), "groups": window.groups}
    after, seen = row.after, row.seen
    return data | {
        "in_shape": list(row.before.shape),
        "out_shape": list(after.shape),
        "params": row.params,
        "macs": row.macs,
        "activation_bytes": row.activation_bytes,
        "jump": axes_data(after.jump),
        "start": axes_data((after.height.start, after.width.start)),
        "receptive_field": axes_data(after.rf),
        "effective_padding": [list(sides) for sides in row.effective_padding],
        "centre_offset": axes_data(row.centre_offset),
        "unproductive": row.unproductive,
        # What is known pixel by pixel; null where the network is too large to follow.
        "receptive_field_clipped": axes_data(seen.clipped) if seen else None,
        "skipped_pixels": axes_data(seen.skipped) if seen else None,
        "blind_cells": seen.blind_cells if seen else None,
        "dead_weights": row.dead_weights if seen else None,
    }


def verdict_page(verdict: Verdict, *, explain: bool = False) -> Page:
    """The layer table, the totals against their limits, and the verdict."""
    analysis = verdict.analysis
    notes = [
        Line(
            f"note: {note.code}{f' at {note.place}' if note.place else ''}: {note.message}",
            "yellow",
        )
        for note in verdict.warnings
    ]
    broken = [Line(f"{v.rule}: {v.message}", "red") for v in verdict.violations]
    ending = Line("accepted", "bold green") if verdict.accepted else Line("rejected", "bold red")
    return [
        Line(f"{one_line(analysis.spec.name)}  {analysis.spec_hash[:12]}", "bold"),
        _layers(analysis.rows, explain=explain),
        _totals(verdict),
        *notes,
        *broken,
        ending,
        Line(""),
    ]


_TITLES = (
    "block", "layer", "k", "s", "p", "d", "g", "in -> out", "params", "MACs", "jump", "RF",
)  # fmt: skip
_STEP = "RF step"
_ALL_TITLES = (*_TITLES, _STEP)


def _indexes(*titles: str) -> tuple[int, ...]:
    return tuple(map(_ALL_TITLES.index, titles))


_LEFT = frozenset(_indexes("block", "layer", "in -> out", _STEP))
_WRAPPED = frozenset(_indexes("block", "layer", _STEP))
_OPTIONAL = _indexes("jump", "g", "in -> out", "MACs")


def _layers(rows: Sequence[LayerRow], *, explain: bool) -> Grid:
    lines, block = [], None
    for row in rows:
        cells = [
            one_line(row.block) if row.block != block else "",
            "  " * (row.place.count(".body.") + row.place.count(".branches.")) + row.op,
            *_window_cells(row.window),
            f"{shape_text(row.before.shape)} -> {shape_text(row.after.shape)}",
            f"{row.params:,}",
            f"{row.macs:,}",
            axes_text(row.after.jump),
            axes_text(row.after.rf),
        ]
        if explain:
            pools_all = row.op == "global_avg_pool"
            step = receptive_field_step(row.window, row.before, row.after, pools_all=pools_all)
            cells.append(step)
        lines.append(cells)
        block = row.block
    return Grid(
        lines,
        _LEFT,
        _ALL_TITLES if explain else _TITLES,
        optional=_OPTIONAL,
        wrapped=_WRAPPED if explain else _WRAPPED - set(_indexes(_STEP)),
        hint="use a wider terminal or --format json",
    )


def _totals(verdict: Verdict) -> Grid:
    analysis, limits = verdict.analysis, verdict.constraints
    field = analysis.receptive_field
    clipped = axes_text(analysis.clipped) if analysis.clipped else "not followed"
    kib = analysis.peak_activation_bytes / 1024
    rows = [
        ("parameters", f"{analysis.params:,}", _room(analysis.params, limits.max_params)),
        ("MACs (one image)", f"{analysis.macs:,}", _room(analysis.macs, limits.max_macs)),
        ("receptive field", axes_text(field), _reach(min(field), limits.min_receptive_field)),
        ("  inside the image", clipped, "the most that one cell sees"),
        ("  with global pooling", axes_text(analysis.receptive_field_with_gap), ""),
        ("peak activations", f"{kib:,.0f} KiB", "fp32, one image"),
    ]
    return Grid(rows, left=frozenset({0, 2}), wrapped=frozenset({2}))


def _room(actual: int, limit: int | None) -> str:
    if limit is None:
        return ""
    room = limit - actual
    return f"limit {limit:,}: " + (f"{room:,} to spare" if room >= 0 else f"{-room:,} over")


def _reach(actual: int, limit: int | None) -> str:
    if limit is None:
        return ""
    room = actual - limit
    return f"at least {limit}: " + (f"{room} to spare" if room >= 0 else f"{-room} short")


def _window_cells(window: Conv2d | Pool2d | None) -> list[str]:
    if window is None:
        return [""] * 5
    cells = [axes_text(window.kernel_size), axes_text(window.stride)]
    if not isinstance(window, Conv2d):
        return [*cells, axes_text(window.padding), "", ""]
    height, width = (str(a) if a == b else f"{a}+{b}" for a, b in window.padding)
    return [*cells, axes_text((height, width)), axes_text(window.dilation), str(window.groups)]
