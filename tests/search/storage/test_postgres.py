"""A study in a real PostgreSQL: it goes away, two drivers want it, and it has a password."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psycopg
import pytest
import sqlalchemy
import sqlalchemy.event
import sqlalchemy.exc
import sqlalchemy.orm
from fault_drill.drill import STUDY, archsearch, processes_below
from fault_drill.postgres_server import Server, server, why_none
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from archsearch.common import csv_files
from archsearch.errors import StudyError
from archsearch.executors.protocol import JobReport, MoreRoom
from archsearch.leaderboard.entry import Entry
from archsearch.search.driver import search
from archsearch.search.events import DatabaseAway, DatabaseBack, Event, TrialEnded
from archsearch.search.storage.open import open_for_reading
from archsearch.search.storage.retry import PATIENCE_VARIABLE
from archsearch.search.storage.url import STORAGE_VARIABLE
from archsearch.study.folder import StudyFolder
from tests.conftest import Cli
from tests.search.test_driver import Pretend, check_done, demo

pytestmark = pytest.mark.postgres
OUTAGE_S = 5.0
"""Of the search with real workers; in a drill they are longer (fault_drill/faults.py)."""
MOST_UNBROKEN = 150
"""Statements from one break to the next; a new trial takes sixty."""
BREAK = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE application_name LIKE 'archsearch%'"
)


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    if reason := why_none():
        pytest.skip(reason)
    with server() as found:
        yield found


@pytest.fixture
def database(running: Server) -> Server:
    """Without studies."""
    running.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return running


def go(
    tmp_path: Path,
    database: Server,
    trials: int,
    executor: Pretend | None = None,
    notify: Callable[[Event], None] = lambda _event: None,
) -> list[Entry]:
    folder = StudyFolder(tmp_path / "study")
    return search(demo(), folder, executor or Pretend(), trials, notify, database.secret_url)


def stored(database: Server, name: str = "test") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_for_reading(database.secret_url))


def check(tmp_path: Path, database: Server, trials: int) -> None:
    """As `check_done`, and the database itself has every trial ended."""
    check_done(tmp_path, trials, study=stored(database))
    states = Counter(database.sql("SELECT state FROM trials").split())
    assert states["COMPLETE"] + states["PRUNED"] == trials
    assert not states.keys() & {"RUNNING", "WAITING"}


class Harms(Pretend):
    """Does something before certain reports."""

    def __init__(self, harm: Callable[[], None], at: set[int], capacity: int = 2) -> None:
        super().__init__(capacity=capacity)
        self.harm, self.at = harm, at

    def next_report(self) -> JobReport | MoreRoom:
        if self.reports + 1 in self.at:
            self.harm()
        return super().next_report()


def test_it_goes_on_and_leaves_no_database_in_the_folder(tmp_path: Path, database: Server) -> None:
    go(tmp_path, database, 3)
    go(tmp_path, database, 6)
    check(tmp_path, database, 6)
    assert not (tmp_path / "study" / "study.db").exists()


def test_a_server_that_goes_away_pauses_the_search_and_nothing_is_lost(
    tmp_path: Path, database: Server
) -> None:
    events: list[Event] = []
    back: list[threading.Timer] = []

    def away_for_a_while() -> None:
        for each in back:
            each.join()
        database.stop()
        back.append(threading.Timer(2.0, database.start))
        back[-1].start()

    executor = Harms(away_for_a_while, {7, 20})
    go(tmp_path, database, 6, executor, events.append)
    for each in back:
        each.join()
    check(tmp_path, database, 6)
    assert len(back) == 2
    told = [event for event in events if isinstance(event, DatabaseAway | DatabaseBack)]
    assert [type(event) for event in told] == 2 * [DatabaseAway, DatabaseBack]
    assert all(isinstance(event, DatabaseBack) or event.why for event in told)
    assert len(executor.trained) == len(set(executor.trained))


@pytest.mark.slow
def test_connections_that_break_before_any_statement_cost_nothing(
    tmp_path: Path, database: Server
) -> None:
    rng = random.Random(0)
    broken, left = 0, MOST_UNBROKEN
    events: list[Event] = []

    with psycopg.connect(database.secret_url.replace("+psycopg", ""), autocommit=True) as other:

        def break_some(*_statement: object) -> None:
            nonlocal broken, left
            left -= 1
            if not left:
                left, broken = rng.randint(1, MOST_UNBROKEN), broken + 1
                other.execute(BREAK)

        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", break_some)
        try:
            go(tmp_path, database, 12, Pretend(capacity=3), events.append)
        finally:
            sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", break_some)
    check(tmp_path, database, 12)
    told = [event for event in events if isinstance(event, DatabaseAway | DatabaseBack)]
    assert [type(event) for event in told] == len(told) // 2 * [DatabaseAway, DatabaseBack]
    # Fewer than broke: some break again before the operation is through.
    assert broken >= len(told) // 2 >= 5


@pytest.mark.slow
def test_an_operation_that_was_done_unseen_is_not_done_twice(
    tmp_path: Path, database: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every operation of the driver, one after the other: committed, its answer lost."""
    commit, commits, lose_at = sqlalchemy.orm.Session.commit, 0, 0

    def loses(self: sqlalchemy.orm.Session) -> None:
        nonlocal commits
        commit(self)
        commits += 1
        if commits == lose_at:
            # The pool's one connection is dead by the next operation, and this one seems to fail.
            database.sql(BREAK)
            raise sqlalchemy.exc.OperationalError("", None, ConnectionError("no answer"))

    go(tmp_path / "count", database, 2)
    monkeypatch.setattr(sqlalchemy.orm.Session, "commit", loses)
    database.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    go(tmp_path / "counted", database, 2)
    total = commits
    assert total > 30
    for lose_at in range(15, total, total // 6):  # before: it opens, and nothing is waited for yet
        commits = 0
        database.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        go(tmp_path / str(lose_at), database, 2)
        check(tmp_path / str(lose_at), database, 2)


def test_a_server_that_stays_away_ends_the_search_and_it_can_go_on(
    tmp_path: Path, database: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "1")
    with pytest.raises(StudyError, match=r"database has been away for \d+ s .*Run the same"):
        go(tmp_path, database, 4, Harms(database.stop, {5}))
    with pytest.raises(StudyError, match="cannot be used"):  # at the start nothing is waited for
        go(tmp_path, database, 4)
    database.start()
    go(tmp_path, database, 4)
    check(tmp_path, database, 4)


def test_a_second_driver_is_refused_by_the_database(tmp_path: Path, database: Server) -> None:
    """From another machine: the folder's lock does not keep it out."""
    refused: list[str] = []

    def second() -> None:
        with pytest.raises(StudyError) as error:
            go(tmp_path / "elsewhere", database, 3)
        refused.append(str(error.value))
        search(demo(name="other"), StudyFolder(tmp_path / "other"), Pretend(), 1,
               lambda _event: None, database.secret_url)  # fmt: skip

    go(tmp_path, database, 3, Harms(second, {4}))
    check_done(tmp_path, 3, study=stored(database))
    [told] = refused
    assert told.startswith("study test: archsearch ")
    assert f"process {os.getpid()} (from 127.0.0.1) is at work on it" in told
    assert told.endswith("choose another --name")
    assert not (tmp_path / "elsewhere" / "study" / "study.toml").exists()


def test_a_driver_whose_study_was_taken_during_an_outage_stops(
    tmp_path: Path, database: Server
) -> None:
    taken, refused = threading.Event(), threading.Event()

    def lose_it() -> None:
        database.stop()
        database.start()
        others.append(threading.Thread(target=hold))
        others[0].start()
        taken.wait(60)

    def hold() -> None:
        def wait(event: Event) -> None:
            if isinstance(event, TrialEnded):
                taken.set()
                refused.wait(60)

        go(tmp_path / "elsewhere", database, 5, notify=wait)

    others: list[threading.Thread] = []
    executor = Harms(lose_it, {4})
    with pytest.raises(StudyError, match="is at work on it in this database"):
        go(tmp_path, database, 5, executor)
    refused.set()
    others[0].join()
    check(tmp_path / "elsewhere", database, 5)


@pytest.mark.parametrize("at", [4, 9])
def test_a_driver_whose_study_was_worked_on_and_let_go_during_an_outage_stops(
    tmp_path: Path, database: Server, at: int
) -> None:
    def lose_it() -> None:
        database.sql(BREAK)
        go(tmp_path / "elsewhere", database, 5)
        database.sql(BREAK)

    said: list[str] = []

    def board() -> bytes:
        return (tmp_path / "study" / "leaderboard.csv").read_bytes()

    def lose_it_and_look() -> None:
        lose_it()
        said.append(board().decode())

    with pytest.raises(StudyError, match="another driver went on with it"):
        go(tmp_path, database, 5, Harms(lose_it_and_look, {at}))
    assert board().decode() == said[0]
    check(tmp_path / "elsewhere", database, 5)
    go(tmp_path, database, 6)  # it can go on, and trains none twice
    check(tmp_path, database, 6)


def test_a_folder_whose_trials_are_in_another_database_is_not_searched_anew(
    tmp_path: Path, database: Server
) -> None:
    go(tmp_path, database, 2)
    database.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with pytest.raises(StudyError, match=r"has 2 results .* has none of them"):
        go(tmp_path, database, 2)
    with pytest.raises(KeyError):  # nor is one begun there
        stored(database)


def test_a_database_without_the_study_is_told_and_nothing_is_made_in_it(
    tmp_path: Path, database: Server, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path, database, 2)
    study = tmp_path / "study"
    for command in ("status", "doctor"):
        elsewhere = cli(command, study)
        assert elsewhere.status == 2
        assert f"its study is kept in {database.url} (storage.txt)" in elsewhere.err
    database.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    for command in ("status", "doctor"):
        monkeypatch.setenv(STORAGE_VARIABLE, database.secret_url)
        wrong = cli(command, study)
        assert wrong.status == 2
        assert "its study is not in that database" in wrong.err
    assert database.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"
    empty = RDBStorage(database.secret_url, {"poolclass": sqlalchemy.NullPool})
    optuna.create_study(study_name="test", storage=empty)
    monkeypatch.setenv(STORAGE_VARIABLE, database.secret_url)
    assert "was never searched in this database" in cli("doctor", study).out


# The command


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "drill.toml").write_text(STUDY)
    options = ("--trials", "4", "--workers", "2", "--device", "cpu", "--precision", "fp32")
    return archsearch("search", "drill.toml", *options)


@pytest.mark.slow
def test_a_search_outlasts_its_database_and_its_password_is_nowhere(
    tmp_path: Path, database: Server, command: list[str], cli: Cli
) -> None:
    study = tmp_path / "studies" / "drill"
    environment = {**os.environ, "ARCHSEARCH_DEBUG": "1"}
    seen: list[str] = []  # what other users of the machine see, and what later processes inherit
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(
            command, cwd=tmp_path, stdout=log, stderr=log,
            env={**environment, STORAGE_VARIABLE: database.secret_url},
        )  # fmt: skip
        was_away = False
        while run.poll() is None:
            seen.append(driver := Path(f"/proc/{run.pid}/cmdline").read_text())
            for pid in processes_below(run.pid) - {run.pid}:
                try:
                    seen.append(command_line := Path(f"/proc/{pid}/cmdline").read_text())
                    if command_line != driver:  # else it is about to become another program
                        seen.append(Path(f"/proc/{pid}/environ").read_text())
                except OSError:
                    continue
            if not was_away and len(list(study.glob("trials/*/history.csv"))) >= 3:
                database.stop()
                time.sleep(OUTAGE_S)
                database.start()
                was_away = True
            time.sleep(0.2)
    said = (tmp_path / "log").read_text()
    assert run.returncode == 0, said
    assert was_away
    assert "paused: the database is away" in said
    assert "going on: the database is back" in said
    assert Counter(t.state for t in stored(database, "drill").trials)[TrialState.RUNNING] == 0
    board = csv_files.read_csv(study / "leaderboard.csv")
    assert len({row["spec_hash"] for row in board}) == len(board) == 4
    assert any("spawn_main" in each for each in seen)
    assert any("OMP_NUM_THREADS" in each for each in seen)
    # Errors, too: a server that is away, a database that is not there, a wrong password.
    wrong = database.secret_url.replace("/studies", "/nowhere")
    database.stop()
    seen += [
        failed(command, tmp_path, {STORAGE_VARIABLE: url}) for url in (database.secret_url, wrong)
    ]
    database.start()
    seen.append(failed(command, tmp_path, {STORAGE_VARIABLE: wrong}))
    mistyped = {STORAGE_VARIABLE: database.secret_url.replace(database.password, "mistyped")}
    seen.append(failed(command, tmp_path, mistyped))
    assert "mistyped" not in seen[-1]
    everything = [
        said,
        *seen,
        *(path.read_bytes().decode("latin-1") for path in files_below(study)),
    ]
    assert not [text for text in everything if database.password in text]


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def failed(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "Traceback" not in said
    assert "error: studies/drill: the study's database cannot be used" in said
    return said


def test_the_password_may_be_in_libpqs_own_places(
    tmp_path: Path, database: Server, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path, database, 2)
    study = tmp_path / "study"
    monkeypatch.setenv("PGPASSWORD", database.password)
    assert cli("status", study, "--storage", database.url).status == 0
    assert "PGPASSWORD" not in os.environ
    monkeypatch.delenv("PGPASSWORD", raising=False)
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"127.0.0.1:*:*:*:{database.password}\n")
    passfile.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    assert cli("doctor", study, "--storage", database.url).out.endswith(": all is well\n")
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    refused = cli("status", study, "--storage", database.url)
    assert refused.status == 2
    assert "no password supplied" in refused.err
