"""Hold the learning rates of a log against the schedule of its recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from archsearch.diagnosis.findings import Finding, Remedy, with_remedies
from archsearch.diagnosis.log_file import Logged
from archsearch.training.datasets import DATASETS
from archsearch.training.recipe import (
    Cosine,
    OneCycle,
    Plateau,
    Recipe,
    Triangular,
    learning_rate,
)

TRAIN_IMAGES = DATASETS["cifar10"].train
NEAR, FAR = 0.1, 0.2
"""Of the peak learning rate, between a logged rate and one that a schedule gives."""

Rates = Sequence[tuple[int, float]]
"""(epoch, counted from 0, and the learning rate that was logged)."""


def schedule_findings(history: Sequence[Logged], recipe: Recipe) -> Iterator[Finding]:
    """Find a schedule that was stepped once per epoch at most, or is not the recipe's at all."""
    rates = [(each.epoch, each.lr) for each in history if each.lr is not None]
    if not rates or isinstance(recipe.schedule, Plateau):
        return
    first = min(1, rates[0][0])  # epochs count from 0 or from 1
    at = [(min(epoch - first, recipe.epochs - 1), lr) for epoch, lr in rates]
    steps = -(-TRAIN_IMAGES // recipe.batch_size)
    # Whether the log has the rate at the start or at the end of an epoch is not known.
    starts = _distances(at, recipe, lambda epoch: epoch * steps)
    ends = _distances(at, recipe, lambda epoch: (epoch + 1) * steps - 1)
    as_epochs = min(
        max(_distances(at, recipe, lambda epoch: epoch)),
        max(_distances(at, recipe, lambda epoch: epoch + 1)),
    )
    by_batch = isinstance(recipe.schedule, Triangular | OneCycle | Cosine)
    if by_batch and as_epochs <= NEAR and min(max(starts), max(ends)) >= FAR:
        yield _stepped_per_epoch(rates, recipe, steps)
    # A milestone may count an epoch more or less: a few epochs are no other schedule.
    elif min(_far(starts), _far(ends)) > max(_FEW, len(at) / 3):
        worst = max(range(len(at)), key=ends.__getitem__)
        planned = learning_rate(recipe, (at[worst][0] + 1) * steps - 1, steps)
        yield with_remedies(
            "unlike-recipe",
            f"epoch {rates[worst][0]}",
            f"the log has lr {rates[worst][1]:g} there, and the recipe {planned:g}; "
            f"{min(_far(starts), _far(ends))} of {len(at)} epochs differ by more than {FAR:.0%} of "
            "its peak",
            Remedy("give the recipe of that run"),
            Remedy("step the scheduler as often as the recipe does"),
        )


_FEW = 2
"""Epochs."""


def _distances(at: Rates, recipe: Recipe, step_of: Callable[[int], int]) -> list[float]:
    """Return how far the log is from the rates at some steps, as shares of the peak."""
    per_epoch = -(-TRAIN_IMAGES // recipe.batch_size)
    return [
        abs(lr - learning_rate(recipe, step_of(epoch), per_epoch)) / recipe.lr for epoch, lr in at
    ]


def _far(distances: Sequence[float]) -> int:
    return sum(each >= FAR for each in distances)


def _stepped_per_epoch(rates: Rates, recipe: Recipe, steps: int) -> Finding:
    highest, total = max(lr for _, lr in rates), recipe.epochs * steps
    return with_remedies(
        "stepped-per-epoch",
        f"epoch {rates[-1][0]}",
        f"the highest lr of the log is {highest:g}, {highest / recipe.lr:.0%} of the recipe's peak "
        f"of {recipe.lr:g}, and the last is {rates[-1][1]:g}: {len(rates)} steps of the "
        f"{recipe.schedule.kind} schedule or fewer, where {recipe.epochs} epochs of {steps} "
        f"batches take {total:,}",
        Remedy(
            f"call scheduler.step() after every batch, {total:,} steps in all",
            "lr+" if highest < recipe.lr / 2 else "decay+",
        ),
        Remedy(f"build the scheduler with {recipe.epochs} total steps, one per epoch"),
    )
