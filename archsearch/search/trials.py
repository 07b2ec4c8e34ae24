"""What a search stores in the study's database, and under which key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import Field, StrictBool, StrictStr

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.common.csv_records import Amount, Cells, Seconds, Share, SpecHash, Text
from archsearch.errors import InputError, shown
from archsearch.search.distributions import distributions
from archsearch.search.stored_values import Attr, DamagedStoreError
from archsearch.space.settings import complete, setting_problems, spec_of
from archsearch.spec.formatting import axes
from archsearch.study.config import Study
from archsearch.training.records import Epoch, Run

Number = Annotated[int, Field(strict=True, ge=0, le=10**9)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1, le=10**9)]


class Asked(Cells):
    """What the last search was asked for: so many trials, trained so many at a time."""

    trials: Number
    at_a_time: AtLeastOne = 1


class Progress(Cells):
    """The progress of a training after the trials; `trial` is None for the reference."""

    trial: Number | None
    epochs: Number


class FinalResult(Cells):
    """The result of a training after the trials.

    Attributes:
        val_acc, spec_hash: of the reference alone.
        test_acc: of a finalist alone.
    """

    reason: Text = ""
    epochs: Amount = 0
    train_seconds: Seconds = 0.0
    run: Run | None = None
    val_acc: Share | None = None
    spec_hash: SpecHash | None = None
    test_acc: Share | None = None


# Of a trial

SPEC_HASH = Attr[str]("spec_hash", SpecHash, "")
HISTORY = Attr[list[Epoch]]("history", list[Epoch], [])
RUN = Attr[Run | None]("run", Run | None, None)
REASON = Attr[str]("reason", Annotated[Text, Field(strict=True)], "")
INTERRUPTED = Attr[bool]("interrupted", StrictBool, default=False)
ATTEMPT = Attr[int]("attempt", AtLeastOne, 1)
REACHED = Attr[int]("reached", Number, 0)
"""The epoch at which the previous attempt ended."""
RETRY_OF = Attr[int | None]("retry_of", Number | None, None)

# Of a study

STUDY_FILE = Attr[str | None]("study", StrictStr, None)
ASKED = Attr[Asked | None]("asked", Asked, None)
UNDER_WAY = Attr[dict[str, Progress]]("closing", dict[str, Progress], {})
"""The trainings after the trials, by the key of their job."""
REFERENCE = Attr[FinalResult | None]("reference", FinalResult, None)
"""The result of the spec that the search started from."""
_FINAL = re.compile(r"final:([0-9a-f]{64}):([0-9]{1,9})")
"""The keys of final results: network and seed."""


def final_attr(spec_hash: str, seed: int) -> Attr[FinalResult | None]:
    """Return the attribute of a finalist's result."""
    return Attr(f"final:{spec_hash}:{seed}", FinalResult, None)


def final_results(study: optuna.Study) -> dict[str, list[FinalResult]]:
    """Return the finalists' results by network, in the order in which they were stored."""
    found: dict[str, list[FinalResult]] = {}
    for key in study.user_attrs:
        if named := _FINAL.fullmatch(key):
            result = final_attr(named[1], int(named[2])).of(study)
            found.setdefault(named[1], []).extend([result] if result else [])
    return found


def final_attrs(keys: Iterable[str]) -> list[Attr[FinalResult | None]]:
    """Return the attributes of finalists' results among keys."""
    named = filter(None, map(_FINAL.fullmatch, keys))
    return [final_attr(of[1], int(of[2])) for of in named]


TRIAL_ATTRS: tuple[Attr[Any], ...] = (
    SPEC_HASH, HISTORY, RUN, REASON, INTERRUPTED, ATTEMPT, REACHED, RETRY_OF
)  # fmt: skip
STUDY_ATTRS: tuple[Attr[Any], ...] = (STUDY_FILE, ASKED, UNDER_WAY, REFERENCE)


FIXED_PARAMS = "fixed_params"


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
    return trial.system_attrs.get(FIXED_PARAMS)


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


def analyze_trial(trial: FrozenTrial, config: Study) -> Analysis:
    """Return the network that a trial's parameters stand for.

    Raises:
        DamagedStoreError: they are not a setting of the space, or the trial is another network's.
    """
    place, free = f"trial {trial.number}", distributions(config.space)
    try:
        for name in free.keys() & trial.params.keys():
            check_distribution_compatibility(trial.distributions[name], free[name])
    except ValueError as error:
        raise DamagedStoreError(place, f"its parameters' ranges: {error}") from error
    analysis = _network(trial, trial.params, config)
    if (stored := SPEC_HASH.of(trial)) not in ("", analysis.spec_hash):
        what = f"must be that of its parameters ({analysis.spec_hash[:12]}), got {stored[:12]}"
        raise DamagedStoreError(f"{place}, {SPEC_HASH.key}", what)
    return analysis


def analyze_queued(trial: FrozenTrial, config: Study) -> Analysis | None:
    """Return the network that a trial was queued with; None if it has only a part of one.

    Raises:
        DamagedStoreError: its parameters are not a setting of the space.
    """
    queued = fixed_params(trial) or {}
    if not distributions(config.space).keys() <= queued.keys():
        return None
    return _network(trial, queued, config)


def _network(trial: FrozenTrial, params: dict[str, Any], config: Study) -> Analysis:
    space, place = config.space, f"trial {trial.number}"
    free = distributions(space)
    try:
        knobs = complete(space, {name: value for name, value in params.items() if name in free})
        for problem in setting_problems(space, knobs, "parameter"):
            if problem.rule != "max-edits":  # a user may queue what the sampler does not propose
                raise DamagedStoreError(place, f"{problem.place}: {problem.message}")
        return analyze(spec_of(space, knobs, f"{config.name}-{trial.number}"))
    except KeyError as error:
        raise DamagedStoreError(place, f"has no parameter {shown(error.args[0])}") from error
    except InputError as error:
        why = error.problems[0].message
        raise DamagedStoreError(place, f"its parameters make no network: {why}") from error


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
        spec_hash, attempt = SPEC_HASH.of(trial), _next_attempt(trial, blame=blame)
        live = Trial(study, trial._trial_id)
        if spec_hash and attempt > MAX_ATTEMPTS:
            REASON.store(live, f"interrupted {MAX_ATTEMPTS} times")
        else:
            if spec_hash and spec_hash not in taken:
                again = {
                    SPEC_HASH.key: spec_hash,
                    ATTEMPT.key: attempt,
                    REACHED.key: _reached(trial),
                    RETRY_OF.key: trial.number,
                }
                # Asked for piece by piece: not all of it may be in `params` yet.
                knobs = trial.params if (fixed := fixed_params(trial)) is None else fixed
                study.enqueue_trial(knobs, user_attrs=again)
                taken.add(spec_hash)
            INTERRUPTED.store(live, value=True)
        study.tell(trial.number, state=TrialState.FAIL)


def _reached(trial: FrozenTrial) -> int:
    """Return the last epoch that a trial has reached in any attempt."""
    return max(REACHED.of(trial), max(trial.intermediate_values, default=0))


def _next_attempt(trial: FrozenTrial, *, blame: bool) -> int:
    """Return the number of a trial's next attempt, counted from its last progress.

    What resumes from its checkpoint and gets further is not what kills the driver.
    """
    attempt = ATTEMPT.of(trial)
    if not blame:
        return attempt
    return 2 if _reached(trial) > REACHED.of(trial) else attempt + 1


def taken_hashes(study: optuna.Study) -> set[str]:
    """Networks that are trained, in training, waiting to be, or that failed for good."""
    # In a user's own study an attribute may be anything.
    reference = study.user_attrs.get(REFERENCE.key)
    # The reference may be trained before it is ever proposed: near a spec, or as more is asked for.
    found = [reference.get(SPEC_HASH.key) if isinstance(reference, dict) else None]
    found += [
        trial.user_attrs.get(SPEC_HASH.key)
        for trial in study.get_trials(deepcopy=False)
        if not (trial.state == TrialState.FAIL and trial.user_attrs.get(INTERRUPTED.key))
    ]
    return {spec_hash for spec_hash in found if spec_hash and isinstance(spec_hash, str)}
