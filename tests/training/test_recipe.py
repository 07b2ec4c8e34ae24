"""Schedules against torch's own and against their corner points."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archsearch.training.recipe import (
    Constant,
    Cosine,
    OneCycle,
    Plateau,
    Recipe,
    Step,
    Triangular,
    learning_rate,
    recipe_hash,
)


def rates(recipe: Recipe, steps_per_epoch: int) -> list[float]:
    total = recipe.epochs * steps_per_epoch
    return [learning_rate(recipe, step, steps_per_epoch) for step in range(total)]


def test_triangular_climbs_in_a_line_and_falls_in_a_line() -> None:
    found = rates(Recipe(lr=1.0, epochs=10, schedule=Triangular(kind="triangular", peak=0.2)), 10)
    assert found[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert found[20:] == pytest.approx([1 - i / 80 for i in range(80)])


@pytest.mark.parametrize("epochs", [2, 9])
def test_one_cycle_is_torchs(epochs: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.01, epochs=epochs, steps_per_epoch=7, cycle_momentum=False
    )
    found = rates(Recipe(lr=0.01, epochs=epochs, schedule=OneCycle(kind="one_cycle")), 7)
    wanted = []
    for _ in range(7 * epochs):
        wanted.append(theirs.get_last_lr()[0])
        optimizer.step()
        if len(wanted) < 7 * epochs:
            theirs.step()
    assert found == pytest.approx(wanted)


def test_step_is_torchs_multistep() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3], gamma=0.1)
    schedule = Step(kind="step", milestones=(2, 3))
    for epoch in range(5):
        for step in range(4):
            recipe = Recipe(lr=0.01, epochs=5, schedule=schedule)
            found = learning_rate(recipe, 4 * epoch + step, 4)
            assert found == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_cosine_and_constant() -> None:
    cosine = rates(Recipe(lr=2.0, epochs=4, schedule=Cosine(kind="cosine")), 5)
    assert cosine[0] == 2.0
    assert cosine[10] == pytest.approx(1.0)
    assert cosine == sorted(cosine, reverse=True)
    assert set(rates(Recipe(lr=2.0, epochs=4, schedule=Constant(kind="constant")), 5)) == {2.0}


@given(
    losses=st.lists(st.floats(0.5, 1.5), max_size=30),
    patience=st.integers(0, 4),
    threshold=st.sampled_from([0.0, 1e-4, 0.1]),
)
def test_plateau_is_torchs(losses: list[float], patience: int, threshold: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.3, patience=patience, threshold=threshold, eps=0
    )
    schedule = Plateau(kind="plateau", factor=0.3, patience=patience, threshold=threshold)
    recipe = Recipe(lr=0.5, epochs=40, schedule=schedule)
    for done in range(len(losses) + 1):
        found = learning_rate(recipe, 7 * done, 7, losses[:done])
        assert found == pytest.approx(optimizer.param_groups[0]["lr"])
        if done < len(losses):
            theirs.step(losses[done])


def test_a_recipes_hash_is_of_what_it_says_not_of_how() -> None:
    assert recipe_hash(Recipe()) == recipe_hash(Recipe(epochs=Recipe().epochs))
    assert recipe_hash(Recipe()) != recipe_hash(Recipe(epochs=13))
    # So that a field which a later version adds leaves running studies their identity.
    assert recipe_hash(Recipe()) == hashlib.sha256(b"{}").hexdigest()
