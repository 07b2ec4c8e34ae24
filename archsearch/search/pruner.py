"""The pruner: which trials end early."""

from __future__ import annotations

from optuna.pruners import BasePruner, NopPruner, PercentilePruner

from archsearch.study.config import Study


def pruner_of(config: Study) -> BasePruner:
    """Return the pruner that a study names; none where it searches for another objective."""
    pruner = config.pruner
    if pruner.kind == "none" or config.objective != "accuracy":
        return NopPruner()
    return PercentilePruner(
        50.0 if pruner.kind == "median" else pruner.keep_percent,
        n_startup_trials=pruner.startup_trials,
        n_warmup_steps=pruner.warmup_epochs,
    )
