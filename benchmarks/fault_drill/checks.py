"""What must be true after a fault drill: the study's database, its leaderboard, every epoch."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing

import optuna
from optuna.trial import FrozenTrial, TrialState

from archsearch.common.csv_files import read_csv
from archsearch.search.storage.open import open_for_reading
from fault_drill.drill import FINALISTS, NAME, Drill, DrillError, Saved, alive

_STATUS = {
    TrialState.COMPLETE: "trained",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def lost(snapshots: Sequence[Saved]) -> list[int]:
    """From each snapshot to the next: epochs that were on disk, and no longer are as they were."""
    return [
        sum(
            sum(row not in later.get(name, ()) for row in rows)
            for name, rows in earlier.items()
        )
        for earlier, later in itertools.pairwise(snapshots)
    ]  # fmt: skip


def wrong(drill: Drill) -> Iterator[str]:
    """All that is not as it must be in the study's database and on the leaderboard."""
    study = optuna.load_study(study_name=NAME, storage=open_for_reading(drill.storage))
    ended = [trial for trial in study.trials if not trial.user_attrs.get("interrupted")]
    counted = [t for t in ended if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(counted) != drill.trials:
        yield f"{len(counted)} trials count, not {drill.trials}"
    if open_ := [t.number for t in study.trials if not t.state.is_finished()]:
        yield f"trials {open_} are not ended"
    for spec_hash, times in Counter(trial.user_attrs["spec_hash"] for trial in ended).items():
        if times > 1:
            yield f"{spec_hash[:12]} was trained {times} times"
    if (rows := _counted_rows(drill)) != drill.trials:
        yield f"the database's table has {rows} rows that count, not {drill.trials}"
    board = read_csv(drill.study.leaderboard)
    if (found := [_row_as_told(row) for row in board]) != (wanted := _board(ended)):
        yield f"leaderboard.csv has {found}, the study {wanted}"
    tested = [row["spec_hash"] for row in board if row["test_seeds"] == "1"]
    if tested != [row["spec_hash"] for row in board[:FINALISTS]]:
        yield f"{len(tested)} finalists are tested, not the best {FINALISTS}"
    finals = Counter(name.split(":")[1] for name in study.user_attrs if name.startswith("final:"))
    if finals != Counter(tested):
        yield f"the study has final results of {dict(finals)}"


def left_over(drill: Drill) -> Iterator[str]:
    """Half written files, and worker processes."""
    if left := [str(path) for path in drill.study.path.rglob(".*.tmp")]:
        yield f"half written files are left: {left}"
    if still := [pid for pid in sorted(drill.seen) if alive(pid)]:
        yield f"worker processes {still} are left"


def _counted_rows(drill: Drill) -> int:
    """As SQL has it, whatever Optuna makes of it."""
    query = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
    if drill.database:
        return int(drill.database.sql(query))
    with closing(sqlite3.connect(drill.study.path / "study.db")) as database:
        return int(database.execute(query).fetchone()[0])


def _board(ended: list[FrozenTrial]) -> list[tuple[str, ...]]:
    """The leaderboard's order and main figures, from the study alone."""
    rows = []
    for trial in ended:
        epochs = trial.user_attrs.get("history", [])
        acc = epochs[-1]["val_acc"] if epochs else None
        order = list(_STATUS).index(trial.state), -(acc or 0.0), trial.number
        told = "" if acc is None else f"{acc:.6g}"
        spec_hash, status = trial.user_attrs["spec_hash"], _STATUS[trial.state]
        rows.append((order, (str(trial.number), spec_hash, status, told, str(len(epochs)))))
    return [row for _, row in sorted(rows)]


def _row_as_told(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("trial", "spec_hash", "status", "val_acc", "epochs"))


def says_done(drill: Drill) -> None:
    """That the same command once more trains nothing.

    Raises:
        DrillError: it does.
    """
    before = drill.saved()
    again = drill.start()
    again.ended((0,), f"{drill.trials} of {drill.trials} trials are trained already")
    if drill.saved() != before:
        raise DrillError("the same command trained more")
