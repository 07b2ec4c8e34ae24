"""A study folder after all that can happen to it: the database is the truth, the rest is mended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from archsearch.common import csv_files, folder_lock
from archsearch.errors import StudyError
from archsearch.leaderboard.entry import REJECTION_COLUMNS
from archsearch.monitor.doctor import examine
from archsearch.study.folder import StudyFolder
from tests.conftest import Cli
from tests.search.test_driver import Killed, Pretend, check_done, go, rows

TRIALS = 4


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    go(tmp_path, TRIALS)
    return StudyFolder(tmp_path / "study")


def test_a_sound_folder_is_well(folder: StudyFolder, cli: Cli) -> None:
    before = {path: path.read_bytes() for path in folder.path.rglob("*.csv")}
    assert examine(folder) == []
    assert {path: path.read_bytes() for path in folder.path.rglob("*.csv")} == before
    result = cli("doctor", folder.path)
    assert (result.status, result.out) == (0, f"{folder.path}: all is well\n")


def scribble(path: Path) -> None:
    path.write_bytes(b"\xff\0 not what it was \n" + path.read_bytes()[:40])


HARM: dict[str, Callable[[StudyFolder], None]] = {
    "leaderboard.csv": lambda folder: scribble(folder.leaderboard),
    "study.toml": lambda folder: folder.study.unlink(),
    ".leaderboard.csv.77.tmp": lambda folder: (folder.path / ".leaderboard.csv.77.tmp").touch(),
}  # fmt: skip


@pytest.mark.parametrize("place", HARM)
def test_what_is_damaged_is_mended_as_it_was(folder: StudyFolder, place: str, cli: Cli) -> None:
    board, study = folder.leaderboard.read_bytes(), folder.study.read_bytes()
    HARM[place](folder)
    result = cli("doctor", folder.path)
    assert result.status == 0
    assert result.out.startswith(f"mended  {place}: ")
    assert (folder.leaderboard.read_bytes(), folder.study.read_bytes()) == (board, study)
    assert examine(folder) == []


def test_lines_that_are_no_rejections_are_dropped(folder: StudyFolder, cli: Cli) -> None:
    sound = folder.rejections.read_bytes()
    lines = sound.splitlines(keepends=True)
    assert len(lines) > 2
    folder.rejections.write_bytes(
        b"".join([lines[0], b"\xff\xfe\0\n", *lines[1:], b"1,2\n", b'"cut'])
    )
    assert "rejections.csv: 3 lines were no rejections" in cli("doctor", folder.path).out
    assert folder.rejections.read_bytes() == sound


def test_a_search_goes_on_over_damaged_csvs(folder: StudyFolder) -> None:
    scribble(folder.leaderboard)
    scribble(folder.rejections)
    go(folder.path.parent, TRIALS + 2)
    assert len(rows(folder.path.parent)) == TRIALS + 2
    found = csv_files.read_csv(folder.rejections)
    assert all(set(row) == set(REJECTION_COLUMNS) for row in found)


def test_a_damaged_database_is_told_and_left(folder: StudyFolder, cli: Cli) -> None:
    database = folder.path / "study.db"
    raw = bytearray(database.read_bytes())
    raw[4096:8192] = b"\xa5" * 4096
    database.write_bytes(raw)
    result = cli("doctor", folder.path)
    assert result.status == 1
    assert result.out.startswith("broken  study.db: is damaged (")
    assert database.read_bytes() == raw


def test_orphans_are_told(tmp_path: Path, cli: Cli) -> None:
    with pytest.raises(Killed):
        go(tmp_path, TRIALS, Pretend(dies_at=6))
    result = cli("doctor", tmp_path / "study")
    assert result.status == 0
    assert "was interrupted; the next `archsearch search` goes on with it" in result.out
    go(tmp_path, TRIALS)
    check_done(tmp_path, TRIALS)


def test_a_database_that_a_crash_left_half_written_is_sound(folder: StudyFolder) -> None:
    database = folder.path / "study.db"
    script = (
        "import os, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1])\n"
        "database.execute('PRAGMA cache_size = 1')\n"
        "database.execute('BEGIN IMMEDIATE')\n"
        "database.execute('UPDATE trial_user_attributes SET value_json = ?', ('1' * 100_000,))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, database], check=False)
    assert (folder.path / "study.db-journal").stat().st_size
    assert examine(folder) == []


def test_a_checkpoint_of_another_version_is_left(folder: StudyFolder, cli: Cli) -> None:
    [first, *_] = rows(folder.path.parent)
    path = folder.trial(first["spec_hash"]) / "checkpoint.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"format": 1}, path)
    before = path.read_bytes()
    result = cli("doctor", folder.path)
    assert result.status == 1
    assert "has the format 1, this version of archsearch reads 2" in result.out
    assert path.read_bytes() == before


def test_a_folder_in_use_is_left_alone(folder: StudyFolder) -> None:
    with folder_lock.locked(folder.path), pytest.raises(StudyError, match="is at work here"):
        examine(folder)


@pytest.mark.parametrize("command", ["doctor", "status"])
def test_no_study_folder(command: str, tmp_path: Path, cli: Cli) -> None:
    for path in (tmp_path, tmp_path / "none"):
        result = cli(command, path)
        assert result.status == 2
        assert "is no study folder" in result.err
        assert not (path / ".lock").exists()
