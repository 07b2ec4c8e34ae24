"""What doctor does with a damaged database: each kind of damage, and what a search makes of it."""

# ruff: noqa: S608 (the statements are these tests' own)

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from archsearch.errors import StudyError
from archsearch.monitor.dashboard import open_dashboard
from archsearch.study.folder import StudyFolder
from tests.conftest import Cli, Result
from tests.search.test_driver import Pretend, check_done, go, rows

TRIALS = 4
OF_TRIAL_1 = "trial_id = (SELECT trial_id FROM trials WHERE number = 1)"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound")
    go(path, TRIALS)
    return path


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> StudyFolder:
    shutil.copytree(sound / "study", tmp_path / "study")
    return StudyFolder(tmp_path / "study")


def change(folder: StudyFolder, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder.database)) as database, database:
        assert database.execute(statement, values).rowcount


def refused(folder: StudyFolder, cli: Cli) -> str:
    """What `status` says of a damaged database; a search and the dashboard must say it too."""
    found = cli("status", folder.path)
    assert (found.status, found.out) == (2, "")
    message = found.err.removeprefix("error: ").rstrip()
    with pytest.raises(StudyError) as error:
        go(folder.path.parent, TRIALS)
    assert str(error.value) == message
    assert "Traceback" not in message
    assert len(message.replace(str(folder.path), "")) < 500
    return message


def repaired(folder: StudyFolder, cli: Cli) -> Result:
    """What doctor says; afterwards the study is whole, and its database of before is kept."""
    damaged = folder.database.read_bytes()
    found = cli("doctor", folder.path)
    assert found.status == 0, found
    assert (folder.path / "study.db.before").read_bytes() == damaged
    assert cli("doctor", folder.path).out == f"{folder.path}: all is well\n"
    return found


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("history", '"x"', "trial 1, history: Input should be a valid list, got 'x'"),
        ("history", '[{"epoch": 1}]', "trial 1, history: 0.lr: Field required"),
        ("history", "[]", "trial 1, history: must have the epochs of the training, got none"),
        ("spec_hash", '"../../../v"', "trial 1, spec_hash: String should match pattern"),
        ("spec_hash", f'"{"e" * 64}"', "trial 1, spec_hash: must be that of its parameters"),
        ("run", '{"device": 3}', "trial 1, run: "),
        ("reason", "[7]", "trial 1, reason: Input should be a valid string, got [7]"),
        ("params", "{", "trial 1: cannot be read: JSONDecodeError"),
    ],
)
def test_a_damaged_attribute_of_a_trial_is_named_and_repaired(
    folder: StudyFolder, cli: Cli, key: str, value: str, what: str
) -> None:
    board = folder.leaderboard.read_text().splitlines()
    change(
        folder,
        f"UPDATE trial_user_attributes SET value_json = ? WHERE key = '{key}' AND {OF_TRIAL_1}",
        value,
    )
    message = refused(folder, cli)
    assert message.startswith(f"{folder.database}: {what}")
    assert f"`archsearch doctor {folder.path}` repairs what it can" in message
    repaired(folder, cli)
    resumed = Pretend()
    go(folder.path.parent, TRIALS, resumed)
    check_done(folder.path.parent, TRIALS)
    # The network whose history is lost is queued again; all others are as they were.
    assert [job for job in resumed.trained if job.startswith("trial")] == (
        ["trial-1"] if key == "history" else []
    )
    if key not in ("history", "run"):
        assert folder.leaderboard.read_text().splitlines() == board


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE trials SET state = 'GONE' WHERE number = 1", "trial 1: cannot be read: Lookup"),
        ("UPDATE trials SET number = 7 WHERE number = 1", "trials: must be numbered from 0"),
        ("DELETE FROM trials WHERE number = 1", "trials: must be numbered from 0"),
        (f"DELETE FROM trial_params WHERE {OF_TRIAL_1}", "trial 1: is COMPLETE and must have"),
        (f"UPDATE trial_params SET distribution_json = '3' WHERE {OF_TRIAL_1}", "trial 1: cannot"),
        (f"DELETE FROM trial_values WHERE {OF_TRIAL_1}", "trial 1: is complete and must have one"),
        ("UPDATE trials SET datetime_start = '2026-13-45'", "trial 0: cannot be read: ValueError"),
        ("UPDATE study_directions SET direction = 'MINIMIZE'", "directions: must be ['MAXIMIZE']"),
        ("UPDATE study_user_attributes SET value_json = '{' WHERE key = 'asked'", "attributes of"),
        ("UPDATE study_user_attributes SET value_json = '9' WHERE key = 'asked'", "asked: "),
        ("UPDATE study_user_attributes SET value_json = '9' WHERE key LIKE 'final:%'", "final:"),
        ("UPDATE study_user_attributes SET value_json = '9' WHERE key = 'study'", "study: "),
    ],
)
def test_damage_to_optunas_records_is_named_and_repaired(
    folder: StudyFolder, cli: Cli, statement: str, what: str
) -> None:
    change(folder, statement)
    assert refused(folder, cli).startswith(f"{folder.database}: {what}")
    repaired(folder, cli)
    go(folder.path.parent, TRIALS)
    check_done(folder.path.parent, TRIALS)


def test_a_row_that_a_repair_drops_is_kept_in_the_leaderboard_of_before(
    folder: StudyFolder, cli: Cli
) -> None:
    board = folder.leaderboard.read_bytes()
    change(folder, f"DELETE FROM trial_params WHERE {OF_TRIAL_1}")
    assert "had more rows; leaderboard.csv.before is" in repaired(folder, cli).out
    assert len(rows(folder.path.parent)) == TRIALS - 1
    assert (folder.path / "leaderboard.csv.before").read_bytes() == board


@pytest.mark.parametrize(
    ("version", "how"),
    [("v9.9.z", "pip install -U optuna"), ("v3.0.0.d", "optuna storage upgrade --storage sqlite:")],
)
def test_the_schema_of_another_optuna_is_named_and_left(
    folder: StudyFolder, cli: Cli, version: str, how: str
) -> None:
    change(folder, "UPDATE alembic_version SET version_num = ?", version)
    message = refused(folder, cli)
    before = folder.database.read_bytes()
    assert "no longer compatible with the table schema (set up by optuna" in message
    assert how in message
    found = cli("doctor", folder.path)
    assert (found.status, "broken  study.db: Optuna's schema" in found.out) == (1, True)
    assert folder.database.read_bytes() == before


def test_a_lost_table_is_named_and_left(folder: StudyFolder, cli: Cli) -> None:
    with closing(sqlite3.connect(folder.database)) as database:
        database.execute("DROP TABLE trial_params")
    before = folder.database.read_bytes()
    assert cli("status", folder.path).status == 2
    found = cli("doctor", folder.path)
    assert found.status == 1
    assert "no such table: trial_params; restore a copy" in found.out
    assert folder.database.read_bytes() == before


def test_a_field_that_a_newer_version_stores_is_ignored(folder: StudyFolder, cli: Cli) -> None:
    board = folder.leaderboard.read_bytes()
    with closing(sqlite3.connect(folder.database)) as database, database:
        for table, key in (
            ("trial_user_attributes", "history"), ("trial_user_attributes", "run"),
            ("study_user_attributes", "asked"),
        ):  # fmt: skip
            select = f"SELECT rowid, value_json FROM {table} WHERE key = ?"
            for rowid, text in database.execute(select, (key,)).fetchall():
                value = json.loads(text)
                for record in value if isinstance(value, list) else [value]:
                    record["of_a_newer_version"] = 1
                update = f"UPDATE {table} SET value_json = ? WHERE rowid = ?"
                database.execute(update, (json.dumps(value), rowid))
        database.execute(
            "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, 'new', '1')"
        )
    assert cli("status", folder.path).status == 0
    go(folder.path.parent, TRIALS)
    assert folder.leaderboard.read_bytes() == board
    assert cli("doctor", folder.path).out == f"{folder.path}: all is well\n"


def test_the_dashboard_does_not_open_what_it_cannot_show(folder: StudyFolder) -> None:
    change(folder, f"UPDATE trial_params SET distribution_json = '3' WHERE {OF_TRIAL_1}")
    with pytest.raises(StudyError, match=r"study\.db: trial 1: cannot be read"):
        open_dashboard(folder, "test", None, "127.0.0.1", 0)


def test_a_database_that_is_missing_is_reported_with_what_the_folder_has(
    folder: StudyFolder, cli: Cli
) -> None:
    folder.database.unlink()
    board = folder.leaderboard.read_bytes()
    found = cli("doctor", folder.path)
    assert found.status == 1
    assert f"is missing, but the folder has {TRIALS} results in leaderboard.csv" in found.out
    assert folder.leaderboard.read_bytes() == board
    assert not folder.database.exists()


def super_journal(database: Path, victim: Path) -> bytes:
    """A rollback journal that names another; SQLite deletes that when it has played this back."""
    magic, name = bytes.fromhex("d9d505f920a163d7"), str(victim).encode()
    page = struct.unpack(">H", database.read_bytes()[16:18])[0]
    pages = database.stat().st_size // page
    head = (magic + struct.pack(">IIIII", 0, 1, pages, 512, page)).ljust(512, b"\0")
    tail = struct.pack(">I", (1 << 30) // page + 1) + name
    return head + tail + struct.pack(">II", len(name), sum(name)) + magic


@pytest.mark.parametrize("command", ["status", "doctor", "search"])
def test_a_journal_that_names_a_file_to_delete_is_refused(
    folder: StudyFolder, cli: Cli, tmp_path: Path, command: str
) -> None:
    victim = tmp_path / "thesis.txt"
    victim.write_text("years of work")
    journal = folder.path / "study.db-journal"
    journal.write_bytes(super_journal(folder.database, victim))
    if command == "search":
        with pytest.raises(StudyError, match="names a further journal"):
            go(folder.path.parent, TRIALS)
    else:
        found = cli(command, folder.path)
        assert (found.status, "names a further journal" in found.err) == (2, True)
    assert victim.read_text() == "years of work"


def test_a_database_that_another_program_has_open_is_not_repaired(
    folder: StudyFolder, cli: Cli
) -> None:
    with closing(sqlite3.connect(folder.database, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN")
        other.execute("SELECT COUNT(*) FROM trials").fetchone()
        change(folder, f"UPDATE trial_user_attributes SET value_json = '7' WHERE {OF_TRIAL_1}")
        found = cli("doctor", folder.path)
        assert (found.status, "another program has it open" in found.err) == (2, True)
        other.execute("ROLLBACK")
    assert not (folder.path / "study.db.before").exists()
    assert cli("doctor", folder.path).status == 0


def test_links_of_the_names_of_temporary_files_are_removed(
    folder: StudyFolder, cli: Cli, tmp_path: Path
) -> None:
    change(folder, f"DELETE FROM trial_user_attributes WHERE key = 'spec_hash' AND {OF_TRIAL_1}")
    for suffix in ("", "-journal", "-wal"):
        link = folder.path / f".study.db.{os.getpid()}.tmp{suffix}"
        link.symlink_to(tmp_path / "outside")
    assert cli("doctor", folder.path).status == 0
    assert not (tmp_path / "outside").exists()
    assert not list(folder.path.glob(".*.tmp"))


def test_triggers_do_not_act_on_a_repair(folder: StudyFolder, cli: Cli) -> None:
    change(folder, f"UPDATE trial_user_attributes SET value_json = '{{' WHERE {OF_TRIAL_1}")
    with closing(sqlite3.connect(folder.database)) as database, database:
        database.execute(
            "CREATE TRIGGER t BEFORE DELETE ON trial_user_attributes "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    repaired(folder, cli)


def test_an_attribute_too_deep_to_parse_is_damage(folder: StudyFolder, cli: Cli) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    change(folder, "UPDATE study_user_attributes SET value_json = ? WHERE key = 'asked'", deep)
    assert "cannot be read" in refused(folder, cli)


def test_rejections_of_other_columns_are_kept_aside(folder: StudyFolder, cli: Cli) -> None:
    other = "proposal,trial,rulez\n1,0,max_params\n"
    folder.rejections.write_text(other)
    assert cli("status", folder.path).status == 0
    go(folder.path.parent, TRIALS + 1)
    assert (folder.path / "rejections.csv.before").read_text() == other
    assert folder.rejections.read_text().startswith("proposal,trial,rules,")
