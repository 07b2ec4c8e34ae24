"""Writing so that a crash, a full disk or a second process loses nothing."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

from archsearch.errors import ArchsearchError, StudyError

_LOOKS = 10_000
"""At a lock that is only looked at; each takes microseconds."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


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
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(file_path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def drop_temporaries(folder: Path, process: int | None = None) -> list[Path]:
    """Remove what writes that were cut short have left in a folder and below; what that was.

    Args:
        folder: where; nobody else may write there.
        process: whose; None: anybody's.

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
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a CSV at once or not at all."""
    write_text(path, csv_text(columns, rows))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV as it is written."""
    lines = [_csv_line(columns)]
    lines += [_csv_line([row.get(column) for column in columns]) for row in rows]
    return "".join(lines)


def append_csv(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Add one row in a single write; a line that a crash cut short is dropped first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            _drop_cut_line(file)
            if file.seek(0, os.SEEK_END) == 0:
                file.write(_csv_line(columns).encode())
            file.write(_csv_line([row.get(column) for column in columns]).encode())
    except OSError as error:
        raise unwritable(path, error) from error


MAX_CSV_BYTES = 64 << 20
"""A search of a thousand trials leaves a few megabytes."""


def read_csv(path: Path) -> list[dict[str, str]]:
    """A CSV's rows, as text.

    Raises:
        ArchsearchError: there is none, it cannot be read, or it is larger than `MAX_CSV_BYTES`.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read(MAX_CSV_BYTES + 1)  # of a pipe no size is known before
        if len(text) > MAX_CSV_BYTES:
            raise ArchsearchError(f"{path}: larger than {MAX_CSV_BYTES >> 20} MiB: not ours")
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ArchsearchError(
            f"{path}: cannot be read: {why}; give a study folder (studies/NAME)"
        ) from error


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


def mended_csv(path: Path, columns: Sequence[str]) -> int:
    """Drop the lines of a CSV that are no rows of these columns; how many those were.

    Raises:
        ArchsearchError: it cannot be read or written.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise unreadable(path, error) from error
    lines = raw.decode("utf-8", "replace").splitlines(keepends=True)
    head = _csv_line(columns)
    kept = [line for line in lines[1:] if _is_row(line, len(columns))]
    text = head + "".join(kept)
    if text.encode() == raw:
        return 0
    write_text(path, text)
    return len(lines) - (lines[:1] == [head]) - len(kept)


def _is_row(line: str, columns: int) -> bool:
    """Whether a line is one whole row; ours have no line breaks inside of cells."""
    if not line.endswith("\n") or "\ufffd" in line or "\0" in line:
        return False
    try:
        rows = list(csv.reader([line], strict=True))
    except csv.Error:
        return False
    return len(rows) == 1 and len(rows[0]) == columns


def unreadable(path: Path, error: OSError) -> ArchsearchError:
    """What to tell of a file that cannot be read."""
    return ArchsearchError(f"{path}: cannot be read: {error.strerror or error}")


def _csv_line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_cell(value) for value in values])
    return line.getvalue()


def _cell(value: Any) -> Any:
    """A value as a cell; text that a spreadsheet would run as a formula is made inert."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value


def _drop_cut_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if end and file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
