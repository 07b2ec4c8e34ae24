"""Run the commands where what only POSIX or Linux has does not exist, as on Windows.

`fcntl`, SIGHUP, libc's functions and /proc are hidden from every module of a process and from the
workers that it starts. Libraries that keep to POSIX on this machine, whatever they do on Windows,
still find the rest; archsearch's own modules do not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fault_drill.drill import FINALISTS, NAME, STUDY

from tests.conftest import ROOT
from tests.strategies import HEADS, spec_of

HIDDEN = """
# Python runs this file at the start of each process whose PYTHONPATH names its folder.
import ctypes, errno, os, signal, sys
import filelock  # keeps fcntl, which stands in for what it locks with on Windows

for name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None  # importing it is a ModuleNotFoundError
del signal.SIGHUP

def hide(module, names):
    kept = {name: vars(module).pop(name) for name in names.split()}

    def __getattr__(name):
        asks = sys._getframe(1).f_globals.get("__name__", "")
        if name not in kept or asks.partition(".")[0] in ("archsearch", "__main__"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        return kept[name]

    module.__getattr__ = __getattr__

hide(signal, "SIGALRM SIGCHLD SIGKILL SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 SIG_BLOCK SIG_SETMASK"
    " SIG_UNBLOCK alarm pause pthread_kill pthread_sigmask setitimer sigwait")
hide(os, "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK WNOHANG chown fchmod fork forkpty getegid"
    " geteuid getgid getloadavg getpgid getpgrp getuid killpg mkfifo nice pread pwrite"
    " sched_getaffinity sched_setaffinity setpgid setsid setuid statvfs sync sysconf uname wait")

def no_proc(event, args):
    if event == "open" and str(args[0]).startswith("/proc/"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), args[0])

sys.addaudithook(no_proc)
init = ctypes.CDLL.__init__

def no_libc(self, name, *args, **more):  # neither mallopt nor prctl
    if name is None:
        raise TypeError("argument of type 'NoneType' is not iterable")  # as on Windows
    init(self, name, *args, **more)

ctypes.CDLL.__init__ = no_libc
"""

IMPORT_ALL = """
import importlib, pkgutil, archsearch

OPTIONAL = {"matplotlib", "onnx", "onnxscript", "optuna_dashboard", "plotly", "psycopg", "ray"}
for module in pkgutil.walk_packages(archsearch.__path__, "archsearch."):
    if module.name == "archsearch.__main__":
        continue  # it runs the command line
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        print(f"skipped {module.name}: {error.name} is not installed")
    else:
        print(module.name)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Environment variables of a process that has none of what is hidden."""
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text(HIDDEN, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(hiding), str(ROOT)])}


def python(
    environment: dict[str, str], folder: Path, *args: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run Python without what is hidden."""
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip


def archsearch(environment: dict[str, str], folder: Path, *args: str | Path) -> str:
    """Return what a command prints; it must succeed."""
    done = python(environment, folder, "-m", "archsearch", *args)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import fcntl",
        "import signal; signal.SIGHUP",
        "import signal; signal.SIGKILL",
        "import ctypes; ctypes.CDLL(None).mallopt",
        "open('/proc/cpuinfo')",
        "import os; os.sysconf('SC_PHYS_PAGES')",
    ],
)
def test_what_is_hidden_does_not_exist(
    environment: dict[str, str], tmp_path: Path, code: str
) -> None:
    done = python(environment, tmp_path, "-c", code)
    assert done.returncode == 1
    assert "Error" in done.stderr


def test_every_module_is_imported_without_what_only_posix_has(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = python(environment, tmp_path, "-c", IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert {"archsearch.common.folder_lock", "archsearch.common.interruption"} <= set(
        done.stdout.splitlines()
    )


def test_validate_runs_without_what_only_posix_has(
    environment: dict[str, str], tmp_path: Path
) -> None:
    seed = ROOT / "studies" / "seeds" / "eva8-session6" / "spec.json"
    told = archsearch(environment, tmp_path, "validate", seed, "--format", "json")
    assert json.loads(told)["verdict"] == "accepted"
    lines = tmp_path / "two.ndjson"
    lines.write_text(2 * (json.dumps(json.loads(seed.read_text())) + "\n"), encoding="utf-8")
    told = archsearch(environment, tmp_path, "validate", lines, "--format", "ndjson", "--jobs", "2")
    assert [json.loads(line)["verdict"] for line in told.splitlines()] == ["accepted"] * 2


@pytest.mark.slow
def test_train_runs_without_what_only_posix_has(
    environment: dict[str, str], tmp_path: Path
) -> None:
    spec = spec_of([[{"op": "conv", "out_channels": 8, "stride": 2}]], HEADS[0], 32, 32)
    spec["input"]["channels"] = 3
    (tmp_path / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    recipe = {"epochs": 1, "batch_size": 128, "target_accuracy": None}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    archsearch(
        environment, tmp_path, "train", "spec.json", "--recipe", "recipe.json",
        "--dataset", "shapes", "--device", "cpu", "--out", "run",
    )  # fmt: skip
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
def test_search_runs_without_what_only_posix_has(
    environment: dict[str, str], tmp_path: Path, workers: str
) -> None:
    study = STUDY.replace("epochs = 5", "epochs = 1").replace("warmup_epochs = 3", "")
    assert study.count("epochs = 1") == FINALISTS
    (tmp_path / "study.toml").write_text(study, encoding="utf-8")
    archsearch(
        environment, tmp_path, "search", "study.toml", "--trials", "2", "--workers", workers,
        "--device", "cpu",
    )  # fmt: skip
    folder = tmp_path / "studies" / NAME
    assert len((folder / "leaderboard.csv").read_text().splitlines()) == 3
    assert "nobody is at work" in archsearch(environment, tmp_path, "status", folder)
    archsearch(environment, tmp_path, "doctor", folder)
