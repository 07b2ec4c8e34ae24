"""Lock a folder so that only one process at a time works in it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor

from archsearch.common.atomic_files import open_in_place, unwritable
from archsearch.common.guarded_files import NO_LINK, open_checked
from archsearch.errors import StudyError

_TRIES, _TRY_EVERY_S = 20, 0.01
"""How often to try a lock before it counts as held: `holder` takes it for microseconds."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder for this process; the lock is released even if the process is killed.

    Raises:
        StudyError: another process holds it.
        ArchsearchError: the folder cannot be written, or its file system has no locks.
    """
    path = folder / ".lock"
    with contextlib.ExitStack() as stack:
        try:
            # Without a buffer, closing writes nothing and cannot fail.
            file = stack.enter_context(open_in_place(path, buffering=0))
            taken = _taken(file)
        except OSError as error:
            raise unwritable(path, error) from error
        if not taken:
            raise _held(folder, _owner(file))
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            file.truncate(0)
            file.write(f" process {os.getpid()}".encode())  # the space is for `_owner`
        yield


def refuse_if_held(folder: Path) -> None:
    """Check that no process has locked a folder, before doing any work.

    Raises:
        StudyError: another process holds it.
    """
    if owner := holder(folder):
        raise _held(folder, owner)


def holder(folder: Path) -> str | None:
    """Return which process has locked a folder; None if none has."""
    path = folder / ".lock"
    try:
        # NFS locks only files that are open for writing; without the permission, reading must do.
        flags, mode = (os.O_RDWR, "rb+") if os.access(path, os.W_OK) else (os.O_RDONLY, "rb")
        with open_checked(path, flags | NO_LINK, mode, buffering=0) as file:
            return None if _taken(file) else _owner(file)
    except OSError:
        return None


def _taken(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; return false if another process keeps it locked."""
    for _ in range(_TRIES):
        if lock_descriptor(file.fileno(), blocking=False):
            return True
        time.sleep(_TRY_EVERY_S)
    return False


def _owner(file: BinaryIO) -> str:
    """Read who locked a file; on Windows nobody else can read its first byte."""
    file.seek(1 if sys.platform == "win32" else 0)
    return (file.read(80) or b"").decode("utf-8", "replace").strip() or "another process"


def _held(folder: Path, owner: str) -> StudyError:
    return StudyError(f"{folder}: {owner} is at work here; wait for it or choose another folder")
