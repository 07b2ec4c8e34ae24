"""A signal at any moment of a search: nothing is cut short, and nothing is lost."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import optuna
import pytest

from archsearch.common import interruption
from archsearch.study.folder import StudyFolder
from tests.search.test_driver import Pretend, check_done, go

TRIALS = 2


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what signals did, which commands do by ending."""
    monkeypatch.setattr(interruption, "_state", interruption._State())
    monkeypatch.setattr(interruption, "GRACE_S", 60.0)  # for machines that are busy
    before = {each: signal.getsignal(each) for each in interruption.SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


class Calls:
    """Counts the calls of Python functions; signals this process at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.count, self.at = 0, at

    def __call__(self, _frame: FrameType, event: str, _arg: object) -> None:
        self.count += event == "call"
        if self.count == self.at:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGINT)

    @contextmanager
    def counted(self) -> Iterator[None]:
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many calls a whole search makes."""
    go(tmp_path_factory.mktemp("warm"), TRIALS)  # what is imported or built once
    with (calls := Calls()).counted():
        go(tmp_path_factory.mktemp("whole"), TRIALS)
    return calls.count


@pytest.mark.parametrize("share", [0.4, 0.7, 0.9, 0.99])
def test_at_any_moment_it_stops_and_goes_on(tmp_path: Path, calls: int, share: float) -> None:
    with (
        interruption.listening(),
        pytest.raises(KeyboardInterrupt),
        interruption.saving(lambda: "no safe point was reached\n"),
        Calls(int(share * calls)).counted(),
    ):
        go(tmp_path, TRIALS)
    entries = go(tmp_path, TRIALS)
    check_done(tmp_path, TRIALS)
    assert not [entry for entry in entries if entry.status == "failed"]
    study = optuna.load_study(study_name="test", storage=StudyFolder(tmp_path / "study").storage)
    assert {trial.user_attrs.get("attempt", 1) for trial in study.trials} == {1}


def test_no_trial_starts_after_a_signal(tmp_path: Path) -> None:
    class Signaled(Pretend):
        def next_report(self) -> object:  # type: ignore[override]
            os.kill(os.getpid(), signal.SIGTERM)
            return super().next_report()

    executor = Signaled()
    with (
        interruption.listening(),
        pytest.raises(KeyboardInterrupt),
        interruption.saving(lambda: "no safe point was reached\n"),
    ):
        go(tmp_path, TRIALS, executor)
    assert executor.reports == 1
    go(tmp_path, TRIALS)
    check_done(tmp_path, TRIALS)
