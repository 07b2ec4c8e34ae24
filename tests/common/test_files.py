"""Writing so that nothing is lost."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
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


@pytest.mark.parametrize("there", ["a file", "nothing", "a folder"])
def test_a_link_is_replaced_and_what_it_leads_to_is_left(tmp_path: Path, there: str) -> None:
    target = tmp_path / "target"
    if there == "a folder":
        target.mkdir()
    elif there == "a file":
        target.write_text("mine")
    for name, write in OWN_WRITES.items():
        link = tmp_path / name
        link.symlink_to(target)
        write(link)
        assert link.is_file()
        assert not link.is_symlink()
    assert target.exists() == (there != "nothing")
    if there == "a file":
        assert target.read_text() == "mine"
    assert not target.is_dir() or not list(target.iterdir())


OWN_WRITES: dict[str, Callable[[Path], None]] = {
    "text": lambda path: atomic_files.write_text(path, "text"),
    "rows": lambda path: csv_files.append_csv(path, ("a",), {"a": "b"}),
}


@pytest.mark.parametrize("name", OWN_WRITES)
def test_a_pipe_in_a_place_of_ours_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArchsearchError, match="pipe: cannot be written: is a pipe, not a regular"):
        OWN_WRITES[name](tmp_path / "pipe")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_link_of_the_temporary_files_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / f".a.csv.{os.getpid()}.tmp").symlink_to(tmp_path / "target")
    atomic_files.write_text(tmp_path / "a.csv", "text")
    assert (tmp_path / "target").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "target"}


def test_an_output_that_a_user_names_follows_links(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    link = tmp_path / "link"
    link.symlink_to(folder / "a.txt")
    for text in (b"where nothing was", b"where something was"):
        atomic_files.write_output(link, text)
        assert link.is_symlink()
        assert (folder / "a.txt").read_bytes() == text
        assert list(folder.iterdir()) == [folder / "a.txt"]


def test_a_pipe_that_a_user_names_is_written_into_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        atomic_files.write_output(pipe, b"through")
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
    with pytest.raises(ArchsearchError, match=r"is a folder: give a file in it"):
        atomic_files.write_output(Path(path), b"text")


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ArchsearchError, match="a: cannot be written: Too many levels of symbolic"):
        atomic_files.write_output(tmp_path / "a", b"text")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_device_that_a_user_names_is_written_into_and_stays() -> None:
    before = Path("/dev/full").stat()
    with pytest.raises(ArchsearchError, match=r"^/dev/full: cannot be written: No space left"):
        atomic_files.write_output(Path("/dev/full"), b"text")
    after = Path("/dev/full").stat()
    assert stat.S_ISCHR(after.st_mode)
    assert after.st_ino == before.st_ino


def test_a_full_disk(tmp_path: Path) -> None:
    with no_room(), pytest.raises(ArchsearchError, match="File too large; what was saved before"):
        csv_files.append_csv(tmp_path / "a.csv", ("a",), {"a": "b"})


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


def test_a_row_that_is_too_long_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "MAX_ROW_CHARS", 100)
    path = tmp_path / "rows.csv"
    for text in ("a,b\n" + "x" * 101, "a,b\n" + '"x\n","y\n",' * 20):
        path.write_text("a,b\n" + "1,2\n" * 100)
        assert len(csv_files.read_csv(path)) == 100
        path.write_text(text)
        with pytest.raises(ArchsearchError, match="a row has more than 100 characters"):
            csv_files.read_csv(path)


@pytest.mark.parametrize(
    ("text", "kept", "dropped"),
    [
        (b"", b"a,b\n", 0),
        (b"a,b\n1,2\n", b"a,b\n1,2\n", 0),
        (b"a,b\n1,2\n3,", b"a,b\n1,2\n", 1),
        (b"a,b\n1,2\n\n3\n4,5,6\n7,8\n", b"a,b\n1,2\n7,8\n", 3),
        (b"a,b\n" + b"\0" * 500, b"a,b\n", 1),
        (b"a,b\n" + b"x" * 150 + b",\n1,2\n", b"a,b\n1,2\n", 1),
        (b"\0" * 500 + b"\n1,2\n", b"a,b\n1,2\n", 1),
        (b"c,d\n1,2\n", b"a,b\n1,2\n", 1),
        ('a,b\n"1,1","é"\n'.encode(), 'a,b\n"1,1","é"\n'.encode(), 0),
        ('a,b\n1,"2\u20283"\n'.encode(), 'a,b\n1,"2\u20283"\n'.encode(), 0),
        (b"a,b\n1,\xff\n", b"a,b\n", 1),
        (b'a,b\n1,"2\n', b"a,b\n", 1),
        (b"a,b\r\n1,2\r\n", b"a,b\n1,2\r\n", 1),
    ],
)
def test_a_csv_is_repaired_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, kept: bytes, dropped: int
) -> None:
    monkeypatch.setattr(csv_files, "MAX_ROW_CHARS", 100)
    path = tmp_path / "a.csv"
    path.write_bytes(text)
    assert csv_files.mended_csv(path, ("a", "b")) == dropped
    assert path.read_bytes() == kept
    assert csv_files.count_rows(path) == len(csv_files.read_csv(path))
    assert csv_files.mended_csv(path, ("a", "b")) == 0


def test_a_csv_that_is_too_large_to_repair_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.truncate(csv_files.MAX_REPAIRED_BYTES + 1)
    with pytest.raises(ArchsearchError, match=r"a\.csv: larger than 1024 MiB; move it away"):
        csv_files.mended_csv(path, ("a",))
    monkeypatch.setattr(csv_files, "MAX_REPAIRED_BYTES", 10)
    path.write_bytes(b"a\n1\n2\ncut")
    assert csv_files.mended_csv(path, ("a",)) == 1


def test_a_link_to_a_csv_becomes_a_copy_of_its_rows(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "a.csv").symlink_to(tmp_path / "target")
    assert csv_files.mended_csv(tmp_path / "a.csv", ("a", "b")) == 0
    csv_files.append_csv(tmp_path / "a.csv", ("a", "b"), {"a": 3, "b": 4})
    assert (tmp_path / "a.csv").read_bytes() == b"a,b\n1,2\n3,4\n"
    assert (tmp_path / "target").read_bytes() == b"a,b\n1,2\n"


@pytest.mark.parametrize("cut", [b"", b"3,", b"3" * 100_000])
def test_only_the_end_of_a_csv_is_read_to_add_to_it(tmp_path: Path, cut: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 10_000 + cut)
    csv_files.append_csv(path, ("a", "b"), {"a": 5, "b": 6})
    assert path.read_bytes() == b"a,b\n" + b"1,2\n" * 10_000 + b"5,6\n"


def test_a_csv_without_a_whole_line_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x" * 50_000)
    csv_files.append_csv(tmp_path / "a.csv", ("a", "b"), {"a": 5, "b": 6})
    assert (tmp_path / "a.csv").read_bytes() == b"a,b\n5,6\n"


@pytest.mark.parametrize("there", [True, False])
def test_a_lock_does_not_touch_what_a_link_leads_to(tmp_path: Path, *, there: bool) -> None:
    target = tmp_path / "target"
    if there:
        target.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".lock").symlink_to(target)
    assert folder_lock.holder(folder) is None
    with folder_lock.locked(folder):
        assert folder_lock.holder(folder) == f"process {os.getpid()}"
    assert target.exists() == there
    assert not there or target.read_text() == "mine"


def test_a_pipe_for_a_lock_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    assert folder_lock.holder(tmp_path) is None
    with (
        pytest.raises(ArchsearchError, match=r"\.lock: cannot be written: is a pipe"),
        folder_lock.locked(tmp_path),
    ):
        pass
