"""Verdicts and leaderboards as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archsearch.constraints import Verdict
from archsearch.ops import Conv2d
from archsearch.rows import Row
from archsearch.wording import axes_text, receptive_field_step, shape_text

# Text from specs goes in as Text, never as markup.


def verdict_view(verdict: Verdict, *, explain: bool = False) -> RenderableType:
    """The layer table, the totals against their limits, and the verdict."""
    analysis = verdict.analysis
    parts: list[RenderableType] = [
        Text.assemble((analysis.spec.name, "bold"), f"  {analysis.spec_hash[:12]}"),
        _layer_table(analysis.rows, explain=explain),
        _totals(verdict),
    ]
    for warning in verdict.warnings:
        where = f" at {warning.place}" if warning.place else ""
        parts.append(Text(f"note: {warning.code}{where}: {warning.message}", "yellow"))
    parts += [Text(f"{v.rule}: {v.message}", "red") for v in verdict.violations]
    parts.append(
        Text("accepted", "bold green") if verdict.accepted else Text("rejected", "bold red")
    )
    return Group(*parts)


def _layer_table(rows: Sequence[Row], *, explain: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("block")
    table.add_column("layer")
    for name in ("k", "s", "p", "d", "g"):
        table.add_column(name, justify="right")
    table.add_column("in -> out", no_wrap=True)
    for name in ("params", "MACs", "jump", "RF"):
        table.add_column(name, justify="right", no_wrap=True)
    if explain:
        table.add_column("RF step", no_wrap=True)
    block = ""
    for row in rows:
        cells = [
            row.block if row.block != block else "",
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
        table.add_row(*(Text(cell) for cell in cells))
        block = row.block
    return table


def _totals(verdict: Verdict) -> Table:
    analysis, limits = verdict.analysis, verdict.constraints
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
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
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


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


_LEADERBOARD = {
    "rank": "rank",
    "trial": "trial",
    "spec_hash": "network",
    "status": "status",
    "val_acc": "hold-out %",
    "test_acc": "test %",
    "params": "params",
    "receptive_field": "RF",
    "macs": "MMACs",
    "epochs": "epochs",
    "train_seconds": "seconds",
}


def leaderboard_view(rows: Sequence[Mapping[str, str]]) -> RenderableType:
    """A leaderboard's main columns; what every row shares stands below."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, title in _LEADERBOARD.items():
        left = column in ("spec_hash", "status")
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    for row in rows:
        style = "bold" if row.get("test_acc") else ""
        table.add_row(*(Text(_cell(column, row), style) for column in _LEADERBOARD))
    return Group(table, Text(_shared(rows), "dim"))


def _cell(column: str, row: Mapping[str, str]) -> str:
    value = row.get(column) or ""
    try:
        match column:
            case "spec_hash":
                return value[:12]
            case "val_acc":
                return f"{100 * float(value):.2f}" if value else ""
            case "test_acc":
                return _test_accuracy(value, row)
            case "params":
                return f"{int(value):,}"
            case "macs":
                return f"{int(value) / 1e6:.1f}"
            case "train_seconds":
                return f"{float(value):.0f}" if value else ""
            case _:
                return value
    except ValueError:
        return value


def _test_accuracy(value: str, row: Mapping[str, str]) -> str:
    if not value:
        return ""
    spread = row.get("test_acc_std")
    return f"{100 * float(value):.2f}" + (f" ± {100 * float(spread):.2f}" if spread else "")


def _shared(rows: Sequence[Mapping[str, str]]) -> str:
    """The data set, machine and seed behind the figures."""
    parts = []
    for column in ("dataset", "device", "precision", "seed", "torch_version"):
        values = sorted({value for row in rows if (value := row.get(column))})
        if values:
            parts.append(f"{column.replace('_version', '')} {', '.join(values)}")
    return "; ".join(parts)
