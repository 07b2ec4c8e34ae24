"""What the version before the package was split left half done, this one resumes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from archsearch.common import csv_files
from tests.conftest import ROOT, Cli

OLD = ROOT / "tests" / "written_by_4c21fd6"
HERE = ("--device", "cpu", "--precision", "fp32")
INTERRUPTED = "a75b40ced377"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def first_epoch(run: Path) -> str:
    return (run / "history.csv").read_text().splitlines()[1]


@pytest.mark.slow
def test_a_killed_search_of_that_version_is_resumed(folder: Path, cli: Cli) -> None:
    study = folder / "studies" / "old"
    before = {row["trial"]: row for row in csv_files.read_csv(study / "leaderboard.csv")}
    saved = first_epoch(study / "trials" / INTERRUPTED)
    done = cli("search", "old.toml", "--trials", "3", "--workers", "0", *HERE)
    assert done.status == 0, done.err
    assert "(again, from its checkpoint)" in done.err
    board = csv_files.read_csv(study / "leaderboard.csv")
    assert [row["status"] for row in board] == ["trained"] * 3
    assert len({row["spec_hash"] for row in board}) == 3
    for row in board:
        for column in (
            "spec_hash",
            "val_acc",
            "params",
            "receptive_field",
            "macs",
            "train_seconds",
        ):
            assert row[column] == before.get(row["trial"], row)[column]
    assert first_epoch(study / "trials" / INTERRUPTED) == saved  # restored, not trained again
    checked = cli("doctor", "studies/old")
    assert (checked.status, "all is well" in checked.out + checked.err) == (0, True), checked


@pytest.mark.slow
def test_a_killed_training_run_of_that_version_is_resumed(folder: Path, cli: Cli) -> None:
    saved = first_epoch(folder / "run")
    args = ("run/spec.json", "--recipe", "recipe.json", "--dataset", "shapes", "--out", "run")
    done = cli("train", *args, *HERE)
    assert done.status == 0, done.err
    assert first_epoch(folder / "run") == saved
    assert len(csv_files.read_csv(folder / "run" / "history.csv")) == 3
