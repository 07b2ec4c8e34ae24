"""A verdict as plain data, for `--format json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archsearch.constraints import Verdict, Violation
from archsearch.errors import InputError
from archsearch.rows import Row
from archsearch.spec.formatting import axes_data
from archsearch.spec.ops import Conv2d
from archsearch.totals import Totals


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
    problems = (
        [problem._asdict() for problem in error.problems]
        if isinstance(error, InputError)
        else [{"place": "", "rule": "input", "message": str(error)}]
    )
    return {"file": source, "verdict": "invalid", "problems": problems}


def _row_data(row: Row) -> dict[str, Any]:
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
    after = row.after
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
        **_seen_data(row),
    }


def _seen_data(row: Row) -> dict[str, Any]:
    """What is known pixel by pixel; null where the network is too large to follow."""
    seen = row.seen
    return {
        "receptive_field_clipped": axes_data(seen.clipped) if seen else None,
        "skipped_pixels": axes_data(seen.skipped) if seen else None,
        "blind_cells": seen.blind_cells if seen else None,
        "dead_weights": row.dead_weights if seen else None,
    }
