"""The real command, killed at random moments: it goes on where it was, and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
import torch

from archsearch.files import read_csv
from archsearch.study import StudyFolder

TRIALS = 5
STUDY = """
name = "drill"
dataset = "shapes"
finalists = 2
[constraints]
max_macs = 1_000_000
[space.block1]
width = [8]
stride = [2]
entry = ["conv"]
depth = [0]
[space.block2]
width = [8, 12, 16]
[space.block3]
width = [16, 24, 32]
[space.block4]
width = [24, 32, 48]
[recipe]
epochs = 4
batch_size = 128
[final_recipe]
epochs = 4
batch_size = 128
target_accuracy = 0.1
"""

pytestmark = pytest.mark.slow


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "archsearch", *args]


def start(folder: Path, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*args),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(folder: Path, *args: str) -> str:
    done = subprocess.run(
        command(*args), cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def children(pid: int) -> list[int]:
    """Worker processes of a driver; spawn's helper process is none."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in listed
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def test_a_search_killed_at_random_moments_trains_exactly_what_was_asked(tmp_path: Path) -> None:
    (tmp_path / "drill.toml").write_text(STUDY)
    args = ("search", "drill.toml", "--trials", str(TRIALS))
    rng = random.Random(0)
    kills = 0
    for _ in range(6):
        search = start(tmp_path, *args)
        try:
            search.wait(rng.uniform(5, 12))
        except subprocess.TimeoutExpired:
            for worker in children(search.pid)[: rng.randrange(3)]:
                os.kill(worker, signal.SIGKILL)
            time.sleep(rng.uniform(0, 4))
            search.send_signal(signal.SIGKILL)
            kills += 1
        search.communicate()
    finish(tmp_path, *args)
    assert kills > 0
    board = read_csv(tmp_path / "studies" / "drill" / "leaderboard.csv")
    counted = [row for row in board if row["status"] in ("trained", "pruned")]
    assert len(counted) == TRIALS
    assert max(Counter(row["spec_hash"] for row in board).values()) == 1
    assert sum(bool(row["test_acc"]) for row in board) == 2
    study = optuna.load_study(
        study_name="drill", storage=StudyFolder(tmp_path / "studies" / "drill").storage
    )
    kept = [t for t in study.trials if not t.user_attrs.get("interrupted")]
    assert {t.user_attrs["spec_hash"] for t in kept} == {row["spec_hash"] for row in board}
    again = finish(tmp_path, *args)
    assert f"{TRIALS} of {TRIALS} trials are trained already: done" in again


def test_a_run_killed_at_random_moments_ends_in_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(
        '{"epochs": 6, "batch_size": 128, "target_accuracy": null}'
    )
    (tmp_path / "spec.json").write_text(SPEC)
    args = ["train", "spec.json", "--recipe", "recipe.json", "--dataset", "shapes"]
    finish(tmp_path, *args, "--out", "straight")
    rng = random.Random(1)
    for _ in range(4):
        run = start(tmp_path, *args, "--out", "killed")
        try:
            run.wait(rng.uniform(4, 9))
        except subprocess.TimeoutExpired:
            run.kill()
        run.communicate()
    finish(tmp_path, *args, "--out", "killed")
    one, two = (
        torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)["model"]
        for folder in ("straight", "killed")
    )
    for name in one:
        assert torch.equal(one[name], two[name]), name
    assert accuracy_columns(tmp_path / "straight") == accuracy_columns(tmp_path / "killed")


def accuracy_columns(run: Path) -> list[tuple[str, str]]:
    return [(row["train_loss"], row["val_acc"]) for row in read_csv(run / "history.csv")]


def test_control_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "drill.toml").write_text(STUDY)
    search = start(tmp_path, "search", "drill.toml", "--trials", "50")
    board = tmp_path / "studies" / "drill" / "leaderboard.csv"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not board.exists() or len(read_csv(board)) < 1):
        time.sleep(0.2)
    os.killpg(search.pid, signal.SIGINT)  # as a terminal does: workers get it too
    out, _ = search.communicate(timeout=60)
    assert search.returncode == 130, out
    assert b"run the same command to go on" in out
    assert b"Traceback" not in out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir(mode=0o500)
    done = subprocess.run(
        command("search", "demo", "--trials", "1"),
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot be written: Permission denied" in done.stderr


SPEC = """
{"name": "killed", "blocks": [
  {"name": "a", "layers": [{"op": "conv", "out_channels": 8, "stride": 2}]},
  {"name": "b", "layers": [{"op": "depthwise_separable", "out_channels": 16, "stride": 2,
                            "dropout": 0.1}]}],
 "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]}}
"""
