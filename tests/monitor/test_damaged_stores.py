"""Databases that another program changed: every command says so, and doctor repairs them."""

# ruff: noqa: S608 (the tables and columns are the database's own)

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from archsearch.errors import ArchsearchError
from archsearch.search.driver import search
from archsearch.study.folder import StudyFolder
from tests.conftest import Cli
from tests.search.test_driver import Killed, Pretend, check_done, demo, go, rows

TRIALS = 4
MUTATIONS = 20
VALUES: tuple[Any, ...] = (
    None, "", "null", "{", "[1]", "{}", "0", "-1", "NaN", '"x"', "true", "x" * 100_000, -1, 0, 3,
    10**12, 1.5, float("inf"), b"\xff\xfe", "2026-13-45", "../../../v", "RUNNING", "COMPLETE",
    "WAITING", '{"a.b": [[]]}', '"' + "e" * 64 + '"', '"../../../v"',
)  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three trained networks and one that a kill interrupted."""
    path = tmp_path_factory.mktemp("sound")
    go(path, TRIALS - 1)
    with pytest.raises(Killed):
        go(path, TRIALS, Pretend(dies_at=2))
    return path


def tables(database: sqlite3.Connection) -> list[str]:
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (name,) in found]


def mutate(path: Path, rng: random.Random) -> str:
    """Change one to three things in a database; return what."""
    told = []
    with closing(sqlite3.connect(path)) as database, database:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            table = rng.choice(tables(database))
            rowids = [rowid for (rowid,) in database.execute(f"SELECT rowid FROM {table}")]
            columns = [column for _, column, *_ in database.execute(f"PRAGMA table_info({table})")]
            kind = rng.random()
            if kind < 0.02:
                told.append(f"drop {table}")
                database.execute(f"DROP TABLE {table}")
            elif rowids and kind < 0.2:
                row = rng.choice(rowids)
                told.append(f"delete {table} {row}")
                database.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
            elif rowids:
                row, column = rng.choice(rowids), rng.choice(columns)
                value = rng.choice(VALUES)
                if rng.random() < 0.3:
                    other = rng.choice(rowids)
                    select = f"SELECT {column} FROM {table} WHERE rowid = ?"
                    [value] = database.execute(select, (other,)).fetchone()
                update = f"UPDATE OR REPLACE {table} SET {column} = ? WHERE rowid = ?"
                try:
                    database.execute(update, (value, row))
                except sqlite3.Error:
                    continue
                told.append(f"{table} {row} {column} = {str(value)[:60]!r}")
    return "; ".join(told)


def is_plain(text: str) -> bool:
    """Whether a message is bounded, on a few lines, and not a traceback."""
    return (
        "Traceback" not in text
        and "a bug" not in text
        and all(len(line) < 600 for line in text.splitlines())
    )


@pytest.mark.parametrize("seed", range(MUTATIONS))
def test_no_change_to_a_database_is_a_bug(sound: Path, seed: int, tmp_path: Path, cli: Cli) -> None:
    check_mutation(sound, seed, tmp_path, cli)


def check_mutation(sound: Path, seed: int, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(sound, tmp_path / "copy")
    folder = StudyFolder(tmp_path / "copy" / "study")
    told = mutate(folder.database, random.Random(seed))
    outside = {path: path.read_bytes() for path in tmp_path.glob("*") if path.is_file()}
    before = cli("status", folder.path)
    assert before.status in (0, 2), told
    assert is_plain(before.out + before.err), (told, before)
    searched = attempt(folder)
    assert is_plain(searched), (told, searched)
    # The search may have trained what it could; the doctor gets it as it was.
    shutil.rmtree(tmp_path / "copy")
    shutil.copytree(sound, tmp_path / "copy")
    mutate(folder.database, random.Random(seed))
    board = len(rows(tmp_path / "copy"))
    examined = cli("doctor", folder.path)
    assert examined.status in (0, 1, 2), told
    assert is_plain(examined.out + examined.err), (told, examined)
    kept = list(folder.path.glob("leaderboard.csv.before*"))
    assert kept or len(rows(tmp_path / "copy")) >= board, told
    if examined.status == 0:
        again = cli("doctor", folder.path)
        assert "mended" not in again.out.replace(" mended,", ""), (told, examined, again)
        after = cli("status", folder.path)
        assert after.status == 0, (told, examined.out, after)
        assert attempt(folder) == "", (told, examined.out)
        check_done(tmp_path / "copy", TRIALS)
    assert {path: path.read_bytes() for path in tmp_path.glob("*") if path.is_file()} == outside


def attempt(folder: StudyFolder) -> str:
    """Search to the end; return the error."""
    try:
        search(demo(), folder, Pretend(), TRIALS, lambda _event: None)
    except ArchsearchError as error:
        return f"error: {error}"
    return ""
