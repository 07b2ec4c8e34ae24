"""A search that is killed, interrupted or out of disk at any write goes on, and loses nothing.

Between two writes nothing happens that is kept, so these are all the moments there are: between
an attribute and its trial's end, between that and the leaderboard, in the middle of requeueing.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine.default import DefaultDialect

from archsearch.common import atomic_files, csv_files
from archsearch.errors import ArchsearchError
from archsearch.monitor.doctor import examine
from archsearch.study.config import Study
from archsearch.study.folder import StudyFolder
from archsearch.training.recipe import Recipe
from tests.search.test_driver import Killed, Pretend, check_done, demo, go

TRIALS = 3
WRITES = 50
"""At least; a search without interruptions makes them."""
_STORAGE = (
    "create_new_study", "create_new_trial", "set_study_user_attr", "set_study_system_attr",
    "set_trial_param", "set_trial_state_values", "set_trial_intermediate_value",
    "set_trial_user_attr", "set_trial_system_attr",
)  # fmt: skip
_FILES = {"write_text": atomic_files, "append_csv": csv_files}


@dataclass
class Writes:
    """Counts what is written to database and files; the write number `at` fails, as do later ones.

    Attributes:
        error: makes the exception of a failed write, from its path or None for the database.
    """

    error: Callable[[Path | None], BaseException]
    at: int = 10**9
    count: int = 0
    lasts: bool = True
    failed: list[str] = field(default_factory=list)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in _STORAGE:
            monkeypatch.setattr(RDBStorage, name, self._counted(name, getattr(RDBStorage, name)))
        for name, module in _FILES.items():
            monkeypatch.setattr(module, name, self._counted(name, getattr(module, name)))

    def _counted(self, name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at or (self.lasts and self.count > self.at):
                self.failed.append(name)
                raise self.error(args[0] if name in _FILES else None)
            return write(*args, **options)

        return counted


def killed(_path: Path | None) -> BaseException:
    return Killed()


def interrupted(_path: Path | None) -> BaseException:
    return KeyboardInterrupt()


def disk_full(path: Path | None) -> BaseException:
    if path is not None:
        return atomic_files.unwritable(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = sqlite3.OperationalError("database or disk is full")
    return error


def config() -> Study:
    recipe = Recipe(epochs=2, batch_size=64)
    return demo(recipe=recipe, final_recipe=recipe)


def fail_at(tmp_path: Path, writes: Writes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        writes.watch(monkeypatch)
        go(tmp_path, TRIALS, Pretend(capacity=2), config())


def go_on(tmp_path: Path) -> None:
    go(tmp_path, TRIALS, Pretend(capacity=2), config())
    check_done(tmp_path, TRIALS)
    assert examine(StudyFolder(tmp_path / "study")) == []


def moments(count: int) -> list[int]:
    """Spread over a search, first and last writes among them."""
    return sorted({1, WRITES, *random.Random(count).sample(range(2, WRITES), count)})


def slow_but_for(few: list[int], all_: list[int]) -> list[Any]:
    return [*few, *(pytest.param(at, marks=pytest.mark.slow) for at in all_ if at not in few)]


def test_there_are_that_many_writes(tmp_path: Path) -> None:
    writes = Writes(killed)
    fail_at(tmp_path, writes)
    assert writes.count >= WRITES


@pytest.mark.parametrize("at", slow_but_for([25, WRITES], moments(6)))
def test_killed(tmp_path: Path, at: int) -> None:
    with pytest.raises(Killed):
        fail_at(tmp_path, Writes(killed, at))
    go_on(tmp_path)


@pytest.mark.parametrize("again", slow_but_for([9], list(range(3, 24, 4))))
def test_killed_and_killed_again_while_it_picks_up_the_pieces(tmp_path: Path, again: int) -> None:
    for at in (40, again):
        with pytest.raises(Killed):
            fail_at(tmp_path, Writes(killed, at))
    go_on(tmp_path)


@pytest.mark.parametrize("at", slow_but_for([40], moments(3)))
def test_out_of_disk(tmp_path: Path, at: int) -> None:
    with pytest.raises(
        ArchsearchError,
        match=r"(No space left on device|disk is full); (what was|previously) saved .* the same",
    ):
        fail_at(tmp_path, Writes(disk_full, at))
    go_on(tmp_path)


@pytest.mark.parametrize("at", slow_but_for([45], moments(3)[1:]))
def test_ctrl_c_leaves_everything_saved(tmp_path: Path, at: int) -> None:
    """The leaderboard as the study has it, and no trial open."""
    writes = Writes(interrupted, at, lasts=False)
    with pytest.raises(KeyboardInterrupt):
        fail_at(tmp_path, writes)
    folder = StudyFolder(tmp_path / "study")
    if writes.failed != ["set_study_user_attr"] or folder.leaderboard.exists():
        assert examine(folder) == []
    go_on(tmp_path)


def test_ctrl_c_twice_goes_on_as_well(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail_at(tmp_path, Writes(interrupted, at=30))
    go_on(tmp_path)


@pytest.mark.parametrize("at", [20, 30, 41])
def test_ctrl_c_while_a_connection_is_put_back_shows_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    do_rollback, calls = DefaultDialect.do_rollback, 0

    def interrupted(self: DefaultDialect, connection: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        do_rollback(self, connection)  # type: ignore[no-untyped-call] # SQLAlchemy's

    monkeypatch.setattr(DefaultDialect, "do_rollback", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, 4)
    assert "sqlalchemy" not in {record.name.split(".")[0] for record in caplog.records}
    go(tmp_path, 4)
    check_done(tmp_path, 4)
