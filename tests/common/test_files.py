"""Writing so that nothing is lost."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from filelock import lock_descriptor

from archsearch.common import atomic_files, csv_files, folder_lock
from archsearch.errors import ArchsearchError, StudyError
from archsearch.training import checkpoint
from archsearch.training.checkpoint import Checkpoint, State


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    atomic_files.write_text(path, "old")

    def fail() -> None:
        with atomic_files.replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ArchsearchError, match="No space left on device; what was saved before"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    link = tmp_path / "link"
    link.symlink_to(folder / "a.txt")
    for text in ("where nothing was", "where something was"):
        atomic_files.write_text(link, text)
        assert link.is_symlink()
        assert (folder / "a.txt").read_text() == text
        assert list(folder.iterdir()) == [folder / "a.txt"]


def test_a_pipe_is_written_into_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        atomic_files.write_text(pipe, "through")
        try:
            assert reader.communicate(timeout=20)[0] == b"through"
        finally:
            reader.kill()
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("path", [".", "..", "", "/"])
def test_a_folder_is_not_replaced(path: str) -> None:
    with pytest.raises(ArchsearchError, match=r"is a folder: give a file in it"):
        atomic_files.write_text(Path(path), "text")


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ArchsearchError, match="a: cannot be written: Too many levels of symbolic"):
        atomic_files.write_text(tmp_path / "a", "text")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_device_is_written_into_and_stays() -> None:
    before = Path("/dev/full").stat()
    with pytest.raises(ArchsearchError, match=r"^/dev/full: cannot be written: No space left"):
        atomic_files.write_text(Path("/dev/full"), "text")
    after = Path("/dev/full").stat()
    assert stat.S_ISCHR(after.st_mode)
    assert after.st_ino == before.st_ino


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk() -> None:
    with pytest.raises(ArchsearchError, match="No space left on device"):
        csv_files.append_csv(Path("/dev/full"), ("a",), {"a": "b"})


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    csv_files.append_csv(path, ("a", "b"), {"a": 1, "b": 2})
    with path.open("a") as file:
        file.write("3,")
    csv_files.append_csv(path, ("a", "b"), {"a": 5, "b": 6})
    assert csv_files.read_csv(path) == [{"a": "1", "b": "2"}, {"a": "5", "b": "6"}]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_formulas_are_inert(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    csv_files.write_csv(path, ("a",), [{"a": text}])
    assert csv_files.read_csv(path) == [{"a": f"'{text}"}]


def test_negative_numbers_stay_numbers(tmp_path: Path) -> None:
    csv_files.write_csv(tmp_path / "a.csv", ("a",), [{"a": -1.5}])
    assert csv_files.read_csv(tmp_path / "a.csv") == [{"a": "-1.5"}]


def test_a_second_process_is_kept_out_and_the_lock_dies_with_its_owner(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from archsearch.common.folder_lock import locked\n"
        f"with locked(Path({str(tmp_path)!r})): print('held', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        with (
            pytest.raises(StudyError, match=f"process {owner.pid} is at work here"),
            folder_lock.locked(tmp_path),
        ):
            pass
    finally:
        owner.kill()
        owner.communicate()
    with folder_lock.locked(tmp_path):
        pass


def test_a_look_at_who_holds_a_folder_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".lock").touch()
    look = (tmp_path / ".lock").open()
    assert lock_descriptor(look.fileno(), blocking=False)
    asked = 0

    def lock_while_someone_looks(number: int, *, blocking: bool) -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            look.close()
        return lock_descriptor(number, blocking=blocking)

    monkeypatch.setattr(folder_lock, "lock_descriptor", lock_while_someone_looks)
    with folder_lock.locked(tmp_path):
        assert asked == 3
        assert folder_lock.holder(tmp_path) == f"process {os.getpid()}"


def test_a_look_at_who_holds_a_folder_leaves_nothing(tmp_path: Path) -> None:
    assert folder_lock.holder(tmp_path) is None
    assert folder_lock.holder(tmp_path / "missing") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".lock").write_text("process 1")
    assert folder_lock.holder(tmp_path) is None
    assert (tmp_path / ".lock").read_text() == "process 1"
    assert list(tmp_path.iterdir()) == [tmp_path / ".lock"]


def test_an_earlier_versions_lock_is_seen_and_keeps_this_one_out(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("process 7")
        file.flush()
        assert folder_lock.holder(tmp_path) == "process 7"
        with pytest.raises(StudyError, match="process 7 is at work"), folder_lock.locked(tmp_path):
            pass
    assert (tmp_path / ".lock").read_text() == "process 7"
    with folder_lock.locked(tmp_path), (tmp_path / ".lock").open() as file:
        assert file.read().strip() == f"process {os.getpid()}"
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_number: int, *, blocking: bool) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock, "lock_descriptor", fail)
    with (
        pytest.raises(ArchsearchError, match=r"\.lock: cannot be written: No locks available"),
        folder_lock.locked(tmp_path),
    ):
        pass


def test_a_held_folder_is_refused_at_once(tmp_path: Path) -> None:
    folder_lock.refuse_if_held(tmp_path)
    with (
        folder_lock.locked(tmp_path),
        pytest.raises(StudyError, match=f"process {os.getpid()} is at work here; wait for it or"),
    ):
        folder_lock.refuse_if_held(tmp_path)
    folder_lock.refuse_if_held(tmp_path)


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow: what a full disk is to a user who cannot fill one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_lock_needs_no_room(tmp_path: Path) -> None:
    with no_room(), folder_lock.locked(tmp_path):
        assert folder_lock.holder(tmp_path) == "another process"


def test_a_checkpoint_without_room_is_told_with_its_cause(tmp_path: Path) -> None:
    state = State({"weight": torch.zeros(10)}, [], None, 1)
    path = tmp_path / "checkpoint.pt"
    told = r"checkpoint\.pt: cannot be written: File too large; what was saved before is as it was"
    with no_room(), pytest.raises(ArchsearchError, match=told):
        checkpoint.save(path, Checkpoint("run", (), state))
    assert list(tmp_path.iterdir()) == []


def test_what_writes_left_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    kept = [tmp_path / name for name in (".a.csv.tmp", "a.csv.7.tmp", ".a.csv.7", "deep/.b.x.tmp")]
    left = [tmp_path / name for name in (".a.csv.7.tmp", "deep/.b.pt.77.tmp")]
    for path in (*kept, *left):
        path.touch()
    assert atomic_files.drop_temporaries(tmp_path, 77) == left[1:]
    assert atomic_files.drop_temporaries(tmp_path) == left[:1]
    assert all(path.exists() for path in kept)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ArchsearchError, match="cannot be written: Not a directory"),
        folder_lock.locked(tmp_path / "file" / "study"),
    ):
        pass


def test_a_csv_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.csv"
    path.write_text("a,b\n" + "1,2\n" * 100)
    assert len(csv_files.read_csv(path)) == 100
    monkeypatch.setattr(csv_files, "MAX_CSV_BYTES", 200)
    with pytest.raises(ArchsearchError, match="larger than"):
        csv_files.read_csv(path)
