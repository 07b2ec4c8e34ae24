"""What can go wrong around a search, made to happen: kills, stops, a full disk, a clock that jumps.

Each fault is a function that harms a running search and checks what it does at once; whether
anything was lost is checked at the end, by `run.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from fault_drill.drill import Drill, DrillError, Search, alive, well

CLOCK_JUMP = "+5h", "-5h"
OUTAGE_S = 30.0
"""Of a database."""
_FAKETIME = "faketime/libfaketimeMT.so.1"

# Faults. Each gives the search that still runs, or None.

Fault = Callable[[Drill, Search], Search | None]


def kill_driver(drill: Drill, search: Search) -> None:
    """Its workers must end by themselves."""
    drill.seen.update(drill.training(search))
    search.process.kill()
    search.process.wait()


def kill_worker(drill: Drill, search: Search) -> Search:
    """Another must take its place."""
    search.until(lambda: bool(drill.training(search)), "a worker")
    if workers := drill.training(search):
        _signal(victim := drill.rng.choice(workers), signal.SIGKILL)
        drill.seen.add(victim)
    return search


def kill_both(drill: Drill, search: Search) -> None:
    """A worker, and the driver before it can notice."""
    kill_worker(drill, search)
    kill_driver(drill, search)


def pause_worker(drill: Drill, search: Search) -> Search:
    """For less time than it may stand still."""
    search.until(lambda: bool(drill.training(search)), "a worker")
    for worker in drill.training(search)[:1]:
        _signal(worker, signal.SIGSTOP)
        search.pause(drill.rng.uniform(1, drill.stuck_s / 3))
        _signal(worker, signal.SIGCONT)
    return search


def hang_worker(drill: Drill, search: Search) -> Search:
    """For good: it must be ended and replaced."""
    before = drill.saved()
    drill.until_grown(search, before, drill.workers, "every worker in training")
    victim = next(iter(drill.training(search)), None)
    if victim is None:
        return search
    drill.seen.add(victim)
    _signal(victim, signal.SIGSTOP)
    search.until(lambda: "made no step in" in search.said(), "word of a worker that hangs")
    # Ray asks first, and ends by force who does not answer.
    search.until(lambda: not alive(victim), "the end of a worker that hangs")
    return search


def ctrl_c(drill: Drill, search: Search, *, times: int = 1) -> None:
    """Once: saved, and told how to go on. Twice: at once, whatever is saved. As a terminal does."""
    drill.seen.update(drill.training(search))
    for _ in range(times):
        with suppress(ProcessLookupError):
            os.killpg(search.process.pid, signal.SIGINT)
    told = "run the same command to go on" if times == 1 else ""
    search.ended((130,), told)
    if times == 1:
        well(drill)


def damage_csvs(drill: Drill, search: Search) -> None:
    """After a scheduler's SIGTERM."""
    search.process.terminate()
    search.ended((130,), "run the same command to go on")
    for path in (drill.study.leaderboard, drill.study.rejections):
        if path.exists():
            path.write_bytes(b"\xff\0 not what it was \n" + path.read_bytes()[:200])


def second_driver(drill: Drill, search: Search) -> Search:
    """It must be refused, and the first one not notice."""
    second = drill.start()
    second.ended((2,), f"process {search.process.pid} is at work here")
    return search


def suspend(drill: Drill, search: Search) -> Search:
    """A machine that sleeps for longer than a worker may stand still."""
    told = len(search.said())
    everybody = [search.process.pid, *drill.training(search)]
    for process in everybody:
        _signal(process, signal.SIGSTOP)
    search.pause(1.5 * drill.stuck_s)
    for process in everybody:
        _signal(process, signal.SIGCONT)
    _goes_on(drill, search, told)
    return search


def remove_node(drill: Drill, search: Search) -> Search:
    """For good, with whoever trains there; a while later there is another."""
    if drill.nodes is None:
        raise DrillError("there are no nodes")
    drill.seen.update(drill.training(search))
    drill.nodes.remove(drill.rng)
    search.pause(drill.rng.uniform(0, 10))
    drill.nodes.add()
    return search


def stop_database(drill: Drill, search: Search) -> Search:
    """As a crash does; the search must wait for it."""
    told = len(search.said())
    with _away(drill):
        search.pause(OUTAGE_S)
    search.until(lambda: "the database is back" in search.said()[told:], "word of the database")
    if "paused: the database is away" not in search.said()[told:]:
        raise DrillError(f"nothing is said of the database: {search.said()[told:]}")
    return search


def stop_both(drill: Drill, search: Search) -> None:
    """The database, and the driver while that is away; started meanwhile, it must say so."""
    with _away(drill):
        search.pause(drill.rng.uniform(0, OUTAGE_S / 3))
        kill_driver(drill, search)
        drill.start().ended((2,), "the study's database cannot be used")


@contextmanager
def _away(drill: Drill) -> Iterator[None]:
    if drill.database is None:
        raise DrillError("there is no database")
    drill.database.stop()
    try:
        yield
    finally:
        drill.database.start()


def jump_clock(drill: Drill, search: Search, *, by: str) -> None:
    """The wall clock changes by hours in the middle of a run.

    That run alone is under libfaketime (0.9.10 makes `time.sleep` fail on a clock that was set
    back), so it is killed then, and the next one has the true clock.
    """
    ctrl_c(drill, search)
    clock = drill.folder / "clock"
    clock.write_text("+0\n")
    search = drill.start(
        LD_PRELOAD=str(_faketime()),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",  # nor does setting a real clock move that one
    )
    before = drill.saved()
    drill.until_grown(search, before, 1, "an epoch before the clock jumps")
    told = len(search.said())
    clock.write_text(f"{by}\n")
    _goes_on(drill, search, told)
    hours = {line[:2] for line in search.said().splitlines() if line[2:3] == ":"}
    if len(hours) < 2:
        raise DrillError(f"the clock did not jump: all lines are of {hours}")
    kill_driver(drill, search)


def fill_disk(drill: Drill, search: Search) -> None:
    """Under the study, until somebody makes room; started meanwhile, it must say the same."""
    ballast = drill.folder / "studies" / "ballast"
    reasons = ("No space left on device", "disk is full", "disk I/O error")
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * 4096):
                pass
        search.ended((2,), *reasons)
        drill.start().ended((2,), *reasons)
    finally:
        ballast.unlink(missing_ok=True)


def make_read_only(drill: Drill, search: Search) -> None:
    """The study's folder, in the middle of a run; started meanwhile, it must say the same."""
    path = str(drill.study.path)
    reasons = ("Read-only file system", "readonly database", "unable to open database file")
    _mount("--bind", path, path)
    try:
        _mount("-o", "remount,bind,ro", path)
        search.ended((2,), *reasons)
        drill.start().ended((2,), *reasons)
    finally:
        _unmount(drill.study.path)


FAULTS: dict[str, Fault] = {
    "driver killed": kill_driver,
    "worker killed": kill_worker,
    "worker and driver killed": kill_both,
    "worker stopped for a while": pause_worker,
    "worker hangs": hang_worker,
    "Ctrl-C": ctrl_c,
    "Ctrl-C twice": partial(ctrl_c, times=2),
    "SIGTERM, then CSVs damaged": damage_csvs,
    "second driver": second_driver,
    "machine asleep": suspend,
    "Ray node removed": remove_node,
    "PostgreSQL away for 30 s": stop_database,
    "PostgreSQL away, driver killed": stop_both,
    "clock 5 h forwards": partial(jump_clock, by=CLOCK_JUMP[0]),
    "clock 5 h backwards": partial(jump_clock, by=CLOCK_JUMP[1]),
    "disk full": fill_disk,
    "folder read-only": make_read_only,
}
KILLS = ("driver killed", "worker killed", "worker and driver killed")
EARLY = ("worker hangs",)
"""Only while there are trials for every worker: one without a job may stand still."""


def impossible(drill: Drill) -> dict[str, str]:
    """Faults that cannot be made to happen here, and why."""
    why: dict[str, str] = {}
    if reason := _why_no_mount(drill.folder):
        why |= dict.fromkeys(("disk full", "folder read-only"), reason)
    if reason := _why_no_clock(drill):
        why |= dict.fromkeys(("clock 5 h forwards", "clock 5 h backwards"), reason)
    if drill.nodes is None:
        why["Ray node removed"] = "not on a Ray cluster"
    if drill.database is None:
        reason = "not in PostgreSQL"
        why |= dict.fromkeys(("PostgreSQL away for 30 s", "PostgreSQL away, driver killed"), reason)
    return why


@contextmanager
def small_disk(folder: Path, mebibytes: int = 64) -> Iterator[None]:
    """`folder` as a file system of its own, where this user may mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    if _why_no_mount(folder):
        yield
        return
    _mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder))
    try:
        yield
    finally:
        _unmount(folder)


def _goes_on(drill: Drill, search: Search, told: int) -> None:
    """That another epoch is saved, and nobody was thought to stand still."""
    before = drill.saved()
    drill.until_grown(search, before, 1, "another epoch")
    if "made no step" in search.said()[told:]:
        raise DrillError(f"a worker was thought to stand still: {search.said()[told:]}")


def _signal(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _faketime() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob(f"*/{_FAKETIME}"))), None)


def _why_no_clock(drill: Drill) -> str | None:
    """Why no process can be given a false clock; None where one can."""
    if _faketime() is None:
        return "libfaketime is not installed (Debian: apt-get install faketime)"
    return "not tried with Ray's processes around" if drill.nodes else None


def _why_no_mount(folder: Path) -> str | None:
    """Why nothing can be mounted at `folder`; None where it can."""
    if os.geteuid() != 0:
        return "needs root, to mount a small file system"
    try:
        _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    except DrillError as error:
        return str(error)
    _unmount(folder)
    return None


def _mount(*args: str) -> None:
    done = subprocess.run(["/bin/mount", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DrillError(f"mount {' '.join(args)}: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    """At once from sight, for good when the last process has left it."""
    subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)
