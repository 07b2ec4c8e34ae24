"""The rows of Optuna's tables, and whether Optuna can read them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from optuna.distributions import json_to_distribution

TABLES = {
    "studies": "study_id, study_name",
    "study_directions": "study_id, direction, objective",
    "study_user_attributes": "study_id, key, value_json",
    "study_system_attributes": "study_id, key, value_json",
    "trials": "trial_id, number, study_id, state, datetime_start, datetime_complete",
    "trial_user_attributes": "trial_id, key, value_json",
    "trial_system_attributes": "trial_id, key, value_json",
    "trial_params": "trial_id, param_name, param_value, distribution_json",
    "trial_values": "trial_id, objective, value, value_type",
    "trial_intermediate_values": ("trial_id, step, intermediate_value, intermediate_value_type"),
}
"""The columns that are needed, the owner of the row first."""


def text_or_bytes(raw: bytes) -> str | bytes:
    """Return text, or the bytes of what is none."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _is_json(cells: list[Any]) -> bool:
    try:
        json.loads(cells[1])
    except (ValueError, TypeError, RecursionError):
        return False
    return all(isinstance(cell, str) for cell in cells)


def _is_param(cells: list[Any]) -> bool:
    name, value, distribution = cells
    try:
        json_to_distribution(distribution).to_external_repr(value)
    except Exception:  # noqa: BLE001 (Optuna's parser of what may be anything)
        return False
    return isinstance(name, str) and isinstance(distribution, str)


def _is_value(cells: list[Any]) -> bool:
    objective, value, kind = cells
    return objective == 0 and isinstance(value, int | float) and kind == "FINITE"


def _is_reported(cells: list[Any]) -> bool:
    step, value, kind = cells
    finite = isinstance(value, int | float) and kind == "FINITE"
    return (
        isinstance(step, int)
        and step >= 0
        and (finite or (value is None and kind in ("NAN", "INF_POS", "INF_NEG")))
    )


def is_time(value: Any) -> bool:
    """Return whether Optuna can read a time."""
    try:
        return value is None or bool(datetime.fromisoformat(value))
    except (ValueError, TypeError):
        return False


READABLE = {
    "study_user_attributes": _is_json,
    "study_system_attributes": _is_json,
    "trial_user_attributes": _is_json,
    "trial_system_attributes": _is_json,
    "trial_params": _is_param,
    "trial_values": _is_value,
    "trial_intermediate_values": _is_reported,
}
"""By table: whether Optuna can read the cells of a row, without its owner."""
