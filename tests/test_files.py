"""Writing so that nothing is lost."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from archsearch import files
from archsearch.errors import ArchsearchError, StudyError


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    files.write_text(path, "old")

    def fail() -> None:
        with files.replacing(path) as temporary:
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
        files.write_text(link, text)
        assert link.is_symlink()
        assert (folder / "a.txt").read_text() == text
        assert list(folder.iterdir()) == [folder / "a.txt"]


def test_a_pipe_is_written_into_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        files.write_text(pipe, "through")
        try:
            assert reader.communicate(timeout=20)[0] == b"through"
        finally:
            reader.kill()
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("path", [".", "..", "", "/"])
def test_a_folder_is_not_replaced(path: str) -> None:
    with pytest.raises(ArchsearchError, match=r"is a folder: give a file in it"):
        files.write_text(Path(path), "text")


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ArchsearchError, match="a: cannot be written: Too many levels of symbolic"):
        files.write_text(tmp_path / "a", "text")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_device_is_written_into_and_stays() -> None:
    before = Path("/dev/full").stat()
    with pytest.raises(ArchsearchError, match=r"^/dev/full: cannot be written: No space left"):
        files.write_text(Path("/dev/full"), "text")
    after = Path("/dev/full").stat()
    assert stat.S_ISCHR(after.st_mode)
    assert after.st_ino == before.st_ino


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk() -> None:
    with pytest.raises(ArchsearchError, match="No space left on device"):
        files.append_csv(Path("/dev/full"), ("a",), {"a": "b"})


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    files.append_csv(path, ("a", "b"), {"a": 1, "b": 2})
    with path.open("a") as file:
        file.write("3,")
    files.append_csv(path, ("a", "b"), {"a": 5, "b": 6})
    assert files.read_csv(path) == [{"a": "1", "b": "2"}, {"a": "5", "b": "6"}]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_formulas_are_inert(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    files.write_csv(path, ("a",), [{"a": text}])
    assert files.read_csv(path) == [{"a": f"'{text}"}]


def test_negative_numbers_stay_numbers(tmp_path: Path) -> None:
    files.write_csv(tmp_path / "a.csv", ("a",), [{"a": -1.5}])
    assert files.read_csv(tmp_path / "a.csv") == [{"a": "-1.5"}]


def test_a_second_process_is_kept_out_and_the_lock_dies_with_its_owner(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from archsearch.files import locked\n"
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
            files.locked(tmp_path),
        ):
            pass
    finally:
        owner.kill()
        owner.communicate()
    with files.locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ArchsearchError, match="cannot be written: Not a directory"),
        files.locked(tmp_path / "file" / "study"),
    ):
        pass
