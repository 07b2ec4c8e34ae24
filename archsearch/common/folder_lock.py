"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path

from archsearch.common.atomic_files import unwritable
from archsearch.errors import StudyError

_LOOKS = 10_000
"""At a lock that is only looked at; each takes microseconds."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the lock dies with it.

    Raises:
        StudyError: another process holds it.
        ArchsearchError: the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+", buffering=0)  # closing then writes nothing, and cannot fail
    except OSError as error:
        raise unwritable(path, error) from error
    with file:
        if not _taken(file):
            raise _held(folder, _owner(file))
        with contextlib.suppress(OSError):  # a full disk; who it is, is a courtesy
            file.truncate(0)
            file.write(f"process {os.getpid()}".encode())
        yield


def refuse_if_held(folder: Path) -> None:
    """That nobody holds a folder, told before anything is done.

    Raises:
        StudyError: another process holds it.
    """
    if owner := holder(folder):
        raise _held(folder, owner)


def holder(folder: Path) -> str | None:
    """Who holds a folder at this moment; None where nobody does."""
    try:
        with (folder / ".lock").open("rb", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return _owner(file)
    except OSError:
        return None
    return None


def _taken(file: RawIOBase) -> bool:
    """Take a lock, unless another has it; who only looks (`holder`) lets go at once."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return False
            fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _owner(file: RawIOBase) -> str:
    file.seek(0)
    return (file.read(80) or b"").decode("utf-8", "replace").strip() or "another process"


def _held(folder: Path, owner: str) -> StudyError:
    return StudyError(f"{folder}: {owner} is at work here; wait for it or choose another --name")
