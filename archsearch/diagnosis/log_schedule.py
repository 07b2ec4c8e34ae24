"""Hold the learning rates of a log against the schedule of its recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from archsearch.diagnosis.findings import Finding, Remedy, with_remedies
from archsearch.diagnosis.log_file import Logged
from archsearch.training.datasets import DATASETS
from archsearch.training.recipe import Cosine, OneCycle, Recipe, Triangular, learning_rate

TRAIN_IMAGES = DATASETS["cifar10"].train
NEAR, FAR = 0.1, 0.2
"""Of the peak learning rate, between a logged rate and one that a schedule gives."""


def stepped_per_epoch(history: Sequence[Logged], recipe: Recipe) -> Iterator[Finding]:
    """Find a schedule that is counted in batches, but was stepped once per epoch at most."""
    rates = [(each.epoch, each.lr) for each in history if each.lr is not None]
    steps = -(-TRAIN_IMAGES // recipe.batch_size)
    if not rates or not isinstance(recipe.schedule, Triangular | OneCycle | Cosine):
        return
    first = min(1, rates[0][0])  # epochs count from 0 or from 1
    at = [(min(epoch - first, recipe.epochs - 1), lr) for epoch, lr in rates]

    def distance(step_of: Callable[[int], int]) -> float:
        """How far the log is from the rates at some steps, at most, as a share of the peak."""
        scheduled = (learning_rate(recipe, step_of(epoch), steps) for epoch, _ in at)
        return max(abs(lr - rate) for (_, lr), rate in zip(at, scheduled, strict=True)) / recipe.lr

    # Whether the log has the rate at the start or at the end of an epoch is not known.
    as_batches = min(distance(lambda e: e * steps), distance(lambda e: (e + 1) * steps - 1))
    as_epochs = min(distance(lambda e: e), distance(lambda e: e + 1))
    if as_epochs > NEAR or as_batches < FAR:
        return
    kind, highest = recipe.schedule.kind, max(lr for _, lr in rates)
    yield with_remedies(
        "stepped-per-epoch",
        f"epoch {rates[-1][0]}",
        f"the highest lr of the log is {highest:g}, {highest / recipe.lr:.0%} of the recipe's peak "
        f"of {recipe.lr:g}, and the last is {rates[-1][1]:g}: {len(rates)} steps of the {kind} "
        f"schedule or fewer, where {recipe.epochs} epochs of {steps} batches take "
        f"{recipe.epochs * steps:,}",
        Remedy(
            f"call scheduler.step() after every batch, {recipe.epochs * steps:,} steps in all",
            "lr+" if highest < recipe.lr / 2 else "decay+",
        ),
        Remedy(f"build the scheduler with {recipe.epochs} total steps, one per epoch"),
    )
