"""The description of one training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from archsearch.spec.network import Network
from archsearch.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training run.

    Attributes:
        key: names it within one search.
        folder: where its checkpoint, history, spec and recipe are kept.
        final: train on the whole training set and test once, rather than score the hold-out.
    """

    key: str
    spec_hash: str
    network: Network
    recipe: Recipe
    seed: int
    folder: Path
    final: bool
