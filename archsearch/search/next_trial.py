"""Create the next trial in the study's database, with its network."""

from __future__ import annotations

import optuna
from optuna.trial import Trial, TrialState, create_trial

from archsearch.analysis.analyze import Analysis
from archsearch.analysis.constraints import Constraints, active_rules
from archsearch.search.distributions import distributions
from archsearch.search.sampler import proposal
from archsearch.search.trials import analyze_trial, network_attrs
from archsearch.study.config import Study

_KEEP_NOTHING = ("tpe", "random")
"""Samplers that need nothing of their own kept with the trials that they propose."""


def create_next_trial(study: optuna.Study, config: Study) -> tuple[Trial, Analysis]:
    """Create the next trial: one that waits in the queue, otherwise a new proposal.

    Raises:
        HopelessSpaceError: there is no network left that is new and within the limits.
    """
    free = distributions(config.space)
    trials = study.get_trials(deepcopy=False)
    queued = any(trial.state == TrialState.WAITING for trial in trials)
    if queued or config.sampler.kind not in _KEEP_NOTHING:
        trial = study.ask(free)
        asked = study.get_trials(deepcopy=False)[trial.number]
        analysis = analyze_trial(asked, config)
        for name, excess in _excess(analysis, config.constraints).items():
            trial.set_constraint(name, excess)
        for name, value in network_attrs(analysis).items():
            trial.set_user_attr(name, value)
        return trial, analysis
    # Whole and in one transaction, rather than in thirty.
    drawn = proposal(study, len(trials), free)
    analysis = analyze_trial(drawn, config)
    whole = create_trial(
        state=TrialState.RUNNING,
        params=drawn.params,
        distributions=free,
        user_attrs=network_attrs(analysis),
        constraints=_excess(analysis, config.constraints),
    )
    return Trial(study, study._storage.create_new_trial(study._study_id, whole)), analysis


def _excess(analysis: Analysis, constraints: Constraints) -> dict[str, float]:
    """Return Optuna's form of the limits: how far above each one, at most 0 where it holds."""
    excess: dict[str, float] = {}
    for name, limit, rule in active_rules(constraints):
        over = rule.actual(analysis.totals) - limit
        if name in ("max_params", "max_macs"):
            excess[rule.field] = over
        elif name == "min_receptive_field":
            excess[rule.field] = -over
    return excess
