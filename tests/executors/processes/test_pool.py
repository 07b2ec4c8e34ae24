"""Training in worker processes: the same results as here, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from fault_drill.drill import alive

from archsearch.analysis.analyze import analyze
from archsearch.errors import ArchsearchError
from archsearch.executors.in_process import InProcessExecutor
from archsearch.executors.messages import WorkerConfig
from archsearch.executors.processes.pool import WorkerPool
from archsearch.executors.protocol import (
    EpochDone,
    Executor,
    JobDone,
    JobFailed,
    JobReport,
    MoreRoom,
)
from archsearch.executors.supervision import MAX_ATTEMPTS
from archsearch.spec.models import Spec
from archsearch.training.device import choose
from archsearch.training.images import load
from archsearch.training.job import Job
from archsearch.training.recipe import Recipe
from archsearch.training.records import Epoch
from archsearch.training.trainer import Trainer
from tests.strategies import HEADS, spec_of

pytestmark = pytest.mark.slow
SHAPES = WorkerConfig("shapes", None, "cpu", "fp32")
EPOCHS = 4


@pytest.fixture
def job(tmp_path: Path) -> Callable[[str], Job]:
    raw = spec_of([[{"op": "conv", "out_channels": 8, "stride": 2}]], HEADS[0], 32, 32)
    raw["input"]["channels"] = 3
    analysis = analyze(Spec.model_validate(raw))
    recipe = Recipe(epochs=EPOCHS, batch_size=50, optimizer="adam", lr=0.001)

    def make(key: str) -> Job:
        return Job(
            key=key, spec_hash=analysis.spec_hash, network=analysis.network, recipe=recipe,
            seed=3, folder=tmp_path / key, final=True,
        )  # fmt: skip

    return make


def told(executor: Executor, keys: set[str]) -> Iterator[JobReport]:
    """Reports until each of these jobs has ended."""
    while keys:
        report = executor.next_report()
        if isinstance(report, MoreRoom):
            continue
        if not isinstance(report, EpochDone):
            keys -= {report.key}
        yield report


def without_times(reports: list[JobReport]) -> list[object]:
    return [
        r.epoch.model_copy(update={"train_seconds": 0, "images_per_second": 0})
        if isinstance(r, EpochDone)
        else r
        for r in reports
    ]


def weights(job: Job) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = torch.load(job.folder / "checkpoint.pt", weights_only=True)[
        "model"
    ]
    return model


@pytest.fixture
def straight(job: Callable[[str], Job]) -> tuple[list[object], dict[str, torch.Tensor]]:
    """What the job gives in this process."""
    torch.set_num_threads(1)
    trainer = Trainer.of(load("shapes", None), choose("cpu", "fp32"))
    executor = InProcessExecutor(trainer, warn=print)
    here = replace(job("one"), folder=job("one").folder.with_name("here"))
    executor.submit(here)
    return without_times(list(told(executor, {"one"}))), weights(here)


def same_weights(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.usefixtures("one_thread_each")
def test_workers_give_what_training_here_gives(
    job: Callable[[str], Job], straight: tuple[list[object], dict[str, torch.Tensor]]
) -> None:
    with WorkerPool(SHAPES, 2, warn=pytest.fail) as executor:
        assert executor.capacity == 2
        assert executor.run_of(7).seed == 7
        executor.submit(job("one"))
        executor.submit(job("two"))
        reports = list(told(executor, {"one", "two"}))
        pids = executor.processes
    for key in ("one", "two"):
        mine = without_times([r for r in reports if r.key == key])
        assert [r for r in mine if isinstance(r, Epoch)] == straight[0][:-1]
        assert isinstance(mine[-1], JobDone)
        assert mine[-1].test_acc == straight[0][-1].test_acc  # type: ignore[attr-defined]
        assert same_weights(weights(job(key)), straight[1])
    assert not any(alive(pid) for pid in pids)


@pytest.mark.usefixtures("one_thread_each")
def test_a_killed_worker_is_replaced_and_its_job_ends_in_the_same_weights(
    job: Callable[[str], Job], straight: tuple[list[object], dict[str, torch.Tensor]]
) -> None:
    warnings: list[str] = []
    with WorkerPool(SHAPES, 1, warn=warnings.append) as executor:
        executor.submit(job("one"))
        reports = []
        for report in told(executor, {"one"}):
            reports.append(report)
            if isinstance(report, EpochDone) and report.epoch.epoch in (1, 3):
                os.kill(executor.processes[0], signal.SIGKILL)
    assert without_times(reports) == straight[0]  # every epoch told once
    assert same_weights(weights(job("one")), straight[1])
    assert 1 <= len(warnings) <= 2
    assert "the worker of one was killed by signal 9" in warnings[0]


def test_a_job_that_keeps_killing_workers_fails_and_the_next_one_is_trained(
    job: Callable[[str], Job],
) -> None:
    with WorkerPool(SHAPES, 1, warn=lambda _text: None) as executor:
        long = job("deadly").recipe.model_copy(update={"epochs": 1_000})
        executor.submit(replace(job("deadly"), recipe=long))
        deaths = 0
        while isinstance(last := executor.next_report(), EpochDone):
            os.kill(executor.processes[0], signal.SIGKILL)
            deaths += 1
        assert isinstance(last, JobFailed)
        assert deaths >= MAX_ATTEMPTS
        assert f"{MAX_ATTEMPTS} worker processes died of it" in last.reason
        executor.submit(job("next"))
        assert isinstance(list(told(executor, {"next"}))[-1], JobDone)


def test_a_worker_that_stands_still_is_ended(job: Callable[[str], Job]) -> None:
    warnings: list[str] = []

    def warn(text: str) -> None:
        warnings.append(text)
        executor.stuck_after_s = 300.0  # whoever goes on first loads for longer on a busy machine

    with WorkerPool(SHAPES, 1, warn) as executor:
        executor.submit(job("one"))
        assert isinstance(executor.next_report(), EpochDone)
        os.kill(executor.processes[0], signal.SIGSTOP)
        executor.stuck_after_s = 3.0
        reports = list(told(executor, {"one"}))
    assert isinstance(reports[-1], JobDone)
    assert len(reports) == EPOCHS  # the epochs after the first, and the end
    assert warnings == [
        "the worker of one made no step in 3 s and was ended: another goes on from its last epoch"
    ]


def test_a_dropped_job_makes_room_for_the_next(job: Callable[[str], Job]) -> None:
    with WorkerPool(SHAPES, 1, warn=pytest.fail) as executor:
        executor.submit(job("one"))
        assert isinstance(executor.next_report(), EpochDone)
        executor.stop("one")
        executor.submit(job("two"))
        reports = list(told(executor, {"two"}))
        assert {report.key for report in reports} == {"two"}
        assert len(reports) == EPOCHS + 1


def test_how_far_an_epoch_is_can_be_asked_while_it_is_trained(job: Callable[[str], Job]) -> None:
    shares: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.001):
            shares.append(executor.epoch_share("one"))

    with WorkerPool(SHAPES, 1, warn=pytest.fail) as executor:
        executor.submit(job("one"))
        asking = threading.Thread(target=ask)
        asking.start()
        list(told(executor, {"one"}))
        over.set()
        asking.join()
        assert executor.epoch_share("one") == executor.epoch_share("two") == 0
    assert shares[0] == 0
    assert max(shares) <= 1
    assert any(0.3 < share < 0.7 for share in shares)
    falls = sum(after < before for before, after in pairwise(shares))
    assert 1 <= falls <= EPOCHS  # as epochs end


def test_what_no_worker_can_do_is_told_at_once(tmp_path: Path) -> None:
    nowhere = replace(SHAPES, dataset="cifar10", data=tmp_path / "nowhere")
    with pytest.raises(ArchsearchError, match="no such folder"), WorkerPool(nowhere, 2, warn=print):
        pytest.fail("entered")


def test_workers_do_not_outlive_a_killed_driver(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from archsearch.executors.messages import WorkerConfig\n"
        "from archsearch.executors.processes.pool import WorkerPool\n"
        "if __name__ == '__main__':\n"
        "    with WorkerPool(WorkerConfig('shapes', None, 'cpu', 'fp32'), 2, print) as executor:\n"
        "        print(*executor.processes, flush=True)\n"
        "        time.sleep(600)\n"
    )
    (tmp_path / "driver.py").write_text(script)
    driver = subprocess.Popen([sys.executable, tmp_path / "driver.py"], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    pids = [int(word) for word in driver.stdout.readline().split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    os.kill(pids[0], signal.SIGSTOP)  # it is ready, and cannot see its driver end
    driver.kill()
    driver.communicate()
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
