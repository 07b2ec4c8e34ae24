"""What training logs say: logs made up so that one thing is wrong with each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from archsearch.diagnosis.log_file import Logged, read_training_log
from archsearch.diagnosis.recipes import step_sum
from archsearch.diagnosis.rules import RULES
from archsearch.diagnosis.training_log import history_findings
from archsearch.errors import ArchsearchError, InputError
from archsearch.training.recipe import Recipe, learning_rate
from tests.conftest import ROOT


def log(
    scored: Sequence[float],
    train: Sequence[float] | None = None,
    lr: Sequence[float] | None = None,
    loss: Sequence[float] | None = None,
) -> list[Logged]:
    return [
        Logged(
            i + 1,
            train[i] if train else None,
            scored[i],
            loss[i] if loss else None,
            lr[i] if lr else None,
        )
        for i in range(len(scored))
    ]


RISING = [0.3, 0.5, 0.6, 0.65, 0.7, 0.74, 0.77, 0.8, 0.83]
LOGS = {
    "diverged": [
        log([0.4, 0.5, 0.1]),
        log([0.1, 0.1, 0.11]),
        log([0.3, 0.4], loss=[1.0, float("nan")]),
    ],
    "scored-on-training": [log([0.81234, 0.85678, 0.90002])],
    "scored-at-guessing": [
        log([0.1] * 5, [0.39, 0.5, 0.6, 0.8, 0.88]),
        log([0.157, 0.12, 0.16, 0.134], [0.5, 0.7, 0.8, 0.95]),
        log([0.1] * 4, loss=[1.9, 1.1, 0.7, 0.4]),
        log([0.3, 0.5, 0.1, 0.102, 0.098], [0.3, 0.5, 0.6, 0.7, 0.75]),
    ],
    "stepped-per-epoch": [log([0.32, 0.36, 0.39, 0.41], lr=[0.004, 0.004, 0.004001, 0.004002])],
    "unlike-recipe": [log(RISING, lr=[0.02, 0.3, 0.3, 0.3, 0.2, 0.1, 0.05, 0.01, 0.0])],
    "guessing-at-high-lr": [
        log([0.1] * 6 + [0.2, 0.3, 0.4], lr=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    ],
    "underfits": [log(RISING, [a - 0.04 for a in RISING])],
    "overfits": [log(RISING, [a + 0.15 for a in RISING])],
    "plateau": [log([0.3, 0.5, 0.6, 0.7, 0.701, 0.702, 0.7, 0.701, 0.702])],
    "never-decayed": [log(RISING, lr=[0.1] * 9)],
}
RECIPE = Recipe.model_validate(
    {"lr": 0.1, "epochs": 9, "batch_size": 512, "schedule": {"kind": "one_cycle"}}
)
DECAYING = [learning_rate(RECIPE, 98 * (i + 1) - 1, 98) for i in range(9)]
SOUND = log(RISING, [a + 0.05 for a in RISING], lr=DECAYING)


@pytest.mark.parametrize("code", LOGS)
def test_a_log_says_what_is_wrong(code: str) -> None:
    for history in LOGS[code]:
        assert code in {each.code for each in history_findings(history, 10, RECIPE)}
    assert code not in {each.code for each in history_findings(SOUND, 10, RECIPE)}


def test_every_rule_of_logs_has_an_example() -> None:
    assert LOGS.keys() == {code for code, rule in RULES.items() if rule.subject == "history"}


def test_accuracies_of_part_of_the_images_are_no_training_images() -> None:
    for images in (1_000, 5_000, 10_000, 12_500, 25_000):
        history = log([count / images for count in range(images // 2 + 1, images // 2 + 9)])
        assert "scored-on-training" not in {each.code for each in history_findings(history, 10)}


def test_logs_are_read_with_shares_or_percentages(tmp_path: Path) -> None:
    share, percent = tmp_path / "a.csv", tmp_path / "b.csv"
    share.write_text("epoch,train_acc,val_acc,lr\n1,0.2,0.25,0.1\n2,0.4,0.45,0.01\n")
    percent.write_text("epoch,train_acc,test_acc,lr\n1,20,25,0.1\n2,40,45,0.01\n")
    one, two = read_training_log(share), read_training_log(percent)
    assert [each.scored_acc for each in one] == pytest.approx([0.25, 0.45])
    assert [each.scored_acc for each in two] == pytest.approx([0.25, 0.45])
    assert [each.lr for each in two] == [0.1, 0.01]


def test_accuracies_as_a_graphics_card_writes_them_are_counted_too() -> None:
    shares = [float(torch.tensor(count / 50_000)) for count in (40_617, 42_839, 45_001)]
    assert "scored-on-training" in {each.code for each in history_findings(log(shares), 10)}
    assert "scored-on-training" not in {each.code for each in history_findings(log(shares), 100)}


def test_epochs_are_those_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    path.write_text("epoch,val_acc\n71,85.2%\n72,inf\n")
    found = read_training_log(path)
    assert [each.epoch for each in found] == [71, 72]
    assert found[0].scored_acc == pytest.approx(0.852)


def test_archsearchs_own_histories_are_read() -> None:
    for path in (ROOT / "studies" / "seeds").glob("*/seed-0/history.csv"):
        assert len(read_training_log(path)) > 10
    for path in (ROOT / "studies").glob("*/trials/*/final-0/history.csv"):
        assert list(history_findings(read_training_log(path), 10)) is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs rows"),
        ("epoch,val_acc\n", "needs rows"),
        ("epoch,loss\n1,2\n", "got the columns epoch, loss; name it val_acc or test_acc"),
        ("epoch;val_acc\n1;0.5\n", "got the columns epoch;val_acc;"),
        ("epoch,accuracy\n1,0.5\n", "accuracy is taken as the training accuracy"),
        ("Epoch,vall_acc\n1,0.5\n", "did you mean val_acc by vall_acc"),
        ("val_acc\nhigh\n", "is no number"),
        ("val_acc\n1_0\n", "is no number"),
        ("val_acc\n1e30\n0.5\n", "is no share"),
        ("val_acc\n-1\n", "is no share"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=why):
        read_training_log(path)


def test_a_missing_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArchsearchError, match="cannot be read"):
        read_training_log(tmp_path / "none.csv")


@pytest.mark.parametrize("kind", ["triangular", "cosine", "constant", "one_cycle"])
def test_steps_add_up_as_step_by_step(kind: str) -> None:
    recipe = Recipe.model_validate(
        {"lr": 0.2, "momentum": 0.8, "epochs": 3, "batch_size": 500, "schedule": {"kind": kind}}
    )
    one_by_one = sum(learning_rate(recipe, step, 100) for step in range(300)) / (1 - 0.8)
    assert step_sum(recipe) == pytest.approx(one_by_one, rel=0.05)
