"""How a report puts figures into words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from archsearch.leaderboard.entry import Entry
from archsearch.spec.formatting import axes_text


def share(value: float | None) -> str:
    """A share in percent; none where there is none."""
    return "none" if value is None else f"{value:.2%}"


def shares_between(low: float | None, high: float | None) -> str:
    """Return two shares as a range, or one where both read the same.

    >>> shares_between(0.5, 0.75), shares_between(1.0, 1.0)
    ('from 50.00% to 75.00%', '100.00%')
    """
    first, last = share(low), share(high)
    return first if first == last else f"from {first} to {last}"


def plural(count: int, word: str) -> str:
    """A count and what is counted.

    >>> plural(1, "network"), plural(1200, "network")
    ('1 network', '1,200 networks')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def and_list(parts: Sequence[str]) -> str:
    """Join words as in a sentence.

    >>> and_list(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def mark(row: Entry) -> str:
    """What a network is called: the start of its spec_hash."""
    return row.spec_hash[:12]


def field(row: Entry) -> str:
    """The receptive field of a row."""
    return axes_text(row.receptive_field)


def made_on(rows: Iterable[Entry]) -> str:
    """The images, machine, precision, version, seeds and runs behind figures of these rows."""
    before = {"torch_version": "torch ", "seed": "seed "}
    listed = list(rows)
    parts = []
    for column in ("dataset", "device", "precision", "torch_version", "seed"):
        values = sorted(map(str, {getattr(row, column) for row in listed} - {"", None}))
        if values:
            more = f" and {len(values) - 3} more" if len(values) > 3 else ""
            parts.append(f"{before.get(column, '')}{', '.join(values[:3])}{more}")
    return "; ".join([*parts, "one training a network"])
