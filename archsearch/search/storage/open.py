"""The study's database: opened, held to its study file, and its errors in a user's words."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec

import optuna
from optuna.exceptions import OptunaError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import NullPool, make_url
from sqlalchemy.exc import SQLAlchemyError

from archsearch.common import atomic_files
from archsearch.common.parse import from_toml, read_text
from archsearch.errors import ArchsearchError, InputError, StudyError, one_line
from archsearch.leaderboard.csv_lines import csv_lines
from archsearch.search.events import DatabaseAway, DatabaseBack
from archsearch.search.pruner import pruner_of
from archsearch.search.storage.driver_lock import DriverLock
from archsearch.search.storage.load import check_study, is_absent, open_rdb
from archsearch.search.storage.retry import Retry, why_locked
from archsearch.search.storage.single_writer import SingleWriter
from archsearch.search.storage.sqlite import sqlite_storage
from archsearch.search.storage.url import STORAGE_VARIABLE, is_postgres, public_url, redact
from archsearch.search.stored_values import DamagedStoreError
from archsearch.search.trials import STUDY_FILE
from archsearch.study.config import Study, study_toml
from archsearch.study.folder import StudyFolder


@contextmanager
def open_for_writing(
    config: Study, storage: str, notify: Callable[[DatabaseAway | DatabaseBack], None]
) -> Iterator[SingleWriter]:
    """Open the database for the driver of a study; in PostgreSQL, lock out all other drivers.

    Raises:
        StudyError: another driver is at work on the study.
    """
    if config.sampler.kind == "gp" and not find_spec("scipy"):
        raise StudyError("sampler gp needs scipy: pip install 'archsearch[gp]'")
    # Of a connection that is lost it logs a traceback; what matters of it is raised, too.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    kind = make_url(storage).get_backend_name()
    if kind == "sqlite":
        patience = Retry(config.name, storage, notify)
        with sqlite_storage(storage, patience.do) as database:
            yield SingleWriter(database, patience)
    elif is_postgres(storage):
        lock = DriverLock(config.name)
        database = lock.connect(storage)
        try:
            # Nobody else makes trials while this driver has the lock.
            patience = Retry(config.name, storage, notify, lock)
            yield SingleWriter(database, patience, owns_unseen=True)
        finally:
            database.engine.dispose()
    else:
        yield SingleWriter(open_rdb(storage, create=True))


def check_storage(folder: StudyFolder, storage: str | None) -> None:
    """Refuse to search again in the folder's own database what was searched in another.

    Raises:
        StudyError: no `storage` is given, and there is one; or the folder's own database is a
            link or not a regular file.
    """
    if storage is None:
        folder.check_database()
    if storage is None and folder.elsewhere.exists():
        where = one_line(read_text(str(folder.elsewhere)).strip())
        raise StudyError(
            f"{folder.path}: its study is kept in {where} (storage.txt): give that as --storage, "
            f"or in {STORAGE_VARIABLE} with its password; for a new study beside it: archsearch "
            "search --name NAME"
        )


def record_storage(folder: StudyFolder, storage: str) -> None:
    """Record in the folder where its study is kept, if that is another place."""
    if storage != folder.storage:
        atomic_files.write_text(folder.elsewhere, f"{public_url(storage)}\n")


def open_for_reading(storage: str) -> RDBStorage:
    """Open a database to look into it: nobody is kept out, and no connection stays open."""
    return open_rdb(storage, {"poolclass": NullPool}, create=False)


def load_study(config: Study, storage: str) -> optuna.Study:
    """Load a study as it is at this moment, to read it.

    Raises:
        DamagedStoreError: a search did not write what is stored.
    """
    database = SingleWriter(open_for_reading(storage))
    study = optuna.load_study(study_name=config.name, storage=database)
    check_study(study, config)
    return study


def open_study(
    config: Study, folder: StudyFolder, database: SingleWriter, url: str, sampler: BaseSampler
) -> optuna.Study:
    """Load the study of `config` from the `database` at `url`, or create it there.

    Raises:
        StudyError: there is one of that name, and it is another; or the folder's trials are in
            another database.
    """
    if not _trials_in(database, config.name):
        refuse_if_searched(folder)
    study = optuna.create_study(
        storage=database,
        study_name=config.name,
        direction="maximize",
        sampler=sampler,
        pruner=pruner_of(config),
        load_if_exists=True,
    )
    if (stored := STUDY_FILE.of(study)) is not None:
        _check_same_study(config, stored, folder)
    check_study(study, config)
    STUDY_FILE.store(study, study_toml(config))
    return study


@contextmanager
def storage_errors(folder: StudyFolder, storage: str) -> Iterator[None]:
    """Report the database's errors, without its password.

    Raises:
        StudyError: instead of SQLAlchemy's and Optuna's errors.
    """
    try:
        yield
    except DamagedStoreError as error:
        local = storage == folder.storage
        name = one_line(str(folder.database)) if local else redact(public_url(storage), storage)
        how = (
            f"`archsearch doctor {folder.path}` repairs what it can and keeps a copy"
            if local
            else "restore a copy of it"
        )
        raise StudyError(f"{name}: {error}; {how}") from error
    except KeyError as error:
        if not is_absent(error):
            raise
        raise StudyError(f"{folder.path}: its study is not in that database") from error
    except (SQLAlchemyError, OptunaError, ImportError) as error:
        # Optuna wraps the database's error; the innermost one says what is wrong.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        kind = type(cause).__name__
        why = redact(next(iter(str(cause).splitlines()), kind), storage)
        if locked := why_locked(error, storage):
            why = f"{locked}: wait for it or close it"
        if "no such table" in why or kind == "UndefinedTable":
            raise StudyError(f"{folder.path}: its study is not in that database ({why})") from error
        raise StudyError(
            f"{folder.path}: the study's database cannot be used: {why}; previously saved data is "
            "unchanged. Fix this (disk, permissions, --storage), then run the same command"
        ) from error


def _trials_in(database: BaseStorage, name: str) -> int:
    try:
        study_id = database.get_study_id_from_name(name)
    except KeyError:
        return 0
    return len(database.get_all_trials(study_id, deepcopy=False))


def refuse_if_searched(folder: StudyFolder) -> None:
    """Refuse to search from the beginning in a folder that already has results.

    Raises:
        StudyError: it has.
    """
    if (what := results_in(folder)) is None:
        return
    raise StudyError(
        f"{folder.path}: has {what}, but the study's database has none of them; restore a copy of "
        f"{folder.database.name}, give the --storage (or {STORAGE_VARIABLE}) that the study was "
        "searched with, move the folder away, or choose another --name"
    )


def results_in(folder: StudyFolder) -> str | None:
    """Say which results of a search a folder has; None if it has none."""
    try:
        rows = sum(1 for _ in csv_lines(folder.leaderboard)) - 1
    except ArchsearchError:  # there is none, or it cannot be read
        rows = 0
    if rows > 0:
        return f"{rows} results in {folder.leaderboard.name}"
    with suppress(OSError), os.scandir(folder.path / "trials") as found:
        if any(entry.is_dir(follow_symlinks=False) for entry in found):
            return "networks in trials/"
    return None


def _check_same_study(config: Study, text: str, folder: StudyFolder) -> None:
    """A study's space, limits and recipes must not change under its trials."""
    try:
        stored = from_toml(Study, text, str(folder.study))
    except InputError as error:
        first = error.problems[0]
        raise StudyError(
            f"{folder.path}: was made by another version of archsearch: {first.place} "
            f"{first.message}; use that version or choose another --name"
        ) from error
    # How many finalists are retrained decides nothing about the trials.
    fixed = [name for name in Study.model_fields if name not in ("finalists", "final_seeds")]
    changed = [name for name in fixed if getattr(stored, name) != getattr(config, name)]
    if changed:
        raise StudyError(
            f"{folder.path}: holds a study that differs in {', '.join(changed)}; "
            "its results cannot be mixed with this one's: choose another --name"
        )
