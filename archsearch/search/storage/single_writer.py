"""A study's database as its only writer sees it: what was read or written is not read again."""

from __future__ import annotations

import copy
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from archsearch.errors import StudyError

_MAPPINGS = ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values")
NOT_YET = -1
"""Optuna's number of a trial that is in no database; see `propose.proposal`."""


@dataclass
class _Known:
    """A study, in memory: its attributes, and its trials by number."""

    attrs: dict[str, Any]
    trials: list[FrozenTrial]


@dataclass
class SoleWriter(BaseStorage):
    """Optuna's storage for the driver, which is alone: it holds the study's lock.

    Optuna's own cache reads every unfinished trial again and again: with a thousand in training,
    that is a second each time. Here whatever is written goes to the database first.

    Attributes:
        database: the truth.
        repeats: whether an operation is done again where its answer was lost; without that, a trial
            that was made unseen is another driver's.
    """

    database: BaseStorage
    repeats: bool = False
    _studies: dict[int, _Known] = field(default_factory=dict)
    _places: dict[int, tuple[_Known, int]] = field(default_factory=dict)

    def _known(self, study_id: int) -> _Known:
        if study_id not in self._studies:
            trials = self.database.get_all_trials(study_id, deepcopy=False)
            attrs = self.database.get_study_user_attrs(study_id)
            known = self._studies[study_id] = _Known(attrs, [])
            for trial in trials:
                self._add(known, trial)
        return self._studies[study_id]

    def _add(self, known: _Known, trial: FrozenTrial) -> None:
        self._places[trial._trial_id] = known, len(known.trials)
        known.trials.append(trial)

    def _change(self, trial_id: int, name: str, key: Any, value: Any) -> None:
        """Change a copy: who has the trial at hand keeps it as it was."""
        known, number = self._places[trial_id]
        trial = copy.copy(known.trials[number])
        setattr(trial, name, {**getattr(trial, name), key: value})
        known.trials[number] = trial

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """One trial, even where an attempt before this one made one and could not say so.

        Raises:
            StudyError: another driver makes trials of this study.
        """
        known = self._known(study_id)
        made = self.database.create_new_trial(study_id, template_trial)
        trial = self.database.get_trial(made)
        if trial.number > len(known.trials):
            if not self.repeats:
                raise StudyError(
                    f"study {self.database.get_study_name_from_id(study_id)}: another search of it "
                    "is at work in this database; wait for it or choose another --name"
                )
            every = self.database.get_all_trials(study_id, deepcopy=False)
            for unseen in every[len(known.trials) : trial.number]:
                # Known once it is all done: what fails here is done again from the beginning.
                if not unseen.state.is_finished():
                    self.database.set_trial_user_attr(unseen._trial_id, "interrupted", True)
                    self.database.set_trial_state_values(unseen._trial_id, TrialState.FAIL)
                self._add(known, self.database.get_trial(unseen._trial_id))
        self._add(known, trial)
        return made

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        done = self.database.set_trial_state_values(trial_id, state, values)
        self.reread(trial_id)
        return done

    def reread(self, trial_id: int) -> FrozenTrial:
        """A trial as the database has it."""
        known, number = self._places[trial_id]
        known.trials[number] = self.database.get_trial(trial_id)
        return known.trials[number]

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:  # fmt: skip
        self.database.set_trial_param(trial_id, param_name, param_value_internal, distribution)
        value = distribution.to_external_repr(param_value_internal)
        self._change(trial_id, "params", param_name, value)
        self._change(trial_id, "distributions", param_name, distribution)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        self.database.set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._change(trial_id, "intermediate_values", step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.database.set_trial_user_attr(trial_id, key, value)
        self._change(trial_id, "user_attrs", key, _as_read(value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id == NOT_YET:
            return  # TPE notes what it proposes while it does: it will be in the trial's parameters
        self.database.set_trial_system_attr(trial_id, key, value)
        self._change(trial_id, "system_attrs", key, _as_read(value))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self.database.set_study_user_attr(study_id, key, value)
        self._known(study_id).attrs[key] = _as_read(value)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self._known(study_id).attrs)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if trial_id not in self._places:
            return self.database.get_trial(trial_id)
        known, number = self._places[trial_id]
        trial = known.trials[number]
        if trial.state.is_finished():
            return trial
        trial = copy.copy(trial)
        for name in _MAPPINGS:  # Optuna's Trial writes into what it is given
            setattr(trial, name, dict(getattr(trial, name)))
        return trial

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._known(study_id).trials
        found = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    # What is asked for seldom

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        return self.database.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        self.database.delete_study(study_id)
        self._studies.pop(study_id, None)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.database.set_study_system_attr(study_id, key, value)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self.database.get_study_system_attrs(study_id)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self.database.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self.database.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self.database.get_study_directions(study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        return self.database.get_all_studies()


def _as_read(value: Any) -> Any:
    """A value as the database will give it back."""
    return json.loads(json.dumps(value))
