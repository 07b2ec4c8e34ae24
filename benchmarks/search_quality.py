"""What a search gains over random proposals, and how far its ranking and pruner can be trusted.

Run: python benchmarks/search_quality.py STUDY BASELINE [--target 0.85]

Reads what two searches left (leaderboard.csv, histories) and trains nothing. BASELINE drew at
random and pruned nothing, so that its curves are whole: how early epochs rank, and whom a pruner
would have stopped, is read from them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.pruners import BasePruner, MedianPruner, PercentilePruner
from scipy import stats
from timed_training import as_markdown, table

from archsearch.analysis.analyze import analyze
from archsearch.common.csv_files import read_csv
from archsearch.errors import ArchsearchError
from archsearch.report.facts import Absent, read_facts
from archsearch.report.importance import importance
from archsearch.space.counting.account import estimate_proportion
from archsearch.space.settings import complete, spec_of
from archsearch.study.config import Study, load_study
from archsearch.study.folder import StudyFolder

RESAMPLES = 10_000
BEST = 10
"""How many of the baseline's networks a pruner should not stop."""
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "median after epoch 1": lambda: MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    "median after epoch 2": lambda: MedianPruner(n_startup_trials=4, n_warmup_steps=2),
    "worst quarter after epoch 1": lambda: PercentilePruner(75, 4, 1),
    "worst quarter after epoch 2": lambda: PercentilePruner(75, 4, 2),
}


@dataclass(frozen=True)
class Trial:
    """One trained network.

    Attributes:
        curve: hold-out accuracy by epoch.
        whole: whether it was trained to its end.
        seconds: of its training.
    """

    number: int
    spec_hash: str
    curve: tuple[float, ...]
    whole: bool
    seconds: float


def read_trials(folder: Path) -> list[Trial]:
    """A study's trials in the order in which they were proposed; not those that failed.

    Raises:
        ArchsearchError: there is no leaderboard, or a history is missing.
    """
    found = []
    for row in read_csv(StudyFolder(folder).leaderboard):
        if row["status"] == "failed":
            continue
        history = read_csv((folder / row["spec_path"]).with_name("history.csv"))
        curve = tuple(float(epoch["val_acc"]) for epoch in history[: int(row["epochs"])])
        whole, seconds = row["status"] == "trained", float(row["train_seconds"])
        found.append(Trial(int(row["trial"]), row["spec_hash"], curve, whole, seconds))
    return sorted(found, key=lambda trial: trial.number)


def start_hashes(study: Study) -> set[str]:
    """The networks that a study file gives as known to be good."""
    specs = (spec_of(study.space, complete(study.space, start), "start") for start in study.start)
    return {analyze(spec).spec_hash for spec in specs}


# The search against chance


def distribution_rows(named: dict[str, list[Trial]], target: float) -> Sequence[tuple[str, ...]]:
    """A row a study: what its trials reached."""
    rows = []
    for name, trials in named.items():
        first = [trial.curve[0] for trial in trials]
        last = [trial.curve[-1] for trial in trials if trial.whole]
        above = estimate_proportion(sum(value >= target for value in last), len(trials))
        rows.append(
            (
                name,
                str(len(trials)),
                str(len(last)),
                f"{max(last):.2%}",
                f"{statistics.median(last):.2%}",
                f"{above.fraction:.0%} ({above.low:.0%} to {above.high:.0%})",
                f"{max(first):.2%}",
                f"{statistics.median(first):.2%}",
                f"{sum(trial.seconds for trial in trials) / 60:,.0f}",
            )
        )
    return rows


def gain(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """The difference of medians, and its 95% bootstrap interval (percentile, fixed seed)."""
    rng = np.random.default_rng(0)
    one, two = (
        np.median(rng.choice(np.array(values), (RESAMPLES, len(values))), axis=1)
        for values in (ours, theirs)
    )
    low, high = np.quantile(one - two, (0.025, 0.975))
    return statistics.median(ours) - statistics.median(theirs), float(low), float(high)


def comparison(ours: list[Trial], theirs: list[Trial]) -> list[str]:
    """In sentences, by the first epoch, which every trial of both has."""
    one, two = ([trial.curve[0] for trial in trials] for trials in (ours, theirs))
    middle, low, high = gain(one, two)
    test = stats.mannwhitneyu(one, two)
    better = test.statistic / (len(one) * len(two))
    return [
        "without the known good starts: after one epoch the median is "
        f"{100 * middle:+.2f} points from the baseline's (95% "
        f"bootstrap interval {100 * low:+.2f} to {100 * high:+.2f}); a network of the search beats "
        f"one of the baseline in {better:.0%} of pairs (Mann-Whitney, two-sided p = "
        f"{test.pvalue:.2g})",
        "one search a side, and the trials of one search learn from each other: the interval and p "
        "tell how these networks differ, not what another seed would bring",
        "in the shares of all, a pruned network counts as one below the target",
    ]


# How early epochs rank


def rank_rows(trials: list[Trial]) -> Sequence[tuple[str, ...]]:
    """Spearman's correlation of each epoch with the last, over trials that were trained to it."""
    curves = np.array([trial.curve for trial in trials if trial.whole])
    rows = []
    for epoch in range(1, curves.shape[1]):
        rho, low, high = spearman(curves[:, epoch - 1], curves[:, -1])
        best = set(np.argsort(-curves[:, -1])[:BEST])
        kept = len(best & set(np.argsort(-curves[:, epoch - 1])[:BEST]))
        told = f"{rho:.2f} ({low:.2f} to {high:.2f})"
        rows.append((f"{epoch} of {curves.shape[1]}", told, f"{kept} of {BEST}"))
    return rows


def spearman(one: NDArray[Any], two: NDArray[Any]) -> tuple[float, float, float]:
    """Spearman's rank correlation, and its 95% bootstrap interval (percentile, fixed seed)."""
    chosen = np.random.default_rng(0).integers(len(one), size=(RESAMPLES, len(one)))
    x, y = (stats.rankdata(values[chosen], axis=1) for values in (one, two))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    drawn = (x * y).sum(axis=1)[spread > 0] / spread[spread > 0]  # one value alone has no order
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(stats.spearmanr(one, two).statistic), float(low), float(high)


# Whom a pruner would stop


def pruner_rows(trials: list[Trial]) -> Sequence[tuple[str, ...]]:
    """A row a pruner, held against curves that nobody stopped."""
    order = sorted(trials, key=lambda trial: -trial.curve[-1])
    rows = []
    for name, pruner in PRUNERS.items():
        epochs = replayed(trials, pruner())
        stopped = [trial for trial in trials if epochs[trial.number] < len(trial.curve)]
        saved = 1 - sum(epochs.values()) / sum(len(trial.curve) for trial in trials)
        ranks = [order.index(trial) + 1 for trial in stopped]
        lost = f"rank {min(ranks)}" if ranks else "none"
        wrong = str(sum(rank <= BEST for rank in ranks))
        rows.append((name, f"{len(stopped)} of {len(trials)}", f"{saved:.0%}", wrong, lost))
    return rows


def replayed(trials: list[Trial], pruner: BasePruner) -> dict[int, int]:
    """How many epochs each trial would have had, by number; one trial after the other."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    epochs = {}
    for each in trials:
        trial = study.ask()
        state, count = optuna.trial.TrialState.COMPLETE, len(each.curve)
        for epoch, value in enumerate(each.curve, start=1):
            trial.report(value, epoch)
            if epoch < len(each.curve) and trial.should_prune():
                state, count = optuna.trial.TrialState.PRUNED, epoch
                break
        epochs[each.number] = count
        study.tell(trial, each.curve[-1] if count == len(each.curve) else None, state=state)
    return epochs


# Which knobs matter


def knob_rows(folder: Path) -> Sequence[tuple[str, ...]]:
    """Knobs by PED-ANOVA: how much each tells the best tenth from the rest; most first.

    Raises:
        ArchsearchError: the study cannot be read, or says nothing of its knobs.
    """
    found = importance(read_facts(folder))
    if isinstance(found, Absent):
        raise ArchsearchError(f"{folder}: {found.why}")
    return [(name, f"{share:.2f}") for name, share in found.shares]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("--target", type=float, default=0.85, help="hold-out accuracy to count")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ours, theirs = read_trials(given.study), read_trials(given.baseline)
    study = load_study(str(StudyFolder(given.study).study))
    known = start_hashes(study)
    proposed = [trial for trial in ours if trial.spec_hash not in known]
    chance = load_study(str(StudyFolder(given.baseline).study))
    if (chance.sampler.kind, chance.pruner.kind) != ("random", "none"):
        raise ArchsearchError(f"{given.baseline}: its study must be random and prune nothing")
    headings = (
        "study", "networks", "to the end", "best %", "median of those", f"{given.target:.0%} or "
        "more (of all, 95%)", "best, epoch 1", "median, epoch 1", "training min",
    )  # fmt: skip
    named = {
        given.study.name: ours,
        "the same without its starts": proposed,
        given.baseline.name: theirs,
    }
    parts = [
        as_markdown(
            "The search against chance",
            comparison(proposed, theirs),
            table(headings, distribution_rows(named, given.target), 1),
        ),
        "\n## How early epochs rank the baseline's networks\n",
        *table(("epoch", "Spearman with the last (95%)", "best kept"), rank_rows(theirs), 1),
        "\n## Whom a pruner would have stopped among them\n",
        *table(
            ("pruner", "stopped", "epochs saved", f"of the best {BEST}", "best one stopped"),
            pruner_rows(theirs),
            1,
        ),
    ]
    parts += ["\n## Which knobs tell its best tenth apart (PED-ANOVA)\n"]
    parts += table(("knob", "share"), knob_rows(given.baseline)[:BEST], 1)
    print("\n".join(parts))


if __name__ == "__main__":
    try:
        main()
    except ArchsearchError as error:
        sys.exit(f"error: {error}")
