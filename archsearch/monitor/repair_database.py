"""Repair a study's SQLite database on a copy of it: drop what cannot be read, restore the rest."""

# ruff: noqa: S608 (tables and columns are named in this package; values are parameters)

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from archsearch.analysis.analyze import Analysis
from archsearch.common.parse import from_toml
from archsearch.errors import ArchsearchError, shown
from archsearch.monitor.optuna_rows import READABLE, TABLES, is_time, text_or_bytes
from archsearch.search import trials as stored
from archsearch.search.storage.load import readable, record_problems
from archsearch.search.storage.open import open_for_reading
from archsearch.search.stored_values import Attr, DamagedStoreError
from archsearch.study.config import Study

_OF_TRIALS = tuple(name for name in TABLES if name.startswith("trial_"))
_MOST_MISSING = 10_000
"""Trials that may be missing before another one; a higher number is damaged itself."""


class BeyondRepairError(ArchsearchError):
    """Report that a database cannot be repaired."""


@dataclass
class Repair:
    """The repair of one study in an open copy of its database.

    Attributes:
        rows: the open copy.
        study_id: of the study.
        done: place and message of each repair.
    """

    rows: sqlite3.Connection
    study_id: int
    done: list[tuple[str, str]] = field(default_factory=list)

    # What Optuna itself must be able to read

    def optuna_records(self) -> None:
        """Drop the rows that Optuna cannot read, and number the trials without gaps."""
        self._directions()
        for table in ("study_user_attributes", "study_system_attributes"):
            self._drop_rows(table, "study_id", self.study_id, "study")
        for table in _OF_TRIALS:  # a new trial may get the same key
            missing = f"FROM {table} WHERE trial_id NOT IN (SELECT trial_id FROM trials)"
            if self.rows.execute(f"SELECT 1 {missing}").fetchone():
                self._execute(f"DELETE {missing}")
                self.done.append((table, "had rows of trials that are missing"))
        self._numbers()
        for trial_id, number in self._trials():
            for table in _OF_TRIALS:
                self._drop_rows(table, "trial_id", trial_id, f"trial {number}")

    def _directions(self) -> None:
        found = self.rows.execute(
            "SELECT objective, direction FROM study_directions WHERE study_id = ?", (self.study_id,)
        ).fetchall()
        if found != [(0, "MAXIMIZE")]:
            self._execute("DELETE FROM study_directions WHERE study_id = ?", self.study_id)
            self._execute(
                "INSERT INTO study_directions (study_id, objective, direction) "
                "VALUES (?, 0, 'MAXIMIZE')",
                self.study_id,
            )
            self.done.append(("study", "its direction was not to maximize"))

    def _drop_rows(self, table: str, owner: str, owner_id: int, place: str) -> None:
        columns = TABLES[table].partition(", ")[2]
        select = f"SELECT rowid, {columns} FROM {table} WHERE {owner} = ?"
        for rowid, *cells in self.rows.execute(select, (owner_id,)).fetchall():
            if not READABLE[table](cells):
                self._execute(f"DELETE FROM {table} WHERE rowid = ?", rowid)
                what = f"{table} {shown(cells[0])} could not be read and is dropped"
                self.done.append((place, what))

    def _numbers(self) -> None:
        rows = self.rows.execute(
            "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials "
            "WHERE study_id = ? ORDER BY trial_id",
            (self.study_id,),
        ).fetchall()
        taken: dict[int, int] = {}
        homeless: list[int] = []
        most = len(rows) + _MOST_MISSING
        for trial_id, number, state, *times in rows:
            if isinstance(number, int) and 0 <= number < most and number not in taken:
                taken[number] = trial_id
            else:
                homeless.append(trial_id)
            if state not in TrialState.__members__:
                self.done.append((f"trial {number}", f"its state was {shown(state)}"))
                self.drop(trial_id)
            for column, time in zip(("datetime_start", "datetime_complete"), times, strict=True):
                if not is_time(time):
                    self._execute(
                        f"UPDATE trials SET {column} = NULL WHERE trial_id = ?",
                        trial_id,
                    )
                    what = f"its {column} was {shown(time)} and is dropped"
                    self.done.append((f"trial {number}", what))
        free = iter(number for number in range(most + len(rows)) if number not in taken)
        for trial_id in homeless:
            taken[(number := next(free))] = trial_id
            self._execute("UPDATE trials SET number = ? WHERE trial_id = ?", number, trial_id)
            self.done.append((f"trial {number}", "its number was not one of a trial"))
        for number in range(max(taken, default=-1)):
            if number not in taken:
                self._execute(
                    "INSERT INTO trials (number, study_id, state) VALUES (?, ?, 'FAIL')",
                    number, self.study_id,
                )  # fmt: skip
                [trial_id] = self.rows.execute("SELECT last_insert_rowid()").fetchone()
                self.drop(trial_id)
                self.done.append((f"trial {number}", "was missing; nothing is known of it"))

    def _trials(self) -> list[tuple[int, int]]:
        select = "SELECT trial_id, number FROM trials WHERE study_id = ? ORDER BY number"
        return self.rows.execute(select, (self.study_id,)).fetchall()

    # What a search stores in them

    def study_attributes(self, attrs: dict[str, Any], trials: int, study_file: str) -> Study | None:
        """Drop the study's damaged attributes; restore and return its study.

        Raises:
            BeyondRepairError: the study file is in neither the database nor the folder.
        """
        config: Study | None = None
        owner: Any = SimpleNamespace(user_attrs=attrs)
        for attr in (*stored.STUDY_ATTRS, *stored.final_attrs(attrs)):
            why = _damage(attr, owner)
            if attr is stored.STUDY_FILE and why is None:
                if attr.key not in attrs and not trials:
                    continue  # it was never searched
                try:
                    config = from_toml(Study, attr.of(owner) or "", "study")
                except ArchsearchError as error:
                    why = str(error).splitlines()[-1].strip()
            elif attr is stored.UNDER_WAY and why is None:
                there = [at.trial is None or at.trial < trials for at in attr.of(owner).values()]
                why = None if all(there) else "names a trial that does not exist"
            if why is None:
                continue
            delete = "DELETE FROM study_user_attributes WHERE study_id = ? AND key = ?"
            self._execute(delete, self.study_id, attr.key)
            if attr is stored.STUDY_FILE:
                try:
                    config = from_toml(Study, study_file, "study.toml")
                except ArchsearchError as error:
                    raise BeyondRepairError(
                        f"its study file cannot be read ({why}), and neither can study.toml; "
                        "restore a copy, or use the version of archsearch that wrote it"
                    ) from error
                self._execute(
                    "INSERT INTO study_user_attributes (study_id, key, value_json) "
                    "VALUES (?, ?, ?)",
                    self.study_id, attr.key, json.dumps(study_file),
                )  # fmt: skip
            self.done.append((f"study, {attr.key}", f"could not be read ({why})"))
        return config

    def trial(self, trial: FrozenTrial, config: Study, known: set[str]) -> None:
        """Restore a trial from its parameters, queue it again, or drop it.

        Args:
            trial: as Optuna reads it.
            config: its study.
            known: the networks of the trials before it.
        """
        trial_id, place = trial._trial_id, f"trial {trial.number}"
        if trial.state == TrialState.FAIL and trial.user_attrs.get(stored.INTERRUPTED.key) is True:
            self._attributes(trial, place)
            return  # the trial that replaced it has all that counts
        try:
            analysis = _network(trial, config)
        except DamagedStoreError as error:
            self.done.append((place, f"{error.what}; it is dropped, its files are unchanged"))
            self.drop(trial_id)
            return
        if analysis is None:
            if trial.state == TrialState.FAIL:
                return  # a driver died while it asked for it
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                self.done.append((place, "has no parameters left; its files are unchanged"))
                self.drop(trial_id)
            return
        again = [*record_problems(trial), *self._attributes(trial, place)]
        ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        if ended and not trial.user_attrs.get(stored.HISTORY.key):
            again.append("its history is lost")
        if analysis.spec_hash in known:
            self.done.append((place, "has the network of an earlier trial; it is dropped"))
            self.drop(trial_id)
        elif again:
            what = f"{again[0]}; it is queued again: a search resumes it from its checkpoint"
            self.done.append((place, what))
            self._queue(trial_id, trial, analysis)
        else:
            self._network_attributes(trial, analysis, place)
        known.add(analysis.spec_hash)

    def _attributes(self, trial: FrozenTrial, place: str) -> Iterator[str]:
        """Drop a trial's damaged attributes; return why its result cannot be trusted."""
        lost = []
        for attr in stored.TRIAL_ATTRS:
            if (why := _damage(attr, trial)) is None:
                continue
            if attr is stored.HISTORY:
                lost.append(f"its history: {why}")
            self._set(trial._trial_id, attr.key, None)
            self.done.append((f"{place}, {attr.key}", f"could not be read ({why})"))
        return iter(lost)

    def _network_attributes(self, trial: FrozenTrial, analysis: Analysis, place: str) -> None:
        if trial.state == TrialState.WAITING:
            wanted: dict[str, Any] = {stored.SPEC_HASH.key: analysis.spec_hash}
        else:
            wanted = stored.network_attrs(analysis)
        wrong = [key for key, value in wanted.items() if trial.user_attrs.get(key) != value]
        for key in wrong:
            self._set(trial._trial_id, key, wanted[key])
        if wrong:
            what = f"{', '.join(wrong)}: were not those of its network, and are computed again"
            self.done.append((place, what))

    # Changes

    def drop(self, trial_id: int) -> None:
        """Leave nothing of a trial but its number, as of one that was interrupted."""
        self._clear(trial_id)
        self._execute("UPDATE trials SET state = 'FAIL' WHERE trial_id = ?", trial_id)
        self._set(trial_id, stored.INTERRUPTED.key, value=True)

    def _queue(self, trial_id: int, trial: FrozenTrial, analysis: Analysis) -> None:
        self._clear(trial_id)
        self._execute(
            "UPDATE trials SET state = 'WAITING', datetime_start = NULL, datetime_complete = NULL "
            "WHERE trial_id = ?",
            trial_id,
        )
        self._set(trial_id, stored.SPEC_HASH.key, analysis.spec_hash)
        params = trial.params or stored.fixed_params(trial)
        self._execute(
            "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
            trial_id, stored.FIXED_PARAMS, json.dumps(params),
        )  # fmt: skip

    def _clear(self, trial_id: int) -> None:
        for table in _OF_TRIALS:
            self._execute(f"DELETE FROM {table} WHERE trial_id = ?", trial_id)

    def _set(self, trial_id: int, key: str, value: Any) -> None:
        delete = "DELETE FROM trial_user_attributes WHERE trial_id = ? AND key = ?"
        self._execute(delete, trial_id, key)
        if value is not None:
            self._execute(
                "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
                trial_id, key, json.dumps(value),
            )  # fmt: skip

    def _execute(self, statement: str, *values: Any) -> None:
        self.rows.execute(statement, values)


def repair(path: Path, name: str, study_file: str) -> list[tuple[str, str]]:
    """Repair a study in a database; return the place and message of each repair.

    Args:
        path: a copy of the database; it is changed.
        name: of the study; nothing is done if the database has no such study.
        study_file: text of the study file beside it, which may have to replace the stored one.

    Raises:
        BeyondRepairError: a table or the study file is lost.
        DamagedStoreError: another version of Optuna made the database.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as rows:
        rows.text_factory = text_or_bytes
        try:
            for table, columns in TABLES.items():
                rows.execute(f"SELECT rowid, {columns} FROM {table} LIMIT 0")
        except sqlite3.OperationalError as error:
            raise BeyondRepairError(f"{error}; restore a copy") from error
        of_name = "SELECT study_id FROM studies WHERE study_name = ?"
        if (found := rows.execute(of_name, (name,)).fetchone()) is None:
            return []
        _drop_code(rows)
        work = Repair(rows, found[0])
        work.optuna_records()
        database = open_for_reading(f"sqlite:///{path}")
        with readable("Optuna's tables"):
            trials = database.get_all_trials(work.study_id, deepcopy=False)
            attrs = database.get_study_user_attrs(work.study_id)
        config = work.study_attributes(attrs, len(trials), study_file)
        known: set[str] = set()
        if config:
            for trial in sorted(trials, key=lambda trial: trial.number):
                work.trial(trial, config, known)
    return work.done


def _drop_code(rows: sqlite3.Connection) -> None:
    """Drop triggers and views, which would act on what is repaired; Optuna has none."""
    found = rows.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')")
    for kind, name in found.fetchall():
        quoted = str(name).replace('"', '""')
        rows.execute(f'DROP {kind} "{quoted}"')


def study_names(path: Path) -> list[str]:
    """Return the names of the studies in a database.

    Raises:
        BeyondRepairError: the table of them is lost.
    """
    with closing(sqlite3.connect(path)) as rows:
        rows.text_factory = text_or_bytes
        try:
            found = rows.execute("SELECT study_name FROM studies").fetchall()
        except sqlite3.Error as error:
            raise BeyondRepairError(f"{error}; restore a copy") from error
    return [name for (name,) in found if isinstance(name, str)]


def copy_database(path: Path, to: Path) -> None:
    """Copy a database, with what is in its log."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def _network(trial: FrozenTrial, config: Study) -> Analysis | None:
    """Return the network of a trial's parameters, whatever its hash is."""
    if trial.state == TrialState.WAITING and not trial.params:
        return stored.analyze_queued(trial, config)
    unnamed = FrozenTrial(
        number=trial.number, trial_id=trial._trial_id, state=trial.state, value=None,
        datetime_start=None, datetime_complete=None, params=trial.params,
        distributions=trial.distributions, user_attrs={}, system_attrs={}, intermediate_values={},
    )  # fmt: skip
    return stored.analyze_trial(unnamed, config) if trial.params else None


def _damage(attr: Attr[Any], owner: Any) -> str | None:
    try:
        attr.of(owner)
    except DamagedStoreError as error:
        return error.what
    return None
