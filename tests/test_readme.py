"""Every command that README shows is run: here, or by `.ci/run`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from archsearch.training.job import Job
from archsearch.training.records import Epoch
from archsearch.training.trainer import Trainer
from tests.conftest import ROOT, Cli

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)
OURS = [command for command in COMMANDS if command.startswith("archsearch ")]


def test_ci_runs_the_two_commands_that_set_everything_up() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert COMMANDS[:2] == ["make demo", "make test"]
    assert {"make demo", "make test", "make test-slow"} <= set(script)
    assert set(COMMANDS) - set(OURS) == {"make demo", "make test", "source .venv/bin/activate"}


def pretend(
    _self: Trainer, job: Job, *, test: bool, warn: object, on_step: object = None
) -> Iterator[Epoch | float]:
    """Stands in for training: hours of it are what these commands are for."""
    for number in range(1, job.recipe.epochs + 1):
        yield Epoch(
            epoch=number, lr=0.1, train_loss=1, train_acc=0.5, val_loss=1,
            val_acc=None if job.final else 0.1, train_seconds=1, images_per_second=10,
        )  # fmt: skip
    if test:
        yield 0.9


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what the commands name."""
    shutil.copytree(ROOT / "studies", tmp_path / "studies", ignore=shutil.ignore_patterns("demo"))
    shutil.copy(ROOT / "archsearch" / "study" / "shipped" / "demo.toml", tmp_path / "my-study.toml")
    seed = json.loads((ROOT / "studies" / "seeds" / "era-s9" / "spec.json").read_text())
    (tmp_path / "limits.json").write_text('{"max_params": 100000}')
    (tmp_path / "specs.ndjson").write_text(3 * f"{json.dumps(seed)}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, cli: Cli) -> None:
    """A run of one epoch on generated images, where README's command looks for one."""
    (folder / "recipe.json").write_text('{"epochs": 1, "batch_size": 500}')
    spec, recipe = "studies/records/time-to-85/spec.json", "recipe.json"
    options = ("--dataset", "shapes", "--recipe", recipe, "--out", "runs/NETWORK-0")
    assert cli("train", spec, *options, "--device", "cpu").status in (0, 1)


@pytest.mark.usefixtures("folder", "run")
def test_commands_that_do_not_train(cli: Cli) -> None:
    """In README's order: what one writes, another reads."""
    for command in OURS:
        words = shlex.split(command)[1:]
        if words[0] in ("search", "train"):
            continue
        words, target = (words[:-2], words[-1]) if ">" in words else (words, None)
        result = cli(*words)
        assert result.status in (0, 1), (command, result.err)
        if target:
            Path(target).write_text(result.out)
        if "--out" in words:
            assert Path(words[words.index("--out") + 1]).stat().st_size, command
        else:
            assert result.out, command


@pytest.mark.parametrize("command", [c for c in OURS if c.split()[1] in ("search", "train")])
def test_commands_that_train(
    command: str, folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "train", pretend)
    # The command as it stands, on images that are here; on CIFAR-10 it is run by hand.
    here = ("--workers", "0") if " search " in command else ()
    result = cli(*shlex.split(command)[1:], *here, "--dataset", "shapes", "--device", "cpu")
    assert result.status == 0, result.err


def test_the_spec_and_its_table_are_real(folder: Path, cli: Cli) -> None:
    spec = re.search(r"```json\n(.+?)```", README, re.DOTALL)
    assert spec
    (folder / "tiny.json").write_text(spec[1])
    assert cli("validate", "tiny.json").status == 0
    shown = re.search(r"<!-- validate -->\n```text\n(.+?)```", README, re.DOTALL)
    assert shown
    printed = cli("validate", "studies/seeds/eva8-session6/spec.json").out
    assert [line.rstrip() for line in printed.splitlines()] == shown[1].splitlines()


@pytest.mark.usefixtures("folder")
def test_the_python_block_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    block = re.search(r"```python\n(.+?)```", README, re.DOTALL)
    assert block
    exec(block[1], {})  # noqa: S102 (README's own code)
    said = re.search(r"# (False .+)$", block[1], re.MULTILINE)
    assert said
    assert capsys.readouterr().out == f"{said[1]}\n"
