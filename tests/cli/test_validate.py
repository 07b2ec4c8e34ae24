"""`archsearch validate`: what it prints, and what it does not load."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Cli

EVA8 = ROOT / "studies" / "seeds" / "eva8-session6" / "spec.json"
ERA = ROOT / "studies" / "seeds" / "era-s9" / "spec.json"
GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("name", ["eva8-session6", "era-s9"])
def test_the_table_with_steps(name: str, cli: Cli, request: pytest.FixtureRequest) -> None:
    path = ROOT / "studies" / "seeds" / name / "spec.json"
    out = cli("validate", path, "--explain").out
    golden = GOLDEN / f"validate-{name}.txt"
    if request.config.getoption("--overwrite"):
        golden.write_text(out)
    assert out == golden.read_text()


def test_the_tables_figures_add_up(cli: Cli) -> None:
    verdict = json.loads(cli("validate", EVA8, "--format", "json").out)
    assert sum(layer["params"] for layer in verdict["layers"]) == verdict["params"]
    assert sum(layer["macs"] for layer in verdict["layers"]) == verdict["macs"]


def test_limits_on_the_command_line(cli: Cli) -> None:
    assert cli("validate", ERA, "--max-params", "214651").status == 0
    assert cli("validate", ERA, "--max-params", "214650").status == 1
    assert cli("validate", EVA8, "--min-rf", "69").status == 0
    result = cli("validate", EVA8, "--min-rf", "70", "--format", "json")
    assert result.status == 1
    assert [v["rule"] for v in json.loads(result.out)["violations"]] == ["min_receptive_field"]


def test_a_value_on_a_limit_passes_with_a_note(cli: Cli) -> None:
    result = cli("validate", EVA8, "--max-params", "97284", "--min-rf", "69", "--format", "json")
    assert result.status == 0
    codes = [warning["code"] for warning in json.loads(result.out)["warnings"]]
    assert codes[-2:] == ["params-on-limit", "receptive-field-on-limit"]
    assert "params-on-limit" not in cli("validate", EVA8, "--format", "json").out


def test_limits_from_a_file(cli: Cli, tmp_path: Path) -> None:
    limits = tmp_path / "limits.json"
    limits.write_text('{"max_params": null, "max_macs": 12000000}')
    verdict = json.loads(cli("validate", ERA, "--constraints", limits, "--format", "json").out)
    assert [v["rule"] for v in verdict["violations"]] == ["max_macs"]


def test_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(EVA8.read_bytes())))
    assert json.loads(cli("validate", "-", "--format", "json").out)["params"] == 97_284


def test_markup_in_names_is_text(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(EVA8.read_text().replace("eva8-session6", "[red]x[/red][/]"))
    assert "[red]x[/red][/]" in cli("validate", path).out


def modules_after(code: str) -> set[str]:
    """Names of all modules in a fresh interpreter that has run `code`."""
    report = "import sys; sys.stderr.write('\\n' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stderr.splitlines()[-1].split())


def validating(*options: str) -> str:
    """Code that validates a seed and comes back."""
    args = ["archsearch", "validate", str(EVA8), *options]
    return (
        f"import sys; sys.argv = {args!r}\n"
        "from archsearch.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    )


def test_without_options_it_loads_neither_typer_nor_rich(cli: Cli) -> None:
    assert not modules_after(validating()) & {"typer", "rich"}
    assert "typer" in modules_after(validating("--explain"))
    assert cli("validate", EVA8, ERA) == cli("validate", EVA8, ERA, "--format", "table")


def test_a_terminal_gets_the_same_words_in_colour(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = cli("validate", ERA).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "400")
    coloured = cli("validate", ERA).out
    assert "\x1b[1;31mrejected" in coloured
    words = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in words.splitlines()] == plain.splitlines()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in cli("validate", ERA).out


def test_names_cannot_write_on_the_terminal(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(EVA8.read_text().replace("eva8-session6", "a\\u001b[2Jb\\nc"))
    assert cli("validate", path).out.startswith("a\\x1b[2Jb\\nc  ")


@pytest.mark.parametrize(
    ("call", "status"), [(f"{EVA8} >&-", 0), (f"{EVA8} 2>&-", 0), ("- <&-", 2), ("none 2>&-", 2)]
)
def test_closed_streams(call: str, status: int) -> None:
    command = f"{sys.executable} -m archsearch validate {call}"
    done = subprocess.run(
        ["bash", "-c", command], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, "bug" in done.stderr) == (status, False)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize(
    ("call", "told"),
    [
        (f"validate {EVA8} >/dev/full", "error: standard output: No space left on device\n"),
        (f"validate {EVA8} --format ndjson >/dev/full", "error: standard output: No space left"),
        ("schema spec >/dev/full", "error: standard output: No space left on device\n"),
        ("--help >/dev/full", "error: standard output: No space left on device\n"),
        ("validate none >/dev/full", "error: none: cannot be read: No such file or directory\n"),
        ("validate none 2>/dev/full", ""),
        (f"validate {EVA8} >/dev/full 2>/dev/full", ""),
    ],
)
def test_an_output_that_cannot_be_written_ends_with_2(call: str, told: str) -> None:
    command = f"{sys.executable} -m archsearch {call}"
    done = subprocess.run(
        ["bash", "-c", command], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == bool(told)


def test_an_output_that_nobody_reads_ends_with_2() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "archsearch", "validate", str(EVA8)]
    try:
        done = subprocess.run(command, check=False, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (2, b"")


def test_a_spec_a_line_is_told_what_to_do(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "many.ndjson"
    path.write_text(2 * f"{json.dumps(json.loads(EVA8.read_text()))}\n")
    assert "archsearch validate --format ndjson" in cli("validate", path).err
    assert (
        "--explain is for the table" in cli("validate", EVA8, "--explain", "--format", "json").err
    )


def test_bugs_are_told_in_a_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_path: str) -> str:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("archsearch.common.parse.read_text", broken)
    result = cli("validate", EVA8)
    assert result.status == 2
    assert result.err.startswith("error: a bug in archsearch: ZeroDivisionError: oops\n")


def test_interruption_has_its_own_status(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_path: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("archsearch.common.parse.read_text", interrupted)
    assert cli("validate", EVA8).status == 130
