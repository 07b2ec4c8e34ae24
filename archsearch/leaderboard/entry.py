"""The row of a leaderboard: its columns, their types and bounds, and how it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from archsearch.common import atomic_files, csv_files
from archsearch.spec.formatting import axes
from archsearch.spec.ops import Pair


class Within(NamedTuple):
    """The bounds of a number, both inclusive, and their words in an error message."""

    low: float
    high: float
    words: str


Status = Literal["trained", "pruned", "failed"]
Share = Annotated[float, Within(0, 1, "a share from 0 to 1")]
Seconds = Annotated[float, Within(0, 1e12, "seconds from 0 to 1e12")]
KNOB = "knob_"
"""Prefix of the columns that hold a network's setting of the space, one per knob."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a leaderboard.

    Every attribute except `knobs` is a column of the same name. Columns that are missing from
    files of older versions have default values.

    Attributes:
        val_acc: hold-out accuracy after the last trained epoch.
        test_acc: mean over `test_seeds` retrainings on the whole training set, each tested
            once, after its last epoch; None for all but finalists.
        receptive_field: height and width before global pooling; written as `65`, or as `65x97`
            where they differ.
        epochs: number of epochs trained in the search.
        train_seconds: training time of those epochs.
        seconds_to_target: training time until the hold-out first reached the recipe's target.
        pareto: whether no other trained network has at least its hold-out accuracy with at most
            its parameters and MACs, and is better in one; None if training was stopped early.
        edits: differences from the spec that the search started from, in words.
        knobs: setting of the space by knob, in columns `knob_NAME`; in a search near a spec only
            the knobs that were edited.
    """

    rank: int
    trial: int
    spec_hash: str
    status: Status
    val_acc: Share | None = None
    test_acc: Share | None = None
    test_acc_std: Share | None = None
    test_seeds: int = 0
    reached_target: bool | None = None
    params: int
    receptive_field: Pair
    receptive_field_with_gap: Pair
    macs: int
    epochs: int
    train_seconds: Seconds
    images_per_second: float | None = None
    device: str = ""
    precision: str = ""
    seed: int | None = None
    dataset: str = ""
    spec_path: str = ""
    torch_version: str = ""
    final_epochs: int | None = None
    final_train_seconds: Seconds | None = None
    seconds_to_target: Seconds | None = None
    pareto: bool | None = None
    edits: str = ""
    reason: str = ""
    knobs: Mapping[str, int | str] = field(default_factory=dict)


COLUMNS = tuple(column.name for column in fields(Entry) if column.name != "knobs")
"""The fixed columns, in order; columns of knobs come after them."""


def write_leaderboard(path: Path, entries: Iterable[Entry], knobs: Iterable[str]) -> None:
    """Replace `leaderboard.csv`."""
    atomic_files.write_text(path, leaderboard_text(entries, knobs))


def leaderboard_text(entries: Iterable[Entry], knobs: Iterable[str]) -> str:
    """Return the text of `leaderboard.csv`.

    Args:
        entries: its rows.
        knobs: names of the space's knobs, in order; those that no row sets get no column.
    """
    rows = list(entries)
    used = {name for row in rows for name in row.knobs}
    columns = [*COLUMNS, *(KNOB + name for name in knobs if name in used)]
    return csv_files.csv_text(columns, _cells(rows))


def _cells(entries: Iterable[Entry]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        cells = asdict(entry)
        for column in ("receptive_field", "receptive_field_with_gap"):
            cells[column] = axes(cells[column])
        yield cells | {KNOB + name: value for name, value in entry.knobs.items()}


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
