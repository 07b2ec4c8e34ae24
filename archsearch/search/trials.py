"""What a search stores in the study's database, and under which key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.search.distributions import distributions
from archsearch.space.settings import complete, spec_of
from archsearch.spec.formatting import axes
from archsearch.study.config import Study
from archsearch.training.records import Epoch

T = TypeVar("T")


@dataclass(frozen=True)
class Attr(Generic[T]):
    """An attribute of a trial or a study: its key, and what stands for it if it is not stored."""

    key: str
    default: T

    def of(self, owner: FrozenTrial | Trial | optuna.Study) -> T:
        """Return what is stored."""
        value: T = owner.user_attrs.get(self.key, self.default)
        return value

    def store(self, owner: Trial | optuna.Study, value: T) -> None:
        """Store a value."""
        owner.set_user_attr(self.key, value)


class Progress(TypedDict):
    """How far a training after the trials is; `trial` is None for the reference."""

    trial: int | None
    epochs: int


class FinalResult(TypedDict, total=False):
    """How a training after the trials went."""

    reason: str
    epochs: int
    train_seconds: float
    run: dict[str, Any]
    val_acc: float | None  # of the reference
    spec_hash: str  # of the reference
    test_acc: float | None  # of a finalist


# Of a trial

SPEC_HASH = Attr("spec_hash", "")
HISTORY = Attr[list[dict[str, Any]]]("history", [])
RUN = Attr[dict[str, Any]]("run", {})
REASON = Attr("reason", "")
INTERRUPTED = Attr("interrupted", default=False)
ATTEMPT = Attr("attempt", 1)
RETRY_OF = Attr[int | None]("retry_of", None)

# Of a study

STUDY_FILE = Attr[str | None]("study", None)
ASKED = Attr[dict[str, int]]("asked", {})
"""How many `trials` were asked for, and how many are trained `at_a_time`."""
UNDER_WAY = Attr[dict[str, Progress]]("closing", {})
"""The trainings after the trials, by the key of their job."""
REFERENCE = Attr[FinalResult | None]("reference", None)
"""The result of the spec that the search started from."""
_FINAL = "final:"
"""How the keys of final results begin."""


def final_attr(spec_hash: str, seed: int) -> Attr[FinalResult | None]:
    """Return the attribute of a finalist's result."""
    return Attr(f"{_FINAL}{spec_hash}:{seed}", None)


def final_results(study: optuna.Study) -> dict[str, list[FinalResult]]:
    """Return the finalists' results by network, in the order in which they were stored."""
    found: dict[str, list[FinalResult]] = {}
    for key, result in study.user_attrs.items():
        if key.startswith(_FINAL):
            found.setdefault(key.split(":")[1], []).append(result)
    return found


def network_attrs(analysis: Analysis) -> dict[str, Any]:
    """Return what a trial says of its network; the hash last, without which it is not whole."""
    return {
        "verdict": "accepted",  # others cost no trial
        "params": analysis.params,
        "receptive_field": axes(analysis.receptive_field),
        "macs": analysis.macs,
        SPEC_HASH.key: analysis.spec_hash,
    }


def fixed_params(trial: FrozenTrial) -> dict[str, Any] | None:
    """Return the parameters that a trial was queued with; the key is Optuna's own."""
    return trial.system_attrs.get("fixed_params")


def curves(study: optuna.Study) -> dict[int, list[float]]:
    """Hold-out accuracy by epoch, by trial; of trials in training too."""
    return {
        trial.number: [value for _, value in sorted(trial.intermediate_values.items())]
        for trial in study.get_trials(deepcopy=False)
        if trial.intermediate_values
    }


def is_whole(trial: FrozenTrial, config: Study) -> bool:
    """Whether a trial has its network: a driver may have died while it was asked for."""
    free = distributions(config.space)
    return SPEC_HASH.key in trial.user_attrs and free.keys() <= trial.params.keys()


def history(trial: FrozenTrial) -> list[Epoch]:
    """The epochs of a trial that has ended."""
    return [Epoch(**epoch) for epoch in HISTORY.of(trial)]


def analyze_trial(trial: FrozenTrial, config: Study) -> Analysis:
    """The network that a trial's parameters stand for."""
    knobs = complete(config.space, trial.params)
    return analyze(spec_of(config.space, knobs, f"{config.name}-{trial.number}"))


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
    taken = {SPEC_HASH.of(trial) for trial in trials if trial.state in _NOT_AGAIN}
    for trial in trials:
        if trial.state != TrialState.RUNNING:
            continue
        spec_hash, attempt = SPEC_HASH.of(trial), ATTEMPT.of(trial)
        live = Trial(study, trial._trial_id)
        if spec_hash and attempt + blame > MAX_ATTEMPTS:
            REASON.store(live, f"interrupted {attempt} times")
        else:
            if spec_hash and spec_hash not in taken:
                again = {
                    SPEC_HASH.key: spec_hash,
                    ATTEMPT.key: attempt + blame,
                    RETRY_OF.key: trial.number,
                }
                # Asked for piece by piece: not all of it may be in `params` yet.
                knobs = trial.params if (fixed := fixed_params(trial)) is None else fixed
                study.enqueue_trial(knobs, user_attrs=again)
                taken.add(spec_hash)
            INTERRUPTED.store(live, value=True)
        study.tell(trial.number, state=TrialState.FAIL)


def taken_hashes(study: optuna.Study) -> set[str]:
    """Networks that are trained, in training, waiting to be, or that failed for good."""
    # The reference may be trained before it is ever proposed: near a spec, or as more is asked for.
    reference = REFERENCE.of(study)  # in a user's own study it may be anything
    known = reference.get("spec_hash", "") if isinstance(reference, dict) else ""
    return {known}.union(
        SPEC_HASH.of(trial)
        for trial in study.get_trials(deepcopy=False)
        if not (trial.state == TrialState.FAIL and INTERRUPTED.of(trial))
    ) - {""}
