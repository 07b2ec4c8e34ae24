"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before torch is loaded, here and in processes that tests start: networks this small gain nothing
# from threads, and threads that wait for one another come to a crawl where tests share a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from archsearch.cli import main

ROOT = Path(__file__).parent.parent

# What a shell starts in the background ignores Ctrl-C, after nohup also a closed terminal, and so
# would every process of a test.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("ci")


@dataclass(frozen=True)
class Result:
    """What a command did."""

    status: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs `archsearch ARGS...` in this process."""

    def run(*args: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["archsearch", *map(str, args)])
        monkeypatch.setattr(sys, "warnoptions", ["default"])  # so that pytest decides
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        code = exit_.value.code
        return Result(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """The folder that holds CIFAR-10."""
    folder = os.environ.get("ARCHSEARCH_DATA")
    if not folder:
        pytest.skip("ARCHSEARCH_DATA does not name a folder with CIFAR-10")
    return Path(folder)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache out of tests, but for real CIFAR-10, whose decoding takes seconds."""
    if not os.environ.get("ARCHSEARCH_DATA"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--overwrite` rewrites golden files; review the diff."""
    parser.addoption("--overwrite", action="store_true", help="rewrite golden files")
