"""Fixes of one diagnosis never oppose each other, and none presumes what did not happen."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints
from archsearch.diagnosis import Diagnosis, diagnosis_of
from archsearch.diagnosis.agreement import PUSHES, agreeing
from archsearch.diagnosis.findings import Finding, Remedy, with_remedies
from archsearch.diagnosis.fix import fix_recipe
from archsearch.diagnosis.log_file import Logged, read_training_log
from archsearch.diagnosis.log_schedule import schedule_findings
from archsearch.diagnosis.rules import RULES
from archsearch.spec.models import Spec
from archsearch.training.recipe import Recipe, learning_rate
from archsearch.training.recipe_files import load_recipe
from tests.conftest import ROOT
from tests.diagnosis.test_training_log import log
from tests.strategies import Json, examples

OPPOSITES = [
    (r"\ba lower (peak )?lr\b|a warm-up|gradients clipped", r"a higher lr|lr 0\.1 with momentum"),
    (r"(?<!no )more epochs", r"fewer epochs|no more epochs"),
    (r"more augmentation|translations by", r"lighter augmentation|translations alone"),
    (r"(?<!no )dropout", r"no dropout"),
    (r"ends near 0", r"decays later"),
]
"""What fixes say, and what would undo it."""
PRESUME_LEARNING = {"underfits", "overfits", "plateau", "never-decayed", "guessing-at-high-lr"}

DROPOUT: Json = {"op": "conv", "out_channels": 8, "dropout": 0.3}
SPEC = Spec.model_validate(
    {
        "name": "x",
        "blocks": [{"name": "b", "layers": [DROPOUT, DROPOUT]}],
        "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]},
    }
)
ANALYSIS = analyze(SPEC)
NO_LIMITS = Constraints.model_validate(dict.fromkeys(Constraints.model_fields))
RECIPES: dict[str, Json] = {
    "short": {"lr": 0.001, "momentum": 0.0, "augment": {"flip": 0.0, "translate": 0}},
    "long": {"lr": 9.0, "weight_decay": 0.0, "schedule": {"kind": "constant"}},
    "heavy": {"augment": {"affine": {}, "color_jitter": {}, "cutout": {"size": 8}}},
    "cycle": {"lr": 0.1, "epochs": 24, "batch_size": 512, "schedule": {"kind": "one_cycle"}},
    "stop": {"stop_at_target": True, "schedule": {"kind": "step", "milestones": [90]}},
}


def diagnosed(history: list[Logged], recipe: Json | None = None) -> Diagnosis:
    how = None if recipe is None else Recipe.model_validate(recipe)
    return diagnosis_of(ANALYSIS, NO_LIMITS, how, history)


def codes(history: list[Logged], recipe: Json | None = None) -> set[str]:
    found = diagnosed(history, recipe).findings
    return {each.code for each in found if RULES[each.code].subject == "history"}


def curve(length: int) -> st.SearchStrategy[list[float]]:
    """Accuracies that stay at guessing, rise, fall or jump about."""
    ends = st.sampled_from([0.1, 0.102, 0.14, 0.3, 0.55, 0.8, 0.97])
    kinks = st.lists(ends, min_size=2, max_size=4)

    def drawn(at: list[float]) -> list[float]:
        steps = [i * (len(at) - 1) / max(1, length - 1) for i in range(length)]
        legs = list(pairwise(at))
        return [
            low + (high - low) * (step - leg)
            for step in steps
            for leg in [min(int(step), len(legs) - 1)]
            for low, high in [legs[leg]]
        ]

    return kinks.map(drawn)


@st.composite
def logs(draw: st.DrawFn) -> list[Logged]:
    length = draw(st.integers(1, 24))
    scored, train = draw(curve(length)), draw(st.none() | curve(length))
    losses = st.sampled_from([2.303, 1.5, 0.3, math.nan, math.inf])
    loss = draw(st.none() | st.lists(losses, min_size=length, max_size=length))
    lr = draw(st.none() | curve(length))
    return log(scored, train, lr, loss)


@pytest.mark.property
@examples(300)
@given(logs(), st.none() | st.sampled_from(list(RECIPES.values())))
def test_no_two_fixes_of_an_answer_contradict_each_other(
    history: list[Logged], recipe: Json | None
) -> None:
    found = diagnosed(history, recipe)
    text = "\n".join(each.mend for each in found)
    for one, other in OPPOSITES:
        assert not (re.search(one, text) and re.search(other, text)), text
    logged = {each.code for each in found}
    if logged & {"diverged", "scored-at-guessing"}:
        assert not logged & PRESUME_LEARNING


def test_the_property_can_fail() -> None:
    # Each side of each pair is something that a fix really says.
    text = "\n".join(
        each.mend
        for recipe in (None, *RECIPES.values())
        for history in (RISING, OVERFIT, AT_GUESSING, NAN, FLAT)
        for each in diagnosed(history, recipe)
    )
    for pair in OPPOSITES:
        for side in pair:
            assert re.search(side, text), side


def epochs(
    train: list[float], scored: list[float], lr: list[float] | None = None, loss: float = 1.0
) -> list[Logged]:
    return [
        Logged(i + 1, train[i], scored[i], loss, lr[i] if lr else None) for i in range(len(train))
    ]


UP = [0.2 + 0.03 * i for i in range(12)]
RISING = epochs(UP, UP)
OVERFIT = epochs([0.5 + 0.04 * i for i in range(12)], [0.5 + 0.02 * i for i in range(12)])
AT_GUESSING = epochs([0.1] * 12, [0.1] * 12, [0.1] * 12, 2.303)
NAN = epochs(UP, UP, [0.1] * 12, math.nan)
FLAT = epochs([0.5] * 12, [0.5] * 12)


@pytest.mark.parametrize(
    "history",
    [
        AT_GUESSING,
        epochs([0.1] * 12, [0.098, 0.1, 0.103] * 4, [0.1] * 12, 2.31),
        NAN,
        epochs([*UP[:6], *[0.1] * 6], [*UP[:6], *[0.1] * 6], [0.1] * 12, math.inf),
        epochs([*UP[:9], *[0.1] * 3], [*UP[:9], *[0.1] * 3], [0.1] * 12),
    ],
    ids=["world-13", "noise around guessing", "nan", "inf after learning", "lost again"],
)
def test_after_divergence_nothing_presumes_learning(history: list[Logged]) -> None:
    assert codes(history) == {"diverged"}
    assert "diverged" in codes(history, RECIPES["cycle"])
    assert not codes(history, RECIPES["cycle"]) & PRESUME_LEARNING


def test_a_log_with_nan_overrules_a_recipe_whose_steps_seem_short() -> None:
    short = Recipe.model_validate(RECIPES["short"])
    found = diagnosis_of(ANALYSIS, NO_LIMITS, short, NAN)
    assert "few-steps" not in {each.code for each in found}
    assert "few-steps" in {each.code for each in diagnosis_of(ANALYSIS, NO_LIMITS, short)}
    assert fix_recipe(short, found.overruled).result.lr == short.lr
    assert fix_recipe(short).result.lr > short.lr


def test_what_never_learned_gives_way_to_steps_that_are_too_short() -> None:
    found = {each.code: each.mend for each in diagnosed(AT_GUESSING, RECIPES["short"])}
    assert "few-steps" in found
    assert "lower lr" not in found["diverged"]
    assert "lower lr" in next(each.mend for each in diagnosed(AT_GUESSING, {}))


def test_muons_rate_is_not_offered_to_what_needs_a_lower_one() -> None:
    assert "sgd-alone" not in {each.code for each in diagnosed(NAN, {"lr": 0.1})}
    assert "sgd-alone" in {each.code for each in diagnosed(NAN, {"lr": 4.0})}
    assert "sgd-alone" in {each.code for each in diagnosed(RISING, {"lr": 0.1})}


@pytest.mark.parametrize("push", sorted(set(PUSHES.values())))
def test_a_later_fix_gives_way_and_a_weak_one_always_does(push: str) -> None:
    back = push[:-1] + {"+": "-", "-": "+"}[push[-1]]
    strong = with_remedies("underfits", "", "x", Remedy("one", push))
    against = with_remedies("overfits", "", "x", Remedy("two", back), Remedy("three"))
    weak = with_remedies("plateau", "", "x", Remedy("four", back, weak=True))
    plain = Finding("sgd-alone", "", "x", "five")
    left, _ = agreeing([weak, strong, against, plain])
    assert [each.mend for each in left] == ["one", "three", "five"]
    left, overruled = agreeing([against])
    assert overruled == {code for code, its in PUSHES.items() if its == push}
    assert left[0].mend == "two, or three"


# Learned, but scored at guessing

HIGH = [0.39 + 0.03 * i for i in range(16)]


@pytest.mark.parametrize(
    ("scored", "told"),
    [
        ([0.1] * 16, "10.0% in every epoch, where guessing has 10.0%, as if"),
        ([0.157, 0.12, 0.134, 0.16] * 4, "12.0% to 16.0% in every epoch"),
        ([0.35, 0.42, 0.47, 0.5] + [0.1] * 12, "10.0% from epoch 5 on"),
        ([0.3, 0.11, 0.35, 0.4] + [0.09, 0.12] * 6, "9.0% to 12.0% from epoch 5 on"),
    ],
    ids=["never scored", "wrong images", "statistics lost", "labels shuffled later"],
)
def test_learned_but_scored_at_guessing_is_its_own_finding(scored: list[float], told: str) -> None:
    history = epochs(HIGH, scored, [0.1 - 0.006 * i for i in range(16)])
    [finding] = [each for each in diagnosed(history) if RULES[each.code].subject == "history"]
    assert finding.code == "scored-at-guessing"
    assert told in finding.evidence
    for cause in ("normalize", "labels", "running statistics"):
        assert cause in finding.mend


@pytest.mark.parametrize(("classes", "scored"), [(2, 0.5), (5, 0.21), (100, 0.01), (1000, 0.001)])
def test_guessing_depends_on_the_classes(classes: int, scored: float) -> None:
    head = {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": classes}]}
    raw = SPEC.model_dump(mode="json", exclude_unset=True)
    spec = Spec.model_validate(raw | {"classes": classes, "output": head})
    history = epochs([0.7, 0.8, 0.9], [scored] * 3)
    found = {each.code for each in diagnosis_of(analyze(spec), NO_LIMITS, None, history)}
    assert "scored-at-guessing" in found
    better = epochs([0.7, 0.8, 0.9], [scored * 1.1 + 0.15] * 3)
    found = {each.code for each in diagnosis_of(analyze(spec), NO_LIMITS, None, better)}
    assert "scored-at-guessing" not in found


def test_overfitting_is_still_overfitting() -> None:
    assert codes(epochs(HIGH, [0.3 + 0.01 * i for i in range(16)])) == {"overfits"}
    # One bad score in between is none of them.
    once = [0.4 + 0.03 * i for i in range(16)]
    once[7] = 0.1
    assert "scored-at-guessing" not in codes(epochs(HIGH, once))


# Most of a run at guessing

DOWN = [0.8 * (1 - i / 16) for i in range(16)]
LATE = [0.1] * 10 + [0.15, 0.2, 0.25, 0.3, 0.33, 0.35]


@pytest.mark.parametrize(
    ("accuracies", "lr", "found"),
    [
        (LATE, DOWN, True),
        (LATE, [0.5] * 10 + [0.05] * 6, True),
        ([0.1, 0.11, 0.098, 0.1, 0.3, 0.4, 0.45], [0.1, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01], True),
        (LATE, [0.1] * 16, False),
        (LATE, DOWN[::-1], False),
        ([0.1, 0.1, *UP], [0.2] * 2 + DOWN[4:], False),
    ],
    ids=["linear", "steps", "after a warm-up", "constant lr", "rising lr", "a short warm-up"],
)
def test_a_run_that_learns_once_the_lr_is_down_is_its_own_finding(
    accuracies: list[float], lr: list[float], found: bool
) -> None:
    history = epochs(accuracies, accuracies, lr[: len(accuracies)])
    assert ("guessing-at-high-lr" in codes(history)) == found
    if found:
        [finding] = [each for each in diagnosed(history) if each.code == "guessing-at-high-lr"]
        assert "a lower peak lr" in finding.mend
        assert not any("a higher lr" in each.mend for each in diagnosed(history))


# A schedule that was stepped once per epoch


def rates(recipe: Json, *, every_batch: bool, most: int | None = None) -> list[Logged]:
    """What a scheduler of the recipe's schedule leaves in a log."""
    how = Recipe.model_validate(recipe)
    steps = -(-50_000 // how.batch_size)
    done = range(1, (most or how.epochs) + 1)
    lr = [learning_rate(how, (i * steps if every_batch else i) - 1, steps) for i in done]
    accuracies = [0.3 + 0.01 * i for i in done]
    return epochs(accuracies, accuracies, lr)


CYCLE = RECIPES["cycle"]


@pytest.mark.parametrize(
    ("recipe", "most", "told"),
    [
        (CYCLE, None, "4% of the recipe's peak of 0.1"),
        (
            CYCLE | {"epochs": 90, "optimizer": "adam", "lr": 0.01, "batch_size": 256},
            None,
            "17,640",
        ),
        (CYCLE | {"schedule": {"kind": "triangular"}}, None, "5% of the recipe's peak"),
        (CYCLE | {"schedule": {"kind": "cosine"}}, None, "100% of the recipe's peak"),
        (CYCLE | {"lr": 0.4, "batch_size": 128, "epochs": 12}, 8, "8 steps of the one_cycle"),
    ],
    ids=["world-15", "adam", "triangular", "cosine", "stopped early"],
)
def test_a_scheduler_stepped_once_per_epoch_is_its_own_finding(
    recipe: Json, most: int | None, told: str
) -> None:
    history = rates(recipe, every_batch=False, most=most)
    [finding] = [each for each in diagnosed(history, recipe) if each.code == "stepped-per-epoch"]
    assert told in finding.evidence
    assert "step() after every batch" in finding.mend
    assert not {"never-decayed", "diverged"} & codes(history, recipe)
    right = rates(recipe, every_batch=True, most=most)
    assert "stepped-per-epoch" not in codes(right, recipe)


def test_other_schedules_are_not_taken_for_one_that_was_stepped_per_epoch() -> None:
    for kind in ({"kind": "constant"}, {"kind": "step", "milestones": [9]}, {"kind": "plateau"}):
        recipe = CYCLE | {"schedule": kind}
        assert "stepped-per-epoch" not in codes(rates(recipe, every_batch=False), recipe)
    # Epochs may count from 0, and rates be those at the start of each.
    history = rates(CYCLE, every_batch=True)
    shifted = [
        each._replace(epoch=i, lr=before.lr)
        for i, (before, each) in enumerate(pairwise(history), start=0)
    ]
    assert "stepped-per-epoch" not in codes(shifted, CYCLE)


@pytest.mark.parametrize(
    ("recipe", "lr", "found"),
    [
        ({"schedule": {"kind": "step", "milestones": [6]}}, [0.1] * 6 + [0.01] * 6, False),
        ({"schedule": {"kind": "step", "milestones": [6]}}, [0.1] * 7 + [0.01] * 5, False),
        ({"schedule": {"kind": "step", "milestones": [6]}}, [0.01] * 12, True),
        ({"schedule": {"kind": "constant"}}, [0.1] * 12, False),
        ({"schedule": {"kind": "constant"}}, [0.05] * 12, True),
        ({"schedule": {"kind": "triangular"}}, [0.3] * 12, True),
        ({"schedule": {"kind": "plateau"}}, [0.01] * 12, False),
    ],
)
def test_a_log_of_another_recipe_is_its_own_finding(
    recipe: Json, lr: list[float], found: bool
) -> None:
    history = epochs(UP, UP, lr)
    assert ("unlike-recipe" in codes(history, {"lr": 0.1, "epochs": 12} | recipe)) == found


def test_runs_of_archsearch_follow_their_recipes() -> None:
    checked = 0
    for path in (ROOT / "studies").glob("**/history.csv"):
        if (recipe := path.with_name("recipe.json")).exists():
            history = read_training_log(path)
            found = schedule_findings(history, load_recipe(str(recipe)))
            assert not list(found), path
            checked += 1
    assert checked > 5
