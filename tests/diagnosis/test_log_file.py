"""Training logs of other programs: the same figures, written as each of them writes them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archsearch.diagnosis.log_file import NAMES, Logged, read_training_log
from archsearch.diagnosis.training_log import history_findings
from archsearch.errors import ArchsearchError, InputError
from archsearch.training.recipe import Recipe
from tests.conftest import Cli

EPOCHS = 5
TRAIN = [0.3 + 0.05 * i for i in range(EPOCHS)]
SCORED = [0.35 + 0.05 * i for i in range(EPOCHS)]
LOSS = [2.0 - 0.1 * i for i in range(EPOCHS)]
SCORED_LOSS = [1.9 - 0.1 * i for i in range(EPOCHS)]
LR = [0.1, 0.08, 0.06, 0.04, 0.02]

Rows = Sequence[Mapping[str, Any]]


def written(path: Path, rows: Rows) -> Path:
    """Write a CSV whose columns are all that occur, in order, and whose missing cells are empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def each_epoch(first: int, **columns: Sequence[float]) -> Rows:
    """One row per epoch; `__` in a name stands for a slash."""
    return [
        {"epoch": first + i}
        | {name.replace("__", "/"): values[i] for name, values in columns.items()}
        for i in range(EPOCHS)
    ]


def lightning(*, steps: bool, monitor: bool) -> Rows:
    """Two rows per epoch, validation before training; more with rows per step and an lr monitor."""
    rows: list[dict[str, Any]] = []
    for i in range(EPOCHS):
        at = {"epoch": i, "step": 100 * i + 99}
        if monitor:
            rows.append({"step": 100 * i, "lr-SGD": LR[i]})
        if steps:
            rows += [{"epoch": i, "step": 100 * i + s, "train_loss_step": 9.0} for s in (0, 50)]
        rows.append(at | {"val_loss": SCORED_LOSS[i], "val_acc": SCORED[i]})
        name = "train_loss_epoch" if steps else "train_loss"
        rows.append(at | {name: LOSS[i], "train_acc": TRAIN[i]})
    # The test at the end is no accuracy of an epoch.
    return [*rows, {"epoch": EPOCHS - 1, "test_acc": 0.99}]


def hugging_face() -> list[dict[str, Any]]:
    """Rows of some steps each, then one of the evaluation; the last one sums up the run."""
    rows: list[dict[str, Any]] = []
    for i in range(EPOCHS):
        for share, loss in ((0.5, 9.0), (1.0, LOSS[i])):
            rows.append({"loss": loss, "learning_rate": LR[i], "epoch": i + share, "step": 1})
        rows.append({"eval_loss": SCORED_LOSS[i], "eval_accuracy": SCORED[i], "epoch": i + 1.0})
    return [*rows, {"train_runtime": 9.0, "train_loss": 1.5, "epoch": float(EPOCHS)}]


def expected(first: int, *, train: bool = True, lr: bool = True) -> list[Logged]:
    return [
        Logged(first + i, TRAIN[i] if train else None, SCORED[i], LOSS[i], LR[i] if lr else None)
        for i in range(EPOCHS)
    ]


PERCENT = [100 * share for share in SCORED]
LOGS: dict[str, tuple[Rows, list[Logged]]] = {
    "archsearch": (
        each_epoch(
            1, lr=LR, train_loss=LOSS, train_acc=TRAIN, val_loss=SCORED_LOSS, val_acc=SCORED
        ),
        expected(1),
    ),
    "lightning": (lightning(steps=False, monitor=False), expected(0, lr=False)),
    "lightning, by step and epoch": (lightning(steps=True, monitor=False), expected(0, lr=False)),
    "lightning, with an lr monitor": (lightning(steps=False, monitor=True), expected(0)),
    "keras": (
        each_epoch(0, accuracy=TRAIN, loss=LOSS, val_accuracy=SCORED, val_loss=SCORED_LOSS),
        expected(0, lr=False),
    ),
    "keras, sparse labels": (
        each_epoch(
            0, learning_rate=LR, sparse_categorical_accuracy=TRAIN, loss=LOSS,
            val_sparse_categorical_accuracy=SCORED,
        ),
        expected(0),
    ),
    "hugging face": (hugging_face(), expected(1, train=False)),
    "fastai": (
        each_epoch(0, train_loss=LOSS, valid_loss=SCORED_LOSS, accuracy=SCORED),
        expected(0, train=False, lr=False),
    ),
    "fastai, errors": (
        each_epoch(0, train_loss=LOSS, valid_loss=SCORED_LOSS, error_rate=[1 - a for a in SCORED]),
        expected(0, train=False, lr=False),
    ),
    "timm": (
        each_epoch(0, train_loss=LOSS, eval_loss=SCORED_LOSS, eval_top1=PERCENT, lr=LR),
        expected(0, train=False),
    ),
    "ultralytics": (
        each_epoch(1, train__loss=LOSS, metrics__accuracy_top1=SCORED, lr__pg0=LR),
        expected(1, train=False),
    ),
    "tensorboard": (
        each_epoch(1, Loss__train=LOSS, Acc__train=TRAIN, Acc__val=SCORED),
        expected(1, lr=False),
    ),
    "by hand": (
        [
            {"Epoch": i + 1, "Train Acc": f"{100 * TRAIN[i]:.2f}%",
             "Test Acc": f"{PERCENT[i]:.2f}%", "Train Loss": LOSS[i], "LR": LR[i]}
            for i in range(EPOCHS)
        ],
        expected(1),
    ),
}  # fmt: skip


def assert_same(found: Sequence[Logged], wanted: Sequence[Logged]) -> None:
    assert [each.epoch for each in found] == [each.epoch for each in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert list(one[1:]) == pytest.approx(list(other[1:]))


@pytest.mark.parametrize("name", LOGS)
def test_the_logs_of_common_programs_are_read(name: str, tmp_path: Path) -> None:
    rows, wanted = LOGS[name]
    assert_same(read_training_log(written(tmp_path / "log.csv", rows)), wanted)


def test_json_logs_are_read_as_csv_is(tmp_path: Path) -> None:
    rows, wanted = LOGS["hugging face"]
    state, lines = tmp_path / "trainer_state.json", tmp_path / "log.jsonl"
    state.write_text(json.dumps({"best_metric": None, "epoch": 5.0, "log_history": rows}))
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in (state, lines):
        assert_same(read_training_log(path), wanted)
    keras = tmp_path / "history.json"
    history = {"accuracy": TRAIN, "loss": LOSS, "val_accuracy": SCORED, "learning_rate": LR}
    keras.write_text(json.dumps(history))
    assert_same(read_training_log(keras), expected(1))


@pytest.mark.parametrize(
    "text", ["{", "[[1]]", '{"log_history": 3}', "[]", "3", '{"loss": [1, 2]}']
)
def test_json_that_is_no_log_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(text)
    with pytest.raises(InputError):
        read_training_log(path)


def test_rows_of_one_epoch_are_merged_and_others_are_not(tmp_path: Path) -> None:
    # Two runs in one file count their epochs from the start.
    twice = [*LOGS["keras"][0], *LOGS["keras"][0]]
    assert len(read_training_log(written(tmp_path / "a.csv", twice))) == 2 * EPOCHS
    # Without epochs each row is one.
    bare = [{"val_acc": acc} for acc in SCORED]
    found = read_training_log(written(tmp_path / "b.csv", bare))
    assert [each.epoch for each in found] == [1, 2, 3, 4, 5]
    # Of a row without its epoch at the end, the epoch is the last.
    late = [*LOGS["timm"][0], {"lr": 0.5}]
    found = read_training_log(written(tmp_path / "c.csv", late))
    assert (len(found), found[-1].lr) == (EPOCHS, 0.5)


@pytest.mark.parametrize(
    ("classes", "scored", "read"), [(100, 1.0, 0.01), (100, 0.8, 0.008), (10, 0.6, 0.6)]
)
def test_percentages_of_at_most_one_are_those_of_guessing(
    classes: int, scored: float, read: float, tmp_path: Path
) -> None:
    rows = [{"train_acc": 100 * acc, "test_acc": scored} for acc in TRAIN]
    found = read_training_log(written(tmp_path / "log.csv", rows), classes)
    assert [each.scored_acc for each in found] == pytest.approx([read] * EPOCHS)


def test_what_is_missing_is_reported_with_what_is_there(cli: Cli, tmp_path: Path) -> None:
    log = written(tmp_path / "log.csv", [{"epoch": 1, "loss": 2.0, "valid_accurracy": 0.3}])
    spec = tmp_path / "spec.json"
    layers = [{"op": "conv", "out_channels": 8}]
    head = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
    blocks = [{"name": "a", "layers": layers}]
    spec.write_text(json.dumps({"name": "x", "blocks": blocks, "output": {"layers": head}}))
    done = cli("diagnose", spec, "--history", log)
    assert done.status == 2
    assert "got the columns epoch, loss, valid_accurracy" in done.err
    assert "did you mean valid_accuracy by valid_accurracy?" in done.err


def test_many_and_long_columns_are_bounded(tmp_path: Path) -> None:
    row = {f"{'x' * 5_000}{i}": 1 for i in range(100)}
    with pytest.raises(InputError) as caught:
        read_training_log(written(tmp_path / "log.csv", [row]))
    assert "and 80 more" in str(caught.value)
    assert len(str(caught.value)) < 2_000


CELLS = st.one_of(
    st.sampled_from(["", "nan", "-inf", "1e999", "0.5", "50%", "-1", "1_0", "0", "9" * 400]),
    st.floats().map(str),
    st.text(max_size=4),
)
COLUMNS = st.sampled_from(sorted({names[0] for names in NAMES.values()} | {"lr-SGD", "loss", ""}))


@pytest.mark.property
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(COLUMNS, CELLS, max_size=6), max_size=5), st.booleans())
def test_any_log_is_read_or_refused(tmp_path: Path, rows: Rows, as_json: bool) -> None:
    path = tmp_path / ("log.json" if as_json else "log.csv")
    if as_json:
        path.write_text(json.dumps(rows))
    else:
        written(path, rows)
    try:
        history = read_training_log(path)
    except ArchsearchError:
        return
    for finding in history_findings(history, 10, Recipe()):
        assert len(finding.evidence) < 1_000
