"""Read the status of a search from its folder, without changing or disturbing it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from archsearch.analysis.verdict_view import network_figures
from archsearch.common import csv_files, folder_lock
from archsearch.errors import ArchsearchError, StudyError
from archsearch.leaderboard.entry import Entry
from archsearch.monitor.live_view import InFlight, SearchState, best_of
from archsearch.search import trials as stored
from archsearch.search.entries import leaderboard
from archsearch.search.improvement import Gain, gain_of
from archsearch.search.storage.open import check_storage, load_study, storage_errors
from archsearch.search.storage.url import STORAGE_VARIABLE
from archsearch.study.config import Study, read_study
from archsearch.study.folder import StudyFolder


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """A study folder at one moment.

    Attributes:
        holder: the process that is at work there; None where nobody is.
        gain: over the spec that the search started from, if it started from one.
    """

    config: Study
    holder: str | None
    state: SearchState
    gain: Gain | None


def study_in(folder: StudyFolder) -> Study:
    """Read the study file that a search leaves in its folder.

    Raises:
        StudyError: there is none, so this is no study folder.
    """
    if not folder.study.is_file():
        raise StudyError(f"{folder.path}: is no study folder (it has no study.toml)")
    return read_study(folder.study)


def status(folder: StudyFolder, storage: str | None = None) -> StudyStatus:
    """What is done, what is in training, what is best so far.

    Raises:
        StudyError: this is no study folder, or its database cannot be read.
    """
    config = study_in(folder)
    check_storage(folder, storage)
    if storage is None and not folder.database.is_file():
        raise StudyError(
            f"{folder.path}: has no study.db; if the search had another database, give it by "
            f"--storage or {STORAGE_VARIABLE}"
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with storage_errors(folder, storage or folder.storage):
        study = load_study(config, storage or folder.storage)
        entries = leaderboard(study, config, folder)
        state = _state(study, config, folder, entries)
        holder = folder_lock.holder(folder.path)
        state.stopped = holder is None and state.seconds_left() != 0
        return StudyStatus(config, holder, state, gain_of(study, config, entries))


def _state(
    study: optuna.Study, config: Study, folder: StudyFolder, entries: list[Entry]
) -> SearchState:
    trials = study.get_trials(deepcopy=False)
    asked = stored.ASKED.of(study)
    done = [entry for entry in entries if entry.status != "failed"]
    finals = [result for results in stored.final_results(study).values() for result in results]
    state = SearchState(
        wanted=asked.trials if asked else len(done),
        final_runs=config.finalists * config.final_seeds,
        trial_epochs=config.recipe.epochs,
        final_epochs=config.final_recipe.epochs,
        at_a_time=asked.at_a_time if asked else 1,
        done=len(done),
        finals_done=len(finals),
        curves=stored.curves(study),
    )
    state.best = best_of(entries)
    state.ended_epochs = [entry.epochs for entry in done]
    state.trial_epoch_seconds = [e.train_seconds / e.epochs for e in done if e.epochs]
    state.final_epoch_seconds = [r.train_seconds / r.epochs for r in finals if r.epochs]
    state.rejected, state.proposals_rejected = _rejected(folder)
    for trial in trials:
        if trial.state == TrialState.RUNNING and stored.is_whole(trial, config):
            state.in_flight[f"trial-{trial.number}"] = _in_flight(trial, config)
    for key, at in stored.UNDER_WAY.of(study).items():
        state.in_flight[key] = _closing(at, trials, config)
    state.together = len(state.in_flight) or state.at_a_time
    return state


def _in_flight(trial: FrozenTrial, config: Study) -> InFlight:
    values = trial.intermediate_values
    figures = f"hold-out {values[max(values)]:.2%}" if values else ""
    return InFlight(
        number=trial.number,
        about=network_figures(stored.analyze_trial(trial, config)),
        epochs=config.recipe.epochs,
        final=False,
        done=max(values, default=0),
        figures=figures,
    )


def _closing(at: stored.Progress, trials: list[FrozenTrial], config: Study) -> InFlight:
    """A finalist in training, or without a trial the reference."""
    if at.trial is None:
        return InFlight(None, "", config.recipe.epochs, final=False, done=at.epochs)
    about = network_figures(stored.analyze_trial(trials[at.trial], config))
    return InFlight(at.trial, about, config.final_recipe.epochs, final=True, done=at.epochs)


def _rejected(folder: StudyFolder) -> tuple[Counter[str], int]:
    """Return how often each rule was broken, and by how many proposals."""
    if not folder.rejections.exists():
        return Counter(), 0
    try:
        rules = [(row.get("rules") or "").split() for row in csv_files.csv_rows(folder.rejections)]
    except ArchsearchError:
        return Counter(), 0  # `archsearch doctor` repairs it
    return Counter(rule for broken in rules for rule in broken), len(rules)
