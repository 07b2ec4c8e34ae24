"""A database outside of the study's folder: its URL, and its password kept to this process."""

from __future__ import annotations

import os
from importlib.util import find_spec

from sqlalchemy import URL, make_url

from archsearch.errors import ArchsearchError, StudyError

STORAGE_VARIABLE = "ARCHSEARCH_STORAGE"
_PASSWORD_VARIABLE = "PGPASSWORD"  # noqa: S105 (its name)
_SECRET_KEYS = ("password", "sslpassword")
_DRIVER = "postgresql+psycopg"
_HOW = (
    f"put the URL in {STORAGE_VARIABLE}, or leave the password out of it and give it in "
    f"{_PASSWORD_VARIABLE}, ~/.pgpass or a service file"
)


def database_url(given: str | None) -> str | None:
    """The database that a command is to use; None: the study folder's own.

    Secrets are taken out of the environment, so that no process started later has them.

    Args:
        given: the URL on the command line; without one, ARCHSEARCH_STORAGE's.

    Raises:
        ArchsearchError: it is no URL, or has a password on the command line.
    """
    secret = os.environ.pop(STORAGE_VARIABLE, "")
    if given is not None and _secrets(_parsed(given, "--storage")):
        raise ArchsearchError(
            f"--storage: holds a password, which the process list shows to everybody; {_HOW}"
        )
    if given is None and not secret:
        return None
    url = complete_url(secret if given is None else given, STORAGE_VARIABLE)
    if is_postgres(url):
        os.environ.pop(_PASSWORD_VARIABLE, None)
    return url


def complete_url(text: str, source: str) -> str:
    """Return a database's URL with our driver, and with PGPASSWORD as its password if it has none.

    Args:
        text: the URL.
        source: what an error message calls it.

    Raises:
        ArchsearchError: it is no database URL, or its driver is not installed.
    """
    url = _parsed(text, source)
    if url.drivername.partition("+")[0] in ("postgresql", "postgres"):
        url = url.set(drivername=_DRIVER)
    if is_postgres(url):
        if not find_spec("psycopg"):
            raise StudyError("PostgreSQL needs psycopg: pip install 'archsearch[postgres]'")
        if (password := os.environ.get(_PASSWORD_VARIABLE)) and not url.password:
            url = url.set(password=password)
    return url.render_as_string(hide_password=False)


def is_postgres(url: URL | str) -> bool:
    """Whether it is PostgreSQL by psycopg, the one whose outages are waited out."""
    return make_url(url).drivername == _DRIVER


def redact(text: str, url: str) -> str:
    """Remove a database's secrets from a message that may quote its URL."""
    whole = make_url(url)
    text = text.replace(url, whole.render_as_string(hide_password=True))
    for secret in _secrets(whole):
        text = text.replace(secret, "***")
    return text


def public_url(url: str) -> str:
    """Return a database's URL without its secrets, for others to read."""
    whole = make_url(url).difference_update_query(_SECRET_KEYS)
    return whole._replace(password=None).render_as_string()


def _parsed(text: str, source: str) -> URL:
    try:
        url = make_url(text)
        # Of a password with an @ the rest would be taken for the host's or the database's name.
        sound = url.get_backend_name() == "sqlite" or text.count("@") < 2
    except Exception:  # noqa: BLE001 (SQLAlchemy quotes what it cannot parse: a password, maybe)
        sound = False
    if not sound:
        raise ArchsearchError(
            f"{source}: is no database URL (it is not shown, for the password in it); it must be "
            f"{_DRIVER}://USER@HOST:PORT/DATABASE, and of a password @ / : and % are written as "
            "%40 %2F %3A %25"
        ) from None
    return url


def _secrets(url: URL) -> list[str]:
    found = [url.password or "", *(str(url.query.get(key, "")) for key in _SECRET_KEYS)]
    return [secret for secret in found if secret]
