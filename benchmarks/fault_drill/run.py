"""A search under fire: killed, stopped, out of disk, started twice; it must lose nothing.

Run: python -m fault_drill   (in benchmarks/; about ten minutes on two idle cores)
     python -m fault_drill --ray --postgres --kills 12

It runs `archsearch search` on generated images, harms it at random moments, and starts the same
command again; nothing else is done for it. In the end exactly the trials asked for must be trained,
none twice, the leaderboard must be as the study's database has it, and every epoch that was on disk
before a fault must still be there, to its last digit: it was restored and not trained again.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
from timed_training import as_markdown, table

from archsearch.common.machine import cores, load
from fault_drill.checks import left_over, lost, says_done, wrong
from fault_drill.drill import FINALISTS, NAME, STUDY, Drill, DrillError, Saved, Search, well
from fault_drill.faults import EARLY, FAULTS, KILLS, impossible, small_disk
from fault_drill.postgres_server import server
from fault_drill.ray_nodes import nodes


@dataclass(frozen=True)
class Occurrence:
    """A fault that happened.

    Attributes:
        before: the epochs on disk, a moment before it.
        seconds: until one more was.
    """

    fault: str
    before: Saved
    seconds: float


def schedule(kills: int, others: Sequence[str], rng: random.Random) -> list[str]:
    """Faults in a random order: `kills` of the three kinds of kills, the others once or twice."""
    drawn = [*KILLS, *rng.choices(KILLS, weights=(2, 2, 1), k=max(0, kills - len(KILLS)))][:kills]
    late = [name for name in others if name not in EARLY]
    found = drawn + late
    rng.shuffle(found)
    for name in others:
        if name in EARLY:
            found.insert(rng.randrange(1 + len(found) // 3), name)
    return found


def supervise(drill: Drill, faults: Sequence[str]) -> list[Occurrence]:
    """Harm the search by one fault after the other, and run the same command until it is done.

    Raises:
        DrillError: it did not do what it must.
    """
    occurrences = []
    search = drill.start()
    try:
        for number, name in enumerate(faults):
            _await_a_moment(drill, search, name)
            if search.process.poll() is not None:
                raise DrillError(
                    f"the search ended by itself after {number} of {len(faults)} faults (if it is "
                    f"done, give more --trials):\n{search.said()[-2000:]}"
                )
            before, started = drill.saved(), time.monotonic()
            _tell(f"{number + 1}/{len(faults)} {name}")
            search = FAULTS[name](drill, search) or drill.start()
            drill.until_grown(search, before, 1, "an epoch after the fault")
            occurrences.append(Occurrence(name, before, time.monotonic() - started))
        search.ended((0,), "finalists reached")
    finally:
        drill.end()
    return occurrences


def _await_a_moment(drill: Drill, search: Search, fault: str) -> None:
    """A random one: for kills at any time, for others while there is training to disturb."""
    before = drill.saved()
    if fault in KILLS and drill.rng.random() < 0.4:
        search.pause(drill.rng.uniform(0, 10))
        return
    networks = drill.rng.randint(1, drill.workers)
    drill.until_grown(search, before, networks, "epochs before the fault")
    search.pause(drill.rng.uniform(0, 2))


# The report


def rows_of(
    occurrences: Sequence[Occurrence], epochs_lost: Sequence[int], skipped: dict[str, str]
) -> list[list[str]]:
    """The table: a row a kind of fault."""
    rows = []
    for name in FAULTS:
        at = [i for i, each in enumerate(occurrences) if each.fault == name]
        if not at:
            reason = skipped.get(name, "was not drawn")
            rows.append([name, f"skipped: {reason}", "0", "", ""])
            continue
        seconds = [occurrences[i].seconds for i in at]
        median, worst = statistics.median(seconds), max(seconds)
        lost_here = max(epochs_lost[i] for i in at)
        outcome = "went on" if not lost_here else "LOST EPOCHS"
        rows.append(
            [name, outcome, str(len(at)), str(lost_here), f"{median:.0f} (at most {worst:.0f})"]
        )
    return rows


def drilled(drill: Drill, faults: Sequence[str]) -> tuple[list[Occurrence], list[int], list[str]]:
    """Run a whole drill: what happened, epochs lost by each fault, and all that is wrong."""
    (drill.folder / f"{NAME}.toml").write_text(STUDY)
    occurrences = supervise(drill, faults)
    epochs_lost = lost([*(each.before for each in occurrences), drill.saved()])
    problems = [*wrong(drill), *left_over(drill)]
    if any(epochs_lost):
        problems.append(f"epochs that were on disk were trained again: {epochs_lost}")
    try:
        well(drill)
        says_done(drill)
    except DrillError as error:
        problems.append(str(error))
    return occurrences, epochs_lost, problems


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _where(given: argparse.Namespace) -> str:
    ray = f"a Ray cluster of {given.workers} nodes and a head, all on this machine"
    trained = ray if given.ray else f"{given.workers} workers"
    return f"{trained}; the study in {'PostgreSQL' if given.postgres else 'SQLite'}"


def main() -> int:
    """Run the drill; 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="of driver, worker or both")
    parser.add_argument("--trials", type=int, help="three a fault unless given")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of faults and their moments")
    parser.add_argument("--ray", action="store_true", help="on a Ray cluster, as many nodes")
    parser.add_argument("--postgres", action="store_true", help="the study in a PostgreSQL")
    parser.add_argument("--folder", type=Path, help="an empty one, to keep; a temporary one else")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with ExitStack() as stack:
        folder = (given.folder or Path(stack.enter_context(TemporaryDirectory()))).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        drill = Drill(
            folder,
            given.trials or 0,
            given.workers,
            random.Random(given.seed),
            nodes=stack.enter_context(nodes(given.workers)) if given.ray else None,
            database=stack.enter_context(server()) if given.postgres else None,
            stuck_s=60.0 if given.ray else 15.0,  # the driver asks Ray's workers every 10 s
        )
        skipped = impossible(drill)
        others = [name for name in FAULTS if name not in KILLS and name not in skipped]
        faults = schedule(given.kills, others, drill.rng)
        drill.trials = drill.trials or 3 * len(faults)  # fewer are done before the last fault
        started, busy = time.monotonic(), load()
        stack.enter_context(small_disk(folder / "studies"))
        try:
            occurrences, epochs_lost, problems = drilled(drill, faults)
        except (DrillError, subprocess.SubprocessError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        minutes = (time.monotonic() - started) / 60
    lines = [
        f"{cores()} cores; {busy} before",
        f"{drill.trials} trials and {FINALISTS} finalists of 5 epochs, {_where(given)}",
        f"{given.kills} kills, {len(faults) - given.kills} other faults, {minutes:.0f} minutes",
        "epochs lost: complete ones that had to be trained again, at worst; the one under way is "
        "lost at every kill",
        "seconds: from the fault to the next epoch on disk, of any network",
    ]
    headings = ("fault", "outcome", "times", "epochs lost", "seconds until training again")
    found = table(headings, rows_of(occurrences, epochs_lost, skipped), left=2)
    print(as_markdown("Fault drill", lines, found))
    print("\n".join(["", *(problems or ["every check passed"])]))
    return 1 if problems else 0
