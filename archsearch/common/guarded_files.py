"""Open files that others may have prepared: no pipes or devices, nothing outside a folder."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

from archsearch.errors import StudyError

SPEC_HASH = re.compile(r"[0-9a-f]{64}")
"""A spec's hash names a folder, so it must not be a path."""
# Not every system has all of these.
_BINARY = getattr(os, "O_BINARY", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""Opening a pipe that nobody writes into would wait for a writer."""
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_KINDS: Mapping[int, str] = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
}


class SpecialFileError(OSError):
    """A path leads to a pipe, a device or a socket."""


def kind(mode: int) -> str:
    """Return what a path that is not a regular file is, by the mode that `stat` reports."""
    return _KINDS.get(stat.S_IFMT(mode), "a device")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, without waiting for a pipe, a device or a socket.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    _check_regular(path.stat().st_mode)  # before: to open a device may already do something
    return open_checked(path, os.O_RDONLY, "rb")


def open_checked(path: Path, flags: int, mode: str, buffering: int = -1) -> BinaryIO:
    """Open a file with `os.open`'s flags, and check that what was opened is a regular file.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, flags | _BINARY | _NO_WAIT, 0o666)
    try:
        _check_regular(os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return cast("BinaryIO", os.fdopen(descriptor, mode, buffering))


def read_at_most(path: Path, limit: int) -> bytes:
    """Read a regular file; of a longer one the first `limit` + 1 bytes.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        return file.read(limit + 1)


def holds(path: Path, content: bytes) -> bool:
    """Whether a path is a regular file, and not a link to one, with exactly this content."""
    try:
        return not path.is_symlink() and read_at_most(path, len(content)) == content
    except OSError:
        return False


def inside(folder: Path, path: Path) -> Path:
    """Return a path in a folder, if no symbolic link on the way leads out of the folder.

    The folder itself may be a link, or be reached through one.

    Raises:
        StudyError: the path leads out.
    """
    end = Path(os.path.realpath(path))
    if not end.is_relative_to(os.path.realpath(folder)):
        raise StudyError(
            f"{path}: leads out of {folder}, to {end}, where archsearch neither reads nor writes; "
            "move what is there into its place, or remove the link"
        )
    return path


def _check_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise SpecialFileError(errno.EINVAL, f"is {kind(mode)}, not a regular file")
