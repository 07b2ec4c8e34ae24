"""Training: it learns, it resumes to the same weights, and what is damaged is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from archsearch.analysis.analyze import analyze
from archsearch.convert.to_module import Net, build
from archsearch.errors import ArchsearchError, CheckpointError, DivergedError
from archsearch.spec.models import Spec
from archsearch.training import checkpoint
from archsearch.training.augment import statistics
from archsearch.training.device import Device, choose
from archsearch.training.images import Images, holdout, load
from archsearch.training.loop import check_loss, evaluate, train
from archsearch.training.optimizers import make_optimizers
from archsearch.training.recipe import (
    Augment,
    Average,
    Constant,
    Cutout,
    Erasing,
    Init,
    Plateau,
    Recipe,
    SmallFirst,
)
from archsearch.training.records import Epoch
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


MUON = RECIPE.model_copy(
    update={
        "optimizer": "muon",
        "average": Average(decay=0.9),
        "init": Init(whiten=True, dirac=True),
        "augment": Augment(flip="alternating", erasing=Erasing()),
        "schedule": Plateau(kind="plateau", patience=0, threshold=0.9),
    }
)


@pytest.mark.parametrize("recipe", [RECIPE, MUON], ids=["sgd", "muon"])
def test_an_interrupted_run_ends_in_the_same_weights(
    images: tuple[Images, Images], tmp_path: Path, recipe: Recipe
) -> None:
    straight, resumed = small_net(), small_net()
    wanted = run(straight, images, recipe)
    fit, held = images
    started = train(
        small_net(), recipe, fit, held,
        device=CPU, seed=1, run="run", checkpoint_path=tmp_path / "checkpoint.pt",
    )  # fmt: skip
    next(started)
    started.close()
    found = run(resumed, images, recipe, tmp_path / "checkpoint.pt")
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


def test_a_checkpoint_that_does_not_fit_is_told_and_left(
    images: tuple[Images, Images], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    run(small_net(), images, path=path)
    found = checkpoint.read(path)
    found.state.model.popitem()
    checkpoint.save(path, found)
    before = path.read_bytes()
    told = (
        rf"^{path}: does not fit this network and recipe \(it has no tensor .* from the beginning"
    )
    with pytest.raises(CheckpointError, match=told):
        run(small_net(), images, path=path)
    assert path.read_bytes() == before


def test_another_runs_checkpoint_is_refused(images: tuple[Images, Images], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    run(small_net(), images, path=path)
    fit, held = images
    with pytest.raises(CheckpointError, match="belongs to another run"):
        next(train(small_net(), RECIPE, fit, held, device=CPU, seed=2, run="other",
                   checkpoint_path=path))  # fmt: skip


def test_divergence_is_an_error_with_its_epoch(images: tuple[Images, Images]) -> None:
    wild = RECIPE.model_copy(update={"lr": 1e6, "epochs": 3, "weight_decay": 10.0})
    with pytest.raises(DivergedError, match=r"in epoch [123] .*learning rate 1e\+06\)"):
        run(small_net(), images, wild)


def test_it_stops_at_its_target_if_told_to(images: tuple[Images, Images]) -> None:
    stop = RECIPE.model_copy(update={"target_accuracy": 0.01, "stop_at_target": True})
    assert len(run(small_net(), images, stop)) == 1
    assert len(run(small_net(), images, RECIPE)) == 3


def test_weight_decay_spares_norms_and_biases_unless_told() -> None:
    def decayed(recipe: Recipe) -> int:
        (optimizer,) = make_optimizers(small_net(), recipe)
        groups = optimizer.param_groups
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


def test_training_begins_on_smaller_images(images: tuple[Images, Images]) -> None:
    net = small_net()
    sides: list[int] = []
    net.register_forward_pre_hook(
        lambda module, inputs: sides.append(inputs[0].shape[2]) if module.training else None
    )
    small = SmallFirst(side=16, until=0.5)
    run(net, images, RECIPE.model_copy(update={"small_first": small}))
    steps = 3 * (len(images[0]) // 32)
    assert sides == [16] * -(-steps // 2) + [32] * (steps // 2)


class Finite(torch.nn.Module):
    """A network that cannot hold more than `most` images at a time."""

    def __init__(self, most: int, error: type[Exception] = RuntimeError) -> None:
        super().__init__()
        self.net, self.most, self.error = small_net(), most, error
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.sizes.append(len(x))
            if len(x) > self.most:
                raise self.error("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")
        logits: torch.Tensor = self.net(x)
        return logits


def test_out_of_memory_halves_the_batch_once_and_says_so(
    images: tuple[Images, Images], tmp_path: Path
) -> None:
    fit, held = images
    told: list[str] = []
    net = Finite(most=16)
    path = tmp_path / "checkpoint.pt"
    history = list(
        train(net, RECIPE, fit, held, device=CPU, seed=1, run="run", checkpoint_path=path,
              warn=told.append)
    )  # fmt: skip
    assert told == ["out of memory in epoch 1: going on with batches of 16"]
    assert net.sizes[0] == 32
    assert set(net.sizes[1:]) == {16}
    assert len(history) == 3
    # What comes of it is what a batch of 16 gives from the beginning.
    torch.manual_seed(0)
    wanted = run(small_net(), images, RECIPE.model_copy(update={"batch_size": 16}))
    assert [epoch.train_loss for epoch in history] == [epoch.train_loss for epoch in wanted]
    # A resumed run does not try the full batch again.
    again = Finite(most=1_000)
    longer = RECIPE.model_copy(update={"epochs": 4})
    list(train(again, longer, fit, held, device=CPU, seed=1, run="run", checkpoint_path=path))
    assert set(again.sizes) == {16}


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_out_of_memory_with_half_the_batch_too_is_an_error(
    images: tuple[Images, Images], error: type[Exception]
) -> None:
    fit, held = images
    net = Finite(most=8, error=error)
    with pytest.raises(error, match="can't allocate"):
        list(train(net, RECIPE, fit, held, device=CPU, seed=1, run="run"))
    assert net.sizes == [32, 16]


def test_another_error_is_not_taken_for_memory(images: tuple[Images, Images]) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    fit, held = images
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), Broken())
    with pytest.raises(RuntimeError, match="shapes cannot"):
        list(train(net, RECIPE, fit, held, device=CPU, seed=1, run="run"))


def test_a_loss_far_above_guessing_is_divergence() -> None:
    check_loss(22.9, 10, 1, RECIPE)
    with pytest.raises(DivergedError, match=r"became 23\.1 in epoch 2 \(guessing has 2\.3"):
        check_loss(23.1, 10, 2, RECIPE)


def test_the_average_is_what_is_scored_and_kept(
    images: tuple[Images, Images], tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(
        update={"average": Average(decay=0.5), "epochs": 1, "schedule": Constant(kind="constant")}
    )
    net = small_net()
    snapshots: list[dict[str, torch.Tensor]] = []

    def keep(module: torch.nn.Module, _inputs: object) -> None:
        if module is net:  # the average is a copy that has this hook too
            snapshots.append({k: v.clone() for k, v in net.state_dict().items()})

    # The weights before each forward pass but the first are those after each step.
    net.register_forward_pre_hook(keep)
    path = tmp_path / "checkpoint.pt"
    (epoch,) = run(net, images, recipe, path)
    snapshots = [*snapshots[1:], net.state_dict()]
    wanted = {k: v.double() for k, v in snapshots[0].items()}
    for snapshot in snapshots[1:]:
        wanted = {k: 0.5 * v + 0.5 * snapshot[k].double() for k, v in wanted.items()}
    kept = torch.load(path, weights_only=True)["model"]
    assert list(kept) == list(net.state_dict())
    for name, value in kept.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), wanted[name], atol=1e-5, rtol=1e-4)
    fit, held = images
    averaged, last = small_net(), small_net()
    averaged.load_state_dict(kept)
    last.load_state_dict(net.state_dict())
    mean, std = statistics(fit.pixels)
    assert evaluate(averaged, held, mean, std, CPU).loss == pytest.approx(epoch.val_loss)
    assert evaluate(last, held, mean, std, CPU).loss != pytest.approx(epoch.val_loss)
