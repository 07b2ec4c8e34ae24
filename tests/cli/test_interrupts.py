"""Signals end a command cleanly or at once, wherever it is; in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_drill.drill import alive

from tests.conftest import ROOT

SCRIPT = """
import multiprocessing, signal, sys, time
from archsearch.common import interruption
from archsearch.common.interruption import check, held, listening, saving

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=signal.pause, daemon=True)
    child.start()
    try:
        with listening(), saving(lambda: "last words\\n"):
            try:
                print("at work", child.pid, flush=True)
                while not interruption.asked():
                    time.sleep(0.01)
            finally:
                print("saving", flush=True)
                if "slow" in sys.argv:
                    signal.pause()
    except KeyboardInterrupt:
        print("saved", flush=True)
        sys.exit(130)
"""


def start(tmp_path: Path, *args: str, script: str = SCRIPT) -> subprocess.Popen[str]:
    """The script at work."""
    (tmp_path / "script.py").write_text(script)
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
    process = start(tmp_path, script=ignoring + SCRIPT)
    assert line(process).startswith("at work")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("saving\nsaved\n", "")


HEAD = """
import os, signal, sqlite3, subprocess, sys, time
from archsearch.common import interruption
from archsearch.common.interruption import check, held, listening, saving

def me(number=signal.SIGINT):
    os.kill(os.getpid(), number)

"""


def ran(tmp_path: Path, code: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of code that signals itself."""
    (tmp_path / "script.py").write_text(HEAD + code)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_without_anything_to_save_it_ends_where_it_is(tmp_path: Path) -> None:
    code = """
class Swallows:
    def __del__(self):
        me()
        print("went on", flush=True)
with listening():
    Swallows()
"""
    assert ran(tmp_path, code) == (130, "", "interrupted\n")


def test_nothing_is_raised_but_at_a_safe_point(tmp_path: Path) -> None:
    code = """
with listening():
    try:
        with saving(lambda: "last words\\n"):
            for number in range(3):
                me() if number == 1 else None
                print("whole", number, flush=True)
                check()
    except KeyboardInterrupt:
        check()  # once is enough
        print("saved", flush=True)
"""
    assert ran(tmp_path, code) == (0, "whole 0\nwhole 1\nsaved\n", "")


@pytest.mark.parametrize("at", ["return", "raise ValueError('it made of it')", "sys.exit(0)"])
def test_what_a_library_makes_of_it_does_not_count(tmp_path: Path, at: str) -> None:
    code = f"""
def work():
    with saving(lambda: "last words\\n"):
        me()
        {at}
with listening():
    try:
        work()
    except KeyboardInterrupt:
        print("saved", flush=True)
    except SystemExit:
        print("ended", flush=True)
"""
    status, out, err = ran(tmp_path, code)
    assert (status, err) == (0, "")
    assert out == ("ended\n" if "exit" in at else "saved\n")


@pytest.mark.parametrize(
    "stuck",
    [
        "two.execute('BEGIN EXCLUSIVE')",  # in C, for a minute
        "while True: time.sleep(60)",
        "while True: pass",
    ],
)
def test_what_reaches_no_safe_point_ends_with_its_last_words(tmp_path: Path, stuck: str) -> None:
    code = f"""
interruption.GRACE_S = 0.3
one, two = (sqlite3.connect("locked.db", timeout=60) for _ in range(2))
one.execute("BEGIN EXCLUSIVE")
child = subprocess.Popen([sys.executable, "-c",
    f"import os, time; time.sleep(0.5); os.kill({{os.getpid()}}, {int(signal.SIGTERM)})"])
with listening(), saving(lambda: "last words\\n"):
    {stuck}
"""
    assert ran(tmp_path, code) == (130, "", "last words\n")


def test_a_write_is_ended_first(tmp_path: Path) -> None:
    code = """
from pathlib import Path
from archsearch.common.atomic_files import replacing
with listening():
    with replacing(Path("held.txt")) as temporary:
        me()
        temporary.write_text("whole")
    print("went on", flush=True)
"""
    assert ran(tmp_path, code) == (130, "", "interrupted\n")
    assert (tmp_path / "held.txt").read_text() == "whole"
    assert list(tmp_path.glob(".*.tmp")) == []


def test_a_second_signal_ends_a_write_too(tmp_path: Path) -> None:
    code = """
with listening(), held():
    me()
    me(signal.SIGTERM)
    print("went on", flush=True)
"""
    assert ran(tmp_path, code) == (130, "", "")


def test_a_wait_is_cut_short(tmp_path: Path) -> None:
    code = """
with listening():
    try:
        with saving(lambda: "last words\\n"):
            me()
            interruption.sleep(600)
    except KeyboardInterrupt:
        print("saved", flush=True)
"""
    assert ran(tmp_path, code) == (0, "saved\n", "")


def test_handlers_of_a_program_that_uses_archsearch_come_back(tmp_path: Path) -> None:
    code = """
before = [signal.getsignal(each) for each in interruption.SIGNALS]
with listening():
    assert signal.getsignal(signal.SIGINT) != before[0]
    with saving(lambda: ""):
        with saving(lambda: ""):
            pass
assert [signal.getsignal(each) for each in interruption.SIGNALS] == before
assert signal.set_wakeup_fd(-1) == -1
try:
    me()
    time.sleep(9)
except KeyboardInterrupt:
    print("its own", flush=True)
"""
    assert ran(tmp_path, code) == (0, "its own\n", "")


def test_a_forked_worker_ends_in_silence(tmp_path: Path) -> None:
    code = """
with listening():
    if (child := os.fork()) == 0:
        me()
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
    assert ran(tmp_path, code) == (0, "130\n", "")


def heeds(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process handles SIGTERM."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(row for row in status.splitlines() if row.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_is_still_loading_ends_without_a_traceback(number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "archsearch", "validate", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    while not heeds(process):
        assert process.poll() is None
        time.sleep(0)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"interrupted\n")
