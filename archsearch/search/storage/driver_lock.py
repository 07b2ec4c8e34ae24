"""One driver at a time on a study in PostgreSQL, from whatever machine."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from dataclasses import dataclass, field
from typing import Any

from optuna.storages import RDBStorage
from sqlalchemy import NullPool
from sqlalchemy.exc import OperationalError

from archsearch.errors import StudyError
from archsearch.search.storage.load import open_rdb

_CONNECT_ARGS = {
    "connect_timeout": 10,
    # A server or a network that is gone without a word is noticed in half a minute.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_SAME_OF_THE_SERVER = (
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
)
_MAKE_TABLE = (
    "CREATE TABLE IF NOT EXISTS archsearch_drivers (study TEXT PRIMARY KEY, token TEXT NOT NULL)"
)
_SIGN = (
    "INSERT INTO archsearch_drivers VALUES (%s, %s) "
    "ON CONFLICT (study) DO UPDATE SET token = EXCLUDED.token"
)
_HOLDER = """
SELECT activity.pid, activity.application_name, coalesce(host(activity.client_addr), 'a socket')
FROM pg_locks AS lock JOIN pg_stat_activity AS activity USING (pid)
WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1
  AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (lock.classid::bigint << 32) + lock.objid::bigint = %s
"""


@dataclass
class DriverLock:
    """That one driver at a time works on a study, held by the connection that writes.

    PostgreSQL lets go of it when that connection ends, however it ends; so nothing is ever written
    by a driver that lost it, and a new connection takes it first.

    Each driver leaves its token in a table: so one that lost its connection knows whether another
    was at work before it had a new one.

    Attributes:
        name: the study's.
        lost: whether another driver was there since this one took it.
    """

    name: str
    lost: bool = False
    _taken: bool = False
    _token: str = field(default_factory=lambda: secrets.token_hex(4))

    def connect(self, url: str) -> RDBStorage:
        """Open the study's PostgreSQL database through one connection, which takes this lock."""
        # Optuna makes tables through two connections at once; the one with the lock is alone.
        args = {**_CONNECT_ARGS, "application_name": self.application}
        first = open_rdb(url, {"poolclass": NullPool, "connect_args": args}, create=True)
        first.engine.dispose()
        alone = {
            "pool_size": 1,
            "max_overflow": 0,
            "connect_args": args,
            "pool_events": [(self.take, "connect")],
        }
        return RDBStorage(url, alone, True, skip_table_creation=True)

    @property
    def application(self) -> str:
        """What the server lists this driver as."""
        return f"archsearch {socket.gethostname()[:24]} process {os.getpid()} {self._token}"

    def take(self, connection: Any, _record: object) -> None:
        """Take it for a new connection, or close that.

        Raises:
            StudyError: another driver has it.
            OperationalError: this driver's last connection, which the server still has.
        """
        try:
            with connection.cursor() as cursor:
                cursor.execute(_SAME_OF_THE_SERVER)
                cursor.execute("SELECT pg_try_advisory_lock(%s)", (self._key,))
                if not cursor.fetchone()[0]:
                    self._refused(cursor)
                if self._taken:
                    self._refuse_if_another_came(cursor)
                else:
                    cursor.execute("SELECT pg_advisory_xact_lock(0)")  # one makes it at a time
                    cursor.execute(_MAKE_TABLE)
                    cursor.execute(_SIGN, (self.name, self._token))
            connection.commit()
        except BaseException:
            connection.close()
            raise
        self._taken = True

    def _refuse_if_another_came(self, cursor: Any) -> None:
        cursor.execute("SELECT token FROM archsearch_drivers WHERE study = %s", (self.name,))
        if cursor.fetchone() == (self._token,):
            return
        self.lost = True
        raise StudyError(
            f"study {self.name}: while its database could not be reached, another driver went on "
            "with it; this one has written nothing since. Run the same command to go on"
        )

    def _refused(self, cursor: Any) -> None:
        cursor.execute(_HOLDER, (self._key,))
        process, application, where = cursor.fetchone() or (None, "", "")
        if application == self.application:
            # The network broke, and the server has not noticed; end that session and try again.
            cursor.execute("SELECT pg_terminate_backend(%s)", (process,))
            raise OperationalError("", None, ConnectionError("the last session still ends"))
        self.lost = self._taken
        who = application.rpartition(" ")[0] if application.startswith("archsearch ") else ""
        raise StudyError(
            f"study {self.name}: {who or 'another driver'} (from {where or 'elsewhere'}) is at "
            "work on it in this database; wait for it or choose another --name"
        )

    @property
    def _key(self) -> int:
        """As PostgreSQL has locks: 63 bits, so that its two halves put together are it again."""
        digest = hashlib.sha256(f"archsearch study {self.name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1
