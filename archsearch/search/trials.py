"""What a trial stores in the study's database, and under which key."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.search.distributions import distributions
from archsearch.space.settings import complete, spec_of
from archsearch.study.config import Study
from archsearch.training.records import Epoch

ASKED = "asked"
"""The study attribute that says how many trials were asked for, and how many run side by side."""

CLOSING = "closing"
"""The study attribute that says which trainings after the trials are under way, and how far."""

FINAL = "final:"
"""How the study attributes of final results begin."""


def curves(study: optuna.Study) -> dict[int, list[float]]:
    """Hold-out accuracy by epoch, by trial; of trials in training too."""
    return {
        trial.number: [value for _, value in sorted(trial.intermediate_values.items())]
        for trial in study.get_trials(deepcopy=False)
        if trial.intermediate_values
    }


def is_whole(trial: FrozenTrial, config: Study) -> bool:
    """Whether a trial has its network: a driver may have died while it was asked for."""
    return (
        "spec_hash" in trial.user_attrs
        and distributions(config.space).keys() <= trial.params.keys()
    )


def history(trial: FrozenTrial) -> list[Epoch]:
    """The epochs of a trial that has ended."""
    return [Epoch(**epoch) for epoch in trial.user_attrs.get("history", [])]


def analyze_trial(trial: FrozenTrial, config: Study) -> Analysis:
    """The network that a trial's parameters stand for."""
    knobs = complete(config.space, trial.params)
    return analyze(spec_of(config.space, knobs, f"{config.name}-{trial.number}"))


def final_name(spec_hash: str, seed: int | None) -> str:
    """The study attribute of a final result; without a seed, what all of a network's begin with."""
    return f"{FINAL}{spec_hash}:{'' if seed is None else seed}"


MAX_ATTEMPTS = 3
"""A trial that was interrupted is tried again at most twice."""

_NOT_AGAIN = (TrialState.WAITING, TrialState.COMPLETE, TrialState.PRUNED)


def requeue(study: optuna.Study, *, blame: bool = True) -> None:
    """Fail the trials that were left running, and queue them again.

    Args:
        study: whose driver this process is.
        blame: count the interruption against the trial, which may be what kills the driver.
    """
    trials = study.get_trials(deepcopy=False)
    # By network: two rows of one are what a lost connection may leave.
    taken = {
        trial.user_attrs.get("spec_hash") for trial in trials if trial.state in _NOT_AGAIN
    }  # fmt: skip
    for trial in trials:
        if trial.state != TrialState.RUNNING:
            continue
        attrs = trial.user_attrs
        attempt = attrs.get("attempt", 1)
        live = Trial(study, trial._trial_id)
        if "spec_hash" in attrs and attempt + blame > MAX_ATTEMPTS:
            live.set_user_attr("reason", f"interrupted {attempt} times")
        else:
            if "spec_hash" in attrs and attrs["spec_hash"] not in taken:
                again = {
                    "spec_hash": attrs["spec_hash"],
                    "attempt": attempt + blame,
                    "retry_of": trial.number,
                }
                # Asked for piece by piece: not all of it may be in `params` yet.
                knobs = trial.system_attrs.get("fixed_params", trial.params)
                study.enqueue_trial(knobs, user_attrs=again)
                taken.add(attrs["spec_hash"])
            live.set_user_attr("interrupted", True)
        study.tell(trial.number, state=TrialState.FAIL)


REFERENCE = "reference"
"""The study attribute with the result of the spec that the search started from."""


def taken_hashes(study: optuna.Study) -> set[str]:
    """Networks that are trained, in training, waiting to be, or that failed for good."""
    # The reference may be trained before it is ever proposed: near a spec, or as more is asked for.
    reference = study.user_attrs.get(REFERENCE, {})
    hashes = {reference["spec_hash"]} if "spec_hash" in reference else set()
    return hashes | {
        trial.user_attrs["spec_hash"]
        for trial in study.get_trials(deepcopy=False)
        if "spec_hash" in trial.user_attrs
        and not (trial.state == TrialState.FAIL and trial.user_attrs.get("interrupted"))
    }
