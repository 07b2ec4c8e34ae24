"""The row of a leaderboard: its columns, their types and bounds, and how it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from archsearch.common import atomic_files, csv_files
from archsearch.common.guarded_files import SpecialFileError, read_at_most
from archsearch.leaderboard.csv_lines import MAX_BYTES
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
        rank: position, 1 for the best: trained networks by the study's objective, then pruned
            ones, then failed ones.
        trial: number of the trial in the study's database.
        spec_hash: identifies the network; equal for two specs that build the same network.
        status: `trained` (all epochs), `pruned` (stopped early) or `failed`.
        val_acc: hold-out accuracy after the last epoch of the search, from 0 to 1.
        test_acc: test accuracy of a finalist, from 0 to 1: retrained on the whole training set
            for `final_epochs` and tested once; the mean over `test_seeds` retrainings.
        test_acc_std: standard deviation of `test_acc` over its retrainings, if there are several.
        test_seeds: number of retrainings behind `test_acc`.
        reached_target: whether `test_acc` reaches the target accuracy of the final recipe.
        params: learnable parameters.
        receptive_field: receptive field in pixels before global pooling; `65`, or `65x97` (height
            x width) if the axes differ.
        receptive_field_with_gap: receptive field in pixels after global pooling.
        macs: multiply-accumulates for one image.
        epochs: epochs trained in the search; a finalist's retraining has `final_epochs`.
        train_seconds: training time of `epochs`, without scoring.
        images_per_second: training speed in the search.
        device: device that trained the trial.
        precision: precision of the trial's training, `fp32` or `bf16`.
        seed: seed of the weights, the order of the images and the augmentation.
        dataset: data set.
        spec_path: the network's spec file, relative to the study folder.
        torch_version: version of torch that trained the trial.
        final_epochs: epochs of each retraining of a finalist.
        final_train_seconds: training time of a finalist's retraining; the mean if there are
            several.
        seconds_to_target: training time in the search until the hold-out accuracy first reached
            the target of the ranking recipe.
        pareto: whether no other trained network has at least its hold-out accuracy with at most
            its parameters and MACs, and is better in one of them; empty for pruned trials.
        edits: differences from the spec that `archsearch search --from` started from.
        reason: why a trial was pruned or failed, or why a retraining failed.
        knobs: the network's setting of the search space, one column `knob_NAME` per knob; in a
            search near a spec only the knobs that were edited.
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


def keep_if_longer(path: Path, rows: int) -> Path | None:
    """Rename a leaderboard that has more rows than will replace it; return its new path."""
    try:
        if path.is_symlink():
            return None
        lines = read_at_most(path, MAX_BYTES).count(b"\n")
        if lines - 1 <= rows:
            return None
        return path.rename(atomic_files.free_name(path))
    except (FileNotFoundError, SpecialFileError):
        return None
    except OSError as error:
        raise atomic_files.unwritable(path, error) from error


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
