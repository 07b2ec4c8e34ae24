"""Open a study's SQLite file so that its readers and its writer do not stop one another."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.storages import RDBStorage
from sqlalchemy import make_url

from archsearch.search.storage.load import open_rdb

_BUSY_MS = 1_000
"""How long SQLite itself waits for a lock; `Retry` waits longer, and says why."""
_LOCAL_FILE_SYSTEMS = frozenset(
    [
        "bcachefs",
        "btrfs",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "overlay",
        "ramfs",
        "reiserfs",
        "tmpfs",
        "xfs",
        "zfs",
    ]
)
"""Where processes can share the memory that a write-ahead log needs."""


@contextmanager
def sqlite_storage(
    url: str, patiently: Callable[[Callable[[], RDBStorage]], RDBStorage]
) -> Iterator[RDBStorage]:
    """Open an SQLite database for the one process that writes to it.

    While it is open it has a write-ahead log where the file system allows it, so that programs that
    read it do not stop the search. At the end the log is merged: then the file alone is complete.

    Args:
        url: Optuna's URL of the database.
        patiently: runs an operation again while another program has locked the database.
    """
    path = database_file(url)
    events = [(_bound_wait, "connect")]
    if path and is_local(path):
        events.append((_write_ahead, "connect"))
    database = patiently(lambda: open_rdb(url, {"pool_events": events}, create=True))
    try:
        yield database
    finally:
        database.engine.dispose()
        if path:
            merge_log(path)


def database_file(url: str) -> Path | None:
    """Return the file of an SQLite database that a URL names plainly, else None."""
    name = make_url(url).database
    return None if not name or name == ":memory:" or name.startswith("file:") else Path(name)


def merge_log(path: Path) -> None:
    """Merge a write-ahead log into its database, unless another program has it open."""
    with suppress(sqlite3.Error), _connected(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=0.5)
    try:
        yield connection
    finally:
        connection.close()


def _bound_wait(connection: Any, _record: object) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")


def _write_ahead(connection: Any, _record: object) -> None:
    """Switch a new connection to a write-ahead log; without one, readers are waited for."""
    with suppress(sqlite3.OperationalError):  # another program reads it now, or it is read-only
        connection.execute("PRAGMA journal_mode = WAL")


def is_local(path: Path) -> bool:
    """Return whether a file is known to be on a file system of this machine alone.

    A write-ahead log is memory shared by all who have the database open: not over a network. Linux
    tells what is mounted where; elsewhere a search does without the log and waits for readers.
    """
    if sys.platform != "linux":
        return False
    where = path.resolve()
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    kind, longest = "", -1
    for line in mounts:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].encode().decode("unicode_escape"))
        if where.is_relative_to(point) and len(point.parts) >= longest:
            kind, longest = fields[2], len(point.parts)
    return kind in _LOCAL_FILE_SYSTEMS


def is_busy(error: BaseException) -> bool:
    """Return whether an error of SQLite means that another program has locked the database."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
