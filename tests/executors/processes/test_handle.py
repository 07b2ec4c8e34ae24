"""Worker processes that fail, seen from their driver; none of these trains."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from archsearch.analysis.analyze import analyze
from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.executors import supervision
from archsearch.executors.messages import WorkerConfig
from archsearch.executors.processes import handle, pool
from archsearch.executors.processes.pool import WorkerPool
from archsearch.executors.protocol import EpochDone, JobDone, JobFailed
from archsearch.executors.supervision import MAX_ATTEMPTS
from archsearch.spec.models import Spec
from archsearch.training.job import Job
from archsearch.training.recipe import Recipe
from tests.executors import pretend_workers
from tests.strategies import HEADS, spec_of

HERE = WorkerConfig("shapes", None, "cpu", "fp32")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    raw = spec_of([[{"op": "conv", "out_channels": 8, "stride": 2}]], HEADS[0], 32, 32)
    analysis = analyze(Spec.model_validate(raw))
    return Job(
        key="one", spec_hash=analysis.spec_hash, network=analysis.network, recipe=Recipe(),
        seed=3, folder=tmp_path / "one", final=False,
    )  # fmt: skip


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Has workers run another main function."""
    return lambda main: monkeypatch.setattr("archsearch.executors.processes.worker.main", main)


def test_a_worker_that_lost_its_device_is_replaced_and_its_job_goes_on(
    tmp_path: Path, job: Job, instead: Callable[[Callable[..., None]], None]
) -> None:
    losses = tmp_path / "losses"
    losses.mkdir()
    for name in ("first", "second"):
        (losses / name).touch()
    instead(pretend_workers.loses_its_device)
    told: list[str] = []
    with WorkerPool(WorkerConfig("shapes", losses, None, None), 1, told.append) as executor:
        executor.submit(job)
        assert isinstance(executor.next_report(), EpochDone)
        assert isinstance(executor.next_report(), JobDone)
    how = f"the worker of one lost the GPU ({pretend_workers.WHY}): another goes on from its last"
    assert told == [f"{how} epoch"] * 2


def test_a_device_that_is_lost_again_and_again_ends_the_search(
    job: Job, instead: Callable[[Callable[..., None]], None]
) -> None:
    instead(pretend_workers.loses_its_device)
    told: list[str] = []
    with WorkerPool(HERE, 1, told.append) as executor:
        executor.submit(job)
        assert isinstance(executor.next_report(), EpochDone)
        with pytest.raises(DeviceLostError, match=r"^the GPU failed: CUDA error: .* --device$"):
            executor.next_report()
    assert len(told) == MAX_ATTEMPTS - 1


def test_a_worker_that_hangs_before_it_is_ready_is_told_and_ended(
    instead: Callable[[Callable[..., None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(pretend_workers.never_ready)
    monkeypatch.setattr(pool, "SLOW_START_S", 2)
    monkeypatch.setattr(pool, "_POLL_S", 0.2)
    told: list[str] = []
    with (
        pytest.raises(ArchsearchError, match="3 worker processes in a row could not start, the "
                      r"last was still loading torch after 4 s and was ended"),
        WorkerPool(HERE, 1, told.append, start_within_s=4),
    ):  # fmt: skip
        pytest.fail("entered")
    assert len(told) == MAX_ATTEMPTS
    assert told[0].startswith("a worker has been loading torch for ")


def test_what_a_dead_worker_was_writing_is_cleared_away(
    job: Job, instead: Callable[[Callable[..., None]], None]
) -> None:
    instead(pretend_workers.cut_short)
    with WorkerPool(HERE, 1, lambda _text: None) as executor:
        executor.submit(job)
        # The second one finds the folder there, and dies of that.
        assert isinstance(executor.next_report(), JobFailed)
    assert [path.name for path in job.folder.iterdir()] == [".checkpoint.pt.1.tmp"]


@pytest.mark.parametrize("threads", [0, 4])
def test_a_ctrl_c_while_a_worker_starts_is_not_lost(
    instead: Callable[[Callable[..., None]], None], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    stop = threading.Event()
    for _ in range(threads):  # any of them may be the one that the signal is given to
        threading.Thread(target=stop.wait, daemon=True).start()
    instead(pretend_workers.never_ready)
    start = SpawnProcess.start
    started: list[SpawnProcess] = []

    def interrupted(self: SpawnProcess) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        start(self)
        started.append(self)

    monkeypatch.setattr(SpawnProcess, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        handle.WorkerProcess.start(0, HERE, 1)
    stop.set()
    assert len(started) == 1
    started[0].kill()
    started[0].join()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSEARCH_STUCK_AFTER", text)
    with pytest.raises(ArchsearchError, match=f"^ARCHSEARCH_STUCK_AFTER: must .* got '{text}'"):
        WorkerPool(HERE, 1, print)


def test_the_limit_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WorkerPool(HERE, 1, print).stuck_after_s == supervision.STUCK_AFTER_S
    monkeypatch.setenv("ARCHSEARCH_STUCK_AFTER", "20")
    assert WorkerPool(HERE, 1, print).stuck_after_s == 20
