"""What is trained after the trials: the spec that the search began with, and the finalists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.executors.protocol import JobDone, JobFailed
from archsearch.leaderboard.entry import Entry
from archsearch.search import trials as stored
from archsearch.search.events import FinalEnded, ReferenceEnded, Started
from archsearch.search.stored_values import Attr
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.study.config import Study
from archsearch.study.folder import StudyFolder
from archsearch.training.job import Job
from archsearch.training.records import Epoch, Run
from archsearch.training.run_paths import final_folder


@dataclass
class FinalTraining:
    """One of these trainings: the reference's, or with `entry` a finalist's.

    Attributes:
        attr: the study attribute that keeps its result.
    """

    job: Job
    analysis: Analysis
    attr: Attr[stored.FinalResult | None]
    entry: Entry | None = None
    history: list[Epoch] = field(default_factory=list)

    def started(self) -> Started:
        """What to tell as it goes into training."""
        number, seed = (self.entry.trial, self.job.seed) if self.entry else (None, None)
        epochs = self.job.recipe.epochs
        return Started(self.job.key, number, self.analysis, epochs, final_seed=seed)

    def progress(self) -> stored.Progress:
        """How far it is, for who looks in from outside."""
        trial = self.entry.trial if self.entry else None
        return stored.Progress(trial=trial, epochs=len(self.history))

    def result(self, report: JobDone | JobFailed, run: Run) -> stored.FinalResult:
        """What is kept of it."""
        done = isinstance(report, JobDone)
        of_reference = self.entry is None
        return stored.FinalResult(
            reason=report.reason if isinstance(report, JobFailed) else "",
            epochs=len(self.history),
            train_seconds=sum(epoch.train_seconds for epoch in self.history),
            run=run,
            val_acc=self.history[-1].val_acc if of_reference and done and self.history else None,
            spec_hash=self.job.spec_hash if of_reference else None,
            test_acc=report.test_acc if isinstance(report, JobDone) else None,
        )

    def ended(self, result: stored.FinalResult) -> FinalEnded | ReferenceEnded:
        """What to tell of its end."""
        key, reason = self.job.key, result.reason
        if self.entry is None:
            return ReferenceEnded(key, result.val_acc, reason)
        return FinalEnded(key, self.entry.trial, result.test_acc, reason)


def final_trainings(
    study: optuna.Study, config: Study, folder: StudyFolder, board: list[Entry]
) -> Iterator[FinalTraining]:
    """Yield what is left to train once the trials are done."""
    space = config.space
    if isinstance(space, Neighbourhood) and stored.REFERENCE.of(study) is None:
        analysis = analyze(space.base)
        if analysis.spec_hash not in stored.taken_hashes(study):  # else it is a trial itself
            job = search_job(config, analysis, "reference", folder.reference)
            yield FinalTraining(job, analysis, stored.REFERENCE)
    trials = study.get_trials(deepcopy=False)
    for entry in [entry for entry in board if entry.status == "trained"][: config.finalists]:
        for seed in range(config.seed, config.seed + config.final_seeds):
            attr = stored.final_attr(entry.spec_hash, seed)
            if attr.of(study) is None:
                analysis = stored.analyze_trial(trials[entry.trial], config)
                at = final_folder(folder.trial(analysis.spec_hash), seed)
                job = search_job(config, analysis, f"final-{entry.trial}-{seed}", at)
                job = replace(job, recipe=config.final_recipe, seed=seed, final=True)
                yield FinalTraining(job, analysis, attr, entry)


def search_job(config: Study, analysis: Analysis, key: str, folder: Path) -> Job:
    """Return a job that trains a network as the trials of a study are trained."""
    return Job(
        key=key,
        spec_hash=analysis.spec_hash,
        network=analysis.network,
        recipe=config.recipe,
        seed=config.seed,
        folder=folder,
        final=False,
    )
