"""Which heavy packages each command loads: one row a command, run in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from archsearch.cli.app import app
from tests.conftest import ROOT

HEAVY = ("torch", "optuna", "pandas", "numpy", "plotly", "ray")
SEED = ROOT / "studies" / "seeds" / "era-s9" / "spec.json"
STUDY = ROOT / "studies" / "cifar10-200k"
CODE = """
import sys
from archsearch.cli import main
try: main()
except SystemExit as end: status = end.code
names = {names!r}
print("\\nloaded", status, *[name for name in names if name in sys.modules], file=sys.stderr)
"""
TRAIN = ("--dataset", "shapes", "--device", "cpu", "--recipe", "recipe.json")
SEARCH = ("tiny.toml", "--workers", "0", "--device", "cpu")

# command: (arguments, what it loads), in the order of a user's session. What one writes, another
# reads: `run` and `studies/tiny` are there before.
TABLE: dict[str, tuple[tuple[str, ...], str]] = {
    "validate": (("spec.json",), ""),
    "diagnose": (("spec.json", "--recipe", "fast"), ""),
    "rules": ((), ""),
    "rule": (("no-norm",), ""),
    "schema": (("spec",), ""),
    "space": (("cifar10-200k",), "numpy"),
    "import": (("model.py:Net",), "torch numpy"),
    "export": (("spec.json", "--to", "pytorch"), ""),
    "train": (("spec.json", *TRAIN, "--out", "run-2"), "torch numpy"),
    "evaluate": (("run", "--device", "cpu"), "torch numpy"),
    "search": ((*SEARCH, "--trials", "1"), "torch optuna pandas numpy"),
    "status": (("studies/tiny",), "optuna numpy"),
    "leaderboard": (("studies/tiny",), "pandas numpy"),
    "report": (("studies/old",), "optuna pandas numpy plotly"),
    "doctor": (("studies/tiny",), "torch optuna numpy"),
    # It serves until it is stopped: tests/monitor/test_dashboard.py runs it.
    "dashboard": (("--help",), ""),
}
MODEL = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
        super().__init__(nn.Conv2d(3, 4, 3), *head)
"""


def loaded(folder: Path, *args: str, code: str = "") -> set[str]:
    """What a command loads of `HEAVY`."""
    program = f"import sys; sys.argv = {['archsearch', *args]!r}\n{CODE.format(names=HEAVY)}"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{program}"],
        cwd=folder, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said, status, *names = done.stderr.splitlines()[-1].split()
    assert (said, status in ("0", "1")) == ("loaded", True), done.stderr
    return set(names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands are run on."""
    folder = tmp_path_factory.mktemp("loaded")
    shutil.copy(SEED, folder / "spec.json")
    shutil.copytree(STUDY, folder / "studies" / "old")
    (folder / "recipe.json").write_text(json.dumps({"epochs": 1, "batch_size": 500}))
    (folder / "model.py").write_text(MODEL)
    demo = (ROOT / "archsearch" / "study" / "shipped" / "demo.toml").read_text()
    shorter = {'"demo"': '"tiny"', "finalists = 1": "finalists = 0", "epochs = 4": "epochs = 1"}
    for long, short in shorter.items():
        demo = demo.replace(long, short)
    (folder / "tiny.toml").write_text(demo)
    loaded(folder, "train", "spec.json", *TRAIN, "--out", "run")
    loaded(folder, "search", *SEARCH, "--trials", "1")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", TABLE)
def test_a_command_loads_what_the_table_says(command: str, folder: Path) -> None:
    args, expected = TABLE[command]
    assert loaded(folder, command, *args) == set(expected.split())


def test_every_command_is_in_the_table() -> None:
    assert set(typer.main.get_command(app).commands) == TABLE.keys()  # type: ignore[attr-defined]


def test_light_commands_load_nothing_heavy_and_leaderboard_only_pandas(tmp_path: Path) -> None:
    shutil.copy(SEED, tmp_path / "spec.json")
    for options in ((), ("--explain",), ("--format", "json")):
        assert not loaded(tmp_path, "validate", "spec.json", *options)
    for command in ("diagnose", "export"):
        assert not loaded(tmp_path, command, *TABLE[command][0])
    for shown in (("--sort", "params"), ("--diff", "1", "2")):
        assert loaded(tmp_path, "leaderboard", str(STUDY), *shown) == {"pandas", "numpy"}


def test_a_planted_import_is_caught(tmp_path: Path) -> None:
    shutil.copy(SEED, tmp_path / "spec.json")
    assert loaded(tmp_path, "validate", "spec.json", code="import numpy") == {"numpy"}
