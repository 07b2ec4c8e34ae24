"""Remember what was measured on this machine, in the user's cache folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress

from archsearch.common.atomic_files import cache_folder, write_text
from archsearch.common.guarded_files import read_at_most
from archsearch.errors import ArchsearchError

MAX_REMEMBERED = 500
MAX_BYTES = 1 << 20


def remembered(name: str, key: str, measure: Callable[[], float]) -> float:
    """Return what `measure` returned when it was first called for `key`.

    Args:
        name: name of a file in the cache folder. If it cannot be read, it is measured again.
        key: machine, precision and whatever else the measurement depends on.
        measure: takes the measurement.
    """
    path = cache_folder() / f"{name}.json"
    try:
        known = dict(json.loads(read_at_most(path, MAX_BYTES)))
    except (OSError, ValueError, TypeError, RecursionError):
        known = {}
    value = known.get(key)
    if isinstance(value, bool) or (isinstance(value, int | float) and 0 < value < math.inf):
        return value
    value = measure()
    kept = {**known, key: value}
    latest = dict(list(kept.items())[-MAX_REMEMBERED:])
    with suppress(ArchsearchError):  # then it is measured again next time
        write_text(path, json.dumps(latest, indent=2) + "\n")
    return value
