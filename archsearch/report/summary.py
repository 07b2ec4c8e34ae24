"""What a study found, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from archsearch.analysis.constraints import active_rules
from archsearch.common.interval import wilson
from archsearch.errors import one_line
from archsearch.leaderboard.entry import Entry
from archsearch.report.facts import Facts
from archsearch.report.phrases import and_list, field, mark, plural, share
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.training.datasets import DATASETS

LIMIT_PHRASES = {
    "max_params": "at most {:,} parameters",
    "min_receptive_field": "a receptive field of at least {:,} pixels",
    "max_macs": "at most {:,} multiply-accumulates",
    "conv_blocks": "{:,} blocks with convolutions",
    "depthwise_separable": "a depthwise-separable convolution",
    "dilated": "a dilated convolution",
    "global_avg_pool": "global average pooling",
    "no_pooling": "no pooling other than global average pooling",
    "strided_dilated": "a strided dilated convolution",
}
"""Limits in words."""


def tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """(what, figure, what stands below it) of the best network."""
    best = best_of(facts)
    if best is None:
        return []
    limits = facts.study.constraints
    accuracy = (
        ("test accuracy", share(best.test_acc), f"95% interval {_interval(facts, best)}")
        if best.test_acc is not None
        else ("hold-out accuracy", share(best.val_acc), "not tested yet")
    )
    most_params = _limit("at most", limits.max_params)
    most_macs = _limit("at most", limits.max_macs and limits.max_macs / 1e6, " million")
    least_field = _limit("at least", limits.min_receptive_field, " px")
    return [
        accuracy,
        ("parameters", f"{best.params:,}", most_params),
        ("MACs, one image", f"{best.macs / 1e6:.1f} M", most_macs),
        ("receptive field", f"{field(best)} px", least_field),
        ("networks tried", f"{len(facts.rows):,}", f"{len(facts.of('trained')):,} to the end"),
    ]


def _limit(word: str, value: float | None, unit: str = "") -> str:
    return "no limit" if value is None else f"{word} {value:,.15g}{unit}"


def best_of(facts: Facts) -> Entry | None:
    """The first of the finalists, as the hold-out ranks them."""
    return facts.finalists[0].row if facts.finalists else None


def sentences(facts: Facts) -> Iterator[str]:
    """The summary, a paragraph each."""
    yield _tried(facts)
    if best := best_of(facts):
        yield _found(facts, best)
    yield _selected(facts)
    if facts.public and facts.tested:
        yield _compared(facts)
    if DATASETS[facts.study.dataset].generated:
        yield "The images are the generated set shapes, so none of this says anything of CIFAR-10."


def _tried(facts: Facts) -> str:
    count = {status: len(facts.of(status)) for status in ("trained", "pruned", "failed")}
    text = (
        f"The search tried {plural(len(facts.rows), 'network')}: {count['trained']:,} were trained "
        f"to the end of {plural(facts.study.recipe.epochs, 'epoch')}, {count['pruned']:,} were "
        f"stopped early because they fell behind, {count['failed']:,} failed."
    )
    if isinstance(facts.rejections, tuple) and facts.rejections:
        text += (
            f" {plural(len(facts.rejections), 'more proposal')} cost no training: arithmetic on "
            "the spec alone rejected them."
        )
    rules = active_rules(facts.study.constraints)
    limits = [LIMIT_PHRASES[name].format(limit) for name, limit, _ in rules]
    return f"{text} The limits: {and_list(limits) or 'none'}."


def _found(facts: Facts, best: Entry) -> str:
    size = (
        f"with {best.params:,} parameters, {best.macs / 1e6:.1f} million multiply-accumulates and "
        f"a receptive field of {field(best)} pixels"
    )
    if best.test_acc is None:
        return (
            f"The best so far is {mark(best)}: {share(best.val_acc)} of the hold-out, {size}."
            f"{_edited(facts, best)} No finalist was tested yet: the search goes on where it "
            "stopped when the same command is run again."
        )
    target = facts.study.final_recipe.target_accuracy
    aimed = ""
    if target is not None:
        verb = "reached" if best.test_acc >= target else "missed"
        aimed = f" The target, {target:.0%}, is {verb}."
    images = DATASETS[facts.study.dataset].test
    return (
        f"The best, {mark(best)}, has {share(best.test_acc)} of the {images:,} test images right "
        f"(95% interval {_interval(facts, best)}), {size}.{aimed}{_edited(facts, best)}"
    )


def _edited(facts: Facts, best: Entry) -> str:
    """What the best network changed, where the search started from one."""
    if not isinstance(facts.study.space, Neighbourhood):
        return ""
    base = one_line(facts.study.space.base.name)
    return f" The search started from {base}; its edits: {best.edits or 'none'}."


def _interval(facts: Facts, row: Entry) -> str:
    count = DATASETS[facts.study.dataset].test
    low, high = wilson(round((row.test_acc or 0.0) * count), count)
    return f"{100 * low:.2f} to {100 * high:.2f}"


def _selected(facts: Facts) -> str:
    held = DATASETS[facts.study.dataset].held_out
    half = 100 * (wilson(round(0.85 * held), held).high - 0.85)
    text = (
        f"The hold-out, {held:,} training images that no trial was trained on, selected; one such "
        f"figure is sure to about {half:.1f} points (95%), so neighbours in the ranking are not "
        "told apart by it."
    )
    if not facts.tested:
        return f"{text} The test images were not looked at yet."
    seeds = {row.test_seeds for row in facts.tested}
    runs = and_list([plural(count, "training") for count in sorted(seeds)])
    were = "was" if len(facts.tested) == 1 else "were"
    return (
        f"{text} {plural(len(facts.tested), 'finalist')} {were} then trained anew on all training "
        f"images ({runs} each) and tested at the last epoch; nothing was chosen by the test images."
    )


def _compared(facts: Facts) -> str:
    best = max(facts.public, key=lambda other: other.best_test_acc_percent)
    return (
        f"The best of {len(facts.public)} public solutions to the same coursework reports "
        f"{best.best_test_acc_percent:.2f}%. Those figures are of the best epoch on the test "
        "images themselves, which flatters them; ours are of the last epoch. "
        "Not all of them keep the limits."
    )
