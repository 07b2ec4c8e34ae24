"""Training: it learns, it resumes to the same weights, and what is damaged is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from archsearch.analyze import analyze
from archsearch.build import Net, build
from archsearch.data import Images, holdout, load
from archsearch.device import Device, choose
from archsearch.errors import ArchsearchError, CheckpointError, DivergedError
from archsearch.recipe import Augment, Cutout, Recipe
from archsearch.results import Epoch
from archsearch.spec import Spec
from archsearch.train import evaluate, make_optimizer, train
from tests.strategies import HEADS, spec_of

CPU = Device(torch.device("cpu"), "fp32", "test")
RECIPE = Recipe(epochs=3, batch_size=32, lr=0.05, augment=Augment(cutout=Cutout(p=0.5, size=8)))


def small_net() -> Net:
    layers = [
        {"op": "conv", "out_channels": 8, "stride": 2},
        {"op": "depthwise_separable", "out_channels": 16, "stride": 2, "dropout": 0.1},
    ]
    raw = spec_of([layers], HEADS[0], 32, 32)
    raw["input"]["channels"] = 3
    torch.manual_seed(0)
    return build(analyze(Spec.model_validate(raw)).network)


@pytest.fixture(scope="module")
def images() -> tuple[Images, Images]:
    train_set = load("shapes", None).train
    some = torch.arange(0, len(train_set), 10)
    return holdout(train_set[some])


def run(
    net: Net, images: tuple[Images, Images], recipe: Recipe = RECIPE, path: Path | None = None
) -> list[Epoch]:
    fit, held = images
    return list(train(net, recipe, fit, held, device=CPU, seed=1, run="run", checkpoint_path=path))


def test_it_learns_and_reports_every_epoch(images: tuple[Images, Images]) -> None:
    net = small_net()
    plain = {"epochs": 12, "batch_size": 16, "augment": Augment(flip=0, translate=0)}
    history = run(net, images, RECIPE.model_copy(update=plain))
    assert [epoch.epoch for epoch in history] == list(range(1, 13))
    assert history[-1].train_loss < history[0].train_loss
    assert history[-1].val_acc is not None
    assert history[-1].train_acc > 0.3  # chance is 0.1
    assert 0 < history[-1].lr < history[2].lr


def test_an_interrupted_run_ends_in_the_same_weights(
    images: tuple[Images, Images], tmp_path: Path
) -> None:
    straight, resumed = small_net(), small_net()
    wanted = run(straight, images)
    fit, held = images
    started = train(
        small_net(), RECIPE, fit, held,
        device=CPU, seed=1, run="run", checkpoint_path=tmp_path / "checkpoint.pt",
    )  # fmt: skip
    next(started)
    started.close()
    found = run(resumed, images, path=tmp_path / "checkpoint.pt")
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert [e.val_acc for e in found] == [e.val_acc for e in wanted]
    assert [e.train_loss for e in found] == [e.train_loss for e in wanted]


def test_a_finished_run_is_given_again_without_training(
    images: tuple[Images, Images], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    first = run(small_net(), images, path=path)
    stamp = path.stat().st_mtime_ns
    assert run(small_net(), images, path=path) == first
    assert path.stat().st_mtime_ns == stamp


def test_a_damaged_checkpoint_is_told_and_left(
    images: tuple[Images, Images], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    run(small_net(), images, path=path)
    damaged = path.read_bytes()[:-50]
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="not a checkpoint that can be read"):
        run(small_net(), images, path=path)
    assert path.read_bytes() == damaged


def test_another_runs_checkpoint_is_refused(images: tuple[Images, Images], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    run(small_net(), images, path=path)
    fit, held = images
    with pytest.raises(CheckpointError, match="belongs to another run"):
        next(train(small_net(), RECIPE, fit, held, device=CPU, seed=2, run="other",
                   checkpoint_path=path))  # fmt: skip


def test_divergence_is_an_error_with_its_epoch(images: tuple[Images, Images]) -> None:
    wild = RECIPE.model_copy(update={"lr": 1e6, "epochs": 3, "weight_decay": 10.0})
    with pytest.raises(DivergedError, match=r"in epoch [123] \(learning rate 1e\+06\)"):
        run(small_net(), images, wild)


def test_it_stops_at_its_target_if_told_to(images: tuple[Images, Images]) -> None:
    stop = RECIPE.model_copy(update={"target_accuracy": 0.01, "stop_at_target": True})
    assert len(run(small_net(), images, stop)) == 1
    assert len(run(small_net(), images, RECIPE)) == 3


def test_weight_decay_spares_norms_and_biases_unless_told() -> None:
    def decayed(recipe: Recipe) -> int:
        groups = make_optimizer(small_net(), recipe).param_groups
        return sum(
            p.ndim <= 1 for group in groups if group["weight_decay"] for p in group["params"]
        )

    assert decayed(RECIPE) == 0
    assert decayed(RECIPE.model_copy(update={"decay_norms_and_biases": True})) > 0


def test_evaluation_is_the_share_that_is_right() -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[3].expand(len(x), 10)

    labels = torch.tensor([3] * 7 + [5] * 3)
    images = Images(torch.zeros(10, 4, 4, 3, dtype=torch.uint8), labels)
    score = evaluate(Constant(), images, torch.zeros(3), torch.ones(3), CPU)
    assert score.accuracy == pytest.approx(0.7)
    e = torch.e
    wanted = -0.7 * torch.log(torch.tensor(e / (e + 9))) - 0.3 * torch.log(
        torch.tensor(1 / (e + 9))
    )
    assert score.loss == pytest.approx(wanted.item(), rel=1e-5)


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ArchsearchError, match="--device cuda:99: cannot be used here"):
        choose("cuda:99")
    with pytest.raises(ArchsearchError, match="--device toaster: cannot be used here"):
        choose("toaster")
