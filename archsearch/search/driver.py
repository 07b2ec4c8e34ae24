"""The driver: ask for proposals, have them trained, prune, tell, record. It owns the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from archsearch.common import atomic_files, folder_lock, interruption
from archsearch.errors import (
    ArchsearchError,
    DeviceLostError,
    ExhaustedSpaceError,
    HopelessSpaceError,
    StudyError,
)
from archsearch.executors.protocol import EpochDone, Executor, JobDone, JobFailed, MoreRoom
from archsearch.leaderboard.entry import Entry
from archsearch.search import trials as stored
from archsearch.search.distributions import distributions
from archsearch.search.events import (
    Event,
    SpaceCounted,
    SpaceExhausted,
    Started,
    StudyOpened,
    Trained,
    TrialEnded,
)
from archsearch.search.finals import FinalTraining, final_trainings, search_job
from archsearch.search.next_trial import create_next_trial
from archsearch.search.recorder import LeaderboardWriter, Rejections
from archsearch.search.sampler import FeasibleSampler
from archsearch.search.storage.open import (
    check_storage,
    open_for_writing,
    open_study,
    record_storage,
    refuse_if_searched,
    storage_errors,
)
from archsearch.search.storage.single_writer import SingleWriter
from archsearch.space.counting.account import advice
from archsearch.space.counting.near import account_any
from archsearch.space.settings import complete, judge_setting
from archsearch.study.config import Study, study_toml
from archsearch.study.folder import StudyFolder
from archsearch.study.objective import score
from archsearch.training.job import Job
from archsearch.training.records import Epoch

MAX_FAILURES_IN_A_ROW = 10
_COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


def search(
    study: Study,
    folder: StudyFolder,
    executor: Executor,
    trials: int,
    notify: Callable[[Event], None],
    storage: str | None = None,
) -> list[Entry]:
    """Search until `trials` networks are trained in all, then retrain and test the best.

    May be stopped at any moment, and called again to go on: `trials` counts across calls, and
    pruned ones count. With `storage`, an Optuna URL, the folder's own SQLite file is not used.

    Returns:
        The leaderboard.

    Raises:
        StudyError: the folder is another study's, or in use, or its study is in another database.
        HopelessSpaceError: the space holds (almost) nothing within the limits.
        ArchsearchError: something cannot be read or written.
    """
    check_storage(folder, storage)
    url = storage or folder.storage
    with folder_lock.locked(folder.path):
        atomic_files.drop_temporaries(folder.path)  # first: the disk may be full
        if url == folder.storage and not folder.database.exists():
            refuse_if_searched(folder)  # before an empty database is created
        with storage_errors(folder, url), open_for_writing(study, url, notify) as database:
            driver = _Driver(study, folder, executor, notify, database, url)
            record_storage(folder, url)
            stored.requeue(driver.study)
            notify(StudyOpened(driver.board.write(), stored.curves(driver.study)))
            driver.note_asked(trials)
            try:
                driver.count_space()
                driver.queue_start()
                driver.run_trials(trials)
                driver.run_finals()
            except (KeyboardInterrupt, Exception) as error:  # also what `notify` raises
                if database.retry:
                    database.retry.give_up()
                    if database.retry.lost:
                        raise  # whoever has the study now writes
                if isinstance(error, KeyboardInterrupt):
                    database.forget()  # what was cut off may have reached the database
                with suppress(ArchsearchError, SQLAlchemyError, OptunaError):
                    # None of these is a trial's fault, but that a device was lost may be.
                    stored.requeue(driver.study, blame=isinstance(error, DeviceLostError))
                    driver.board.write()
                raise
            return driver.board.write()


@dataclass
class _Driver:
    config: Study
    folder: StudyFolder
    executor: Executor
    notify: Callable[[Event], None]
    database: SingleWriter
    url: str
    study: optuna.Study = field(init=False)
    board: LeaderboardWriter = field(init=False)

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        rejections = Rejections(self.config, self.folder, self.notify)
        sampler = FeasibleSampler(
            self.config.space,
            self.config.constraints,
            self.config.sampler,
            self.config.seed,
            rejections.add,
            self.config.start,
        )
        self.study = open_study(self.config, self.folder, self.database, self.url, sampler)
        atomic_files.write_text(self.folder.study, study_toml(self.config))
        rejections.begin()
        self.board = LeaderboardWriter(self.study, self.config, self.folder)

    # Before the first trial

    def count_space(self) -> None:
        """Say how much of the space is within the limits; refuse a hopeless one."""
        if any(trial.state in _COUNTED for trial in self._trials()):
            return
        config = self.config
        found = account_any(config.space, config.constraints, start=config.start, seed=config.seed)
        self.notify(SpaceCounted(found))
        if found.hopeless:
            raise HopelessSpaceError(
                f"no setting of the space is within the limits: {'; '.join(advice(found))}"
            )

    def queue_start(self) -> None:
        """Queue the study's known good settings, once, if they are within the limits."""
        space, free = self.config.space, distributions(self.config.space)
        for i, start in enumerate(self.config.start):
            knobs = complete(space, start)
            verdict, rules = judge_setting(space, knobs, self.config.constraints, "start")
            if verdict is None or rules:
                raise StudyError(
                    f"start.{i} of the study breaks {', '.join(rules)}; change it or the limits"
                )
            spec_hash = verdict.analysis.spec_hash
            if spec_hash not in stored.taken_hashes(self.study):
                params = {name: knobs[name] for name in free}
                self.study.enqueue_trial(params, user_attrs={stored.SPEC_HASH.key: spec_hash})

    # Trials

    def run_trials(self, wanted: int) -> None:
        """Ask, train, prune and tell until `wanted` trials count."""
        running: dict[str, _Running] = {}
        failures = 0
        exhausted: HopelessSpaceError | None = None
        while True:
            interruption.check()
            exhausted = exhausted or self._start_some(running, wanted)
            if not running:
                self._end_trials(exhausted)
                return
            report = self.executor.next_report()
            if isinstance(report, MoreRoom):
                continue
            at = running[report.key]
            match report:
                case EpochDone(epoch=epoch):
                    at.history.append(epoch)
                    self.notify(Trained(report.key, epoch, final=False))
                    if not self._should_prune(at, epoch):
                        continue
                    self.executor.stop(report.key)
                    state, reason = TrialState.PRUNED, ""
                case JobDone():
                    state, reason = TrialState.COMPLETE, ""
                case JobFailed(reason=reason):
                    state = TrialState.FAIL
            del running[report.key]
            self._finish(at, state, reason)
            failures = failures + 1 if state == TrialState.FAIL else 0
            if failures >= MAX_FAILURES_IN_A_ROW:
                raise StudyError(
                    f"{failures} trials in a row failed, the last: {reason}; "
                    "the recipe or the machine is at fault, not the networks"
                )

    def _end_trials(self, exhausted: HopelessSpaceError | None) -> None:
        if exhausted is None:
            return
        if not isinstance(exhausted, ExhaustedSpaceError):
            raise exhausted
        stored.requeue(self.study, blame=False)  # a trial that was created and found no network
        self.note_asked(sum(trial.state in _COUNTED for trial in self._trials()))
        self.notify(SpaceExhausted(exhausted.networks))

    def _start_some(self, running: dict[str, _Running], wanted: int) -> HopelessSpaceError | None:
        """Start trials while workers are idle and trials wanted; why not, if none is left.

        What is in training then is trained to its end first.
        """
        done = sum(trial.state in _COUNTED for trial in self._trials())
        try:
            while len(running) < min(self.executor.ready, wanted - done):
                interruption.check()
                started = self._start()
                running[started.job.key] = started
        except HopelessSpaceError as error:
            return error
        return None

    def _start(self) -> _Running:
        trial, analysis = create_next_trial(self.study, self.config)
        folder = self.folder.trial(analysis.spec_hash)
        job = search_job(self.config, analysis, f"trial-{trial.number}", folder)
        again = stored.RETRY_OF.of(trial) is not None
        self.notify(Started(job.key, trial.number, analysis, job.recipe.epochs, again))
        self.executor.submit(job)
        return _Running(trial, job, analysis.params)

    def _should_prune(self, at: _Running, epoch: Epoch) -> bool:
        if epoch.val_acc is None:
            return False
        at.trial.report(epoch.val_acc, epoch.epoch)
        last = epoch.epoch >= at.job.recipe.epochs
        return not last and at.trial.should_prune()

    def _finish(self, at: _Running, state: TrialState, reason: str) -> None:
        stored.HISTORY.store(at.trial, at.history)
        stored.RUN.store(at.trial, self.executor.run_of(at.job.seed, at.job.key))
        stored.REASON.store(at.trial, reason)
        value = None
        if state == TrialState.COMPLETE:
            target = self.config.recipe.target_accuracy
            value = score(self.config.objective, target, at.history, at.params)
        self.study.tell(at.trial, value, state=state)
        entries = self.board.write_soon()
        self.notify(TrialEnded(at.job.key, at.trial.number, entries))

    # After the trials

    def run_finals(self) -> None:
        """Train what the trials are held against, and retrain and test the best of them."""
        waiting = list(final_trainings(self.study, self.config, self.folder, self.board.write()))
        running: dict[str, FinalTraining] = {}
        while waiting or running:
            interruption.check()
            while waiting and len(running) < self.executor.ready:
                at = waiting.pop(0)
                running[at.job.key] = at
                self._note_finals(running)
                self.notify(at.started())
                self.executor.submit(at.job)
            report = self.executor.next_report()
            if isinstance(report, MoreRoom):
                continue
            at = running[report.key]
            if isinstance(report, EpochDone):
                at.history.append(report.epoch)
                self._note_finals(running)
                self.notify(Trained(report.key, report.epoch, final=at.job.final))
                continue
            del running[report.key]
            result = at.result(report, self.executor.run_of(at.job.seed, at.job.key))
            at.attr.store(self.study, result)
            self._note_finals(running)
            self.board.write()
            self.notify(at.ended(result))

    # Records

    def note_asked(self, trials: int) -> None:
        """Leave what was asked for to whoever looks in from another terminal."""
        asked = stored.Asked(trials=trials, at_a_time=self.executor.capacity)
        stored.ASKED.store(self.study, asked)
        self._note_finals({})  # those that a crash left are not under way any more

    def _note_finals(self, running: Mapping[str, FinalTraining]) -> None:
        stored.UNDER_WAY.store(self.study, {key: at.progress() for key, at in running.items()})

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)


@dataclass
class _Running:
    trial: Trial
    job: Job
    params: int
    history: list[Epoch] = field(default_factory=list)
