"""Trials that were left running when a search ended: failed, and queued again."""

from __future__ import annotations

import optuna
from optuna.trial import Trial, TrialState

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
