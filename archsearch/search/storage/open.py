"""The study's database: opened, held to its study file, and its errors in a user's words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import optuna
from optuna.exceptions import OptunaError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import NullPool
from sqlalchemy.exc import SQLAlchemyError

from archsearch.common import atomic_files
from archsearch.common.parse import from_toml, read_text
from archsearch.errors import ArchsearchError, StudyError, one_line
from archsearch.leaderboard.csv_lines import csv_lines
from archsearch.search.events import DatabaseAway, DatabaseBack
from archsearch.search.pruner import pruner_of
from archsearch.search.storage.driver_lock import DriverLock
from archsearch.search.storage.retry import Retry
from archsearch.search.storage.single_writer import SingleWriter
from archsearch.search.storage.url import STORAGE_VARIABLE, is_postgres, public_url, redact
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
    if not is_postgres(storage):
        yield SingleWriter(RDBStorage(storage))
        return
    lock = DriverLock(config.name)
    database = lock.connect(storage)
    try:
        yield SingleWriter(database, Retry(storage, lock, notify))
    finally:
        database.engine.dispose()


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
    return RDBStorage(storage, {"poolclass": NullPool}, skip_table_creation=True)


def open_study(
    config: Study, folder: StudyFolder, database: SingleWriter, url: str, sampler: BaseSampler
) -> optuna.Study:
    """Load the study of `config` from the `database` at `url`, or create it there.

    Raises:
        StudyError: there is one of that name, and it is another; or the folder's trials are in
            another database.
    """
    if url != folder.storage and not _trials_in(database, config.name):
        _refuse_if_searched(folder)
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
    except KeyError as error:
        if "Record does not exist" not in str(error):
            raise
        raise StudyError(f"{folder.path}: its study is not in that database") from error
    except (SQLAlchemyError, OptunaError, ImportError) as error:
        # Optuna wraps the database's error; the innermost one says what is wrong.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        kind = type(cause).__name__
        why = redact(next(iter(str(cause).splitlines()), kind), storage)
        if "no such table" in why or kind == "UndefinedTable":
            raise StudyError(f"{folder.path}: its study is not in that database ({why})") from error
        raise StudyError(
            f"{folder.path}: the study's database cannot be used: {why}; what was saved before "
            "is as it was. Mend this (disk, permissions, --storage), then run the same command"
        ) from error


def _trials_in(database: BaseStorage, name: str) -> int:
    try:
        study_id = database.get_study_id_from_name(name)
    except KeyError:
        return 0
    return len(database.get_all_trials(study_id, deepcopy=False))


def _refuse_if_searched(folder: StudyFolder) -> None:
    """What is to be searched from the beginning must not have been searched already."""
    try:
        rows = sum(1 for _ in csv_lines(folder.leaderboard))
    except ArchsearchError:
        return  # there is none, or it cannot be read
    if rows > 1:
        raise StudyError(
            f"{folder.path}: its leaderboard has {rows - 1} trials and this database none: give "
            f"the --storage (or {STORAGE_VARIABLE}) that it was searched with, or another --name"
        )


def _check_same_study(config: Study, text: str, folder: StudyFolder) -> None:
    """A study's space, limits and recipes must not change under its trials."""
    try:
        stored = from_toml(Study, text, str(folder.study))
    except ArchsearchError as error:
        raise StudyError(
            f"{folder.path}: was made by another version of archsearch; choose another --name"
        ) from error
    # How many finalists are retrained decides nothing about the trials.
    fixed = [name for name in Study.model_fields if name not in ("finalists", "final_seeds")]
    changed = [name for name in fixed if getattr(stored, name) != getattr(config, name)]
    if changed:
        raise StudyError(
            f"{folder.path}: holds a study that differs in {', '.join(changed)}; "
            "its results cannot be mixed with this one's: choose another --name"
        )
