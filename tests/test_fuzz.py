"""`benchmarks/fuzz` attacks the whole tool; here it runs in short, and is checked itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.conftest import ROOT

if sys.platform == "win32":
    pytest.skip("the fuzzer forks, and Windows cannot", allow_module_level=True)

from fuzz import checks
from fuzz.base import DATA, World, copy
from fuzz.fork import Command, Outcome, Terminal
from fuzz.hostile import ESCAPE, MARKUP
from fuzz.text_mutators import BYTES, any_bytes, csv_structure, json_structure, toml_structure

BENCHMARKS = ROOT / "benchmarks"
ATTACKS = os.environ.get("ARCHSEARCH_ATTACKS", "500")


@pytest.mark.slow
def test_no_attack_succeeds() -> None:
    """5,000 by hand: `ARCHSEARCH_ATTACKS=5000`, or `python -m fuzz --attacks 5000 --seed 1`."""
    command = [sys.executable, "-m", "fuzz", "--attacks", ATTACKS]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    assert f"{ATTACKS} attacks, 0 failures" in done.stdout


# The fuzzer itself


JSON = json.dumps({"a": [1, 2.5, {"b": "c"}], "d": None, "e": {"f": True}}).encode()
TOML = b'name = "x"\nnumbers = [1, 2]\n[table]\nkey = 1.5\n'
CSV = b"epoch,acc\n1,0.5\n2,0.75\n"


@pytest.mark.parametrize(
    ("mutate", "raw"),
    [
        *((mutate, JSON) for mutate in BYTES),
        (any_bytes, b""),
        (json_structure, JSON),
        (toml_structure, TOML),
        (csv_structure, CSV),
    ],
)
def test_a_number_makes_the_same_mutation_again(mutate: object, raw: bytes) -> None:
    assert callable(mutate)
    first = [mutate(Random(f"0/{number}"), raw) for number in range(40)]
    assert first == [mutate(Random(f"0/{number}"), raw) for number in range(40)]
    assert len(set(first)) > 1


def test_what_changes_outside_is_found(tmp_path: Path) -> None:
    inside, outside = tmp_path / "studies" / "fuzz", tmp_path / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    for path in (inside / "kept.csv", inside / "study.db", outside / "a", outside / "b"):
        path.write_text("before")
    before = checks.state(tmp_path)
    (inside / "kept.csv").write_text("after")
    (outside / "a").write_text("after")
    (outside / "b").unlink()
    (outside / "b").symlink_to("a")
    (outside / "c").mkdir()
    (inside / "study.db-shm").touch()  # SQLite makes it where it only reads, too
    found = list(checks.escaped(before, checks.state(tmp_path), ("studies/fuzz",)))
    assert found == ["outside/a was changed", "outside/b was changed", "outside/c was made"]
    assert list(checks.escaped(before, checks.state(tmp_path), ("outside",))) == [
        "studies/fuzz/kept.csv was changed"
    ]


def command(tmp_path: Path, out: bytes, err: bytes, **terminal: object) -> Command:
    (tmp_path / "out").write_bytes(out)
    (tmp_path / "err").write_bytes(err)
    around = Terminal(**terminal)  # type: ignore[arg-type]
    return Command(("status",), tmp_path, tmp_path / "out", tmp_path / "err", around)


@pytest.mark.parametrize(
    ("out", "err", "told"),
    [
        (b"fine\ttoo\n", b"error: \xc3\xa9 \\x1b\n", []),
        (b"\x1b[1mbold", b"", ["control character '\\x1b' on standard output"]),
        (b"", "\u202e".encode(), ["control character '\\u202e' on standard error"]),
        (b"", "\x9b".encode(), ["control character '\\x9b' on standard error"]),
        (b"", b"Traceback (most recent call last):\n", ["traceback on standard error"]),
        (b"", b"error: a bug in archsearch: KeyError\n", ["a bug in archsearch"]),
        (b"", b"x.py:1: FutureWarning: no\n", ["a warning of Python's"]),
        (b"a" * 2001, b"", ["a line of over 2,000 characters on standard output"]),
        (b"a\n" * 150_000, b"", ["long standard output: 300,000 bytes"]),
    ],
)
def test_what_must_not_be_printed_is_found(
    tmp_path: Path, out: bytes, err: bytes, told: list[str]
) -> None:
    assert list(checks.printed(command(tmp_path, out, err), data=False)) == told


def test_colors_are_allowed_where_they_are_forced_but_not_an_attackers(tmp_path: Path) -> None:
    forced = {"environment": {"FORCE_COLOR": "1"}}
    bold = command(tmp_path, b"\x1b[1mbold\x1b[0m", b"", **forced)
    assert list(checks.printed(bold, data=False)) == []
    theirs = command(tmp_path, ESCAPE.encode(), b"", **forced)
    assert list(checks.printed(theirs, data=False)) == ["an escape sequence on standard output"]


def test_lines_for_programs_may_be_long_but_not_messages(tmp_path: Path) -> None:
    long = b'"' + b"a" * 3000 + b'"\n'
    assert list(checks.printed(command(tmp_path, long, b""), data=True)) == []
    [told] = checks.printed(command(tmp_path, b"", long), data=True)
    assert told == "a line of over 2,000 characters on standard error"


def test_pages_are_searched_but_for_a_library_in_them(tmp_path: Path) -> None:
    library = f"<script>{'x' * 500_000}\x1a</script>"
    (tmp_path / "report.html").write_text(f"<p>fine</p>{library}<p>\x01{MARKUP}</p>")
    assert list(checks.written(tmp_path, {}, checks.state(tmp_path))) == [
        "control character '\\x01' in report.html",
        "markup of an attacker in report.html",
    ]
    (tmp_path / "report.html").write_text(f"<p>fine</p>{library}")
    assert list(checks.written(tmp_path, {}, checks.state(tmp_path))) == []


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome(130, 1.0, 0, None), []),
        (Outcome(120, 1.0, 0, None), ["exit status 120"]),
        (Outcome(-11, 1.0, 0, None), ["ended by signal 11"]),
        (Outcome(-9, 1.0, 0, "hangs"), ["hangs"]),
        (Outcome(0, 1.0, 3 << 30, None), ["takes too much memory"]),
    ],
)
def test_how_a_command_may_end(outcome: Outcome, told: list[str]) -> None:
    assert list(checks.ending(outcome)) == told


def test_figures_of_a_damaged_checkpoint_are_compared(tmp_path: Path) -> None:
    (tmp_path / "truth").write_text(json.dumps({"accuracy": 0.5, "loss": 1.5}))
    for out, told in (
        (b'{"accuracy": 0.5, "loss": 1.5}', []),
        (b"", []),  # refused
        (b'{"accuracy": 0.5, "loss": 1.6}', ["wrong figures from a damaged checkpoint"]),
    ):
        found = checks.figures(command(tmp_path, out, b""), tmp_path / "truth")
        assert list(found) == told


def test_a_world_is_copied_with_its_links_and_with_data_if_asked(tmp_path: Path) -> None:
    base, world = World(tmp_path / "base"), World(tmp_path / "attacked")
    (base.work / DATA).mkdir(parents=True)
    (base.work / "link").symlink_to("nowhere")
    copy(base, world, with_data=False)
    (world.work / "left.txt").touch()
    assert (world.work / "link").is_symlink()
    assert not (world.work / DATA).exists()
    copy(base, world, with_data=True)
    assert sorted(path.name for path in world.work.iterdir()) == [DATA, "link"]


_FORKED = """
import os, signal, sys, time
from pathlib import Path
import archsearch.cli
from fuzz import fork

fork.IDLE_S = 2.0
here = Path(sys.argv[1])

def stand_in():
    what = sys.argv[1]
    if what == "hang": os.open(here / "pipe", os.O_RDONLY)
    if what == "spin":
        while True: pass
    if what == "large": b"x" * (300 << 20)
    if what == "print": print("printed", sys.stdin.read(), os.environ["TOLD"])
    if what == "raise": raise KeyError("x")
    if what == "kill": os.kill(os.getpid(), signal.SIGSEGV)
    if what == "serve":
        print("http://", flush=True)
        try: time.sleep(60)
        except KeyboardInterrupt: sys.exit(130)
    sys.exit(int(what) if what.isdigit() else 0)

def main():
    archsearch.cli.main = stand_in
    os.mkfifo(here / "pipe")
    for what in ("print", "7", "hang", "raise", "kill", "large", "serve", "spin"):
        around = fork.Terminal({"TOLD": "told"}, stdin=b"given")
        command = fork.Command((what,), here, here / f"{what}.out", here / f"{what}.err", around)
        fork.CPU_S = 0.2 if what == "spin" else 20.0
        found = fork.watch(fork.start(command), command, b"http" if what == "serve" else None)
        print(what, found.status, found.stopped, found.peak > 200 << 20)
    full = fork.Command(("print",), here, here / "o", here / "e", fork.Terminal({"TOLD": "x"},
        stdout="/dev/full"))
    print("full", fork.watch(fork.start(full), full).status)

try:
    main()
except fork.InChildError as child:
    command = child.command
else:
    sys.exit()
fork.become(command)
"""


def test_forked_commands_end_as_processes_do_and_are_stopped_in_time(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKED, str(tmp_path)],
        cwd=BENCHMARKS, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "print 0 None False",
        "7 7 None False",
        "hang -9 hangs False",
        "raise 1 None False",
        "kill -11 None False",
        "large 0 None True",
        "serve 130 None False",
        "spin -9 is too slow False",
        *(["full 120"] if Path("/dev/full").exists() else []),
    ]
    assert (tmp_path / "print.out").read_text() == "printed given told\n"
    assert "Traceback (most recent call last)" in (tmp_path / "raise.err").read_text()
    assert "KeyError: 'x'" in (tmp_path / "raise.err").read_text()
