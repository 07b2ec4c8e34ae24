"""What `archsearch train` shows: each epoch, how far the current one is, what is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archsearch.common.remembered import MAX_REMEMBERED, remembered
from archsearch.training.loop import batches_per_epoch
from archsearch.training.recipe import Recipe
from archsearch.training.records import Epoch
from archsearch.training.training_view import TrainingView
from tests.conftest import Cli
from tests.strategies import HEADS, spec_of

RECIPE = Recipe(epochs=4, batch_size=100, target_accuracy=0.9, stop_at_target=True)
"""Of 1,000 images: ten steps, and one batch of the hold-out."""


def epoch(number: int, val_acc: float = 0.5) -> Epoch:
    return Epoch(
        epoch=number, lr=0.1, train_loss=1, train_acc=0.5, val_loss=1, val_acc=val_acc,
        train_seconds=100, images_per_second=10,
    )  # fmt: skip


class Watched:
    """A view, its lines and its clock."""

    def __init__(self, *, lively: bool = False) -> None:
        self.lines: list[str] = []
        self.now = 0.0
        self.view = TrainingView(
            RECIPE, 1_000, 100, self.lines.append, lively=lively, seconds=lambda: self.now
        )

    def steps(self, count: int, seconds_each: float) -> None:
        for _ in range(count):
            self.view.step()
            self.now += seconds_each


def test_an_epoch_that_takes_minutes_is_reported_every_half_minute() -> None:
    at = Watched()
    at.steps(11, 20.0)  # 220 s
    told = [line for line in at.lines if "done" in line]
    assert told[0].startswith("epoch 1/4 27% done, about ")  # three of eleven, at 40 s
    assert len(told) == 5
    at.view.epoch(epoch(1))
    assert at.lines[-1].startswith("epoch 1/4 loss 1.000, ")


def test_fast_steps_print_nothing_between_epochs() -> None:
    at = Watched()
    for number in (1, 2):
        at.steps(11, 0.5)
        at.view.epoch(epoch(number))
    assert len(at.lines) == 2


def test_the_time_left_follows_from_the_pace_so_far() -> None:
    at = Watched(lively=True)
    assert at.view.seconds_left(0.0) is None
    at.steps(11, 10.0)
    at.view.epoch(epoch(1))
    assert at.view.seconds_left(at.now) == pytest.approx(3 * 110)
    at.steps(11, 10.0)
    assert at.view.seconds_left(at.now) == pytest.approx(2 * 110)
    assert at.lines == ["epoch 1/4 " + at.lines[0].partition("epoch 1/4 ")[2]]  # no line between
    assert "about 3:40 left, 3:40 elapsed" in at.view.draw().plain


def test_a_resumed_run_says_what_is_done_and_is_not_paced_by_it() -> None:
    at = Watched()
    at.view.epoch(epoch(1, 0.7))
    at.view.epoch(epoch(2, 0.6))
    assert at.lines == []
    assert at.view.done == 2
    at.steps(1, 1.0)
    assert at.lines == [
        "resuming after epoch 2 of 4: best hold-out so far 70.00% (epoch 1), 3:20 of training"
    ]
    at.steps(10, 1.0)
    at.view.epoch(epoch(3))
    assert at.view.seconds_left(at.now) == pytest.approx(11)


@pytest.mark.parametrize(("number", "val_acc"), [(4, 0.5), (2, 0.95)])
def test_after_the_last_epoch_the_test_images_are_scored(number: int, val_acc: float) -> None:
    at = Watched(lively=True)
    for each in range(1, number + 1):
        at.steps(11, 1.0)
        at.view.epoch(epoch(each, val_acc if each == number else 0.1))
    at.steps(1, 1.0)
    assert "scoring the test images" in at.view.draw().plain


@pytest.mark.parametrize(
    ("fit", "held_out", "batches"), [(1_000, 100, 11), (1_099, 1_001, 12), (50, 0, 1)]
)
def test_batches_of_an_epoch(fit: int, held_out: int, batches: int) -> None:
    assert batches_per_epoch(RECIPE, fit, held_out) == batches


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    raw = spec_of([[{"op": "conv", "out_channels": 4, "stride": 4}]], HEADS[0], 32, 32)
    raw["input"]["channels"] = 3
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(raw))
    return path


def test_epochs_on_the_command_line_replace_the_recipes(
    spec: Path, cli: Cli, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    args = ("train", spec, "--dataset", "shapes", "--device", "cpu", "--out", out, "--epochs", "2")
    first = cli(*args, "--recipe", "fast")
    assert (out / "history.csv").read_text().count("\n") == 3
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["epochs"] == json.loads((out / "result.json").read_text())["epochs"] == 2
    assert first.err.index("loading torch and shapes") < first.err.index("epoch 1/2 ")
    again = cli(*args, "--recipe", "fast")
    assert again.out == first.out
    assert "resuming after epoch 2 of 2: best hold-out so far" in again.err
    assert "epoch 1/2 " not in again.err
    assert cli(*args[:-1], "0").status == 2


def test_what_was_measured_is_remembered_by_machine(tmp_path: Path) -> None:
    taken: list[float] = []

    def measure() -> float:
        taken.append(len(taken) + 1.5)
        return taken[-1]

    assert [remembered("m", key, measure) for key in ("a", "b", "a")] == [1.5, 2.5, 1.5]
    for i in range(MAX_REMEMBERED):
        remembered("m", str(i), measure)
    assert remembered("m", "b", measure) == taken[-1] != 2.5  # only the latest are kept


@pytest.mark.parametrize(
    "text", ['{"a": 0}', '{"a": NaN}', '{"a": -1}', "[" * 5_000, "[]", '{"a": "x"}']
)
def test_what_cannot_have_been_measured_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "archsearch").mkdir()
    (tmp_path / "archsearch" / "m.json").write_text(text)
    assert remembered("m", "a", lambda: 1.5) == 1.5
    assert remembered("m", "a", lambda: 2.5) == 1.5
