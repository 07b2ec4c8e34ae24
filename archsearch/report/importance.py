"""Which knobs of a search space tell its best networks from the rest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from archsearch.errors import ArchsearchError
from archsearch.leaderboard.entry import Entry
from archsearch.report.facts import Absent, Facts
from archsearch.search.distributions import distributions
from archsearch.space.settings import AnySpace, complete, knob_choices

FEWEST = 10
"""Networks that were trained to their end, below which no share is told."""


@dataclass(frozen=True, slots=True)
class Importance:
    """Shares that add up to one, the largest first; over how many networks."""

    shares: tuple[tuple[str, float], ...]
    networks: int


def importance(facts: Facts) -> Importance | Absent:
    """Knobs by PED-ANOVA, of the networks that were trained to their end.

    Source: Watanabe, Bansal, Hutter, "PED-ANOVA", IJCAI 2023.
    """
    trained = [row for row in facts.rows if row.status == "trained" and row.val_acc is not None]
    if trained and not any(row.knobs for row in trained):
        return Absent(
            "leaderboard.csv has no columns of knobs, which this is worked out from: it was "
            "written by an older archsearch. Where study.db is still there, "
            "`archsearch search` with the same arguments writes it anew."
        )
    if len(trained) < FEWEST:
        return Absent(
            f"{len(trained)} networks were trained to their end; "
            f"shares of knobs are worked out from {FEWEST} on."
        )
    try:
        settings = [_setting(facts.study.space, row) for row in trained]
    except ArchsearchError as error:
        return Absent(f"The columns of knobs in leaderboard.csv cannot be used: {error}.")
    shares = _ped_anova(facts, settings, [row.val_acc or 0.0 for row in trained])
    if not shares:
        return Absent("No knob differs among the networks that were trained to their end.")
    return Importance(shares, len(trained))


def _setting(space: AnySpace, row: Entry) -> dict[str, int | str]:
    """Every knob of a row, as the space has it.

    Raises:
        ArchsearchError: the cell is no setting of the space.
    """
    choices = knob_choices(space)
    told: dict[str, int | str] = {}
    for name, value in row.knobs.items():
        by_text = {str(choice): choice for choice in choices.get(name, ())}
        if str(value) not in by_text:
            told_as = f"{name}={value}"[:80]
            raise ArchsearchError(f"trial {row.trial} has {told_as!r}, which the space has not")
        told[name] = by_text[str(value)]
    try:
        return complete(space, told)
    except KeyError as error:
        raise ArchsearchError(f"trial {row.trial} has no {error.args[0]}") from error


def _ped_anova(
    facts: Facts, settings: Sequence[dict[str, int | str]], values: Sequence[float]
) -> tuple[tuple[str, float], ...]:
    every = distributions(facts.study.space)
    varied = {
        name: distribution
        for name, distribution in every.items()
        if len({setting[name] for setting in settings}) > 1
    }
    if not varied or len(set(values)) < 2:
        return ()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    study.add_trials([
        optuna.trial.create_trial(
            params={name: setting[name] for name in varied}, distributions=varied, value=value
        )
        for setting, value in zip(settings, values, strict=True)
    ])  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    return tuple(sorted(found.items(), key=lambda item: -item[1]))
