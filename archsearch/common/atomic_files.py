"""Write files so that a crash, a full disk or a second process loses nothing."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from archsearch.common import interruption
from archsearch.common.guarded_files import NO_LINK, SpecialFileError, kind, open_checked
from archsearch.errors import ArchsearchError


def cache_folder() -> Path:
    """Where what can be made anew is kept: decoded and downloaded data, measurements."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "archsearch"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that takes the place of `path` if the block ends well.

    For files of our own folders: a symbolic link is replaced, and what it leads to is left alone.

    Raises:
        ArchsearchError: `path` is a folder, a pipe or a device; its folder cannot be written or
            the disk is full, and the file is as it was.
    """
    _refuse_special(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with interruption.held():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            temporary.open("xb").close()  # not through a link that somebody left of that name
            yield temporary
            with temporary.open("rb+") as file:  # Windows flushes no file opened for reading
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise unwritable(path, error) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def open_in_place(path: Path, buffering: int = -1) -> BinaryIO:
    """Open a file of our own to read and append; one that is not there is created.

    A symbolic link is replaced by an empty file.

    Raises:
        ArchsearchError: `path` is a folder, a pipe or a device.
        OSError: it cannot be written.
    """
    _refuse_special(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    return open_checked(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_LINK, "ab+", buffering)


def _refuse_special(path: Path) -> None:
    """Check that what is at `path` can be replaced by a file: a file, a link or nothing."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(path, error) from error
    if stat.S_ISDIR(mode):
        raise ArchsearchError(f"{path} is a folder: give a file in it")
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise ArchsearchError(
            f"{path}: cannot be written: is {kind(mode)}, not a regular file; remove it, then run "
            "the same command again"
        )


def write_output(path: Path, content: bytes) -> None:
    """Write a file that a user named on the command line, as `cp` would.

    Symbolic links are followed, and a file is replaced at once or not at all. A pipe or a device
    is written into.

    Raises:
        ArchsearchError: it cannot be written.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise unwritable(path, error) from error
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        with replacing(Path(os.path.realpath(path))) as temporary:
            temporary.write_bytes(content)
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        why = error.strerror or str(error)
        raise ArchsearchError(f"{path}: cannot be written: {why}; give another file") from error


def drop_temporaries(folder: Path, process: int | None = None) -> list[Path]:
    """Remove what writes that were cut short have left in a folder and below; what that was.

    Those of one `process`, or for None of any; nobody else may write in the folder.

    Raises:
        ArchsearchError: something cannot be removed.
    """
    owner = r"\d+" if process is None else str(process)
    name = re.compile(rf"\..+\.{owner}\.tmp")  # as `replacing` makes them
    found = [
        path
        for path in sorted(folder.rglob(".*.tmp"))
        if name.fullmatch(path.name) and (path.is_symlink() or path.is_file())
    ]
    for path in found:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
    return found


def free_name(path: Path) -> Path:
    """Return a path beside `path` under which the file as it was can be kept."""
    names = (f"{path.name}.before{'' if n == 1 else f'-{n}'}" for n in itertools.count(1))
    return next(at for at in map(path.with_name, names) if not os.path.lexists(at))


def unwritable(path: Path, error: OSError) -> ArchsearchError:
    """What to tell of a failed write."""
    why = error.strerror or str(error)
    return ArchsearchError(
        f"{path}: cannot be written: {why}; what was saved before is as it was. "
        "Make room or choose another folder, then run the same command again"
    )


def write_text(path: Path, text: str) -> None:
    """Replace a file's text at once or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def unreadable(path: Path | str, error: OSError) -> ArchsearchError:
    """What to tell of a file that cannot be read."""
    advice = ""
    if isinstance(error, SpecialFileError):
        ours = not str(path).startswith(("/dev/", "/proc/"))  # as of a process substitution
        advice = "; replace it by one" if ours else "; pipe it in and give - instead"
    return ArchsearchError(f"{path}: cannot be read: {error.strerror or error}{advice}")
