"""A study in SQLite while other programs have its file open."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from archsearch.errors import StudyError
from archsearch.monitor.doctor import examine
from archsearch.monitor.status import status
from archsearch.search.driver import search
from archsearch.search.events import DatabaseAway, DatabaseBack, Event, Trained
from archsearch.search.storage import sqlite
from archsearch.search.storage.retry import PATIENCE_VARIABLE
from archsearch.study.folder import StudyFolder
from tests.search.test_driver import Pretend, check_done, demo

Hold = Callable[[sqlite3.Connection], object]


def read(connection: sqlite3.Connection) -> object:
    connection.execute("BEGIN")
    return connection.execute("SELECT COUNT(*) FROM trials").fetchone()


def write(connection: sqlite3.Connection) -> object:
    return connection.execute("BEGIN IMMEDIATE")


def go(tmp_path: Path, hold: Hold, *, release: bool = True) -> list[Event]:
    """Search while another program holds the database from the first epoch on.

    It lets go when the search reports that it waits.
    """
    folder, told = StudyFolder(tmp_path / "study"), list[Event]()
    other: list[sqlite3.Connection] = []

    def notify(event: Event) -> None:
        told.append(event)
        if isinstance(event, Trained) and not other:
            other.append(sqlite3.connect(folder.database, timeout=0, isolation_level=None))
            hold(other[0])
        if isinstance(event, DatabaseAway) and release:
            other[0].execute("ROLLBACK")

    try:
        search(demo(), folder, Pretend(), 3, notify)
    finally:
        other[0].close()
    return told


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_MS", 10)


@pytest.fixture
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "is_local", lambda _path: False)


def test_a_reader_does_not_stop_a_search(tmp_path: Path) -> None:
    told = go(tmp_path, read)
    assert not [event for event in told if isinstance(event, DatabaseAway)]
    check_done(tmp_path, 3)


@pytest.mark.parametrize("hold", [read, write])
def test_a_search_waits_for_who_has_its_database_locked(
    tmp_path: Path, hold: Hold, no_log: None
) -> None:
    told = go(tmp_path, hold)
    [away] = [event for event in told if isinstance(event, DatabaseAway)]
    assert away.why == f"another program has {tmp_path}/study/study.db open: database is locked"
    assert len([event for event in told if isinstance(event, DatabaseBack)]) == 1
    check_done(tmp_path, 3)


def test_a_search_waits_for_a_writer_of_its_write_ahead_log(tmp_path: Path) -> None:
    assert [event for event in go(tmp_path, write) if isinstance(event, DatabaseAway)]
    check_done(tmp_path, 3)


def test_an_impatient_search_names_the_cause_and_resumes(
    tmp_path: Path, no_log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "1")
    with pytest.raises(StudyError, match=r"another program has .*study\.db open.*Run the same"):
        go(tmp_path, read, release=False)
    search(demo(), StudyFolder(tmp_path / "study"), Pretend(), 3, lambda _event: None)
    check_done(tmp_path, 3)


def test_the_file_alone_is_complete_after_a_search(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    search(demo(), folder, Pretend(), 3, lambda _event: None)
    assert [path.name for path in folder.path.glob("study.db*")] == ["study.db"]
    copy = tmp_path / "copy.db"
    shutil.copy(folder.database, copy)
    connection = sqlite3.connect(copy)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("SELECT COUNT(*) FROM trials").fetchone() == (3,)
    connection.close()


def test_status_and_doctor_read_what_a_killed_search_left_in_the_log(tmp_path: Path) -> None:
    folder, killed = StudyFolder(tmp_path / "study"), StudyFolder(tmp_path / "killed")

    def notify(event: Event) -> None:
        if isinstance(event, Trained) and not killed.path.exists():
            shutil.copytree(folder.path, killed.path)

    search(demo(), folder, Pretend(), 3, notify)
    assert (killed.path / "study.db-wal").stat().st_size
    assert list(status(killed).state.in_flight) == ["trial-0"]
    assert [fault.mended for fault in examine(killed)] == [None]
    search(demo(), killed, Pretend(), 3, lambda _event: None)
    assert [path.name for path in killed.path.glob("study.db*")] == ["study.db"]


def test_only_file_systems_of_this_machine_share_memory(tmp_path: Path) -> None:
    assert not sqlite.is_local(Path("/proc/study.db"))
    assert not sqlite.is_local(Path("/sys/study.db"))
