"""What a slot of a cluster does on its node, without one."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from archsearch import __version__
from archsearch.common import folder_lock
from archsearch.errors import ArchsearchError
from archsearch.executors.messages import Loading
from archsearch.executors.ray.actor import _FRESH_S, RayWorker, _job_folder
from tests.executors.processes.test_pool import SHAPES
from tests.executors.test_supervision import JOB


def test_what_killed_actors_left_on_a_node_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    theirs = tmp_path / "elsewhere"
    (theirs / "kept").mkdir(parents=True)
    names = ("dead", "begun", "alive", "fresh")
    dead, begun, alive, fresh = (tmp_path / f"archsearch-job-{name}" for name in names)
    for folder in (dead, alive):
        with folder_lock.locked(folder):
            (folder / "checkpoint.pt").write_bytes(b"1")
    begun.mkdir()
    fresh.mkdir()
    (tmp_path / "archsearch-job-link").symlink_to(theirs)
    (tmp_path / "archsearch-job-file").write_bytes(b"")
    (tmp_path / "another").mkdir()
    old = time.time() - 2 * _FRESH_S
    for path in set(tmp_path.iterdir()) - {fresh}:
        os.utime(path, (old, old))
    before = set(tmp_path.iterdir())
    with folder_lock.locked(alive):
        with _job_folder() as mine:
            assert folder_lock.holder(mine)
            assert set(tmp_path.iterdir()) - {mine} == before - {dead, begun}
        assert not mine.exists()
    assert (theirs / "kept").exists()


def test_a_node_where_nothing_can_be_written_is_told_and_no_network_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    told = [parcel.told for parcel in RayWorker(SHAPES, 1, __version__).train(JOB, None)]
    assert isinstance(told[0], Loading)
    assert isinstance(told[1], ArchsearchError)
    assert str(told[1]).startswith(f"{os.uname().nodename}: ")
    assert "No such file or directory" in str(told[1])
