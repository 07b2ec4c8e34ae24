"""What this machine gives to this process: cores, threads, memory, load."""

from __future__ import annotations

import math
import os

from archsearch.errors import ArchsearchError


def cores() -> int:
    """Processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_each(processes: int) -> int:
    """Threads of each of some processes that share the cores; OMP_NUM_THREADS where it is set."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return max(1, cores() // processes)


def seconds_from(variable: str, default: float) -> float:
    """What an environment variable says, or else `default`.

    Raises:
        ArchsearchError: it is no number of seconds.
    """
    asked = os.environ.get(variable)
    if not asked:
        return default
    try:
        seconds = float(asked)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds < math.inf:
        raise ArchsearchError(f"{variable}: must be a number of seconds, at least 1, got {asked!r}")
    return seconds


def load() -> str:
    """How busy the processor is."""
    if not hasattr(os, "getloadavg"):  # Windows
        return f"{cores()} cores"
    return f"{os.getloadavg()[0]:.1f} busy threads on {cores()} cores"


def physical_memory() -> int | None:
    """Return the bytes of memory of this machine; None where the system does not say."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
