"""Many specs at once: order, broken lines, several processes, bounded memory."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archsearch.analysis import batch
from archsearch.analysis.batch import Line, judge_lines, lines_of
from archsearch.analysis.constraints import Constraints
from archsearch.common.parse import MAX_BYTES
from archsearch.errors import ArchsearchError
from tests.conftest import ROOT, Cli

SEEDS = sorted(ROOT.glob("studies/seeds/*/spec.json"))


def compact(path: Path, name: str) -> str:
    return json.dumps(json.loads(path.read_text()) | {"name": name}, separators=(",", ":"))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A thousand lines: two networks in turn, every tenth line broken in one way or another."""
    broken = [
        "{",
        "[]",
        "nonsense",
        '{"name": "x"}',
        '{"name": "\\ud800"}',
        "{}",
        "\x00",
        '"',
        "0",
        "null",
    ]
    lines = [
        broken[i // 10 % 10] if i % 10 == 9 else compact(SEEDS[i % 2], f"line-{i}")
        for i in range(1_000)
    ]
    lines.insert(500, "   ")  # a blank line is none, but it is counted
    path = tmp_path / "many.ndjson"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("options", [(), ("--brief",), ("--jobs", "2"), ("--brief", "--jobs", "2")])
def test_every_line_gets_its_verdict_in_order(
    many: Path, cli: Cli, options: tuple[str, ...]
) -> None:
    result = cli("validate", many, "--format", "ndjson", *options)
    assert result.status == 2
    verdicts = [json.loads(line) for line in result.out.splitlines()]
    assert len(verdicts) == 1_000
    for i, verdict in enumerate(verdicts):
        if i % 10 == 9:
            number = i + 1 + (i >= 500)
            assert (verdict["file"], verdict["verdict"]) == (f"{many}:{number}", "invalid")
            assert verdict["problems"]
        else:
            wanted = (f"line-{i}", "accepted" if "eva8" in str(SEEDS[i % 2]) else "rejected")
            assert (verdict["name"], verdict["verdict"]) == wanted
    assert result.err.count("error: ") == 100
    assert "Traceback" not in result.err


def test_brief_says_what_the_whole_verdict_says(many: Path) -> None:
    def verdicts(brief: bool) -> list[dict[str, object]]:
        judged = judge_lines(lines_of(str(many)), Constraints(), brief=brief, jobs=1)
        return [json.loads(each.line) for each in judged]

    for short, long in zip(verdicts(True), verdicts(False), strict=True):
        assert short == {key: long[key] for key in short}


def test_a_spec_over_several_lines_is_one(cli: Cli) -> None:
    result = cli("validate", *SEEDS, "--format", "ndjson")
    assert result.status == 1
    assert [json.loads(line)["name"] for line in result.out.splitlines()] == [
        "era-s9",
        "eva8-session6",
    ]


@pytest.mark.parametrize("first", ["not json", "", "  ", '{"name": "cut', "{", "[1, 2", "}"])
def test_a_broken_first_line_is_one_broken_line(first: str, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "specs.txt"
    path.write_text(f"{first}\n{compact(SEEDS[1], 'a')}\n{compact(SEEDS[1], 'b')}\n")
    result = cli("validate", path, "--format", "ndjson", "--brief")
    names = [json.loads(line).get("name") for line in result.out.splitlines()]
    assert names == ([None] if first.strip() else []) + ["a", "b"]
    assert result.status == (2 if first.strip() else 0)


def test_a_file_that_cannot_be_read_does_not_stop_the_others(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    result = cli("validate", tmp_path / "none", tmp_path / "empty", SEEDS[0], "--format", "ndjson")
    assert result.status == 2
    verdicts = [json.loads(line)["verdict"] for line in result.out.splitlines()]
    assert verdicts == ["invalid", "invalid", "rejected"]
    assert "cannot be read: No such file" in result.err


def test_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{compact(SEEDS[1], 'a')}\nbroken\n{compact(SEEDS[1], 'b')}\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    result = cli("validate", "-", "--format", "ndjson", "--brief")
    assert [json.loads(line).get("name") for line in result.out.splitlines()] == ["a", None, "b"]
    assert "standard input:2" in result.err


def test_a_line_too_long_costs_bounded_memory_and_not_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "long.ndjson"
    path.write_text("x" * (3 * MAX_BYTES) + "\n" + compact(SEEDS[1], "after") + "\n")
    lines = list(lines_of(str(path)))
    assert [source.rpartition(":")[2] for source, _ in lines] == ["1", "2"]
    assert all(isinstance(text, bytes) and len(text) <= MAX_BYTES + 1 for _, text in lines)
    long, after = judge_lines(lines, Constraints(), brief=False, jobs=1)
    assert "larger than 512 KiB" in long.error
    assert after.status == 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_stream_without_end_is_read_only_a_little_ahead(jobs: int) -> None:
    read = 0
    text = compact(SEEDS[1], "again").encode()

    def endless() -> Iterator[Line]:
        nonlocal read
        for i in itertools.count():
            read += 1
            yield f"x:{i}", text

    stream = judge_lines(endless(), Constraints(), brief=True, jobs=jobs)
    assert all(judged.status == 0 for judged in itertools.islice(stream, 1_000))
    stream.close()  # type: ignore[attr-defined] # a generator
    assert read <= 1_000 + jobs * batch.TASKS_AHEAD * batch.LINES_A_TASK + batch.LINES_A_TASK


def test_a_worker_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_judge_task", _die)
    lines: list[Line] = [("x", b"{}")] * 10
    with pytest.raises(ArchsearchError, match="a worker process died"):
        list(judge_lines(lines, Constraints(), brief=True, jobs=2))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(sent: signal.Signals) -> None:
    command = [sys.executable, "-m", "archsearch", "validate", "-", "--format", "ndjson"]
    run = subprocess.Popen([*command, "--jobs", "2"], cwd=ROOT, stdin=-1, stdout=-3, stderr=-3)
    assert run.stdin
    with run.stdin as pipe:
        pipe.write(f"{compact(SEEDS[1], 'a')}\n".encode() * 2_000)  # work for both, and no end
        pipe.flush()
        workers = Path(f"/proc/{run.pid}/task/{run.pid}/children")
        until(lambda: len(workers.read_text().split()) == 2)
        children = [Path("/proc") / pid for pid in workers.read_text().split()]
        run.send_signal(sent)
        assert run.wait(30) in (-sent, 130)
        until(lambda: not any(child.exists() for child in children))


def until(done: Callable[[], bool]) -> None:
    """Wait for something that must come, half a minute at most."""
    for _ in range(300):
        if done():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come")


def _die(*_: object) -> None:
    os._exit(9)


@pytest.mark.parametrize("option", [("--brief",), ("--jobs", "2")])
def test_options_that_need_ndjson_say_so(cli: Cli, option: tuple[str, ...]) -> None:
    result = cli("validate", SEEDS[0], *option)
    assert (result.status, result.out) == (2, "")
    assert f"{option[0]} is for --format ndjson" in result.err
