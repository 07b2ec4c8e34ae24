"""Training on a real Ray cluster of two nodes on this machine: the guarantees of local workers."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fault_drill import postgres_server, ray_nodes
from fault_drill.drill import FINALISTS, STUDY, Drill, actors, archsearch
from fault_drill.ray_nodes import Nodes
from fault_drill.run import drilled

from archsearch.common.csv_files import read_csv
from archsearch.errors import ArchsearchError
from archsearch.executors.protocol import EpochDone, JobDone, JobFailed, MoreRoom
from archsearch.executors.ray.cluster import TrialResources
from archsearch.executors.ray.executor import RayExecutor
from archsearch.study.folder import StudyFolder
from archsearch.training.job import Job
from tests.executors.processes.test_pool import (
    EPOCHS,
    SHAPES,
    job,
    one_thread_each,
    same_weights,
    straight,
    told,
    weights,
    without_times,
)
from tests.search.test_drill import without

__all__ = ["job", "one_thread_each", "straight"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning",
                               "ignore::FutureWarning",
                               "ignore::pytest.PytestUnraisableExceptionWarning"),
]  # fmt: skip
CPU = TrialResources(1.0, 0.0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """A head that trains nothing and two nodes of one core."""
    if reason := ray_nodes.why_none():
        pytest.skip(reason)
    with ray_nodes.nodes(2) as found:
        yield found


@pytest.mark.usefixtures("one_thread_each")
def test_a_cluster_gives_what_training_here_gives_though_its_workers_are_killed(
    cluster: Nodes,
    job: Callable[[str], Job],
    straight: tuple[list[object], dict[str, torch.Tensor]],
) -> None:
    warnings: list[str] = []
    with RayExecutor(cluster.address, SHAPES, None, CPU, warnings.append) as executor:
        assert executor.capacity == 2
        assert executor.run_of(7).seed == 7
        executor.submit(job("one"))
        executor.submit(job("two"))
        reports, kills = [], 0
        for report in told(executor, {"one", "two"}):
            reports.append(report)
            if isinstance(report, EpochDone) and not warnings:
                for pid in actors()[:1]:
                    kills += 1
                    os.kill(pid, signal.SIGKILL)
        # A dropped job makes room; one that kills whoever trains it fails.
        executor.submit(job("three"))
        assert isinstance(next(told(executor, {"three"})), EpochDone)
        executor.stop("three")
        executor.submit(job("four"))
        assert {report.key for report in told(executor, {"four"})} == {"four"}
    for key in ("one", "two", "four"):
        mine = without_times([r for r in reports if r.key == key])
        assert key == "four" or mine == without_times_of(straight[0], key)
        assert same_weights(weights(job(key)), straight[1])
        assert len(read_csv(job(key).folder / "history.csv")) == EPOCHS
        assert {path.name for path in job(key).folder.iterdir()} == FILES
    deaths = [warning for warning in warnings if "another goes on from its last epoch" in warning]
    assert 1 <= len(deaths) <= kills
    assert all("died (killed, or out of memory?)" in death for death in deaths)


FILES = {"checkpoint.pt", "history.csv", "model.py", "recipe.json", "run.json", "spec.json"}


def without_times_of(reports: list[object], key: str) -> list[object]:
    return [replace(r, key=key) if isinstance(r, JobDone) else r for r in reports]


def test_a_job_that_keeps_killing_workers_fails(
    cluster: Nodes,
    job: Callable[[str], Job],
) -> None:
    long = job("deadly").recipe.model_copy(update={"epochs": 1_000})
    with RayExecutor(cluster.address, SHAPES, 1, CPU, lambda _text: None) as executor:
        executor.submit(replace(job("deadly"), recipe=long))
        reports = []
        for report in told(executor, {"deadly"}):
            reports.append(report)
            for pid in actors():
                os.kill(pid, signal.SIGKILL)
        last = reports[-1]
        assert isinstance(last, JobFailed)
        assert "3 Ray actors died of it: the last died" in last.reason


def test_what_no_node_can_do_is_told(cluster: Nodes, tmp_path: Path) -> None:
    for place, share, told_ in (
        (replace(SHAPES, device="cuda"), CPU, "cuda"),
        (replace(SHAPES, dataset="cifar10", data=tmp_path / "nowhere"), CPU, "no such folder"),
        (SHAPES, TrialResources(64.0, 0.0), "no node of the cluster has 64 CPU"),
    ):
        executor = RayExecutor(cluster.address, place, None, share, pytest.fail)
        with pytest.raises(ArchsearchError, match=told_), executor:
            pytest.fail("entered")


def test_trials_share_a_gpu_and_what_has_no_room_on_it_waits_without_a_job(
    cluster: Nodes, job: Callable[[str], Job]
) -> None:
    node = cluster.add(cpus=8, gpus=1)  # as Ray counts: networks train on the CPU
    half, warnings = TrialResources(1.0, 0.5), list[str]()
    try:
        with RayExecutor(cluster.address, SHAPES, None, half, warnings.append) as executor:
            assert executor.capacity == 2
        with RayExecutor(cluster.address, SHAPES, 3, half, warnings.append) as executor:
            while executor.ready < 2:
                assert isinstance(executor.next_report(), MoreRoom)
            executor.submit(job("one"))
            executor.submit(job("two"))
            assert len(list(told(executor, {"one", "two"}))) == 2 * (EPOCHS + 1)
            assert executor.ready == 2
        assert "3 at a time are asked for, and the cluster has room for 2" in warnings[0]
        assert all("wait for room" in warning for warning in warnings[1:])
    finally:
        cluster.cluster.remove_node(node, allow_graceful=False)


# The command


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    (tmp_path / "drill.toml").write_text(STUDY)
    return tmp_path


@pytest.mark.postgres
def test_a_search_under_fire_on_a_cluster_loses_nothing(cluster: Nodes, tmp_path: Path) -> None:
    if reason := postgres_server.why_none():
        pytest.skip(reason)
    kills = 2 * ["worker killed"]  # one of them may still load, and have no network
    faults = [*kills, "Ray node removed", "PostgreSQL away for 30 s", "driver killed"]
    with postgres_server.server() as database:
        drill = Drill(
            tmp_path, 15, 2, random.Random(0), nodes=cluster, database=database, stuck_s=120
        )
        occurrences, epochs_lost, problems = drilled(drill, faults)
        assert problems == []
        assert [each.fault for each in occurrences] == faults
        assert epochs_lost == [0] * len(faults)
        written = [*tmp_path.rglob("*"), *cluster.logs.rglob("*")]
        assert any("worker" in path.name and path.suffix == ".out" for path in written)
        secret = database.password.encode()
        assert not [p for p in written if p.is_file() and secret in p.read_bytes()]
    log = (tmp_path / "log.txt").read_text()
    assert "another goes on from its last epoch" in log
    assert "raylet" not in log


@pytest.mark.parametrize(
    "study",
    [
        STUDY,
        pytest.param(
            STUDY.replace('"shapes"', '"cifar10"').replace("epochs = 5", "epochs = 1"),
            marks=pytest.mark.cifar10,
        ),
    ],
    ids=["shapes", "cifar10"],
)
def test_the_same_seed_gives_the_same_leaderboard_as_local_workers(
    cluster: Nodes, study_file: Path, study: str, request: pytest.FixtureRequest
) -> None:
    if "cifar10" in study:
        request.getfixturevalue("cifar10")
    (study_file / "drill.toml").write_text(study)
    boards = []
    for name, where in (("here", []), ("there", ["--ray", cluster.address])):
        options = ["--trials", "3", "--workers", "1", "--device", "cpu", "--precision", "fp32"]
        done = subprocess.run(
            archsearch("search", "drill.toml", "--name", name, *options, *where),
            cwd=study_file, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows = read_csv(StudyFolder(study_file / "studies" / name).leaderboard)
        timed = ("train_seconds", "images_per_second", "final_train_seconds", "seconds_to_target")
        boards.append([without(row, *timed) for row in rows])
    assert boards[0] == boards[1]
    assert sum(row["test_seeds"] == "1" for row in boards[1]) == FINALISTS


def test_a_head_that_dies_ends_the_search_and_it_goes_on_with_another(
    cluster: Nodes, study_file: Path
) -> None:
    study = StudyFolder(study_file / "studies" / "drill")
    options = ("--trials", "400", "--device", "cpu", "--precision", "fp32", "--ray")
    address = cluster.address
    run = subprocess.Popen(
        archsearch("search", "drill.toml", *options, address),
        cwd=study_file, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while run.poll() is None and len(list(study.path.glob("trials/*/history.csv"))) < 3:
        time.sleep(0.2)
    cluster.lose_head()
    _, said = run.communicate(timeout=120)
    assert run.returncode == 2, said
    assert f"error: the head of the cluster ({address}) is gone" in said
    assert "Traceback" not in said
    before = {row["spec_hash"] for row in read_csv(study.leaderboard)}
    assert before
    done = subprocess.run(
        archsearch("search", "drill.toml", *options, "local", "--trials", str(len(before) + 2)),
        cwd=study_file, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    after = [row["spec_hash"] for row in read_csv(study.leaderboard)]
    assert len(after) == len(set(after)) == len(before) + 2
    assert before < set(after)
