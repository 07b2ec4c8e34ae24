"""optuna-dashboard on a study's database: to look at, from this machine, and to change nothing."""

from __future__ import annotations

import json
import logging
import socket
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import RDBStorage
from optuna_dashboard import wsgi
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from archsearch.errors import ArchsearchError, one_line
from archsearch.search.storage.load import load_trials, open_rdb
from archsearch.search.storage.open import storage_errors
from archsearch.study.folder import StudyFolder

LOOPBACK = "127.0.0.1"
_LOOPBACK_NAMES = ("127.0.0.1", "localhost")

Environment = dict[str, Any]
App = Callable[[Environment, Callable[..., Any]], Iterable[bytes]]


def open_dashboard(
    folder: StudyFolder, name: str, storage: str | None, host: str, port: int
) -> tuple[WSGIServer, str]:
    """A server that is bound and has yet to serve, and the address on it of the study `name`.

    Raises:
        StudyError: the database cannot be read, or has no such study.
        ArchsearchError: the address cannot be bound to.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.getLogger("optuna_dashboard").addHandler(handler)
    with storage_errors(folder, storage or folder.storage):
        database = read_only(folder, storage)
        study_id = database.get_study_id_from_name(name)
        load_trials(database, study_id)  # it shows a traceback for what it cannot read
        app = guarded(wsgi(database), _LOOPBACK_NAMES if host == LOOPBACK else None)
    try:
        server = make_server(host, port, app, _Server, _Quiet)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ArchsearchError(
            f"{one_line(host)}:{port}: cannot be listened on: {why}; --port 0 takes a free port"
        ) from error
    return server, f"http://{host}:{server.server_port}/dashboard/studies/{study_id}"


def guarded(app: App, names: Iterable[str] | None) -> App:
    """An app that only answers what asks for something to look at.

    The dashboard has buttons that delete, rename and annotate studies: all of that is refused.

    Args:
        app: to guard.
        names: that this machine may be called by. A page elsewhere that has its own name lead to
            this machine would be let read, too. None: by any.
    """
    allowed = None if names is None else frozenset(names)

    def answer(environment: Environment, start: Callable[..., Any]) -> Iterable[bytes]:
        called = str(environment.get("HTTP_HOST", "")).rpartition(":")
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refused(start, "archsearch dashboard is read-only")
        if allowed is not None and (called[0] or called[2]) not in allowed:
            return _refused(start, "this server is for this machine alone")
        return app(environment, start)

    return answer


def _refused(start: Callable[..., Any], reason: str) -> Iterable[bytes]:
    start("403 Forbidden", [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]


def read_only(folder: StudyFolder, storage: str | None) -> RDBStorage:
    """A study's database, which refuses to be written: SQLite as it is opened, PostgreSQL as asked.

    Raises:
        Exception: SQLAlchemy's or Optuna's, where it cannot be read.
    """
    if not storage:
        return _sqlite(folder.database)
    url = make_url(storage)
    kind = url.get_backend_name()
    if kind == "sqlite" and url.database:
        return _sqlite(Path(url.database))
    options = {"execution_options": {"postgresql_readonly": True}} if kind == "postgresql" else {}
    return open_rdb(storage, options, create=False)


def _sqlite(path: Path) -> RDBStorage:
    uri = f"{path.resolve().as_uri()}?mode=ro"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, check_same_thread=False)

    options = {"creator": connect, "poolclass": NullPool}
    return open_rdb("sqlite://", options, create=False)


class _Server(ThreadingMixIn, WSGIServer):
    """Answers side by side, and does not wait for answers when it is ended."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Without asking a name server what this machine is called."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that has gone is no error."""


class _Quiet(WSGIRequestHandler):
    """Does not tell of each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Nowhere."""


class _OneLine(logging.Formatter):
    """Without the traceback that is part of the dashboard's messages."""

    def format(self, record: logging.LogRecord) -> str:
        """The first line."""
        return one_line(f"dashboard: {record.getMessage()}".partition("\n")[0])
