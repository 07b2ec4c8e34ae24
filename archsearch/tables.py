"""Verdicts as pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archsearch.common.page import Grid, Line, Page
from archsearch.constraints import Verdict
from archsearch.errors import one_line
from archsearch.rows import Row
from archsearch.spec.formatting import axes_text, receptive_field_step, shape_text
from archsearch.spec.ops import Conv2d


def verdict_page(verdict: Verdict, *, explain: bool = False) -> Page:
    """The layer table, the totals against their limits, and the verdict."""
    analysis = verdict.analysis
    notes = [
        Line(
            f"note: {caution.code}{f' at {caution.place}' if caution.place else ''}: "
            f"{caution.message}",
            "yellow",
        )
        for caution in verdict.warnings
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
_LEFT = frozenset(
    (*_TITLES, _STEP).index(title) for title in ("block", "layer", "in -> out", _STEP)
)


def _layers(rows: Sequence[Row], *, explain: bool) -> Grid:
    lines = []
    block = None
    for row in rows:
        cells = [
            one_line(row.block) if row.block != block else "",
            "  " * _depth(row.place) + row.op,
            *_window_cells(row),
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
    return Grid(lines, _LEFT, (*_TITLES, _STEP) if explain else _TITLES)


def _totals(verdict: Verdict) -> Grid:
    analysis, limits = verdict.analysis, verdict.constraints
    rows = [
        ("parameters", f"{analysis.params:,}", _room(analysis.params, limits.max_params)),
        ("MACs (one image)", f"{analysis.macs:,}", _room(analysis.macs, limits.max_macs)),
        (
            "receptive field",
            axes_text(analysis.receptive_field),
            _reach(min(analysis.receptive_field), limits.min_receptive_field),
        ),
        (
            "  inside the image",
            axes_text(analysis.clipped) if analysis.clipped else "not followed",
            "the most that one cell sees",
        ),
        ("  with global pooling", axes_text(analysis.receptive_field_with_gap), ""),
        (
            "peak activations",
            f"{analysis.peak_activation_bytes / 1024:,.0f} KiB",
            "fp32, one image",
        ),
    ]
    return Grid(rows, left=frozenset({0, 2}))


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


def _window_cells(row: Row) -> Iterator[str]:
    window = row.window
    if window is None:
        yield from [""] * 5
        return
    yield axes_text(window.kernel_size)
    yield axes_text(window.stride)
    if isinstance(window, Conv2d):
        sides = [
            before if before == after else f"{before}+{after}" for before, after in window.padding
        ]
        yield str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"
        yield axes_text(window.dilation)
        yield str(window.groups)
    else:
        yield axes_text(window.padding)
        yield ""
        yield ""


def _depth(place: str) -> int:
    return place.count(".body.") + place.count(".branches.")
