"""Check a study folder, and repair it from the study's database."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from archsearch.analysis.analyze import analyze
from archsearch.common import atomic_files, csv_files, folder_lock
from archsearch.common.guarded_files import holds
from archsearch.common.parse import from_json, from_toml, read_text
from archsearch.errors import ArchsearchError, CheckpointError, StudyError
from archsearch.leaderboard.entry import (
    REJECTION_COLUMNS,
    Entry,
    keep_if_longer,
    leaderboard_text,
    write_leaderboard,
)
from archsearch.monitor.repair_database import BeyondRepairError, copy_database, repair, study_names
from archsearch.search.entries import leaderboard
from archsearch.search.storage.load import check_study, readable
from archsearch.search.storage.open import (
    check_storage,
    open_for_reading,
    results_in,
    storage_errors,
)
from archsearch.search.storage.single_writer import SingleWriter
from archsearch.search.storage.sqlite import merge_log
from archsearch.search.stored_values import DamagedStoreError
from archsearch.search.trials import HISTORY, SPEC_HASH, STUDY_FILE, analyze_trial, is_whole
from archsearch.space.settings import knob_choices
from archsearch.spec.models import Spec, spec_text
from archsearch.study.config import Study, read_study, study_toml
from archsearch.study.folder import StudyFolder
from archsearch.training import checkpoint
from archsearch.training.records import Epoch, read_history, write_history
from archsearch.training.run_paths import RunPaths


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a study folder, which doctor may have fixed.

    Attributes:
        mended: whether it is now; otherwise `message` says what to do. None: nothing is needed.
    """

    place: str
    message: str
    mended: bool | None


def examine(folder: StudyFolder, storage: str | None = None) -> list[Fault]:
    """Check everything in a study folder and mend what can be mended.

    Raises:
        StudyError: this is no study folder, its study is in another database, or a search is at
            work there.
        ArchsearchError: something cannot be read or written.
    """
    if not folder.study.exists() and not folder.database.exists():
        raise StudyError(f"{folder.path}: is no study folder (studies/NAME); nothing was touched")
    check_storage(folder, storage)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with folder_lock.locked(folder.path), storage_errors(folder, storage or folder.storage):
        return list(_examined(folder, storage))


def _examined(folder: StudyFolder, storage: str | None) -> Iterator[Fault]:
    for path in atomic_files.drop_temporaries(folder.path):
        yield Fault(_in(folder, path), "was left by a write that a crash cut short", mended=True)
    name = "the study's database" if storage else folder.database.name
    try:
        if storage is None:
            faults = list(_database(folder)) or list(_repaired(folder))
            yield from faults
            if any(fault.mended is False for fault in faults):
                return
        study = _the_study(folder, storage or folder.storage)
        if isinstance(study, Fault):
            yield study
            return
        if (text := STUDY_FILE.of(study)) is None:
            yield Fault("study", "was never searched in this database: is it the right one?", False)
            return
        config = from_toml(Study, text, str(folder.study))
        check_study(study, config)
        entries = leaderboard(study, config, folder)
    except (DamagedStoreError, BeyondRepairError) as error:
        yield Fault(name, str(error), mended=False)
        return
    trials = study.get_trials(deepcopy=False)
    if not trials and (what := results_in(folder)):
        message = f"has no trials, but the folder has {what}: restore a copy of the database"
        yield Fault(name, message, mended=False)
        return
    yield from _study_file(folder, config)
    yield from _orphans(study)
    yield from _csvs(folder, entries, config)
    for trial in trials:
        if is_whole(trial, config):
            yield from _trial(folder, trial, config)


def _database(folder: StudyFolder) -> Iterator[Fault]:
    path = folder.database
    if not path.is_file():
        what = results_in(folder)
        message = f"is missing, but the folder has {what}" if what else "is missing"
        yield Fault("study.db", f"{message}: restore a copy to resume the search", mended=False)
        return
    try:
        # Writable, so that what a crash left half done is rolled back.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as database:
            told = [row[0] for row in database.execute("PRAGMA integrity_check")]
    except sqlite3.OperationalError as error:
        raise StudyError(f"{path}: cannot be checked: {error}") from error
    except sqlite3.DatabaseError as error:
        told = [str(error)]
    if told != ["ok"]:
        message = (
            f"is damaged ({told[0]}): restore a copy, or save what is readable with "
            f'`sqlite3 study.db ".recover"`; the leaderboard and trials/ are as they were'
        )
        yield Fault("study.db", message, mended=False)


def _repaired(folder: StudyFolder) -> Iterator[Fault]:
    """Repair the folder's own database on a copy, which then takes its place."""
    path = folder.database
    if not path.is_file():
        return
    merge_log(path)
    if _has_log(path):
        raise StudyError(f"{path}: another program has it open; close it, then run doctor again")
    open_for_reading(folder.storage)  # by another version of Optuna it could not be repaired
    name = _name_of(folder, study_names(path))
    try:
        # Elsewhere: what SQLite writes beside a database may be a link in a prepared folder.
        with tempfile.TemporaryDirectory() as elsewhere:
            copy = Path(elsewhere) / path.name
            copy_database(path, copy)
            found = repair(copy, name, _text_of(folder.study))
            if not found:
                return
            kept = atomic_files.free_name(path)
            with atomic_files.replacing(kept) as temporary:
                shutil.copyfile(path, temporary)
            with atomic_files.replacing(path) as temporary:
                shutil.copyfile(copy, temporary)
    except sqlite3.Error as error:
        raise BeyondRepairError(f"cannot be repaired: {error}; restore a copy") from error
    except OSError as error:
        raise atomic_files.unwritable(path, error) from error
    for place, message in found:
        yield Fault(place, message, mended=True)
    yield Fault("study.db", f"was repaired; {kept.name} is what it was before", mended=True)


def _has_log(path: Path) -> bool:
    """Return whether a database has changes that are in its write-ahead log alone."""
    try:
        return Path(f"{path}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _name_of(folder: StudyFolder, names: list[str]) -> str:
    """Return the name of the folder's study, whichever studies its database has."""
    try:
        return read_study(folder.study).name
    except ArchsearchError:
        return names[0] if len(names) == 1 else ""


def _text_of(path: Path) -> str:
    try:
        return read_text(str(path))
    except ArchsearchError:
        return ""


def _the_study(folder: StudyFolder, storage: str) -> optuna.Study | Fault:
    database = open_for_reading(storage)
    with readable("studies"):
        names = optuna.get_all_study_names(database)
    named = _name_of(folder, names)
    if named not in names:
        message = f"holds no study of the name in study.toml, but {', '.join(names) or 'none'}"
        return Fault("study.db", message, mended=False)
    return optuna.load_study(study_name=named, storage=SingleWriter(database))


def _study_file(folder: StudyFolder, config: Study) -> Iterator[Fault]:
    wanted = study_toml(config)
    if _text_of(folder.study) != wanted:
        atomic_files.write_text(folder.study, wanted)
        yield Fault("study.toml", "was not what the study was made with", mended=True)


def _orphans(study: optuna.Study) -> Iterator[Fault]:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        message = "was interrupted; the next `archsearch search` goes on with it"
        yield Fault(f"trial {trial.number}", message, mended=None)


def _csvs(folder: StudyFolder, entries: list[Entry], config: Study) -> Iterator[Fault]:
    text = leaderboard_text(entries, knob_choices(config.space))
    if not holds(folder.leaderboard, text.encode()):
        kept = keep_if_longer(folder.leaderboard, len(entries))
        write_leaderboard(folder.leaderboard, entries, knob_choices(config.space))
        message = "did not match the study"
        if kept:
            message += f" and had more rows; {kept.name} is what it was before"
        yield Fault("leaderboard.csv", message, mended=True)
    if dropped := csv_files.mended_csv(folder.rejections, REJECTION_COLUMNS):
        message = f"{dropped} lines were no rejections, and are dropped"
        yield Fault("rejections.csv", message, mended=True)


def _trial(folder: StudyFolder, trial: FrozenTrial, config: Study) -> Iterator[Fault]:
    path = folder.trial(SPEC_HASH.of(trial))
    if not path.is_dir():
        return
    run = RunPaths(path)
    if _hash_in(run.spec) != SPEC_HASH.of(trial):
        atomic_files.write_text(run.spec, spec_text(analyze_trial(trial, config).spec))
        yield Fault(_in(folder, run.spec), "was not this trial's", mended=True)
    epochs = HISTORY.of(trial)
    # A worker may have gone on for an epoch while the driver pruned its trial.
    ahead = trial.state != TrialState.COMPLETE
    if epochs and not _same_history(run.history, epochs, ahead=ahead):
        write_history(run.history, epochs)
        yield Fault(_in(folder, run.history), "was not this trial's", mended=True)
    for state in sorted(path.rglob(run.checkpoint.name)):
        try:
            checkpoint.read(state)
        except CheckpointError as error:
            yield Fault(_in(folder, state), str(error), mended=False)


def _hash_in(path: Path) -> str | None:
    """Which network a spec file holds; None where it holds none."""
    try:
        return analyze(from_json(Spec, read_text(str(path)), str(path))).spec_hash
    except ArchsearchError:
        return None


def _same_history(path: Path, epochs: list[Epoch], *, ahead: bool) -> bool:
    try:
        found = read_history(path)
    except ArchsearchError:
        return False
    told = found[: len(epochs)] if ahead else found
    return [epoch.epoch for epoch in told] == [epoch.epoch for epoch in epochs]


def _in(folder: StudyFolder, path: Path) -> str:
    return str(path.relative_to(folder.path))
