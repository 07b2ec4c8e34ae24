"""The driver's view of its database: as the database itself has it, without reading it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from archsearch.errors import StudyError
from archsearch.search.storage.open import open_for_reading
from archsearch.search.storage.single_writer import NOT_YET, SingleWriter

SPACE = {"depth": IntDistribution(1, 9, step=2), "op": CategoricalDistribution(("conv", None))}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture
def study(url: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        study_name="s", storage=SingleWriter(RDBStorage(url), owns_unseen=True)
    )


def read(url: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name="s", storage=open_for_reading(url)).trials


def test_it_is_what_the_database_has(study: optuna.Study, url: str) -> None:
    study.enqueue_trial({"depth": 3, "op": None}, user_attrs={"pair": (1, 2)})
    queued, drawn = study.ask(SPACE), study.ask(SPACE)
    for step, value in enumerate((0.25, float("inf"), 1 / 3)):
        drawn.report(value, step)
    drawn.set_user_attr("history", [{"epoch": 1, "loss": 0.1}])
    drawn.set_constraint("params", -3)
    study.tell(queued, 0.1 + 0.2)
    study.tell(drawn, state=TrialState.PRUNED)
    running = study.ask(SPACE)
    running.report(0.5, 1)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.set_user_attr("asked", {"trials": (4, 5)})
    assert study.trials == read(url)
    assert study.trials[0].params == {"depth": 3, "op": None}
    assert study.user_attrs == {"asked": {"trials": [4, 5]}}
    again = optuna.load_study(study_name="s", storage=SingleWriter(RDBStorage(url)))
    assert again.trials == study.trials
    assert again.user_attrs == study.user_attrs


def test_a_whole_trial_is_one_write(study: optuna.Study, url: str) -> None:
    whole = create_trial(
        state=TrialState.RUNNING, params={"depth": 5, "op": "conv"}, distributions=SPACE,
        user_attrs={"spec_hash": "a"}, constraints={"params": -1.0},
    )  # fmt: skip
    number = study._storage.create_new_trial(study._study_id, whole)
    study.tell(optuna.trial.Trial(study, number), 0.5)
    [trial] = read(url)
    assert study.trials == [trial]
    assert trial.params == {"depth": 5, "op": "conv"}
    assert (trial.user_attrs, trial.constraints) == ({"spec_hash": "a"}, {"params": -1.0})


def test_a_trial_that_was_made_unseen_is_failed(study: optuna.Study, url: str) -> None:
    study.ask(SPACE)
    # The answer to this one is lost, so it is asked for once more.
    optuna.load_study(study_name="s", storage=open_for_reading(url)).ask(SPACE)
    trial = study.ask(SPACE)
    assert trial.number == 2
    assert [each.state for each in read(url)] == [
        TrialState.RUNNING, TrialState.FAIL, TrialState.RUNNING
    ]  # fmt: skip
    assert read(url)[1].user_attrs == {"interrupted": True}
    assert study.trials == read(url)


def test_a_trial_that_was_made_unseen_is_failed_though_the_connection_breaks_again(
    study: optuna.Study, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = study._storage
    assert isinstance(storage, SingleWriter)
    study.ask(SPACE)
    optuna.load_study(study_name="s", storage=open_for_reading(url)).ask(SPACE)
    for name, works in (
        ("set_trial_user_attr", 0), ("set_trial_state_values", 0), ("get_trial", 1)
    ):  # fmt: skip
        operation, left = getattr(storage.database, name), [works]

        def breaks(
            *args: object, operation: Callable[..., Any] = operation, left: list[int] = left
        ) -> Any:
            if not left[0]:
                raise ConnectionError
            left[0] -= 1
            return operation(*args)

        with monkeypatch.context() as patch:
            patch.setattr(storage.database, name, breaks)
            with pytest.raises(ConnectionError):
                storage.create_new_trial(study._study_id)
    storage.create_new_trial(study._study_id)
    # Each attempt made one, and the last is the one that is meant.
    states = [each.state for each in read(url)]
    assert states == [TrialState.RUNNING, *4 * [TrialState.FAIL], TrialState.RUNNING]
    assert study.trials == read(url)


def test_another_driver_in_a_database_that_keeps_nobody_out_is_told(url: str) -> None:
    def driver() -> optuna.Study:
        storage = SingleWriter(RDBStorage(url))
        return optuna.create_study(study_name="s", storage=storage, load_if_exists=True)

    one, other = driver(), driver()
    assert one.trials == other.trials == []
    one.ask(SPACE)
    with pytest.raises(StudyError, match="study s: another search of it is at work"):
        other.ask(SPACE)


def test_who_has_a_trial_at_hand_keeps_it_as_it_was(study: optuna.Study) -> None:
    trial = study.ask(SPACE)
    before = study.get_trials(deepcopy=False)[0]
    trial.report(0.5, 1)
    assert before.intermediate_values == {}
    assert study.get_trials(deepcopy=False)[0].intermediate_values == {1: 0.5}


def test_what_a_sampler_notes_of_a_trial_to_come_is_dropped(study: optuna.Study, url: str) -> None:
    study._storage.set_trial_system_attr(NOT_YET, "tpe:relative_params", "{}")
    assert read(url) == []
