"""Proposals within the limits: a sampler that asks Optuna's until a network is new and fits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from archsearch.analysis.constraints import Constraints
from archsearch.errors import HopelessSpaceError
from archsearch.search.distributions import distributions
from archsearch.search.events import Rejection
from archsearch.search.trials import fixed_params, taken_hashes
from archsearch.space.four_blocks import Knobs, Value
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.sampling import draw_setting, trim_edits
from archsearch.space.settings import AnySpace, complete, judge_setting, knob_choices, minimal_edits
from archsearch.study.config import Sampler

DUPLICATE = "duplicate"
"""The rule that a proposal breaks when its network was trained, or is being trained, already."""
_MAX_SECONDS = 120
_GP_TRIES = 5


@dataclass
class FeasibleSampler(BaseSampler):
    """Wraps an Optuna sampler; only networks that are new and within the limits come out.

    The random numbers of a trial follow from the seed and the trial's number alone, so a
    search that was interrupted proposes what it would have proposed.

    Attributes:
        starts: settings that random ones of a neighbourhood are near.
    """

    space: AnySpace
    constraints: Constraints
    config: Sampler
    seed: int
    on_rejection: Callable[[Rejection], None]
    starts: Sequence[Knobs] = ()
    _distributions: dict[str, BaseDistribution] = field(init=False)

    def __post_init__(self) -> None:
        self._distributions = distributions(self.space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All knobs, always."""
        return self._distributions

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """A setting whose network fits and is new.

        Raises:
            HopelessSpaceError: `patience` proposals held none.
        """
        if fixed_params(trial) is not None:  # a trial that is tried again
            return {}
        taken = taken_hashes(study)
        rng = np.random.default_rng([self.seed, trial.number])
        inner, tries = self._sampler(int(rng.integers(2**31)))
        fallback = RandomSampler(seed=int(rng.integers(2**31)))
        counts: Counter[str] = Counter()
        started = time.monotonic()
        for attempt in range(self.config.patience):
            # Where the inner sampler clings to what does not fit, chance takes over.
            sampler = inner if attempt < tries else fallback
            params = dict(sampler.sample_relative(study, trial, search_space))
            if isinstance(self.space, Neighbourhood):
                knobs = self._near(self.space, params, rng)
            else:
                for name, distribution in search_space.items():
                    if name not in params:
                        params[name] = sampler.sample_independent(study, trial, name, distribution)
                knobs = complete(self.space, params)
            verdict, rules = judge_setting(
                self.space, knobs, self.constraints, f"trial-{trial.number}"
            )
            if verdict and not rules and verdict.analysis.spec_hash in taken:
                rules = [DUPLICATE]
            if not rules:
                if isinstance(self.space, Neighbourhood):
                    knobs = complete(self.space, minimal_edits(self.space, knobs))
                return {name: knobs[name] for name in search_space}
            counts.update(rules)
            self.on_rejection(Rejection(trial.number, tuple(rules), knobs, verdict))
            if time.monotonic() - started > _MAX_SECONDS:
                break
        raise HopelessSpaceError(
            f"{sum(counts.values()):,} proposals in a row held no new network within the limits "
            f"({told(counts)}); widen the space or relax the limit that rejects most"
        )

    def _near(
        self, space: Neighbourhood, params: Knobs, rng: np.random.Generator
    ) -> dict[str, Value]:
        """What a sampler proposes, brought near; a random setting where it leaves it to chance."""
        if not params:
            return draw_setting(space, self.starts, rng)
        start = self.starts[int(rng.integers(len(self.starts)))] if self.starts else {}
        # NSGA-II leaves out the knobs that mutate: as they are in the spec, edits would but go.
        mutated = {
            name: choices[rng.integers(len(choices))]
            for name, choices in knob_choices(space).items()
            if name not in params
        }
        return trim_edits(space, {**params, **mutated}, rng, start)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Never asked for: every knob is in the relative space."""
        raise AssertionError(f"{param_name} is not in the search space")

    def _sampler(self, seed: int) -> tuple[BaseSampler, int]:
        """Optuna's sampler, and how many of its proposals a trial may refuse."""
        startup, tries = self.config.startup_trials, self.config.patience // 10
        match self.config.kind:
            case "random":
                return RandomSampler(seed=seed), self.config.patience
            case "tpe":
                return TPESampler(n_startup_trials=startup, seed=seed), tries
            case "nsga2":
                return NSGAIISampler(seed=seed), tries
            case "gp":
                # Each proposal fits a process anew: seconds, not microseconds.
                return GPSampler(n_startup_trials=startup, seed=seed), min(tries, _GP_TRIES)


def proposal(study: optuna.Study, number: int, space: dict[str, BaseDistribution]) -> FrozenTrial:
    """What the study's sampler proposes for a trial that is not in the database yet.

    Raises:
        HopelessSpaceError: nothing.
    """
    drawn = create_trial(state=TrialState.RUNNING)
    drawn.number = number
    params = study.sampler.sample_relative(study, drawn, space)
    drawn.params, drawn.distributions = {name: params[name] for name in space}, dict(space)
    return drawn


def told(counts: Mapping[str, int]) -> str:
    """Rejections by rule, most first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{rule} {count:,}" for rule, count in ordered)
