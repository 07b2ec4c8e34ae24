"""Ctrl-C once, twice, and what is ignored; in a process of its own, for signals hit all of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fault_drill.drill import alive

SCRIPT = """
import multiprocessing, signal, sys, time
from archsearch.cli.interrupts import cleanly_then_at_once

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=signal.pause, daemon=True)
    child.start()
    try:
        with cleanly_then_at_once():
            try:
                print("at work", child.pid, flush=True)
                signal.pause()
            finally:
                print("saving", flush=True)
                if "slow" in sys.argv:
                    signal.pause()
    except KeyboardInterrupt:
        print("saved", flush=True)
        sys.exit(130)
"""


def start(tmp_path: Path, *args: str, before: str = "") -> subprocess.Popen[str]:
    """The script at work."""
    (tmp_path / "script.py").write_text(before + SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), *args]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_one_ends_cleanly(tmp_path: Path, number: int) -> None:
    process = start(tmp_path)
    assert line(process).startswith("at work")
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("saving\nsaved\n", "")
    assert process.returncode == 130


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_one_ends_at_once(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "slow")
    child = int(line(process).split()[-1])
    process.send_signal(number)
    assert line(process) == "saving"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")  # ends when the child has, too
    assert process.returncode == 130
    assert not alive(child)


def test_what_is_ignored_stays_so(tmp_path: Path) -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = start(tmp_path, before=ignoring)
    assert line(process).startswith("at work")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("saving\nsaved\n", "")
