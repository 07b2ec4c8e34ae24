"""Load a study's records from Optuna's storage, and check that they can be what a search wrote."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from archsearch.errors import ArchsearchError, shown
from archsearch.search import trials as stored
from archsearch.search.storage.url import public_url
from archsearch.search.stored_values import DamagedStoreError
from archsearch.study.config import Study

_TRAINED = (TrialState.COMPLETE, TrialState.PRUNED)


def open_rdb(url: str, options: dict[str, Any] | None = None, *, create: bool) -> RDBStorage:
    """Open a database through Optuna.

    Raises:
        DamagedStoreError: another version of Optuna made it, or its version cannot be read.
    """
    try:
        return RDBStorage(url, options, skip_table_creation=not create)
    except (ArchsearchError, SQLAlchemyError, OptunaError, ImportError, OSError):
        raise
    except Exception as error:
        if "no longer compatible" not in str(error):
            raise DamagedStoreError("Optuna's version", _told(error)) from error
        how = str(error).replace("$STORAGE_URL", public_url(url)).replace("`$ ", "`")
        raise DamagedStoreError("Optuna's schema", how.strip()) from error


@contextmanager
def readable(place: str) -> Iterator[None]:
    """Report what Optuna cannot read in its own tables as damage.

    Raises:
        DamagedStoreError: instead of what Optuna raises.
    """
    try:
        yield
    except (ArchsearchError, SQLAlchemyError, OptunaError, OSError):
        raise
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
        RecursionError,
    ) as error:
        if is_absent(error):
            raise
        raise DamagedStoreError(place, f"cannot be read: {_told(error)}") from error


def is_absent(error: BaseException) -> bool:
    """Return whether Optuna means that there is no such study or trial."""
    return isinstance(error, KeyError) and "Record does not exist" in str(error)


def load_trials(database: BaseStorage, study_id: int) -> list[FrozenTrial]:
    """Return a study's trials in order.

    Raises:
        DamagedStoreError: Optuna cannot read one, or one is missing.
    """
    try:
        with readable("trials"):
            trials = database.get_all_trials(study_id, deepcopy=False)
    except DamagedStoreError:
        with suppress(KeyError):  # there are no more
            for number in count():
                trial_id = database.get_trial_id_from_study_id_trial_number(study_id, number)
                with readable(f"trial {number}"):
                    database.get_trial(trial_id)
        raise
    numbers: list[Any] = [trial.number for trial in trials]
    if all(isinstance(number, int) for number in numbers):
        trials.sort(key=lambda trial: trial.number)  # `doctor` may have added one
        numbers.sort()
    if numbers != list(range(len(trials))):
        found = next(at for at, number in enumerate(numbers) if number != at)
        what = f"must be numbered from 0 without gaps, got {shown(numbers[found])} after {found}"
        raise DamagedStoreError("trials", what)
    for trial in trials:
        for what in record_problems(trial):
            raise DamagedStoreError(f"trial {trial.number}", what)
    return trials


def load_attributes(database: BaseStorage, study_id: int) -> dict[str, Any]:
    """Return the user attributes of a study.

    Raises:
        DamagedStoreError: Optuna cannot read one.
    """
    with readable("attributes of the study"):
        attrs: dict[Any, Any] = database.get_study_user_attrs(study_id)
    for key in attrs:
        if not isinstance(key, str):
            raise DamagedStoreError("attributes of the study", f"has the key {shown(key)}")
    return attrs


def record_problems(trial: FrozenTrial) -> Iterator[str]:
    """Yield what is wrong with Optuna's own record of a trial."""
    keys: Iterator[Any] = chain(trial.params, trial.user_attrs, trial.system_attrs)
    for key in keys:
        if not isinstance(key, str):
            yield f"has the key {shown(key)}"
    values: list[Any] = trial.values if trial.values is not None else []
    if not all(_is_number(value) and math.isfinite(value) for value in values):
        yield f"its value must be a finite number, got {shown(values)}"
    if trial.state == TrialState.COMPLETE and len(values) != 1:
        yield f"is complete and must have one value, got {len(values)}"
    reached: dict[Any, Any] = trial.intermediate_values
    for step, value in reached.items():
        if not (
            isinstance(step, int) and 0 <= step < 10**9 and (value is None or _is_number(value))
        ):
            yield f"its accuracy after epoch {shown(step)} must be a number, got {shown(value)}"
    fixed: Any = stored.fixed_params(trial)
    if fixed is not None and not isinstance(fixed, dict):
        yield f"its queued parameters must be an object, got {shown(fixed)}"
    try:
        limits = trial.constraints.values()
        sound = all(map(_is_number, limits))
    except (TypeError, ValueError, AttributeError, AssertionError):
        sound = False
    if not sound:
        yield "its constraints must be numbers"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_study(study: optuna.Study, config: Study) -> None:
    """Check every attribute of ours, and that each network is that of its trial's parameters.

    Raises:
        DamagedStoreError: the first that is not what a search stores.
    """
    trials = study.get_trials(deepcopy=False)
    for attr in chain(stored.STUDY_ATTRS, stored.final_attrs(study.user_attrs)):
        attr.of(study)
    for at in stored.UNDER_WAY.of(study).values():
        if at.trial is not None and at.trial >= len(trials):
            what = f"names trial {at.trial}, but there are {len(trials)} trials"
            raise DamagedStoreError(stored.UNDER_WAY.key, what)
    for trial in trials:
        for problem in trial_problems(trial, config):
            raise DamagedStoreError(*problem)
    if study.directions != [StudyDirection.MAXIMIZE]:
        names = [direction.name for direction in study.directions]
        raise DamagedStoreError("directions", f"must be ['MAXIMIZE'], got {shown(names)}")


def trial_problems(trial: FrozenTrial, config: Study) -> Iterator[tuple[str, str]]:
    """Yield the place and the fault of what is wrong with our attributes of a trial."""
    place = f"trial {trial.number}"
    for attr in stored.TRIAL_ATTRS:
        try:
            attr.of(trial)
        except DamagedStoreError as error:
            yield error.place, error.what
    if trial.state in _TRAINED:
        if not stored.is_whole(trial, config):
            yield (
                place,
                f"is {trial.state.name} and must have its parameters and {stored.SPEC_HASH.key}",
            )
        elif not trial.user_attrs.get(stored.HISTORY.key):
            yield f"{place}, {stored.HISTORY.key}", "must have the epochs of the training, got none"
    if trial.state == TrialState.WAITING:
        try:
            stored.analyze_queued(trial, config)
        except DamagedStoreError as error:
            yield error.place, error.what


def _told(error: BaseException) -> str:
    message = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__} {shown(message)}"
