"""Where a study's database may be named, and that its password goes no further."""

from __future__ import annotations

import os

import pytest

from archsearch.errors import ArchsearchError
from archsearch.search.storage.url import (
    STORAGE_VARIABLE,
    complete_url,
    database_url,
    public_url,
    redact,
)
from tests.conftest import Cli

SECRET = "s3cr%2Ft"  # noqa: S105 (of nothing)


def url(password: str = SECRET) -> str:
    return f"postgresql+psycopg://me:{password}@host:5432/studies"


def test_a_password_on_the_command_line_is_refused_unquoted(cli: Cli) -> None:
    for given in (url(), "postgresql://me@host/studies?password=s3cr%2Ft"):
        for command in (("search", "demo"), ("status", "studies/demo"), ("doctor", "studies/demo")):
            refused = cli(*command, "--storage", given)
            assert refused.status == 2
            assert "the process list shows" in refused.err
            assert "s3cr" not in refused.out + refused.err


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:s3@cret@host/db", "s3cret",
        "postgresql+psycopg://me:pw@host:s3cret/db", "nosuch+driver:s3cret",
        "postgresql://me:top@s3cret/1@host/db", "postgresql://me:top@/s3cret@host/db",
        "postgresql://me:top@s3cret?1@host/db",
    ],
)  # fmt: skip
def test_what_is_no_url_is_not_quoted(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, text)
    with pytest.raises(ArchsearchError) as error:
        database_url(None)
    assert "is no database URL" in str(error.value)
    assert "s3" not in str(error.value)
    assert error.value.__cause__ is None


def test_secrets_leave_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, "postgres://me@host/studies")
    monkeypatch.setenv("PGPASSWORD", "s3cr/t")
    assert database_url(None) == "postgresql+psycopg://me:s3cr%2Ft@host/studies"
    assert not os.environ.keys() & {STORAGE_VARIABLE, "PGPASSWORD"}


def test_a_url_given_in_python_may_hold_a_password_and_leaves_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, "sqlite:///elsewhere.db")
    monkeypatch.setenv("PGPASSWORD", "s3cr/t")
    assert complete_url("postgres://me:pw@host/db", "storage").endswith("me:pw@host/db")
    assert complete_url("postgres://me@host/db", "storage").endswith("me:s3cr%2Ft@host/db")
    assert os.environ["PGPASSWORD"] == "s3cr/t"
    assert os.environ[STORAGE_VARIABLE] == "sqlite:///elsewhere.db"


def test_the_command_line_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, url())
    assert database_url("sqlite:///here.db") == "sqlite:///here.db"
    assert database_url(None) is None  # and it is gone from there


def test_messages_lose_what_is_secret() -> None:
    said = f"cannot reach {url()} with password s3cr/t"
    told = redact(said, url())
    assert told == "cannot reach postgresql+psycopg://me:***@host:5432/studies with password ***"


def test_a_url_for_others_has_no_secret() -> None:
    whole = url().replace("/studies", "/studies?sslmode=require&sslpassword=1&password=2")
    assert public_url(whole) == "postgresql+psycopg://me@host:5432/studies?sslmode=require"
    assert public_url("sqlite:////here/study.db") == "sqlite:////here/study.db"
