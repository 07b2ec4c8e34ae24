"""Looking in on a search from outside, and what its own view shows."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from archsearch.common import folder_lock
from archsearch.common.page import plain
from archsearch.monitor.live_view import ProgressView, SearchState, sparkline
from archsearch.monitor.status import status
from archsearch.search.events import Event, Started
from archsearch.study.folder import StudyFolder
from tests.conftest import Cli
from tests.search.test_driver import Killed, Pretend, demo, go


def drawn(state: SearchState) -> str:
    return plain(state.page(elapsed_s=65.0))


def folded(events: list[Event], wanted: int) -> SearchState:
    config = demo()
    state = SearchState(
        wanted=wanted,
        final_runs=config.finalists,
        trial_epochs=config.recipe.epochs,
        final_epochs=config.final_recipe.epochs,
    )
    for event in events:
        state.apply(event)
    return state


def test_from_outside_a_search_looks_as_from_inside(tmp_path: Path) -> None:
    events: list[Event] = []
    go(tmp_path, 6, events=events)
    inside = folded(events, 6)
    outside = status(StudyFolder(tmp_path / "study")).state
    assert outside.done == inside.done == 6
    assert outside.finals_done == inside.finals_done == 1
    assert [e.trial for e in outside.best] == [e.trial for e in inside.best]
    assert outside.curves == inside.curves
    assert outside.rejected == inside.rejected
    assert outside.proposals_rejected == inside.proposals_rejected > 0
    assert sum(outside.rejected.values()) > outside.proposals_rejected  # some break two rules
    assert outside.in_flight == inside.in_flight == {}
    assert outside.seconds_left() == inside.seconds_left() == 0


def test_what_is_in_training_and_who_trains(tmp_path: Path, cli: Cli) -> None:
    events: list[Event] = []
    with pytest.raises(Killed):  # two in training, two epochs told
        go(tmp_path, 6, Pretend(capacity=2, dies_at=3), events=events)
    inside, outside = folded(events, 6), status(StudyFolder(tmp_path / "study")).state
    assert list(outside.in_flight) == list(inside.in_flight) == ["trial-0", "trial-1"]
    for key, at in outside.in_flight.items():
        assert (at.label, at.about, at.done) == (
            inside.in_flight[key].label, inside.in_flight[key].about, inside.in_flight[key].done,
        )  # fmt: skip
    started = [event.number for event in events if isinstance(event, Started)]
    assert started == [0, 1]
    study = tmp_path / "study"
    assert "nobody is at work" in cli("status", study).out
    with folder_lock.locked(study):
        shown = cli("status", study)
    assert shown.status == 0
    assert "process" in shown.out
    assert "trial 0" in shown.out


def test_the_view_says_what_is_left(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(Killed):
        go(tmp_path, 10, Pretend(dies_at=12), events=events)
    state = folded(events, 10)
    text = drawn(state)
    assert f"{state.done}/10" in text
    assert "elapsed 1:05" in text
    assert "best so far" in text
    left = state.seconds_left()
    config = demo()
    finals = config.final_recipe.epochs * config.finalists * 10 / 9
    assert left is not None
    # A pretended epoch is a second long; pruning makes some trials shorter.
    assert finals < left <= (10 - state.done) * config.recipe.epochs + finals
    state.at_a_time = 2
    assert state.seconds_left() == left  # there has been room for one so far
    state.together = 2
    # One finalist cannot be shared.
    assert state.seconds_left() == pytest.approx((left - finals) / 2 + finals)


def test_a_search_that_nobody_runs_promises_no_time(tmp_path: Path, cli: Cli) -> None:
    with pytest.raises(Killed):
        go(tmp_path, 10, Pretend(dies_at=12))
    study = tmp_path / "study"
    stopped = cli("status", study).out
    assert "stopped; run the same `archsearch search` command to resume" in stopped
    assert " left" not in stopped
    with folder_lock.locked(study):
        running = cli("status", study).out
    assert "stopped" not in running
    assert " left" in running


@pytest.mark.parametrize(
    ("values", "low", "high", "shown"),
    [
        ([0.0, 0.5, 1.0], 0.0, 1.0, "▁▅█"),
        ([0.2], 0.2, 0.2, "▁"),
        ([], 0.0, 1.0, ""),
        ([-1.0, 2.0], 0.0, 1.0, "▁█"),
    ],
)
def test_sparklines(values: list[float], low: float, high: float, shown: str) -> None:
    assert sparkline(values, low, high) == shown


def test_a_finalist_in_training_is_seen_from_outside_and_none_that_a_crash_left(
    tmp_path: Path,
) -> None:
    events: list[Event] = []
    go(tmp_path, 4, Pretend(), demo(finalists=0))
    with pytest.raises(Killed):  # one epoch of the finalist is told
        go(tmp_path, 4, Pretend(dies_at=2), events=events)
    inside, outside = folded(events, 4), status(StudyFolder(tmp_path / "study")).state
    ((key, mine),) = inside.in_flight.items()
    seen = outside.in_flight[key]
    assert (seen.label, seen.done, seen.epochs) == (mine.label, mine.done, mine.epochs)
    assert seen.label.startswith("finalist")
    assert seen.done == 1
    go(tmp_path, 12)
    assert status(StudyFolder(tmp_path / "study")).state.in_flight == {}


def test_the_best_so_far_are_those_of_the_objective(tmp_path: Path) -> None:
    recipe = demo().recipe.model_copy(update={"target_accuracy": 0.1})
    events: list[Event] = []
    go(tmp_path, 6, config=demo(objective="params", recipe=recipe, finalists=0), events=events)
    best = folded(events, 6).best
    assert [entry.params for entry in best] == sorted(entry.params for entry in best)
    scores = [entry.val_acc or 0 for entry in best]
    assert scores != sorted(scores, reverse=True)


def test_what_happens_before_the_first_epoch_is_shown(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(Killed):  # one epoch is told
        go(tmp_path, 6, Pretend(dies_at=2), events=events)
    told, pulses = [], []
    state = folded([], 6)
    state.doing = "loading torch and shapes"
    for event in events:
        told.append(drawn(state))
        pulses.append(state.pulse())
        state.apply(event)
    assert "loading torch and shapes" in told[0]
    assert "counting the search space" in pulses
    assert "proposing the first network" in pulses
    state.epoch_share = {"trial-0": 0.25}.__getitem__
    epochs = demo().recipe.epochs
    assert state.pulse().startswith(f"trial 0 epoch 2/{epochs} 25% done; about ")
    assert re.search(rf"trial 0 .* 1/{epochs} +25%", drawn(state))


def test_the_time_left_is_known_within_the_first_epoch(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(Killed):
        go(tmp_path, 6, Pretend(dies_at=1), events=events)
    state = folded(events, 6)
    assert state.seconds_left() is None
    state.epoch_share = lambda _key: 0.01  # too little to go by
    assert state.seconds_left() is None
    state.epoch_share = lambda _key: 0.5
    state.in_flight["trial-0"].began -= 10.0  # half an epoch in ten seconds
    left = state.seconds_left()
    config = demo()
    final = config.final_recipe.epochs * config.finalists * 10 / 9
    assert left == pytest.approx(20 * (6 * config.recipe.epochs + final), rel=0.05)


def test_a_resumed_search_says_what_is_done(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        go(tmp_path, 6, Pretend(dies_at=12))
    events: list[Event] = []
    go(tmp_path, 6, events=events)
    state = folded([], 6)
    lines = [line for event in events if (line := state.apply(event))]
    (told,) = [line for line in lines if "are trained already" in line]
    assert re.fullmatch(
        r"\d of 6 trials are trained already; "
        r"best so far: trial \d, \d\d\.\d\d% of the hold-out",
        told,
    )


def test_off_a_terminal_a_quiet_search_says_now_and_then_what_it_does() -> None:
    out = io.StringIO()
    state = SearchState(wanted=2, final_runs=1, trial_epochs=3, final_epochs=3)
    view = ProgressView(state, Console(file=out), quiet_s=0.0)
    view.begin("loading torch and shapes")
    view.pulse()
    assert out.getvalue().count("loading torch and shapes") == 2
    view.quiet_s = 1_000.0
    view.pulse()
    assert out.getvalue().count("loading") == 2
