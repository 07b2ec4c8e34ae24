"""What a training log says of the run that wrote it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from archsearch.diagnosis.findings import Finding, Remedy, with_remedies
from archsearch.diagnosis.log_file import Logged
from archsearch.diagnosis.log_schedule import schedule_findings
from archsearch.training.datasets import CLASSES, DATASETS
from archsearch.training.recipe import Recipe

GAP = 0.10
"""Training accuracy this far above the scored one is overfitting."""
LOW = 0.90
"""Training accuracy below that leaves something to learn."""
FLAT_GAIN = 0.005
"""Of the last third's accuracy; below that a curve has stopped."""
OF_CHANCE = 0.02
"""Accuracy above guessing that is still guessing."""
NEAR_CHANCE = 0.1
"""Of the way from guessing to 100%: no trained network is as bad on images like its own."""
TRAINED = 0.25
"""Of the same way: a training accuracy above that was learned."""
TRAINED_LOSS = 0.7
"""Of the loss of guessing: a training loss below that was learned."""
FELL = 0.9
"""A learning rate below this share of its peak has fallen."""
DECAYED = 0.1
"""Of the peak learning rate, at the end."""
TRAIN_IMAGES = DATASETS["cifar10"].train
LOWER_LR = Remedy("a lower lr", "lr-")
ENDS_NEAR_0 = "a schedule that ends near 0"


def history_findings(
    history: Sequence[Logged], classes: int, recipe: Recipe | None = None
) -> Iterator[Finding]:
    """Report what a log says, beside the recipe of its run.

    What presumes that something was learned is reported only if something was.
    """
    scored = [(each.epoch, each.scored_acc) for each in history if each.scored_acc is not None]
    if classes == CLASSES:
        yield from _scored_on_training(scored)
    schedule = list(schedule_findings(history, recipe)) if recipe else []
    yield from schedule
    if failed := list(_failed(history, scored, classes)):
        yield from failed
        return
    yield from _guessing_at_high_lr(history, classes)
    yield from _plateau(scored)
    if all(each.code != "stepped-per-epoch" for each in schedule):
        yield from _never_decayed(history)
    yield from _fit(history)


_ROUNDED = 0.03
"""Of an image: six digits of a share of 50,000, or a 32-bit number."""
Scored = Sequence[tuple[int, float]]


def _failed(history: Sequence[Logged], scored: Scored, classes: int) -> Iterator[Finding]:
    """Nothing was learned, it was lost again, or it does not show on the scored images."""
    for each in history:
        if any(v is not None and not math.isfinite(v) for v in (each.train_loss, each.scored_acc)):
            yield with_remedies(
                "diverged",
                f"epoch {each.epoch}",
                "the loss became NaN or infinite",
                LOWER_LR,
                Remedy("a warm-up", "lr-"),
                Remedy("gradients clipped by their norm", "lr-"),
            )
            return
    if unlike := list(_scored_at_guessing(history, classes)):
        yield from unlike
        return
    chance = 1 / classes
    if len(scored) > 1 and (best := max(acc for _, acc in scored)) < chance + OF_CHANCE:
        yield with_remedies(
            "diverged",
            "",
            f"never above {best:.1%}, where guessing has {chance:.1%}",
            Remedy("check the labels, the normalization and the loss first"),
            LOWER_LR._replace(weak=True),
        )
        return
    peak_epoch, peak = max(scored, key=lambda each: each[1], default=(0, 0.0))
    if scored and scored[-1][1] < 0.7 * peak:
        yield with_remedies(
            "diverged",
            f"epoch {peak_epoch}",
            f"{peak:.1%} there, {scored[-1][1]:.1%} at the end: it was lost again",
            LOWER_LR,
            Remedy(ENDS_NEAR_0, "decay+"),
        )


def _scored_at_guessing(history: Sequence[Logged], classes: int) -> Iterator[Finding]:
    """The training images are learned, and the scored ones are guessed, up to the end."""
    chance = 1 / classes
    most = min(2 * chance, chance + NEAR_CHANCE * (1 - chance))
    scored = [each for each in history if each.scored_acc is not None]
    above = [i for i, each in enumerate(scored) if (each.scored_acc or 0) > most]
    tail = scored[above[-1] + 1 :] if above else scored
    if classes == 1 or not tail or len(tail) < (min(3, len(scored)) if above else 1):
        return
    learned = _learned(tail, classes)
    if not learned:
        return
    accuracies = [each.scored_acc or 0 for each in tail]
    low, high = min(accuracies), max(accuracies)
    since = f"from epoch {tail[0].epoch} on" if above else "in every epoch"
    constant = high - low < _SAME
    figure = f"{low:.1%}" if constant else f"{low:.1%} to {high:.1%}"
    one_class = ", as if every image got the same class" * constant
    yield with_remedies(
        "scored-at-guessing",
        f"epoch {tail[-1].epoch}",
        f"{learned}, but accuracy on the scored images is {figure} {since}, where guessing has "
        f"{chance:.1%}{one_class}",
        Remedy("normalize the scored images exactly as the training images"),
        Remedy("check that their labels are in the order of the images and number classes alike"),
        Remedy(
            "check that the norms' running statistics are updated (momentum above 0), saved and "
            "loaded with the weights, and used in evaluation"
        ),
    )


_SAME = 5e-4


def _learned(epochs: Sequence[Logged], classes: int) -> str:
    """Say how well the training images were learned by the last of some epochs; "" if not."""
    last = epochs[-1]
    chance = 1 / classes
    if last.train_acc is not None:
        trained = last.train_acc > chance + TRAINED * (1 - chance)
        return f"training accuracy reaches {last.train_acc:.1%}" if trained else ""
    losses = [each.train_loss for each in epochs if each.train_loss is not None]
    if losses and losses[-1] < min(TRAINED_LOSS * math.log(classes), 0.8 * max(losses)):
        return f"the training loss falls from {max(losses):.3g} to {losses[-1]:.3g}"
    return ""


def _guessing_at_high_lr(history: Sequence[Logged], classes: int) -> Iterator[Finding]:
    """Most of a run learns nothing, until the learning rate has come down."""
    chance = 1 / classes
    logged = [(each, acc) for each in history if (acc := _accuracy(each)) is not None]
    guessing = min(1.5 * chance, chance + 0.05)
    started = next((i for i, (_, acc) in enumerate(logged) if acc > guessing), 0)
    stuck = [each.lr for each, _ in logged[:started] if each.lr is not None]
    if len(stuck) < _SEVERAL or 2 * started < len(logged):
        return
    at, _ = logged[started]
    if at.lr is None or at.lr >= FELL * max(stuck):
        return
    yield with_remedies(
        "guessing-at-high-lr",
        f"epoch {at.epoch}",
        f"{started} of {len(logged)} epochs stay at guessing ({chance:.1%}) under a learning rate "
        f"of up to {max(stuck):g}; accuracy rises only once it is down to {at.lr:g}",
        Remedy("a lower peak lr", "lr-"),
        Remedy("a warm-up", "lr-"),
        Remedy("gradients clipped by their norm", "lr-"),
    )


_SEVERAL = 2
"""Epochs at guessing; the first alone may be a warm-up."""


def _accuracy(epoch: Logged) -> float | None:
    """Return the better of an epoch's accuracies: it has learned if either shows it."""
    return max((a for a in (epoch.scored_acc, epoch.train_acc) if a is not None), default=None)


def _scored_on_training(scored: Scored) -> Iterator[Finding]:
    """Accuracies that 50,000 images can have, and no part of them."""
    accuracies = [acc for _, acc in scored if math.isfinite(acc)]
    if len(accuracies) < 3 or not _are_counts(accuracies, TRAIN_IMAGES):
        return
    parts = [TRAIN_IMAGES // n for n in range(2, 51) if TRAIN_IMAGES % n == 0]
    if not any(_are_counts(accuracies, part) for part in parts):
        yield Finding(
            "scored-on-training",
            "",
            f"{len(accuracies)} accuracies are whole numbers of {TRAIN_IMAGES:,} images, and of no "
            "part of them such as the 10,000 test images: those are the training images",
            "score the test images (train=False), or a hold-out that is not trained on",
        )


def _are_counts(shares: Sequence[float], images: int) -> bool:
    """Whether all are whole numbers of images, as closely as logs are written."""
    return all(abs(share * images - round(share * images)) < _ROUNDED for share in shares)


def _fit(history: Sequence[Logged]) -> Iterator[Finding]:
    last = history[-1]
    if last.train_acc is None or last.scored_acc is None:
        return
    gap = last.train_acc - last.scored_acc
    told = (
        f"training accuracy {last.train_acc:.1%} and {last.scored_acc:.1%} of the images that it "
        f"is scored on, at the end"
    )
    if gap > GAP:
        yield with_remedies(
            "overfits",
            f"epoch {last.epoch}",
            f"{told}: {gap:.1%} apart, so more parameters will not help",
            Remedy("more augmentation", "augmentation+"),
            Remedy("more weight decay", "weight decay+"),
            Remedy("dropout", "dropout+"),
            Remedy("fewer epochs", "epochs-"),
        )
    elif last.train_acc < LOW and gap < GAP / 3:
        yield with_remedies(
            "underfits",
            f"epoch {last.epoch}",
            f"{told}: it has not learned the training images, so nothing is gained by "
            "regularizing it",
            Remedy("no dropout", "dropout-", weak=True),
            Remedy("lighter augmentation", "augmentation-", weak=True),
            Remedy("a higher lr", "lr+", weak=True),
            Remedy("more epochs", "epochs+", weak=True),
            Remedy("a better network"),
        )


def _plateau(scored: Scored) -> Iterator[Finding]:
    if len(scored) < 9:
        return
    third = len(scored) // 3
    before = max(acc for _, acc in scored[:-third])
    gain = max(acc for _, acc in scored[-third:]) - before
    if gain < FLAT_GAIN:
        yield with_remedies(
            "plateau",
            f"epoch {scored[-third][0]}",
            f"the last {third} of {len(scored)} epochs gained {100 * gain:+.2f} points",
            Remedy("no more epochs of the same: fix what the findings above report", "epochs-"),
            Remedy("a schedule that decays later", "decay-", weak=True),
        )


def _never_decayed(history: Sequence[Logged]) -> Iterator[Finding]:
    rates = [each.lr for each in history if each.lr is not None]
    if len(rates) > 1 and max(rates) > 0 and rates[-1] > DECAYED * max(rates):
        yield with_remedies(
            "never-decayed",
            f"epoch {history[-1].epoch}",
            f"the last epoch ended at lr {rates[-1]:g}, {rates[-1] / max(rates):.0%} of the "
            "highest",
            Remedy(f"{ENDS_NEAR_0}, as long as the run", "decay+"),
        )
