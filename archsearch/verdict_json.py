"""A verdict as plain data, for `--format json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from archsearch.analyze import Row
from archsearch.constraints import Verdict
from archsearch.errors import InputError
from archsearch.ops import Conv2d, Pair


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """One object a spec; sizes in pixels, `macs` for one image, bytes for fp32 and one image."""
    analysis = verdict.analysis
    return {
        "name": analysis.spec.name,
        "spec_hash": analysis.spec_hash,
        "verdict": "accepted" if verdict.accepted else "rejected",
        "params": analysis.params,
        "macs": analysis.macs,
        "receptive_field": _axes(analysis.receptive_field),
        "receptive_field_with_gap": _axes(analysis.receptive_field_with_gap),
        "peak_activation_bytes": analysis.peak_activation_bytes,
        "violations": [asdict(violation) for violation in verdict.violations],
        "warnings": [asdict(warning) for warning in verdict.warnings],
        "layers": [_row_data(row) for row in analysis.rows],
    }


def invalid_data(source: str, error: Exception) -> dict[str, Any]:
    """What stands in for the verdict on a spec that is none."""
    problems = (
        [asdict(problem) for problem in error.problems]
        if isinstance(error, InputError)
        else [{"place": "", "rule": "input", "message": str(error)}]
    )
    return {"file": source, "verdict": "invalid", "problems": problems}


def _row_data(row: Row) -> dict[str, Any]:
    window = row.window
    data: dict[str, Any] = {"block": row.block, "place": row.place, "op": row.op}
    if window:
        data |= {
            "kernel_size": _axes(window.kernel_size),
            "stride": _axes(window.stride),
            "padding": [list(sides) for sides in window.padding]
            if isinstance(window, Conv2d)
            else [[side, side] for side in window.padding],
        }
    if isinstance(window, Conv2d):
        data |= {"dilation": _axes(window.dilation), "groups": window.groups}
    after = row.after
    return data | {
        "in_shape": list(row.before.shape),
        "out_shape": list(after.shape),
        "params": row.params,
        "macs": row.macs,
        "activation_bytes": row.activation_bytes,
        "jump": _axes(after.jump),
        "start": _starts(after.height.start, after.width.start),
        "receptive_field": _axes(after.rf),
    }


def _axes(pair: Pair) -> int | list[int]:
    return pair[0] if pair[0] == pair[1] else list(pair)


def _starts(height: float, width: float) -> float | list[float]:
    return height if height == width else [height, width]
