"""Help is complete at 80 columns, and advice names options that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from archsearch.cli.app import app
from tests.conftest import ROOT, Cli

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined] # of a group
NAMES = {"import_.py": "import"}

SERVES = {
    "common/folder_lock.py": (),
    "errors.py": ("train", "search", "evaluate"),
    "analysis/batch.py": ("validate",),
    "analysis/verdict_view.py": ("validate",),
    "leaderboard/view.py": ("leaderboard",),
    "study/folder.py": ("search", "status", "doctor", "dashboard"),
    "space/counting/view.py": ("space",),
    "executors/processes/pool.py": ("search",),
    "executors/ray/cluster.py": ("search",),
    "executors/ray/executor.py": ("search",),
    "leaderboard/query.py": ("leaderboard",),
    "monitor/dashboard.py": ("dashboard",),
    "monitor/status.py": ("status", "dashboard", "doctor"),
    "report/finalist.py": ("train",),
    "search/storage/driver_lock.py": ("search",),
    "search/storage/open.py": ("search",),
    "search/storage/single_writer.py": ("search",),
    "search/storage/url.py": ("search", "status", "doctor", "dashboard"),
    "space/repair.py": ("search",),
    "training/device.py": ("train", "search", "evaluate"),
    "training/images.py": ("train", "search", "evaluate", "doctor"),
}
"""Which commands print the messages of a module that names options."""


def options(command: str) -> set[str]:
    return {name for param in COMMANDS[command].params for name in param.opts}


@pytest.fixture
def at_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")


@pytest.mark.usefixtures("at_80")
def test_the_list_of_commands_is_not_truncated(cli: Cli) -> None:
    out = cli("--help").out
    listed = out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    for line in listed:
        assert line.endswith("."), line
        assert "..." not in line
        assert len(line) <= 80


@pytest.mark.usefixtures("at_80")
@pytest.mark.parametrize("command", COMMANDS)
def test_help_holds_every_description_whole(cli: Cli, command: str) -> None:
    result = cli(command, "--help")
    assert result.status == 0
    assert max(map(len, result.out.splitlines())) <= 80
    words = " ".join(result.out.split())
    for param in COMMANDS[command].params:
        assert param.help, param.name
        assert " ".join(param.help.split()) in words
        assert param.help.endswith("."), param.help


def texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each string below a node, but for docstrings."""
    match node:
        case ast.Expr(value=ast.Constant()):
            pass
        case ast.JoinedStr(values=values):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in values]
            yield node.lineno, "".join(map(str, parts))
        case ast.Constant(value=str(text)):
            yield node.lineno, text
        case _:
            for child in ast.iter_child_nodes(node):
                yield from texts(child)


def advice(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, text before and option of each option that a string of a module names."""
    for line, text in texts(ast.parse(path.read_text())):
        for found in re.finditer(r"(?<![\w(-])--[a-z][a-z-]+\b(?!:)", text):
            yield line, text[: found.start()].rpartition(";")[2], found[0]


def commands_of(path: Path) -> tuple[str, ...]:
    place = path.relative_to(ROOT / "archsearch").as_posix()
    if place.startswith("cli/"):
        name = NAMES.get(path.name, path.stem)
        return (name,) if name in COMMANDS else ("validate",)
    return SERVES.get(place, ())


def test_advice_names_options_that_the_command_has() -> None:
    wrong = []
    for path in sorted((ROOT / "archsearch").rglob("*.py")):
        for line, before, option in advice(path):
            if "ray start" in before or path.name in ("app.py", "options.py"):
                continue
            named = re.findall(r"archsearch (\w+(?: or \w+)?)\b", before)
            commands = named[-1].split(" or ") if named else commands_of(path)
            lack = [command for command in commands if option not in options(command)]
            if lack or not commands:
                wrong.append(f"{path}:{line}: {option} is not of {lack or 'a known command'}")
    assert not wrong, "\n".join(wrong)
