"""A leaderboard's rows and columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from archsearch.common import atomic_files, csv_files

Status = Literal["trained", "pruned", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a leaderboard.

    Attributes:
        val_acc: on the hold-out, at the last epoch that was trained.
        test_acc: mean over `test_seeds` retrainings on the whole training set, each tested
            once, at its last epoch; None for all but finalists.
        epochs: trained in the search.
        train_seconds: of those epochs.
        seconds_to_target: of training until the hold-out had the ranking recipe's target.
        pareto: whether no other trained network has at least its hold-out accuracy with at most
            its parameters and MACs, and is better in one; None where it was not trained to its end.
        edits: what it differs in from the spec that the search started from, in words.
        knobs: its setting of the space, `name=value` by spaces; near a spec, of its edits alone.
    """

    rank: int
    trial: int
    spec_hash: str
    status: Status
    val_acc: float | None
    test_acc: float | None
    test_acc_std: float | None
    test_seeds: int
    reached_target: bool | None
    params: int
    receptive_field: int | str
    receptive_field_with_gap: int | str
    macs: int
    epochs: int
    train_seconds: float
    images_per_second: float | None
    device: str
    precision: str
    seed: int
    dataset: str
    spec_path: str
    torch_version: str
    final_epochs: int | None
    final_train_seconds: float | None
    seconds_to_target: float | None
    pareto: bool | None
    edits: str
    knobs: str
    reason: str


LEADERBOARD_COLUMNS = tuple(field.name for field in fields(Entry))


def write_leaderboard(path: Path, entries: Iterable[Entry]) -> None:
    """Replace `leaderboard.csv`."""
    atomic_files.write_text(path, leaderboard_text(entries))


def leaderboard_text(entries: Iterable[Entry]) -> str:
    """`leaderboard.csv` as it is written."""
    return csv_files.csv_text(LEADERBOARD_COLUMNS, (asdict(entry) for entry in entries))


REJECTION_COLUMNS = (
    "proposal",
    "trial",
    "rules",
    "spec_hash",
    "params",
    "receptive_field",
    "macs",
    "knobs",
)
