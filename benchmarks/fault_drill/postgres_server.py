"""A PostgreSQL server of one's own, for a test or a drill: on a free port of this machine alone."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

USER = "searcher"
DATABASE = "studies"


@dataclass(frozen=True)
class Server:
    """A server with one user and one database; nobody comes in without the password.

    Attributes:
        folder: of its data, the password file and the log.
    """

    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        """Without the password."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def secret_url(self) -> str:
        """With the password."""
        return self.url.replace("@", f":{self.password}@")

    def start(self) -> None:
        """Return when it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """As a crash does, or with `fast` as an administrator does."""
        self._run("pg_ctl", "-D", "data", "-w", "-m", mode, "stop")

    def sql(self, statement: str) -> str:
        """What a statement gives, as text."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", DATABASE]
        done = subprocess.run(
            [_program("psql"), *where, "-AtX", "-c", statement],
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def _run(self, program: str, *args: str) -> None:
        command = [_program(program), *args]
        if os.geteuid() == 0:  # it does not run as root
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(
            command, cwd=self.folder, check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def why_none() -> str | None:
    """Why no server can be started here; None where one can."""
    if not _program("initdb"):
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL does not run as root, and there is no user postgres"
    return None


@contextmanager
def server() -> Iterator[Server]:
    """A running server; its data are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    made = Server(folder, _free_port(), secrets.token_urlsafe(16))
    (folder / "password").write_text(made.password)
    if os.geteuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")
    try:
        made._run("initdb", "-D", "data", "-U", USER, "-A", "scram-sha-256", "--pwfile=password",
                  "--no-sync")  # fmt: skip
        made.start()
        # The first database is the administrator's.
        connect = ["-h", "127.0.0.1", "-p", str(made.port), "-U", USER]
        subprocess.run(
            [_program("createdb"), *connect, DATABASE],
            env={**os.environ, "PGPASSWORD": made.password},
            check=True,
        )
        yield made
    finally:
        with suppress(subprocess.CalledProcessError):
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    """A program's path; empty where it is not installed. Debian keeps servers off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name) or ""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
