"""Propose only new networks within the limits, by filtering the proposals of Optuna's samplers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import BaseTrial, FrozenTrial, TrialState, create_trial

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints, load_constraints
from archsearch.common.parse import Given
from archsearch.errors import ExhaustedSpaceError, HopelessSpaceError
from archsearch.search.distributions import distributions
from archsearch.search.events import Rejection
from archsearch.search.trials import SPEC_HASH, fixed_params, taken_hashes
from archsearch.space.counting.every_network import every_network
from archsearch.space.four_blocks import Knobs, Value
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.sampling import draw_setting, trim_edits
from archsearch.space.settings import (
    AnySpace,
    complete,
    judge_setting,
    knob_choices,
    minimal_edits,
    spec_of,
)
from archsearch.spec.models import Spec
from archsearch.study.config import Sampler, SamplerKind

DUPLICATE = "duplicate"
"""The rule that a proposal breaks when its network was trained, or is being trained, already."""
_COUNT_AFTER = 50
"""Proposals that were refused before it is counted whether there is anything left to propose."""
_MAX_SECONDS = 120
_GP_TRIES = 5


def _unreported(_rejection: Rejection) -> None:
    """Report a rejection to nobody; a lambda could not be pickled with its sampler."""


class FeasibleSampler(BaseSampler):
    """Wrap an Optuna sampler and propose only new networks within the limits.

    A trial's random numbers depend only on the seed and the trial number, so an interrupted search
    resumes with the same proposals. Parameters outside the space (a learning rate, say) are
    sampled independently by the wrapped sampler. Networks are guaranteed to be new only if trials
    run sequentially (`n_jobs=1`).

    Example:
        >>> import optuna
        >>> import archsearch as asr
        >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
        >>> space, limits = asr.Space(), asr.Constraints(max_params=120_000)
        >>> def objective(trial):
        ...     return asr.validate(asr.suggest_spec(trial, space), limits).params
        >>> study = optuna.create_study(sampler=asr.FeasibleSampler(space, limits))
        >>> study.optimize(objective, n_trials=5)
        >>> all(trial.value <= 120_000 for trial in study.trials)
        True
    """

    def __init__(
        self,
        space: AnySpace,
        constraints: Constraints | Given | None = None,
        sampler: Sampler | SamplerKind = "tpe",
        seed: int = 0,
        on_rejection: Callable[[Rejection], None] = _unreported,
        starts: Sequence[Knobs] = (),
    ) -> None:
        """Propose networks of `space`.

        Args:
            space: the search space.
            constraints: the limits: a name ("cifar10-200k", the default), a file, a dict or
                `Constraints`.
            sampler: the sampler to wrap: "tpe", "random", "gp" or "nsga2", or a `Sampler`.
            seed: seed of all random numbers.
            on_rejection: called with each proposal that breaks a rule.
            starts: in a neighborhood, the settings near which random ones are drawn.
        """
        self.space = space
        self.constraints = load_constraints(constraints)
        self.config = sampler if isinstance(sampler, Sampler) else Sampler(kind=sampler)
        self.seed = seed
        self.on_rejection = on_rejection
        self.starts = starts
        self._distributions = distributions(space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All knobs, always."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A setting whose network fits and is new.

        Raises:
            ExhaustedSpaceError: there is none.
            HopelessSpaceError: `patience` proposals held none.
        """
        # Of a trial that is tried again, or that somebody queued.
        fixed = fixed_params(trial) or {}
        if search_space.keys() <= fixed.keys():
            return {}
        taken = taken_hashes(study)
        rng = np.random.default_rng([self.seed, trial.number])
        inner, tries = self._sampler(int(rng.integers(2**31)))
        fallback = RandomSampler(seed=int(rng.integers(2**31)))
        counts: Counter[str] = Counter()
        started = time.monotonic()
        for attempt in range(self.config.patience):
            if attempt == _COUNT_AFTER and not fixed and (left := self._one_left(taken, rng)):
                return {name: left[name] for name in search_space}
            # Where the inner sampler clings to what does not fit, chance takes over.
            sampler = inner if attempt < tries else fallback
            knobs = self._proposed(sampler, study, trial, search_space, rng)
            knobs |= {name: value for name, value in fixed.items() if name in search_space}
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
            if rules != [DUPLICATE]:
                self.on_rejection(Rejection(trial.number, tuple(rules), knobs, verdict))
            if time.monotonic() - started > _MAX_SECONDS:
                break
        told = ", ".join(f"{rule} {count:,}" for rule, count in counts.most_common())
        raise HopelessSpaceError(
            f"{counts.total():,} proposals in a row held no new network within the limits "
            f"({told}); widen the space or relax the limit that rejects most"
        )

    def _proposed(
        self,
        sampler: BaseSampler,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
        rng: np.random.Generator,
    ) -> dict[str, Value]:
        """Return what a sampler proposes, as a complete setting."""
        params = dict(sampler.sample_relative(study, trial, search_space))
        if isinstance(self.space, Neighbourhood):
            return self._near(self.space, params, rng)
        for name, distribution in search_space.items():
            if name not in params:
                params[name] = sampler.sample_independent(study, trial, name, distribution)
        return complete(self.space, params)

    def _one_left(self, taken: set[str], rng: np.random.Generator) -> dict[str, Value] | None:
        """Return a new network within the limits, drawn from all; None if those are too many.

        Raises:
            ExhaustedSpaceError: there is none.
        """
        every = self._every_network
        if every is None:
            return None
        left = sorted(every.keys() - taken)
        if not left:
            raise ExhaustedSpaceError(len(every))
        return every[left[int(rng.integers(len(left)))]]

    @cached_property
    def _every_network(self) -> dict[str, dict[str, Value]] | None:
        return every_network(self.space, self.constraints)

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
        """What is no knob of the space, as the wrapped sampler proposes it."""
        numbers = np.random.default_rng([self.seed, trial.number, *param_name.encode()])
        sampler, _ = self._sampler(int(numbers.integers(2**31)))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

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


def suggest_spec(trial: BaseTrial, space: AnySpace) -> Spec:
    """Suggest a network for a trial of any Optuna study, and return its spec.

    Each knob of the space becomes a parameter of the trial. The network's hash is stored as the
    user attribute "spec_hash", so that a `FeasibleSampler` does not propose the network again.

    Args:
        trial: an Optuna trial; a `FixedTrial` or an enqueued trial also works.
        space: the search space.

    Raises:
        InputError: the network's shapes do not match (never the case with a `FeasibleSampler`).

    Example:
        >>> import optuna
        >>> import archsearch as asr
        >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
        >>> space = asr.Space()
        >>> study = optuna.create_study(sampler=asr.FeasibleSampler(space))
        >>> trial = study.ask()
        >>> spec = asr.suggest_spec(trial, space)
        >>> asr.validate(spec).accepted, "block1.width" in trial.params
        (True, True)
    """
    knobs: dict[str, Value] = {}
    for name, choices in distributions(space).items():
        if isinstance(choices, IntDistribution):
            knobs[name] = trial.suggest_int(name, choices.low, choices.high, step=choices.step)
        elif isinstance(choices, CategoricalDistribution):
            value: Any = trial.suggest_categorical(name, choices.choices)
            knobs[name] = value
    spec = spec_of(space, complete(space, knobs), f"trial-{trial.number}")
    trial.set_user_attr(SPEC_HASH.key, analyze(spec).spec_hash)
    return spec


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
