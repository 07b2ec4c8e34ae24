"""Schedules against torch's own and against their corner points."""

from __future__ import annotations

import pytest
import torch

from archsearch.recipe import Constant, Cosine, OneCycle, Recipe, Step, Triangular, learning_rate


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
