"""Limits on the size of a spec, checked before it is resolved."""

from __future__ import annotations

from collections.abc import Iterable

from archsearch.errors import Problem
from archsearch.spec import models as s

MAX_LAYERS = 2_000
MAX_NESTING = 24


def count_layers(layers: Iterable[s.Layer]) -> tuple[int, int]:
    """How many layers these are, those inside them and each branch included, and how deep."""
    count = deepest = 0
    stack = [(layer, 1) for layer in layers]
    while stack:
        layer, depth = stack.pop()
        deepest = max(deepest, depth)
        count += 1
        if depth > MAX_NESTING:
            continue
        if isinstance(layer, s.Residual):
            stack += [(child, depth + 1) for child in layer.body]
        elif isinstance(layer, s.Parallel):
            count += len(layer.branches)
            stack += [(child, depth + 1) for branch in layer.branches for child in branch]
    return count, deepest


def size_problems(count: int, nesting: int) -> list[Problem]:
    """What is wrong with so many layers, nested so deep."""
    problems = []
    if nesting > MAX_NESTING:
        message = f"layers nest deeper than {MAX_NESTING}; flatten them"
        problems.append(Problem("blocks", "nesting", message))
    if count > MAX_LAYERS:
        message = f"{count:,} layers; at most {MAX_LAYERS:,} are read (each branch counts)"
        problems.append(Problem("blocks", "layers", message))
    return problems
