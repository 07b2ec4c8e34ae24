"""The real command, harmed at random moments: it goes on where it was, and nothing is lost.

`benchmarks/fault_drill` is the long form of this.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import torch
from fault_drill.checks import lost, wrong
from fault_drill.drill import FINALISTS, STUDY, Drill, archsearch
from fault_drill.faults import FAULTS, KILLS, impossible, small_disk
from fault_drill.run import Occurrence, drilled, rows_of, schedule
from fault_drill.signals import Signals, started

from archsearch.common import folder_lock
from archsearch.common.csv_files import read_csv
from archsearch.executors.processes.pool import WorkerPool
from archsearch.search.driver import search
from archsearch.study.config import load_study
from archsearch.study.folder import StudyFolder
from tests.conftest import Cli
from tests.search.test_driver import Pretend


def finish(folder: Path, *args: str) -> str:
    done = subprocess.run(
        archsearch(*args), cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_search_under_fire_loses_nothing(tmp_path: Path) -> None:
    drill = Drill(tmp_path, trials=18, workers=2, rng=random.Random(0))
    faults = [
        "worker and driver killed", "SIGTERM, then CSVs damaged", "worker killed",
        "second driver", "Ctrl-C twice", "Ctrl-C",
    ]  # fmt: skip
    occurrences, epochs_lost, problems = drilled(drill, faults)
    assert problems == []
    assert [each.fault for each in occurrences] == faults
    assert epochs_lost == [0] * len(faults)


@pytest.mark.slow
def test_signals_at_random_moments_end_every_command_and_lose_nothing(tmp_path: Path) -> None:
    drill = Signals(tmp_path, seed=0, within_s=60.0)
    drill.prepare()
    for number in range(6):
        drill.send(number)
    drill.finish()
    assert drill.problems == []
    assert sum(times for (_, outcome), times in drill.outcomes.items() if outcome == "130") >= 3


@pytest.mark.slow
def test_a_full_disk_and_a_read_only_folder_are_told_and_got_over(tmp_path: Path) -> None:
    faults = ["disk full", "folder read-only"]
    drill = Drill(tmp_path, trials=6, workers=2, rng=random.Random(0))
    if reason := impossible(drill).get(faults[0]):
        pytest.skip(reason)
    with small_disk(tmp_path / "studies", mebibytes=16):
        _, epochs_lost, problems = drilled(drill, faults)
    assert problems == []
    assert epochs_lost == [0, 0]


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_in_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(
        '{"epochs": 6, "batch_size": 128, "target_accuracy": null}'
    )
    (tmp_path / "spec.json").write_text(SPEC)
    args = ["train", "spec.json", "--recipe", "recipe.json", "--dataset", "shapes"]
    finish(tmp_path, *args, "--out", "straight")
    rng = random.Random(1)
    for _ in range(4):
        run = subprocess.Popen(
            archsearch(*args, "--out", "killed"),
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            run.wait(rng.uniform(4, 9))
        except subprocess.TimeoutExpired:
            run.kill()
        run.wait()
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


@pytest.mark.slow
def test_one_worker_and_the_same_seed_give_the_same_trials(tmp_path: Path) -> None:
    short = {"warmup_epochs = 3": "startup_trials = 2", "epochs = 5": "epochs = 3"}
    text = STUDY.replace(f"finalists = {FINALISTS}", "finalists = 1")
    for old, new in short.items():
        text = text.replace(old, new)
    (tmp_path / "drill.toml").write_text(text)
    boards, histories = [], []
    for name in ("one", "two"):
        args = ("--trials", "3", "--workers", "1", "--device", "cpu", "--seed", "5", "--name", name)
        finish(tmp_path, "search", "drill.toml", *args)
        folder = StudyFolder(tmp_path / "studies" / name)
        timed = ("train_seconds", "images_per_second", "final_train_seconds", "seconds_to_target")
        boards.append([without(row, *timed) for row in read_csv(folder.leaderboard)])
        histories.append(
            {
                row["spec_hash"]: [
                    without(epoch, *timed)
                    for epoch in read_csv(folder.trial(row["spec_hash"]) / "history.csv")
                ]
                for row in boards[-1]
            }
        )
        assert (tmp_path / "studies" / name / "rejections.csv").exists()
    assert boards[0] == boards[1]
    assert histories[0] == histories[1]
    rejections = [(tmp_path / "studies" / n / "rejections.csv").read_text() for n in ("one", "two")]
    assert rejections[0] == rejections[1]


def without(row: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in row.items() if name not in names}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.slow
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir(mode=0o500)
    done = subprocess.run(
        archsearch("search", "demo", "--trials", "1"),
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot be written: Permission denied" in done.stderr


def test_a_second_driver_is_refused_before_it_starts_workers(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(WorkerPool, "__enter__", lambda _self: pytest.fail("workers were started"))
    with folder_lock.locked(tmp_path / "studies" / "demo"):
        result = cli("search", "demo")
    assert result.status == 2
    told = f"studies/demo: process {os.getpid()} is at work here; wait for it or choose another"
    assert told in result.err


# The drill itself


def test_a_schedule_has_the_kills_asked_for_and_every_other_fault() -> None:
    others = [name for name in FAULTS if name not in KILLS]
    found = schedule(25, others, random.Random(3))
    assert found == schedule(25, others, random.Random(3))
    counts = Counter(found)
    assert sum(counts[kill] for kill in KILLS) == 25
    assert all(counts[kill] > 0 for kill in KILLS)
    assert [counts[other] for other in others] == [1] * len(others)


def test_epochs_that_were_trained_again_are_found() -> None:
    rows = ("1,0.5", "2,0.6")
    grown = {"a": (*rows, "3,0.7"), "b": ("1,0.4",)}
    assert lost([{}, {"a": rows}, grown]) == [0, 0]
    assert lost([{"a": rows}, {"a": ("1,0.5", "2,0.61")}, {}]) == [1, 2]


@pytest.fixture
def searched(tmp_path: Path) -> Drill:
    """A study folder whose networks nobody trained."""
    (tmp_path / "drill.toml").write_text(STUDY)
    config = load_study(str(tmp_path / "drill.toml"))
    drill = Drill(tmp_path, trials=4, workers=1, rng=random.Random(0))
    search(config, drill.study, Pretend(), drill.trials, lambda _event: None)
    return drill


def test_the_checks_find_nothing_in_a_sound_study(searched: Drill) -> None:
    assert list(wrong(searched)) == []


def test_the_checks_find_what_is_wrong(searched: Drill) -> None:
    board = searched.study.leaderboard
    board.write_text("".join(board.read_text().splitlines(keepends=True)[:-1]))
    [told] = wrong(searched)
    assert told.startswith("leaderboard.csv has [")
    searched.trials = 5
    assert list(wrong(searched))[:2] == [
        "4 trials count, not 5",
        "the database's table has 4 rows that count, not 5",
    ]


def test_a_command_that_ends_badly_after_a_signal_is_found(tmp_path: Path) -> None:
    drill = Signals(tmp_path, seed=0, within_s=60.0)
    done = started(tmp_path, "rule", "no-norm")
    done.process.wait()
    assert drill.judged("0: rule", done, 1.0, early=False) == "done first"
    assert drill.judged("1: rule", done, 1.0, early=True) == "done first"
    for status, words, took in (
        (2, "error: a bug in archsearch: SchemaError", 1.0),
        (130, "Traceback (most recent call last)", 1.0),
        (130, "interrupted", 61.0),
        (1, "interrupted", 1.0),
        (-15, "", 1.0),
    ):
        done.process.returncode = status
        done.log.write_text(words)
        done.offset = 0
        assert drill.judged("2: rule", done, took, early=False) == "PROBLEM", words
    done.process.returncode = 130
    done.log.write_text("interrupted")
    assert drill.judged("3: rule", done, 1.0, early=False) == "130"
    assert len(drill.problems) == 5


def test_the_table_tells_what_was_lost_and_what_was_left_out() -> None:
    occurrences = [Occurrence(KILLS[0], {}, 4.0), Occurrence(KILLS[0], {}, 8.0)]
    rows = rows_of(occurrences, [0, 2], {"disk full": "needs root"})
    assert rows[0] == [KILLS[0], "LOST EPOCHS", "2", "2", "6 (at most 8)"]
    assert ["disk full", "skipped: needs root", "0", "", ""] in rows


SPEC = """
{"name": "killed", "blocks": [
  {"name": "a", "layers": [{"op": "conv", "out_channels": 8, "stride": 2}]},
  {"name": "b", "layers": [{"op": "depthwise_separable", "out_channels": 16, "stride": 2,
                            "dropout": 0.1}]}],
 "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]}}
"""
