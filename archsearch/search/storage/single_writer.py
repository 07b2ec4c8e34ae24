"""A study's database with a single writer: cached in memory, written through."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from archsearch.errors import StudyError
from archsearch.search.storage.load import load_attributes, load_trials, readable
from archsearch.search.storage.retry import Retry
from archsearch.search.trials import INTERRUPTED

_MAPPINGS = ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values")
NOT_YET = -1
"""Optuna's number of a trial that is in no database; see `sampler.proposal`."""
T = TypeVar("T")


@dataclass
class _Cached:
    """A study in memory: its attributes, and its trials by number."""

    attrs: dict[str, Any]
    trials: list[FrozenTrial]


@dataclass
class SingleWriter(BaseStorage):
    """Optuna's storage for the one driver of a study: what was read or written is not read again.

    Optuna's own cache reads every unfinished trial again and again: with a thousand in training,
    that is a second each time. Here every write goes to the database first, then to the cache.

    Attributes:
        database: the truth.
        retry: what to do when the database cannot be reached; None: fail.
        owns_unseen: whether a trial that appears unseen is this driver's own, whose answer was
            lost; otherwise another driver made it.
    """

    database: BaseStorage
    retry: Retry | None = None
    owns_unseen: bool = False
    _studies: dict[int, _Cached] = field(default_factory=dict)
    _places: dict[int, tuple[_Cached, int]] = field(default_factory=dict)

    def forget(self) -> None:
        """Read everything again when it is next needed."""
        self._studies.clear()
        self._places.clear()

    def _do(self, operation: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """Run an operation on the database, one that may be repeated (or `again` instead)."""
        return self.retry.do(operation, again) if self.retry else operation()

    def _cached(self, study_id: int) -> _Cached:
        if study_id not in self._studies:
            trials = self._do(lambda: load_trials(self.database, study_id))
            attrs = self._do(lambda: load_attributes(self.database, study_id))
            cached = self._studies[study_id] = _Cached(attrs, [])
            for trial in trials:
                self._add(cached, trial)
        return self._studies[study_id]

    def _add(self, cached: _Cached, trial: FrozenTrial) -> None:
        self._places[trial._trial_id] = cached, len(cached.trials)
        cached.trials.append(trial)

    def _change(self, trial_id: int, name: str, key: Any, value: Any) -> None:
        """Change a copy, so that trials already handed out stay as they were."""
        cached, number = self._places[trial_id]
        trial = copy.copy(cached.trials[number])
        setattr(trial, name, {**getattr(trial, name), key: value})
        cached.trials[number] = trial

    def _reread(self, trial_id: int) -> FrozenTrial:
        cached, number = self._places[trial_id]
        cached.trials[number] = self.database.get_trial(trial_id)
        return cached.trials[number]

    # What repeating could do twice

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create one trial, even if an earlier attempt created one whose answer was lost.

        Raises:
            StudyError: another driver creates trials of this study.
        """
        cached = self._cached(study_id)
        made: list[int] = []

        def attempt() -> int:
            if not made:
                made.append(self.database.create_new_trial(study_id, template_trial))
            self._add_made(study_id, cached, made[0])
            return made[0]

        return self._do(attempt)

    def _add_made(self, study_id: int, cached: _Cached, made: int) -> None:
        trial = self.database.get_trial(made)
        if trial.number > len(cached.trials):
            if not self.owns_unseen:
                raise StudyError(
                    f"study {self.database.get_study_name_from_id(study_id)}: another search of it "
                    "is at work in this database; wait for it or choose another --name"
                )
            every = self.database.get_all_trials(study_id, deepcopy=False)
            for unseen in every[len(cached.trials) : trial.number]:
                # Cached once it is all done: what fails here is repeated from the beginning.
                if not unseen.state.is_finished():
                    self.database.set_trial_user_attr(unseen._trial_id, INTERRUPTED.key, True)
                    self.database.set_trial_state_values(unseen._trial_id, TrialState.FAIL)
                self._add(cached, self.database.get_trial(unseen._trial_id))
        self._add(cached, trial)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Return whether the trial has the state now, also if an earlier attempt set it."""

        def attempt() -> bool:
            done = self.database.set_trial_state_values(trial_id, state, values)
            self._reread(trial_id)
            return done

        return self._do(attempt, lambda: self._reread(trial_id).state == state or attempt())

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """If the name is taken, Optuna loads that study instead."""
        return self._do(lambda: self.database.create_new_study(directions, study_name))

    # What repeating does not change

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:  # fmt: skip
        args = (trial_id, param_name, param_value_internal, distribution)
        self._do(lambda: self.database.set_trial_param(*args))
        value = distribution.to_external_repr(param_value_internal)
        self._change(trial_id, "params", param_name, value)
        self._change(trial_id, "distributions", param_name, distribution)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        args = (trial_id, step, intermediate_value)
        self._do(lambda: self.database.set_trial_intermediate_value(*args))
        self._change(trial_id, "intermediate_values", step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._do(lambda: self.database.set_trial_user_attr(trial_id, key, value))
        self._change(trial_id, "user_attrs", key, _as_read(value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id == NOT_YET:
            return  # TPE notes what it proposes while it does: it will be in the trial's parameters
        self._do(lambda: self.database.set_trial_system_attr(trial_id, key, value))
        self._change(trial_id, "system_attrs", key, _as_read(value))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._do(lambda: self.database.set_study_user_attr(study_id, key, value))
        self._cached(study_id).attrs[key] = _as_read(value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._do(lambda: self.database.set_study_system_attr(study_id, key, value))

    def delete_study(self, study_id: int) -> None:
        self._do(lambda: self.database.delete_study(study_id))
        self._studies.pop(study_id, None)

    # What only reads

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if trial_id not in self._places:
            return self._do(lambda: self.database.get_trial(trial_id))
        cached, number = self._places[trial_id]
        trial = cached.trials[number]
        if trial.state.is_finished():
            return trial
        trial = copy.copy(trial)
        for name in _MAPPINGS:  # Optuna's Trial writes into what it is given
            setattr(trial, name, dict(getattr(trial, name)))
        return trial

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._cached(study_id).trials
        found = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self._cached(study_id).attrs)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        with readable("Optuna's attributes of the study"):
            return self._do(lambda: self.database.get_study_system_attrs(study_id))

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._do(lambda: self.database.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._do(lambda: self.database.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        with readable("directions"):
            return self._do(lambda: self.database.get_study_directions(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._do(self.database.get_all_studies)


def _as_read(value: Any) -> Any:
    """Return a value as the database will give it back."""
    return json.loads(json.dumps(value))
