"""Retry database operations while the server is away, or the file is locked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from archsearch.common import interruption
from archsearch.common.machine import seconds_from
from archsearch.errors import StudyError
from archsearch.search.events import DatabaseAway, DatabaseBack
from archsearch.search.storage.driver_lock import DriverLock
from archsearch.search.storage.sqlite import is_busy
from archsearch.search.storage.url import redact

PATIENCE_VARIABLE = "ARCHSEARCH_STORAGE_PATIENCE"
PATIENCE_S = 600.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
T = TypeVar("T")


@dataclass
class Retry:
    """Retry policy of a study's database, which may not answer for a while.

    A PostgreSQL server may go away; an SQLite file may be locked by another program.

    An operation is one transaction. If its connection breaks, the driver cannot know whether it was
    committed, so every operation must be safe to repeat.

    Attributes:
        name: name of the study.
        url: URL of the database; its secrets must not appear in messages.
        notify: called when the database stops answering and when it answers again.
        lock: the driver lock that a connection to PostgreSQL holds.
        patience_s: how long to keep trying.
    """

    name: str
    url: str
    notify: Callable[[DatabaseAway | DatabaseBack], None]
    lock: DriverLock | None = None
    patience_s: float = field(default_factory=lambda: seconds_from(PATIENCE_VARIABLE, PATIENCE_S))

    @property
    def lost(self) -> bool:
        """Whether another driver has taken over the study."""
        return self.lock is not None and self.lock.lost

    def give_up(self) -> None:
        """Stop retrying: the search ends, whether the server answers or not."""
        self.patience_s = 0.0

    def do(self, operation: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """Run `operation`; if the server was away, run `again` instead until an attempt succeeds.

        Raises:
            StudyError: the server was away too long, or another driver has taken over the study.
        """
        began: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                result = operation()
            except (DBAPIError, StorageInternalError) as error:
                why = self._why(error)
                if why is None:
                    raise
                now = time.monotonic()
                if began is None:
                    began = now
                    if self.patience_s:
                        self.notify(DatabaseAway(why, self.patience_s))
                if now - began >= self.patience_s:
                    raise StudyError(
                        f"study {self.name}: its database has been away for "
                        f"{now - began:.0f} s ({why}); previously saved data is unchanged. Run the "
                        f"same command once it is back ({PATIENCE_VARIABLE}: seconds to wait)"
                    ) from None
                interruption.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                operation = again or operation
            else:
                if began is not None:
                    self.notify(DatabaseBack(time.monotonic() - began))
                return result

    def _why(self, error: BaseException) -> str | None:
        if self.lock:
            why = _why_away(error)
            return why and redact(why, self.url)
        return why_locked(error, self.url)


def why_locked(error: BaseException | None, url: str) -> str | None:
    """Return in words that another program has locked an SQLite file; None if none has."""
    while error is not None:
        if isinstance(error, DBAPIError) and error.orig and is_busy(error.orig):
            return f"another program has {make_url(url).database} open: {error.orig}"
        error = error.__cause__
    return None


def _why_away(error: BaseException) -> str | None:
    """Return the server's last message if `error` means that it is away, otherwise None."""
    found: str | None = None
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DBAPIError) and (
            cause.connection_invalidated or isinstance(cause, OperationalError | InterfaceError)
        ):
            lines = str(cause.orig).strip().splitlines()
            found = lines[0] if lines else "it broke the connection"
        elif isinstance(cause, PendingRollbackError):
            # Optuna reads once more in the transaction that was lost with its connection.
            found = "its connection broke"
        cause = cause.__cause__
    return found
