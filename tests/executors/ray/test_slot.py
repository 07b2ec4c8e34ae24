"""What a driver makes of what comes from a cluster, without one."""

from __future__ import annotations

import errno
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.errors import ArchsearchError
from archsearch.executors.messages import Ready
from archsearch.executors.protocol import MoreRoom
from archsearch.executors.ray.cluster import HeadNode, TrialResources
from archsearch.executors.ray.executor import RayExecutor
from archsearch.executors.ray.slot import Died, Ended, Slot, _fate, write_files
from archsearch.training.records import Run
from tests.executors.processes.test_pool import SHAPES
from tests.executors.test_supervision import JOB

RUN = Run(device="cpu", precision="fp32", seed=0, dataset="shapes", torch_version="t")


@pytest.mark.parametrize(
    "name", ["../study.toml", "/etc/x", "sub/spec.json", ".hidden", "", "spec.json\0"]
)
def test_a_node_cannot_write_outside_of_its_jobs_folder(tmp_path: Path, name: str) -> None:
    job = replace(JOB, folder=tmp_path / "study" / "job")
    with pytest.raises(ArchsearchError, match="no file of a run"):
        write_files(job, {"spec.json": b"{}", name: b"theirs"})
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_leaves_is_written(tmp_path: Path) -> None:
    found = {"checkpoint.pt": b"1", "checkpoint.corrupt": b"2", "history.csv": b"3"}
    write_files(replace(JOB, folder=tmp_path), found)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == found


def cluster(monkeypatch: pytest.MonkeyPatch) -> RayExecutor:
    """With room for slots that nobody opens."""
    monkeypatch.setattr(RayExecutor, "_slot", lambda _self: Slot(None, None))
    return RayExecutor("nowhere", SHAPES, 4, TrialResources(), lambda _text: None)


def test_nodes_that_die_say_nothing_of_whoever_was_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'archsearch[ray]'")
    executor = cluster(monkeypatch)
    for _ in range(5):
        executor._bury(Slot(None, None), Died("", with_its_node=True))
        executor._bury(Slot(None, None, job=JOB, run=RUN, begun=True), Died("", True))
    assert list(executor._backlog) == [JOB] * 5
    executor._bury(Slot(None, None), Died(""))
    executor._bury(Slot(None, None), Died(""))
    with pytest.raises(ArchsearchError, match="3 Ray actors in a row could not start"):
        executor._bury(Slot(None, None), Died(""))


def test_one_that_cannot_start_ends_no_search_whose_others_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'archsearch[ray]'")
    executor = cluster(monkeypatch)
    executor._slots = [Slot(None, None, run=RUN)]
    for _ in range(5):
        executor._bury(Slot(None, None), Died(""))
    assert len(executor._slots) == 6


def test_silence_is_counted_in_training_and_asked_about() -> None:
    asked: list[None] = []

    class Steps:
        def remote(self) -> str:
            asked.append(None)
            return "answer"

    class Actor:
        steps = Steps()

    idle, busy = Slot(None, None), Slot(Actor(), None, job=JOB)
    for slot in (idle, busy, busy):
        slot.watch(2.0, 0.0)
    assert (idle.silent_s, busy.silent_s) == (0.0, 4.0)
    assert len(asked) == 1  # once until there is an answer
    busy.watch(2.0, 1e9)
    assert len(asked) == 1


def test_who_dies_after_its_job_was_done_has_it_not_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'archsearch[ray]'")
    executor = cluster(monkeypatch)
    for slot in (Slot(None, None, job=JOB, run=RUN, begun=True, done=True),
                 Slot(None, None, job=JOB, run=RUN, begun=True, dropped=True)):  # fmt: skip
        executor._bury(slot, Died("died"))
    assert not executor._backlog
    assert executor._outbox.empty()


def test_why_a_thread_ended_is_told_though_nothing_can_be_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'archsearch[ray]'")

    def warn(_text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(error: Exception) -> None:
        raise error

    for error, told in ((BrokenPipeError("Broken pipe"), "Ray has gone from this machine"),
                        (PermissionError("Permission denied"), "^Permission denied")):  # fmt: skip
        executor = cluster(monkeypatch)
        executor.warn = warn
        monkeypatch.setattr(RayExecutor, "_take_orders", lambda _self, error=error: fails(error))
        executor._work()
        with pytest.raises((ArchsearchError, PermissionError), match=told):
            executor.next_report()


def test_a_driver_that_ray_takes_for_dead_ends() -> None:
    exceptions = pytest.importorskip("ray.exceptions", reason="Ray is not installed")
    said = "The actor is dead because its owner has died."
    with pytest.raises(ConnectionError):
        _fate(exceptions.RayError(said))
    assert _fate(exceptions.RayError("its node has died")).with_its_node


def test_a_job_whose_stream_ends_without_a_word_is_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'archsearch[ray]'")
    executor = cluster(monkeypatch)
    monkeypatch.setattr(Slot, "next_word", lambda _self: Ended())
    executor._receive(done := Slot(None, None, job=JOB, run=RUN, begun=True, done=True))
    assert done.job is None
    assert not executor._backlog
    executor._receive(Slot(None, None, job=JOB, run=RUN, begun=True))
    assert list(executor._backlog) == [JOB]


def test_a_slot_that_opens_makes_room_and_a_job_is_recorded_where_it_was_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'archsearch[ray]'")
    executor = cluster(monkeypatch)
    executor._slots = slots = [Slot(None, None) for _ in range(3)]
    given: list[tuple[int, str]] = []
    monkeypatch.setattr(Slot, "give", lambda self, job: given.append((slots.index(self), job.key)))
    assert executor.ready == 1  # something may wait: a search with nothing under way is over
    executor.submit(JOB)
    executor._take_orders()
    assert given == []
    for at, device in ((2, "cuda"), (1, "cpu")):
        word = Ready(RUN.model_copy(update={"device": device}), 0)
        monkeypatch.setattr(Slot, "next_word", lambda _self, word=word: word)
        executor._receive(slots[at])
        assert isinstance(executor.next_report(), MoreRoom)
    assert executor.ready == 2
    executor._take_orders()
    assert given == [(1, JOB.key)]
    assert executor.run_of(7, JOB.key) == RUN.model_copy(update={"device": "cpu", "seed": 7})
    assert executor.run_of(7, "none").device == executor.run_of(7).device == "cuda"


def test_a_head_that_is_gone_ends_the_search_before_ray_ends_the_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = HeadNode(f"127.0.0.1:{server.getsockname()[1]}", 0.0)
        for now[0] in range(0, 1_000, 20):
            head.watch()
    for now[0] in range(1_000, 1_040):  # as long as it may take to start again
        head.watch()
    now[0] += 1
    with pytest.raises(ArchsearchError, match=r"head of the cluster \(127.*is gone.*same command"):
        head.watch()
