"""The rows of the leaderboard, computed from the study's database."""

from __future__ import annotations

import statistics
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from archsearch.leaderboard.entry import Entry
from archsearch.search import trials as stored
from archsearch.space.settings import complete, describe_edits, written
from archsearch.study.config import Study
from archsearch.study.folder import StudyFolder
from archsearch.study.objective import pareto_front, score, seconds_to
from archsearch.training.run_paths import RunPaths

KnownRows = dict[int, tuple[dict[str, Any], float]]
"""By trial: what its end settled of its row, and its score."""


def leaderboard(
    study: optuna.Study, config: Study, folder: StudyFolder, known: KnownRows | None = None
) -> list[Entry]:
    """Every trial that counts or failed for good: trained ones first, by the study's objective.

    What is worked out of a trial is added to `known`, and taken from there: it does not change.
    """
    known = {} if known is None else known
    trials = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished()
        and not stored.INTERRUPTED.of(trial)
        and stored.is_whole(trial, config)
    ]
    finals, order = stored.final_results(study), {"trained": 0, "pruned": 1, "failed": 2}
    rows, scores = [], {}
    for trial in trials:
        if trial.number not in known:
            known[trial.number] = _row(trial, config, folder)
        row, scores[trial.number] = known[trial.number]
        rows.append(row | _finals(row, finals.get(row["spec_hash"], []), config))
    rows.sort(key=lambda row: (order[row["status"]], -scores[row["trial"]], row["trial"]))
    trained = [row for row in rows if row["status"] == "trained"]
    front = pareto_front([(-(row["val_acc"] or 0), row["params"], row["macs"]) for row in trained])
    for row, on_front in zip(trained, front, strict=True):
        row["pareto"] = on_front
    return [Entry(rank=rank, **row) for rank, row in enumerate(rows, start=1)]


def _row(trial: FrozenTrial, config: Study, folder: StudyFolder) -> tuple[dict[str, Any], float]:
    """What a trial's end settles, and its score."""
    spec_hash = stored.SPEC_HASH.of(trial)
    epochs, run = stored.HISTORY.of(trial), stored.RUN.of(trial)
    seconds = sum(epoch.train_seconds for epoch in epochs)
    target = config.recipe.target_accuracy
    to_target = seconds_to(target, epochs)
    analysis = stored.analyze_trial(trial, config)
    states = {TrialState.COMPLETE: "trained", TrialState.PRUNED: "pruned"}
    spec_path = RunPaths(folder.trial(spec_hash)).spec
    row = {
        "trial": trial.number,
        "spec_hash": spec_hash,
        "status": states.get(trial.state, "failed"),
        "val_acc": epochs[-1].val_acc if epochs else None,
        "params": analysis.params,
        "receptive_field": analysis.receptive_field,
        "receptive_field_with_gap": analysis.receptive_field_with_gap,
        "macs": analysis.macs,
        "epochs": len(epochs),
        "train_seconds": round(seconds, 2),
        "images_per_second": _mean([epoch.images_per_second for epoch in epochs], 1),
        **(run.model_dump() if run else {}),
        "spec_path": str(spec_path.relative_to(folder.path)),
        "seconds_to_target": round(to_target, 2) if to_target is not None else None,
        "edits": "; ".join(describe_edits(config.space, trial.params)),
        "knobs": written(config.space, complete(config.space, trial.params)),
        "reason": stored.REASON.of(trial),
    }
    return row, score(config.objective, target, epochs, analysis.params)


def _finals(row: dict[str, Any], finals: list[stored.FinalResult], config: Study) -> dict[str, Any]:
    """What the final results of a trial's network add to its row."""
    tested = [result.test_acc for result in finals if result.test_acc is not None]
    test_acc = statistics.fmean(tested) if tested else None
    target = config.final_recipe.target_accuracy
    reasons = [row["reason"], *(result.reason for result in finals)]
    return {
        "test_acc": test_acc,
        "test_acc_std": statistics.stdev(tested) if len(tested) > 1 else None,
        "test_seeds": len(tested),
        "reached_target": test_acc >= target if test_acc is not None and target else None,
        "final_epochs": finals[0].epochs if finals else None,
        "final_train_seconds": _mean([result.train_seconds for result in finals], 2),
        "reason": "; ".join(filter(None, reasons)),
    }


def _mean(values: list[float], digits: int) -> float | None:
    return round(statistics.fmean(values), digits) if values else None
