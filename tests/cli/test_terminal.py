"""Whatever names and files hold, only text reaches the terminal, in any encoding."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.text import Text

from archsearch.common import console
from archsearch.common.console import note, say, show, stderr_console
from archsearch.common.page import Grid, Line, plain
from archsearch.common.page_html import html
from archsearch.errors import MAX_LINE_CHARS
from archsearch.report.charts import plain as plain_label
from archsearch.report.markup import element
from tests.conftest import ROOT, Cli

EVIL = "a\x1b[2J\x9b1m\x07\r\x00\x7f\u202eb\u2028c\ud800"
"""C0, C1, DEL, an escape sequence, a bidi override, a line separator, half a surrogate pair."""
SPEC = ROOT / "studies" / "seeds" / "era-s9" / "spec.json"


def is_text(output: str) -> bool:
    return all(line.isprintable() for line in output.split("\n"))


ARGUMENTS = [
    ("validate", "{}"),
    ("validate", "{}.py"),
    ("validate", "{}", "--format", "ndjson"),
    ("validate", "spec.json", "--constraints", "{}"),
    ("validate", "--{}", "spec.json"),
    ("validate", "spec.json", "--jobs", "{}"),
    ("validate", "spec.json", "--format", "{}"),
    ("{}",),
    ("rule", "{}"),
    ("schema", "{}"),
    ("space", "{}"),
    ("search", "{}"),
    ("search", "--from", "{}"),
    ("search", "--storage", "{}"),
    ("train", "{}"),
    ("train", "spec.json", "--recipe", "{}"),
    ("export", "{}", "--to", "svg"),
    ("import", "{}"),
    ("import", "{}.py:Net"),
    ("diagnose", "{}"),
    ("diagnose", "spec.json", "--history", "{}"),
    ("leaderboard", "{}"),
    ("leaderboard", "{}", "--where", "{}"),
    ("status", "{}"),
    ("doctor", "{}"),
    ("report", "{}"),
    ("evaluate", "{}"),
    ("dashboard", "{}"),
]


@pytest.mark.parametrize("args", ARGUMENTS, ids=" ".join)
def test_no_argument_is_obeyed_by_the_terminal(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.json").write_bytes(SPEC.read_bytes())
    evil = EVIL.replace("\x00", "").replace("\ud800", "\udcff") + "\nFAKE"  # as arguments may be
    result = cli(*(arg.replace("{}", evil) for arg in args))
    assert result.status == 2
    assert result.err
    assert is_text(result.out)
    assert is_text(result.err)
    assert "a bug" not in result.err
    assert not re.search("^FAKE", result.out + result.err, re.MULTILINE)


@pytest.mark.parametrize(
    "args", [("validate", "{}"), ("{}",), ("validate", "--{}"), ("rule", "{}")]
)
def test_no_argument_makes_a_long_line(cli: Cli, args: tuple[str, ...]) -> None:
    result = cli(*(arg.replace("{}", "x" * 100_000) for arg in args))
    assert result.status == 2
    assert max(map(len, result.err.split("\n"))) <= MAX_LINE_CHARS + 10


def test_messages_are_one_short_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_only_printable()
    note(EVIL + "\n" + "x" * 10**6)
    say(EVIL + "\n" + "x" * 10**6)
    captured = capsys.readouterr()
    for output in captured:
        assert is_text(output)
        assert output.count("\n") == 1
        assert len(output) < MAX_LINE_CHARS + 10


def test_pages_hold_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    page: list[Line | Grid] = [
        Line(EVIL + "\n" + "x" * 10**6),
        Grid([["a", EVIL + "\n"]], frozenset(), ["t", EVIL]),
    ]
    show(page)
    for text in (capsys.readouterr().out, plain(page), html(page)):
        assert is_text(text)
        assert len(text) < 3 * MAX_LINE_CHARS


def test_a_live_console_keeps_its_colors_and_nothing_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console.print_only_printable()
    stderr_console().print(Text(EVIL, "bold"), soft_wrap=True)
    err = capsys.readouterr().err
    assert err.startswith("\x1b[1m")
    assert err.count("\x1b") == 2
    assert is_text(err.replace("\x1b[1m", "").replace("\x1b[0m", ""))


def test_reports_hold_only_text() -> None:
    assert is_text(element("td", EVIL, title=EVIL))
    assert is_text(plain_label(EVIL))


def archsearch(*args: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    given = {key: value for key, value in os.environ.items() if key != "PYTHONUTF8"}
    return subprocess.run(
        [sys.executable, "-m", "archsearch", *args],
        cwd=ROOT, env={**given, **environment}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252"},
    ],
    ids=str,
)
def test_names_that_an_encoding_lacks_are_replaced(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(json.loads(SPEC.read_text()) | {"name": "netz-Ω-网络"}))
    done = archsearch("validate", str(path), **environment)
    assert done.returncode == 1
    assert rb"netz-\u03a9-\u7f51\u7edc" in done.stdout
    missing = archsearch("validate", "Ω\x1b", "--format", "table", **environment)
    assert missing.returncode == 2
    assert b"\x1b" not in missing.stderr
    assert b"a bug" not in missing.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_status_prints_its_bars_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    (study,) = (ROOT / "tests" / "written_by_4c21fd6" / "studies").iterdir()
    shutil.copytree(study, tmp_path / "study")
    done = archsearch("status", str(tmp_path / "study"), PYTHONIOENCODING=encoding)
    assert b"a bug" not in done.stderr
    assert done.returncode == 0


RULES = """
import sys, warnings
from archsearch.cli import main
sys.argv = ["archsearch", "rules"]
try:
    main()
except SystemExit:
    warnings.warn("for developers")
"""


@pytest.mark.parametrize(
    ("environment", "seen"),
    [({}, False), ({"PYTHONWARNINGS": "default"}, True), ({"ARCHSEARCH_DEBUG": "1"}, True)],
)
def test_warnings_reach_only_those_who_ask_for_them(
    environment: dict[str, str], seen: bool
) -> None:
    asked = ("PYTHONWARNINGS", "ARCHSEARCH_DEBUG")
    clean = {name: value for name, value in os.environ.items() if name not in asked}
    done = subprocess.run(
        [sys.executable, "-c", RULES],
        cwd=ROOT, env={**clean, **environment}, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert (b"for developers" in done.stderr) == seen


def test_a_warning_still_fails_a_test_that_runs_a_command(cli: Cli) -> None:
    cli("rules")
    with pytest.raises(UserWarning, match="oops"):
        warnings.warn("oops", stacklevel=1)


def test_what_replaces_a_stream_is_that_stream_in_all_else() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="utf-8")
    wrapped = console._Printable(stream)
    wrapped.writelines(["a\n", "\x1b"])
    wrapped.flush()
    assert written.getvalue() == b"a\n\\x1b"
    assert (wrapped.encoding, wrapped.isatty()) == ("utf-8", False)


def test_a_gpu_that_cannot_be_used_is_a_note(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    import torch

    from archsearch.training import device

    def old_driver() -> bool:
        warnings.warn("CUDA initialization: the driver is too old\n(more)", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", old_driver)  # it takes such a machine
    device._cuda.cache_clear()
    try:
        assert device.choose().torch.type == "cpu"
        assert device.unusable_gpu() == "CUDA initialization: the driver is too old"
        assert "gpu         cannot be used: CUDA init" in cli("doctor", "--data", "nowhere").out
    finally:
        device._cuda.cache_clear()
