"""The driver, with an executor that trains nothing: the study's bookkeeping alone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage

from archsearch.analysis.analyze import analyze
from archsearch.common import csv_files
from archsearch.errors import HopelessSpaceError, StudyError
from archsearch.executors.processes.pool import WorkerPool
from archsearch.executors.protocol import EpochDone, JobDone, JobFailed, JobReport, MoreRoom
from archsearch.leaderboard.entry import Entry
from archsearch.monitor.status import status
from archsearch.search.driver import search
from archsearch.search.events import Event, SpaceExhausted, Trained
from archsearch.space.counting.every_network import every_network
from archsearch.space.four_blocks import BlockSpace, Space
from archsearch.space.settings import complete, knob_choices, spec_of
from archsearch.study.config import Pruner, Sampler, Study, load_study
from archsearch.study.folder import StudyFolder
from archsearch.training.job import Job
from archsearch.training.records import Epoch, Run
from tests.conftest import Cli


class Killed(BaseException):
    """Stands in for `kill -9`: nothing catches it, nothing is cleaned up."""


@dataclass
class Pretend:
    """Gives each network an accuracy that follows from its hash."""

    capacity: int = 1
    fails: Callable[[Job], bool] = lambda _job: False
    dies_at: int = 1_000_000
    reports: int = 0
    jobs: dict[str, Iterator[JobReport]] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)

    @property
    def ready(self) -> int:
        return self.capacity

    def run_of(self, seed: int, key: str | None = None) -> Run:
        return Run(device="d", precision="fp32", seed=seed, dataset="shapes", torch_version="t")

    def epoch_share(self, key: str) -> float:
        return 0.0

    def submit(self, job: Job) -> None:
        self.jobs[job.key] = self.progress(job)

    def stop(self, key: str) -> None:
        del self.jobs[key]

    def next_report(self) -> JobReport | MoreRoom:
        self.reports += 1
        if self.reports == self.dies_at:
            raise Killed
        key = next(iter(self.jobs))
        self.jobs[key] = progress = self.jobs.pop(key)  # the others' turn next
        report = next(progress)
        if not isinstance(report, EpochDone):
            del self.jobs[key]
        return report

    def progress(self, job: Job) -> Iterator[JobReport]:
        score = accuracy(job.spec_hash)
        for number in range(1, job.recipe.epochs + 1):
            if self.fails(job):
                yield JobFailed(job.key, "it burst")
                return
            val_acc = None if job.final else score * number / job.recipe.epochs
            epoch = Epoch(
                epoch=number, lr=0.1, train_loss=1, train_acc=0.5, val_loss=None,
                val_acc=val_acc, train_seconds=1, images_per_second=10,
            )  # fmt: skip
            yield EpochDone(job.key, epoch)
        self.trained.append(job.key)
        yield JobDone(job.key, score if job.final else None)


def accuracy(spec_hash: str) -> float:
    return 0.5 + int(spec_hash[:4], 16) / 2**17


def demo(**changes: object) -> Study:
    return load_study("demo").model_copy(update={"name": "test", **changes})


def go(
    tmp_path: Path,
    trials: int,
    executor: Pretend | None = None,
    config: Study | None = None,
    events: list[Event] | None = None,
) -> list[Entry]:
    told: list[Event] = [] if events is None else events
    folder = StudyFolder(tmp_path / "study")
    return search(config or demo(), folder, executor or Pretend(), trials, told.append)


def rows(tmp_path: Path) -> list[dict[str, str]]:
    return csv_files.read_csv(tmp_path / "study" / "leaderboard.csv")


def check_done(
    tmp_path: Path, trials: int, finalists: int = 1, study: optuna.Study | None = None
) -> None:
    """Exactly `trials` trained, none twice, the leaderboard as the study has it."""
    board = rows(tmp_path)
    counted = [row for row in board if row["status"] in ("trained", "pruned")]
    assert len(counted) == trials
    assert max(Counter(row["spec_hash"] for row in board).values()) == 1
    tested = [row for row in board if row["test_acc"]]
    trained = [row for row in board if row["status"] == "trained"]
    assert tested == trained[: len(tested)]
    assert len(tested) == min(finalists, len(trained))
    own = StudyFolder(tmp_path / "study").storage
    study = study or optuna.load_study(study_name="test", storage=own)
    by_number = {trial.number: trial for trial in study.trials}
    for row in counted:
        assert by_number[int(row["trial"])].user_attrs["spec_hash"] == row["spec_hash"]


def test_it_trains_as_many_as_asked_and_tests_the_best(tmp_path: Path) -> None:
    entries = go(tmp_path, 6)
    check_done(tmp_path, 6)
    trained = [entry for entry in entries if entry.status == "trained"]
    scores = [entry.val_acc or 0 for entry in trained]
    assert scores == sorted(scores, reverse=True)
    assert entries[0].test_acc == pytest.approx(accuracy(entries[0].spec_hash))
    assert [entry.rank for entry in entries] == list(range(1, len(entries) + 1))


def test_the_same_command_again_does_nothing_and_more_trials_go_on(tmp_path: Path) -> None:
    go(tmp_path, 4)
    before = rows(tmp_path)
    idle = Pretend()
    go(tmp_path, 4, idle)
    assert idle.reports == 0
    assert rows(tmp_path) == before
    go(tmp_path, 7)
    check_done_any_finalists(tmp_path, 7)


def check_done_any_finalists(tmp_path: Path, trials: int) -> None:
    """A later finalist may join an earlier one, which stays tested."""
    counted = [row for row in rows(tmp_path) if row["status"] in ("trained", "pruned")]
    assert len(counted) == trials == len({row["spec_hash"] for row in counted})
    assert counted[0]["test_acc"]


def test_more_finalists_can_be_asked_for_later(tmp_path: Path) -> None:
    go(tmp_path, 4)
    go(tmp_path, 4, config=demo(finalists=3, final_seeds=2))
    check_done(tmp_path, 4, finalists=3)
    assert rows(tmp_path)[0]["test_seeds"] == "2"


@pytest.mark.parametrize("capacity", [1, 2])
@pytest.mark.parametrize("dies_at", [1, 2, 3, 5, 8, 11, 14, 17, 20, 21, 22, 25])
def test_killed_at_any_report_it_ends_with_exactly_the_trials_asked(
    tmp_path: Path, dies_at: int, capacity: int
) -> None:
    try:
        go(tmp_path, 4, Pretend(capacity=capacity, dies_at=dies_at))
    except Killed:
        go(tmp_path, 4, Pretend(capacity=capacity))
    check_done(tmp_path, 4)


def test_an_interrupted_trial_is_tried_again_twice_and_then_failed(tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(Killed):
            go(tmp_path, 2, Pretend(dies_at=2))
    entries = go(tmp_path, 2)
    assert [entry.reason for entry in entries if entry.status == "failed"] == [
        "interrupted 3 times"
    ]
    check_done(tmp_path, 2)


def test_an_error_in_the_callers_callback_costs_a_trial_no_attempt(tmp_path: Path) -> None:
    def broken(event: Event) -> None:
        if isinstance(event, Trained):
            raise TypeError("the caller's own")

    for _ in range(4):
        with pytest.raises(TypeError, match="the caller's own"):
            search(demo(), StudyFolder(tmp_path / "study"), Pretend(), 2, broken)
    assert [entry.status for entry in go(tmp_path, 2)] == ["trained", "trained"]
    check_done(tmp_path, 2)


def test_interruptions_by_the_user_are_not_held_against_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.search.test_driver.Killed", KeyboardInterrupt)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path, 2, Pretend(dies_at=2))
    entries = go(tmp_path, 2)
    assert not [entry for entry in entries if entry.status == "failed"]
    check_done(tmp_path, 2)


def test_a_ctrl_c_just_after_a_trial_was_made_is_held_against_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = RDBStorage.create_new_trial, 0

    def cut_off(self: RDBStorage, *args: Any) -> int:
        nonlocal made
        number = make(self, *args)
        made += 1
        if made == 3:
            raise KeyboardInterrupt
        return number

    with monkeypatch.context() as patch:
        patch.setattr(RDBStorage, "create_new_trial", cut_off)
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path, 4, Pretend(capacity=3))
    assert made > 3  # what was in training is queued again
    go(tmp_path, 4)
    check_done(tmp_path, 4)
    study = optuna.load_study(study_name="test", storage=StudyFolder(tmp_path / "study").storage)
    attempts = [trial.user_attrs.get("attempt", 1) for trial in study.trials]
    assert set(attempts) == {1}


class Opening(Pretend):
    """One slot of four is open at first, two more from the second report on; each is a device."""

    at_a_time: int = 0

    @property
    def ready(self) -> int:
        return 1 if self.reports < 2 else 3

    def run_of(self, seed: int, key: str | None = None) -> Run:
        return super().run_of(seed).model_copy(update={"device": f"device of {key}"})

    def next_report(self) -> JobReport | MoreRoom:
        self.at_a_time = max(self.at_a_time, len(self.jobs))
        assert len(self.jobs) <= self.ready
        if self.reports == 1:
            self.reports += 1
            return MoreRoom()
        return super().next_report()


def test_slots_that_open_later_get_trials_then_and_each_is_recorded_where_it_was_trained(
    tmp_path: Path,
) -> None:
    executor = Opening(capacity=4)
    entries = go(tmp_path, 6, executor)
    check_done(tmp_path, 6)
    assert executor.at_a_time == 3
    assert {entry.device for entry in entries} == {
        f"device of trial-{number}" for number in range(6)
    }  # fmt: skip


def test_known_good_settings_are_tried_first_and_once(tmp_path: Path) -> None:
    config = demo()
    known = {name: choices[0] for name, choices in knob_choices(config.space).items()}
    known |= {"block3.dilation": 2, "block3.depth": 3, "block4.depth": 3, "block4.body": "residual"}
    known |= {
        "block2.entry": "depthwise_separable",
        "block2.stride": 2,
        "block3.stride": 2,
        "block4.stride": 2,
    }
    start = config.model_copy(update={"start": (known,)})
    go(tmp_path, 3, config=start)
    go(tmp_path, 4, config=start)
    check_done_any_finalists(tmp_path, 4)
    study = optuna.load_study(study_name="test", storage=StudyFolder(tmp_path / "study").storage)
    first = {**known, **study.trials[0].params}
    assert first == known


def test_a_known_good_setting_outside_the_limits_is_refused(tmp_path: Path) -> None:
    known = {name: choices[0] for name, choices in knob_choices(demo().space).items()}
    with pytest.raises(StudyError, match=r"start\.0 of the study breaks.*dilated"):
        go(tmp_path, 3, config=demo(start=(known,)))


def test_a_failed_trial_is_on_the_leaderboard_with_its_reason(tmp_path: Path) -> None:
    failing: set[str] = set()

    def first_two(job: Job) -> bool:
        if len(failing) < 2:
            failing.add(job.key)
        return job.key in failing

    entries = go(tmp_path, 3, Pretend(fails=first_two))
    assert [entry.reason for entry in entries if entry.status == "failed"] == ["it burst"] * 2
    check_done(tmp_path, 3)


def test_ten_failures_in_a_row_end_the_search(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="10 trials in a row failed, the last: it burst"):
        go(tmp_path, 3, Pretend(fails=lambda _job: True))
    assert len(rows(tmp_path)) == 10


def test_bad_trials_are_pruned_and_count(tmp_path: Path) -> None:
    events: list[Event] = []
    entries = go(tmp_path, 14, events=events)
    pruned = [entry for entry in entries if entry.status == "pruned"]
    assert pruned
    epochs = Counter(
        int(event.key.removeprefix("trial-"))
        for event in events
        if isinstance(event, Trained) and not event.final
    )
    warmup = demo().pruner.warmup_epochs
    for entry in pruned:
        assert warmup <= epochs[entry.trial] < demo().recipe.epochs


def test_a_percentile_pruner_stops_fewer_than_the_median(tmp_path: Path) -> None:
    stopped = {}
    for kind in ("percentile", "median", "none"):
        pruner = Pruner.model_validate({"kind": kind, "keep_percent": 80.0})
        config = demo(pruner=pruner, sampler=Sampler(kind="random"))
        entries = go(tmp_path / kind, 30, config=config)
        stopped[kind] = {entry.spec_hash for entry in entries if entry.status == "pruned"}
    assert stopped["none"] == set() < stopped["percentile"] < stopped["median"]


def test_the_leaderboards_knobs_make_the_network_again(tmp_path: Path) -> None:
    go(tmp_path, 4)
    space = demo().space
    choices = {
        name: {str(value): value for value in of} for name, of in knob_choices(space).items()
    }
    for row in rows(tmp_path):
        assert [name for name in row if name.startswith("knob_")] == [f"knob_{n}" for n in choices]
        knobs = {name: choices[name][row[f"knob_{name}"]] for name in choices}
        assert analyze(spec_of(space, knobs, "again")).spec_hash == row["spec_hash"]


def test_rejections_are_kept_with_their_rules(tmp_path: Path) -> None:
    go(tmp_path, 5)
    found = csv_files.read_csv(tmp_path / "study" / "rejections.csv")
    assert [row["proposal"] for row in found] == [str(i + 1) for i in range(len(found))]
    limit = demo().constraints.max_macs
    for row in found:
        assert ("max_macs" in row["rules"].split()) == (int(row["macs"]) > (limit or 0))


def test_the_studys_own_tools_see_limits_and_figures(tmp_path: Path) -> None:
    go(tmp_path, 2)
    study = optuna.load_study(study_name="test", storage=StudyFolder(tmp_path / "study").storage)
    for trial in study.trials:
        assert trial.user_attrs["params"] <= 200_000
        assert trial.constraints
        assert all(value <= 0 for value in trial.constraints.values())


def test_another_space_recipe_or_limit_is_refused(tmp_path: Path) -> None:
    go(tmp_path, 2)
    before = rows(tmp_path)
    for change in ("space", "recipe", "constraints", "seed"):
        other = load_study("cifar10-200k")
        value = 7 if change == "seed" else getattr(other, change)
        with pytest.raises(StudyError, match=f"differs in {change}.*choose another --name"):
            go(tmp_path, 3, config=demo(**{change: value}))
    assert rows(tmp_path) == before


def test_another_versions_study_is_refused(tmp_path: Path) -> None:
    go(tmp_path, 2)
    storage = StudyFolder(tmp_path / "study").storage
    study = optuna.load_study(study_name="test", storage=storage)
    study.set_user_attr("study", study.user_attrs["study"].replace("format = 1", "format = 9"))
    with pytest.raises(StudyError, match="made by another version"):
        go(tmp_path, 3)


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    go(tmp_path, 2)
    (tmp_path / "study" / "study.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StudyError, match="file is not a database"):
        go(tmp_path, 3)


def test_a_read_only_database_is_told(tmp_path: Path) -> None:
    go(tmp_path, 2)
    shutil.rmtree(tmp_path / "study" / "trials", ignore_errors=True)
    read_only = f"sqlite:///file:{tmp_path}/study/study.db?mode=ro&uri=true"
    with pytest.raises(StudyError, match="readonly database"):
        search(demo(), StudyFolder(tmp_path / "study"), Pretend(), 3, lambda _: None, read_only)
    assert len(rows(tmp_path)) == 2


def test_a_hopeless_space_is_refused_before_the_first_trial(tmp_path: Path) -> None:
    limits = demo().constraints.model_copy(update={"max_params": 10})
    with pytest.raises(
        HopelessSpaceError, match=r"no setting keeps max_params 10: the space reaches from"
    ):
        go(tmp_path, 2, config=demo(constraints=limits))


def test_the_last_networks_of_a_small_space_are_trained(tmp_path: Path) -> None:
    few = {"stride": (2,), "entry": ("conv",), "body": ("depthwise_separable",), "depth": (1,)}
    blocks = {
        f"block{i}": BlockSpace(width=(8 * i,), dilation=(2,), **few) for i in range(1, 4)
    } | {"block4": BlockSpace(width=(32, 40, 48), dilation=(2,), **few)}
    config = demo(space=Space(**blocks, activation=("relu",)), start=())
    events: list[Event] = []
    go(tmp_path, 5, Pretend(capacity=4), config=config, events=events)
    check_done(tmp_path, 3)
    assert [row["status"] for row in rows(tmp_path)] == ["trained"] * 3
    assert SpaceExhausted(3) in events
    assert not (tmp_path / "study" / "rejections.csv").exists()  # no limit was broken
    state = status(StudyFolder(tmp_path / "study")).state
    assert (state.done, state.wanted, state.seconds_left()) == (3, 3, 0)
    before = rows(tmp_path)
    idle = Pretend()
    go(tmp_path, 5, idle, config=config)  # the same command again
    assert (idle.reports, rows(tmp_path)) == (0, before)


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_every_network_within_the_limits_is_found_where_few_are(tmp_path: Path, kind: str) -> None:
    """Proposals alone would hardly meet the last of so few networks among 6,144 settings."""
    one = BlockSpace(
        width=(8, 12), stride=(2,), entry=("conv",), body=("depthwise_separable",), depth=(1, 2),
        dilation=(1, 2),
    )  # fmt: skip
    last = one.model_copy(update={"width": (8, 16, 24)})
    space = Space(block1=one, block2=one, block3=one, block4=last, activation=("relu",))

    def within(most: int) -> dict[str, dict[str, Any]]:
        limits = demo().constraints.model_copy(update={"max_params": most})
        return every_network(space, limits) or {}

    params = sorted(analyze(spec_of(space, knobs, "x")).params for knobs in within(3_000).values())
    few = within(params[3])
    assert 4 <= len(few) < 20
    limits = demo().constraints.model_copy(update={"max_params": params[3]})
    config = demo(space=space, constraints=limits, start=(), sampler=Sampler(kind=kind))
    entries = go(tmp_path, len(few) + 3, config=config)
    assert {entry.spec_hash for entry in entries} == set(few)
    assert len(csv_files.read_csv(tmp_path / "study" / "rejections.csv")) < 1_000


@pytest.mark.parametrize("kill", range(6))
def test_kills_are_not_blamed_on_a_trial_that_gets_further_between_them(
    tmp_path: Path, kill: int
) -> None:
    """Each time one epoch further than the last, as from a checkpoint."""
    config = demo(recipe=demo().recipe.model_copy(update={"epochs": 9}), finalists=0)
    for reached in range(1, kill + 1):
        with pytest.raises(Killed):
            go(tmp_path, 1, Pretend(dies_at=reached + 1), config)
    assert [entry.status for entry in go(tmp_path, 1, config=config)] == ["trained"]


def test_a_trial_that_kills_the_driver_at_the_same_epoch_fails_although_it_got_there(
    tmp_path: Path,
) -> None:
    config = demo(recipe=demo().recipe.model_copy(update={"epochs": 9}), finalists=0)
    for dies_at in (2, 3, 5, 5, 5):
        with pytest.raises(Killed):
            go(tmp_path, 1, Pretend(dies_at=dies_at), config)
    entries = go(tmp_path, 1, config=config)
    assert [entry.reason for entry in entries] == ["", "interrupted 3 times"]


def test_a_search_is_not_begun_anew_where_its_database_is_lost(tmp_path: Path) -> None:
    go(tmp_path, 3)
    folder = StudyFolder(tmp_path / "study")
    board, saved = folder.leaderboard.read_bytes(), folder.database.read_bytes()
    folder.database.unlink()
    with pytest.raises(StudyError, match=r"has 3 results.*restore a copy of study\.db.*--name"):
        go(tmp_path, 3)
    assert folder.leaderboard.read_bytes() == board
    assert not folder.database.exists()
    RDBStorage(folder.storage)  # an empty one changes nothing
    with pytest.raises(StudyError, match="has 3 results"):
        go(tmp_path, 3)
    folder.leaderboard.unlink()
    (folder.path / "trials" / "0123456789ab").mkdir(parents=True)
    with pytest.raises(StudyError, match="has networks in trials/"):
        go(tmp_path, 3)
    folder.database.write_bytes(saved)
    go(tmp_path, 4)
    check_done_any_finalists(tmp_path, 4)


def test_the_rows_that_an_older_database_lacks_are_kept(tmp_path: Path) -> None:
    go(tmp_path, 3)
    folder = StudyFolder(tmp_path / "study")
    older = folder.database.read_bytes()
    go(tmp_path, 6)
    longer = folder.leaderboard.read_bytes()
    folder.database.write_bytes(older)
    go(tmp_path, 4)
    assert (folder.path / "leaderboard.csv.before").read_bytes() == longer
    assert len(rows(tmp_path)) == 4
    go(tmp_path, 5)
    assert not (folder.path / "leaderboard.csv.before-2").exists()


def test_a_driver_that_dies_while_it_asks_leaves_a_study_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path / "before", 1)
    [row] = rows(tmp_path / "before")
    known = optuna.load_study(
        study_name="test", storage=StudyFolder(tmp_path / "before" / "study").storage
    ).trials[int(row["trial"])]
    config = demo(start=(complete(demo().space, known.params),), finalists=0)
    asked, suggest = 0, optuna.trial.Trial._suggest

    def dies(self: optuna.trial.Trial, *args: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise Killed
        return suggest(self, *args)

    monkeypatch.setattr(optuna.trial.Trial, "_suggest", dies)
    with pytest.raises(Killed):
        go(tmp_path, 3, config=config)
    assert status(StudyFolder(tmp_path / "study")).state.in_flight == {}
    entries = go(tmp_path, 3, config=config)
    check_done(tmp_path, 3, finalists=0)
    assert row["spec_hash"] in {entry.spec_hash for entry in entries}


def test_a_study_in_another_database_is_not_begun_anew_in_the_folders_own(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = f"sqlite:///{tmp_path / 'other.db'}"
    folder = StudyFolder(tmp_path / "studies" / "demo")

    def go_in(storage: str | None) -> list[Entry]:
        return search(demo(name="demo"), folder, Pretend(), 2, lambda _event: None, storage)

    found = go_in(elsewhere)
    with pytest.raises(StudyError, match=r"is kept in sqlite:.*other\.db.*--storage"):
        go_in(None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(WorkerPool, "__enter__", lambda _self: pytest.fail("workers were started"))
    refused = cli("search", "demo")
    assert refused.status == 2
    assert "studies/demo: its study is kept in sqlite:" in refused.err
    assert not (folder.path / "study.db").exists()
    assert go_in(elsewhere) == found
