"""What differs between two specs, layer by layer, in the words that specs are written in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from archsearch.errors import one_line
from archsearch.spec import models as s
from archsearch.spec.formatting import shape_text

_INSERTED, _OTHER_OP, _DIFFERENT, _A_FIELD = 1.0, 1.7, 0.5, 0.1
"""What steps of an alignment cost: a layer that one list has more; another kind in its place; the
same kind with other settings, and each of them."""
_MOST_PAIRS = 1 << 16
"""Of layers to align, which takes half a second; longer lists are paired by number."""
_NESTED = ("body", "branches")

Layers = Sequence[s.Layer]


class Change(NamedTuple):
    """A place where two specs differ.

    Attributes:
        where: its block and number there, in the first; of a layer that only the second has, there.
        first: what is there in the first; empty where nothing is.
        second: in the second.
    """

    where: str
    first: str
    second: str


def differences(first: s.Spec, second: s.Spec) -> list[Change]:
    """From the input to the output; blocks are held against each other by their number.

    Names are passed over: they change nothing.
    """
    changes = [
        Change(what, a, b)
        for what, a, b in (
            ("input", shape_text(first.input.shape), shape_text(second.input.shape)),
            ("classes", str(first.classes), str(second.classes)),
        )
        if a != b
    ]
    for a, b in zip_longest(first.blocks, second.blocks):
        name = one_line((a or b).name)
        changes += _of_lists(a.layers if a else (), b.layers if b else (), name)
    return [*changes, *_of_lists(first.output.layers, second.output.layers, "output")]


def described(layer: s.Layer) -> str:
    """A layer, its settings that are not the default, and what is inside of it."""
    fields = [
        f"{name} {_value(getattr(layer, name))}"
        for name, field in type(layer).model_fields.items()
        if name not in ("op", *_NESTED) and getattr(layer, name) != field.default
    ]
    told = f"{layer.op} {', '.join(fields)}".strip()
    inside = ["; ".join(map(described, layers)) or "nothing" for _, layers in _inside(layer)]
    return f"{told} ({' | '.join(inside)})" if inside else told


def _of_lists(first: Layers, second: Layers, label: str) -> Iterator[Change]:
    for i, j in aligned(first, second):
        if i is None:
            yield Change(f"{label}.{j}", "", described(second[j or 0]))
        elif j is None:
            yield Change(f"{label}.{i}", described(first[i]), "")
        else:
            yield from _of_layers(first[i], second[j], f"{label}.{i}")


def _of_layers(first: s.Layer, second: s.Layer, label: str) -> Iterator[Change]:
    if first == second:
        return
    if type(first) is not type(second):
        yield Change(label, described(first), described(second))
        return
    names = [name for name in _differing(first, second) if name not in _NESTED]
    if names:
        a, b = (
            f"{layer.op} {', '.join(f'{name} {_value(getattr(layer, name))}' for name in names)}"
            for layer in (first, second)
        )
        yield Change(label, a, b)
    for a_part, b_part in zip_longest(_inside(first), _inside(second)):
        name, _ = a_part or b_part
        a_layers, b_layers = (part[1] if part else () for part in (a_part, b_part))
        yield from _of_lists(a_layers, b_layers, f"{label}.{name}")


def _differing(first: s.Layer, second: s.Layer) -> list[str]:
    """The settings that two layers of a kind do not share."""
    fields = type(first).model_fields
    return [name for name in fields if getattr(first, name) != getattr(second, name)]


def _inside(layer: s.Layer) -> list[tuple[str, Layers]]:
    """Lists of layers in a layer, with what they are called."""
    match layer:
        case s.Residual(body=body):
            return [("body", body)]
        case s.Parallel(branches=branches):
            return [(f"branches.{i}", branch) for i, branch in enumerate(branches)]
        case _:
            return []


def aligned(first: Layers, second: Layers) -> list[tuple[int | None, int | None]]:
    """Which layer of one list is which of the other; None: it has none there.

    The alignment in which the fewest layers are added, left out or differ; a layer would rather be
    another of its kind than of another kind.
    """
    if len(first) * len(second) > _MOST_PAIRS:
        return list(zip_longest(range(len(first)), range(len(second))))
    rows, columns = len(first) + 1, len(second) + 1
    cost = [[_INSERTED * (i + j) for j in range(columns)] for i in range(rows)]
    apart = [[_apart(a, b) for b in second] for a in first]
    for i in range(1, rows):
        for j in range(1, columns):
            cost[i][j] = min(
                cost[i - 1][j - 1] + apart[i - 1][j - 1],
                cost[i - 1][j] + _INSERTED,
                cost[i][j - 1] + _INSERTED,
            )
    pairs: list[tuple[int | None, int | None]] = []
    i, j = rows - 1, columns - 1
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + apart[i - 1][j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and cost[i][j] == cost[i - 1][j] + _INSERTED:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]


def _apart(first: s.Layer, second: s.Layer) -> float:
    if first == second:
        return 0.0
    if type(first) is not type(second):
        return _OTHER_OP
    fields = len(_differing(first, second))
    layers = sum(
        abs(len(a) - len(b))
        for (_, a), (_, b) in zip(_inside(first), _inside(second), strict=False)
    )
    return min(_DIFFERENT + _A_FIELD * (fields + layers), _OTHER_OP)


def _value(value: object) -> str:
    return shape_text(value) if isinstance(value, tuple) else str(value).lower()
