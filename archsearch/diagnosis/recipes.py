"""What in a recipe costs accuracy, whatever the network."""

from __future__ import annotations

from collections.abc import Iterator

from archsearch.diagnosis.findings import Finding, Remedy, with_remedies
from archsearch.training.datasets import DATASETS
from archsearch.training.recipe import Plateau, Recipe, learning_rate
from archsearch.training.recipe_files import shipped

TRAIN_IMAGES = DATASETS["cifar10"].train
FEW_STEPS = {"sgd": 100.0, "adam": 0.3, "adamw": 0.3, "muon": 100.0}
"""By optimizer, the sum of learning rates over all steps (each divided by 1 - momentum, but for
Adam's, which scales its steps itself) below which weights cannot get far."""
MUCH_LR = {"sgd": 20.0, "adam": 0.03, "adamw": 0.03, "muon": 20.0}
"""The same of a single step, above which the loss is likely to leave the numbers."""
_ADAMS = ("adam", "adamw")
LARGE_BATCH = 256
STEPS_THAT_DO = 5_000
"""So many steps need no smaller batch."""
FLAT = 0.1
_ROUNDING = 1e-9
"""A schedule has not decayed that ends above this share of its peak."""
LONG = 8
"""Epochs, from which on images are seen often enough to be learned by heart."""
SHORT = 100
"""Epochs, below which heavy augmentation is not made up for."""


def step_sum(recipe: Recipe, images: int = TRAIN_IMAGES) -> float:
    """How far weights can get: learning rates summed over all steps, times momentum's gain.

    With momentum m a gradient goes on to act for 1 / (1 - m) steps' worth (Goh, "Why Momentum
    Really Works", Distill 2017, doi:10.23915/distill.00006). An epoch goes through `images`.
    """
    steps = -(-images // recipe.batch_size)
    # A schedule is smooth: a hundred of its steps stand for all.
    total = recipe.epochs * steps
    at = range(0, total, max(1, total // 100))
    mean = sum(learning_rate(recipe, step, steps) for step in at) / len(at)
    return mean * total * _gain(recipe)


def _gain(recipe: Recipe) -> float:
    return 1.0 if recipe.optimizer in _ADAMS else 1 / (1 - recipe.momentum)


def few_steps(recipe: Recipe) -> Iterator[Finding]:
    """Too few, too short steps to arrive anywhere."""
    total, least = step_sum(recipe), FEW_STEPS[recipe.optimizer]
    if total < least:
        momentum = "" if recipe.optimizer in _ADAMS else f", momentum {recipe.momentum:g}"
        yield Finding(
            "few-steps",
            "lr",
            f"{recipe.optimizer}, lr {recipe.lr:g}{momentum}, {recipe.epochs} epochs of "
            f"{-(-TRAIN_IMAGES // recipe.batch_size)} steps: the steps add up to {total:.3g}, "
            f"where {least:g} and more is usual",
            "lr 0.1 with momentum 0.9 for sgd, 0.003 for adam",
            {"": _sound_steps(recipe)},
        )


def _sound_steps(recipe: Recipe) -> dict[str, object]:
    if recipe.optimizer in _ADAMS:
        return {"lr": 0.003}
    return {"lr": max(recipe.lr, 0.1), "momentum": 0.9, "nesterov": True}


def long_steps(recipe: Recipe) -> Iterator[Finding]:
    """Steps that are likely to throw the weights out."""
    one, most = recipe.lr * _gain(recipe), MUCH_LR[recipe.optimizer]
    if one > most:
        yield Finding(
            "long-steps",
            "lr",
            f"{recipe.optimizer}, lr {recipe.lr:g}: a step moves weights by {one:.3g} gradients, "
            f"where at most {most:g} is usual",
            "a lower lr",
            {"": {"lr": recipe.lr * most / one / 2}},
        )


def flat_schedule(recipe: Recipe) -> Iterator[Finding]:
    """A learning rate that is still high at the end."""
    steps = -(-TRAIN_IMAGES // recipe.batch_size)
    last = learning_rate(recipe, recipe.epochs * steps - 1, steps) / recipe.lr
    schedule = recipe.schedule
    may_fall = isinstance(schedule, Plateau) and schedule.patience + 1 < recipe.epochs
    if last > FLAT + _ROUNDING and not may_fall:
        yield Finding(
            "flat-schedule",
            "schedule",
            f"{schedule.kind}: the last step is still taken at {last:.0%} of the peak "
            "learning rate, so the weights jump about where they should settle",
            "a schedule that ends near 0: triangular, cosine or one_cycle",
            {"": {"schedule": {"kind": "triangular"}}},
        )


def large_batch(recipe: Recipe) -> Iterator[Finding]:
    """Few steps because each takes many images."""
    steps = -(-TRAIN_IMAGES // recipe.batch_size)
    if recipe.batch_size > LARGE_BATCH and recipe.epochs * steps < STEPS_THAT_DO:
        yield Finding(
            "large-batch",
            "batch_size",
            f"batches of {recipe.batch_size}: {steps} steps an epoch, "
            f"{recipe.epochs * steps:,} in all",
            f"batches of {LARGE_BATCH}",
            {"": {"batch_size": LARGE_BATCH}},
        )


def sgd_alone(recipe: Recipe) -> Iterator[Finding]:
    """Kernels that plain gradients move."""
    if recipe.optimizer == "muon":
        return
    fast = shipped("fast")
    names = (
        "optimizer", "lr", "norm_bias_lr", "momentum", "nesterov",
        "weight_decay", "decay_norms_and_biases",
    )  # fmt: skip
    # Adam scales its steps itself, so its rates are no measure of them.
    longer = recipe.optimizer == "sgd" and fast.lr * _gain(fast) > recipe.lr * _gain(recipe)
    yield with_remedies(
        "sgd-alone",
        "optimizer",
        f"{recipe.optimizer}: muon's orthogonal updates of kernels learn more an epoch",
        Remedy(
            "muon, with the learning rates of the recipe `fast`", "lr+" if longer else "", weak=True
        ),
        edit={"": {name: getattr(fast, name) for name in names}},
    )


def default_start(recipe: Recipe) -> Iterator[Finding]:
    """First filters and kernels that begin as noise."""
    missing = [name for name in _STARTS if not getattr(recipe.init, name)]
    if missing:
        yield Finding(
            "default-start",
            "init",
            "; ".join(_STARTS[name] for name in missing),
            f"init {' and '.join(missing)}",
            {"": {"init": recipe.init.model_copy(update=dict.fromkeys(missing, True))}},
        )


_STARTS = {
    "whiten": "the first filters begin as noise rather than as the images' principal components",
    "dirac": "kernels begin as noise rather than as near-identities",
}


def decayed_norms(recipe: Recipe) -> Iterator[Finding]:
    """Weight decay where it shrinks what only scales and shifts."""
    if recipe.weight_decay and recipe.decay_norms_and_biases:
        yield Finding(
            "decayed-norms",
            "decay_norms_and_biases",
            f"weight decay {recipe.weight_decay:g} on norms and biases too: it pulls scales "
            "towards 0 and regularises nothing",
            "decay kernels and matrices alone",
            {"": {"decay_norms_and_biases": False}},
        )


def no_weight_decay(recipe: Recipe) -> Iterator[Finding]:
    """Nothing that holds weights under norms small."""
    if not recipe.weight_decay:
        yield Finding(
            "no-weight-decay",
            "weight_decay",
            "weight decay 0: under a norm, weights only grow, and so the steps that they feel "
            "only shrink",
            "weight decay 5e-4",
            {"": {"weight_decay": 5e-4}},
        )


def no_augmentation(recipe: Recipe) -> Iterator[Finding]:
    """The same images, epoch after epoch."""
    at = recipe.augment
    moved = at.translate or at.affine or at.cutout or at.erasing
    if not at.flip and not moved and recipe.epochs >= LONG:
        yield Finding(
            "no-augmentation",
            "augment",
            f"{recipe.epochs} epochs of the very same images: neither flipped nor moved",
            "flips and translations by 2 pixels",
            {"": {"augment": at.model_copy(update={"flip": 0.5, "translate": 2})}},
        )


def heavy_augmentation(recipe: Recipe) -> Iterator[Finding]:
    """Images changed more than a small network has capacity or epochs for."""
    at = recipe.augment
    heavy = ("affine", "color_jitter", "grayscale", "cutout", "erasing")
    kinds = [name for name in heavy if getattr(at, name)]
    if len(kinds) > 2 and recipe.epochs < SHORT:
        gone = {name: 0.0 if name == "grayscale" else None for name in kinds}
        yield Finding(
            "heavy-augmentation",
            "augment",
            f"{', '.join(kinds)} at once in {recipe.epochs} epochs: a small network spends its "
            "capacity on images that nobody will show it",
            "flips and translations alone",
            {"": {"augment": at.model_copy(update={**gone, "flip": 0.5, "translate": 2})}},
        )


def stops_at_target(recipe: Recipe) -> Iterator[Finding]:
    """A run that ends before its schedule does."""
    if recipe.stop_at_target and recipe.target_accuracy is not None:
        yield Finding(
            "stops-at-target",
            "stop_at_target",
            f"it ends at the first epoch with {recipe.target_accuracy:.0%}, while the learning "
            "rate is still high: the epochs that bring most are left out",
            "train to the end of the schedule; choose a shorter schedule if time is short",
            {"": {"stop_at_target": False}},
        )
