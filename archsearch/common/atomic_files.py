"""Write files so that a crash, a full disk or a second process loses nothing."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from archsearch.errors import ArchsearchError


def cache_folder() -> Path:
    """Where what can be made anew is kept: decoded and downloaded data, measurements."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "archsearch"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path`'s file if the block ends well.

    Symbolic links are followed. What is no regular file (a pipe, a device) has nothing to replace:
    it is given itself, to be written straight into.

    Raises:
        ArchsearchError: `path` is a folder; its folder cannot be written or the disk is full, and
            the file is as it was.
    """
    with (_itself if _is_special(path) else _beside)(path) as place:
        yield place


def _is_special(path: Path) -> bool:
    """Whether `path` leads to a pipe, a device or a socket; false where it leads nowhere yet."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unwritable(path, error) from error
    if stat.S_ISDIR(mode):
        raise ArchsearchError(f"{path} is a folder: give a file in it")
    return not stat.S_ISREG(mode)


@contextlib.contextmanager
def _itself(path: Path) -> Iterator[Path]:
    try:
        yield path
    except OSError as error:
        why = error.strerror or str(error)
        raise ArchsearchError(f"{path}: cannot be written: {why}; give another file") from error


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    file_path = Path(os.path.realpath(path))
    temporary = file_path.with_name(f".{file_path.name}.{os.getpid()}.tmp")
    try:
        file_path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:  # Windows flushes no file opened for reading
            os.fsync(file.fileno())
        temporary.replace(file_path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def drop_temporaries(folder: Path, process: int | None = None) -> list[Path]:
    """Remove what writes that were cut short have left in a folder and below; what that was.

    Those of one `process`, or for None of any; nobody else may write in the folder.

    Raises:
        ArchsearchError: something cannot be removed.
    """
    owner = r"\d+" if process is None else str(process)
    name = re.compile(rf"\..+\.{owner}\.tmp")  # as `_beside` makes them
    found = [p for p in sorted(folder.rglob(".*.tmp")) if name.fullmatch(p.name) and p.is_file()]
    for path in found:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
    return found


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
    return ArchsearchError(f"{path}: cannot be read: {error.strerror or error}")
