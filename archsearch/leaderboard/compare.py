"""Two rows of leaderboards beside each other: what differs in the networks and in the outcome."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.common.page import Grid, Line, Page
from archsearch.common.parse import from_json, read_text
from archsearch.errors import ArchsearchError, InputError, one_line, shown
from archsearch.leaderboard.entry import KNOB
from archsearch.leaderboard.reader import STUDY, Board, Cell, Row, records, stacked
from archsearch.spec.diff import Change, differences
from archsearch.spec.formatting import axes
from archsearch.spec.models import Spec
from archsearch.training.datasets import DATASETS

IMAGES: Mapping[str, tuple[int, int]] = {
    name: (each.held_out, each.test) for name, each in DATASETS.items()
}
"""How many images a data set's hold-out and its test have."""
NOISE = 1.96
"""Standard errors, within which a difference is told as noise: 95% of those between equals."""
_TITLES = {
    "val_acc": "hold-out %",
    "test_acc": "test %",
    "params": "parameters",
    "macs": "MACs",
    "receptive_field": "receptive field",
    "receptive_field_with_gap": "  with global pooling",
    "epochs": "search epochs",
    "final_epochs": "test epochs",
    "train_seconds": "seconds",
    "seconds_to_target": "seconds to target",
}
_TRIAL = re.compile(r"t(?:rial)?-?([0-9]{1,9})")
_HASH = re.compile(r"[0-9a-f]{4,64}")


class Outcome(NamedTuple):
    """A figure of both rows.

    Attributes:
        figure: the column that has it.
        difference: the second's less the first's; None where there is no such thing.
        errors: standard errors of both and of the difference, of an accuracy.
        remark: what to think of the difference.
    """

    figure: str
    first: Cell
    second: Cell
    difference: float | None
    errors: tuple[float, float, float] | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rows.

    Attributes:
        rows: both, with the columns of all leaderboards.
        first: the first row, with the columns of its leaderboard.
        layers: where the specs differ; None where one of them cannot be read.
        settings: knobs that differ; None where one leaderboard does not have them.
        problems: why what is unknown is.
    """

    rows: pd.DataFrame
    first: Row
    second: Row
    layers: list[Change] | None
    settings: list[Change] | None
    outcome: list[Outcome]
    problems: list[str]


def compare(boards: Sequence[Board], first: str, second: str) -> Comparison:
    """Compare two rows as a user names them.

    Raises:
        ArchsearchError: there is no such row, or more than one.
    """
    table = stacked(boards)
    rows = table.loc[[pick(boards, table, text) for text in (first, second)]]
    by_name = {board.name: board for board in boards}
    both = [(by_name[str(row[STUDY])], row) for row in records(rows)]
    analyses, problems = [], []
    for board, row in both:
        try:
            analyses.append(_analysis(board, row))
        except ArchsearchError as error:
            problems.append(str(error))
    layers = None
    if len(analyses) == 2:
        layers = differences(analyses[0].spec, analyses[1].spec)
    a, b = ({column: row[column] for column in (STUDY, *board.columns)} for board, row in both)
    return Comparison(rows, a, b, layers, _settings(a, b), list(_outcome(a, b)), problems)


def pick(boards: Sequence[Board], table: pd.DataFrame, text: str) -> int:
    """Return the label in `table` of the row that a user's `text` means.

    By its rank, t and its trial's number, or how its hash begins; with STUDY: in front where
    there are several.

    Raises:
        ArchsearchError: none is meant, or more than one.
    """
    study, _, ref = text.rpartition(":")
    named = [
        board.name
        for board in boards
        if study.rstrip("/") in ("", board.name, str(board.folder.path))
    ]
    if not named:
        known = ", ".join(board.name for board in boards)
        raise ArchsearchError(f"{shown(text)}: no study {shown(study)} here; choose of {known}")
    found = table[table[STUDY].isin(named) & _meant(table, ref)]
    if len(found) == 1:
        return int(found.index[0])
    if found.empty:
        raise ArchsearchError(
            f"{shown(text)}: no such row; give a rank (3), t and a trial's number (t12), or at "
            "least four digits of a hash"
        )
    if found[STUDY].nunique() > 1:
        studies = ", ".join(found[STUDY].unique())
        raise ArchsearchError(f"{shown(text)}: is in {studies}; write STUDY:{ref}")
    raise ArchsearchError(f"{shown(text)}: {len(found)} rows are that; give more of the hash")


def _meant(table: pd.DataFrame, ref: str) -> pd.Series[bool]:
    if trial := _TRIAL.fullmatch(ref):
        return table["trial"] == int(trial[1])
    by_rank = table["rank"] == (int(ref) if re.fullmatch(r"[0-9]{1,9}", ref) else -1)
    by_hash = table["spec_hash"].fillna("").str.startswith(ref) & bool(_HASH.fullmatch(ref))
    of_ranked = table[STUDY].isin(table[STUDY][by_rank])
    return by_rank | (by_hash & ~of_ranked)


# The networks


def _analysis(board: Board, row: Row) -> Analysis:
    """Of a row's spec, which must be in the study's folder and be that network."""
    folder = board.folder
    given = row.get("spec_path") or f"trials/{str(row['spec_hash'])[:12]}/spec.json"
    name = f"{one_line(str(folder.path))}: trial {row['trial']}: spec_path {shown(given)}"
    try:
        path = (folder.path / str(given)).resolve()
        inside = path.is_relative_to(folder.path.resolve())
        there = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else shown(str(error))
        raise ArchsearchError(f"{name} is no path: {why}") from error
    if not inside:
        raise ArchsearchError(f"{name} leads out of the study's folder, and is not read")
    if not there:
        raise ArchsearchError(f"{name} is not there: what differs in the network is not known")
    try:
        analysis = analyze(from_json(Spec, read_text(str(path)), str(path)))
    except InputError as error:
        raise error.named(str(path)) from error
    if analysis.spec_hash != row["spec_hash"]:
        raise ArchsearchError(
            f"{name} is network {analysis.spec_hash[:12]}, the leaderboard says "
            f"{shown(str(row['spec_hash'])[:12])}: put the study's own back"
        )
    return analysis


def _settings(first: Row, second: Row) -> list[Change] | None:
    """Knobs that differ, as the leaderboard has them."""
    a, b = (_knobs(row) for row in (first, second))
    if not a or not b:
        return None
    return [
        Change(one_line(name), a.get(name, ""), b.get(name, ""))
        for name in dict.fromkeys((*a, *b))
        if a.get(name, "") != b.get(name, "")
    ]


def _knobs(row: Row) -> dict[str, str]:
    return {
        column.removeprefix(KNOB): "" if cell is None else one_line(str(cell))
        for column, cell in row.items()
        if column.startswith(KNOB)
    }


# The outcome


def _outcome(first: Row, second: Row) -> Iterable[Outcome]:
    yield _accuracy("val_acc", "epochs", (first, second))
    yield _accuracy("test_acc", "final_epochs", (first, second))
    machines = [(row.get("device"), row.get("precision")) for row in (first, second)]
    for column in tuple(_TITLES)[2:]:
        a, b = first.get(column), second.get(column)
        difference = None
        if isinstance(a, int | float) and isinstance(b, int | float):
            difference = round(b - a, 2)
        timed = "seconds" in column and machines[0] != machines[1]
        remark = "other device or precision" if timed and difference is not None else ""
        yield Outcome(column, a, b, difference, None, remark)


def _accuracy(column: str, trained: str, rows: tuple[Row, Row]) -> Outcome:
    """Whether two accuracies differ by more than chance would make them."""
    a, b = (row.get(column) for row in rows)
    if not (isinstance(a, float) and isinstance(b, float)):
        return Outcome(column, a, b, None)
    data, other_data = (row.get("dataset") for row in rows)
    if data != other_data:
        return Outcome(column, a, b, None, None, "other images: cannot be compared")
    if data not in IMAGES:
        return Outcome(column, a, b, b - a, None, "of how many images is not known")
    images = IMAGES[str(data)][column == "test_acc"]
    seeds = rows if column == "test_acc" else ({}, {})
    of_a, of_b = (standard_error(acc, images, row) for acc, row in zip((a, b), seeds, strict=True))
    of_both = math.hypot(of_a, of_b)
    epochs = [row.get(trained) for row in rows]
    if epochs[0] != epochs[1]:
        remark = f"after {epochs[0] or '?'} and {epochs[1] or '?'} epochs"
    else:
        remark = "within noise" if abs(b - a) <= NOISE * of_both else "beyond noise"
    return Outcome(column, a, b, b - a, (of_a, of_b, of_both), remark)


def standard_error(accuracy: float, images: int, row: Row) -> float:
    """Of an accuracy: from how many images it is of, and over seeds where the row has several.

    All right or all wrong is taken as one image from it: no image more is no certainty.
    """
    share = min(max(accuracy, 1 / images), 1 - 1 / images)
    of_images = math.sqrt(share * (1 - share) / images)
    spread, seeds = row.get("test_acc_std"), row.get("test_seeds")
    if isinstance(spread, float) and isinstance(seeds, int) and seeds > 1:
        return math.hypot(of_images, spread / math.sqrt(seeds))
    return of_images


# Shown


def comparison_data(found: Comparison) -> dict[str, Any]:
    """For `--format json`; accuracies and their standard errors are fractions."""
    return {
        "first": found.first,
        "second": found.second,
        "layers": _changes(found.layers),
        "settings": _changes(found.settings),
        "outcome": [figure._asdict() for figure in found.outcome],
        "problems": found.problems,
    }


def _changes(changes: list[Change] | None) -> list[dict[str, str]] | None:
    return None if changes is None else [change._asdict() for change in changes]


def comparison_page(found: Comparison) -> Page:
    """The networks, then the outcome."""
    page: list[Line | Grid] = [
        Line(f"A  {_name(found.first)}", "bold"),
        Line(f"B  {_name(found.second)}", "bold"),
    ]
    if found.first["spec_hash"] == found.second["spec_hash"]:
        page += [Line(""), Line("the same network")]
    for changes, label in ((found.layers, _layer_label), (found.settings, _setting_label)):
        if changes:
            width = max(len(label(change)) for change in changes)
            page += [Line(""), *(Line(f"{label(c):<{width}}  {_told(c)}") for c in changes)]
    rows = [
        _cells(figure) for figure in found.outcome if (figure.first, figure.second) != (None, None)
    ]
    page += [Line(""), _outcome_grid(rows)]
    if any(figure.errors for figure in found.outcome):
        told = (
            "± is one standard error, from the number of images scored; within "
            f"{NOISE} of them is noise. Another seed changes an accuracy, too."
        )
        page.append(Line(told, "dim"))
    return page


def _outcome_grid(rows: list[list[str]]) -> Grid:
    return Grid(
        rows, frozenset({0, 4}), ("", "A", "B", "B - A", ""), wrapped=frozenset({0, 1, 2, 4})
    )


def _name(row: Row) -> str:
    return one_line(
        f"{row[STUDY]}: rank {row['rank']}, trial {row['trial']}, "
        f"{str(row['spec_hash'])[:12]}, {row['status']}"
    )


def _layer_label(change: Change) -> str:
    """Return the place of a layer in A, or of one that only B has in B: the numbers may differ."""
    return change.where if change.first else f"{change.where} of B"


def _setting_label(change: Change) -> str:
    return change.where


def _told(change: Change) -> str:
    """From A to B."""
    if change.first and change.second:
        return f"{change.first} -> {change.second}"
    return f"only A: {change.first}" if change.first else f"only B: {change.second}"


def _cells(at: Outcome) -> list[str]:
    if isinstance(at.first, float) and at.figure in ("val_acc", "test_acc"):
        return _accuracy_cells(at)
    difference = "" if at.difference is None else f"{at.difference:+,.10g}"
    return [_TITLES[at.figure], _figure(at.first), _figure(at.second), difference, at.remark]


def _accuracy_cells(at: Outcome) -> list[str]:
    values = (at.first, at.second, at.difference)
    cells = []
    for value, error, sign in zip(values, at.errors or (None,) * 3, ("", "", "+"), strict=True):
        told = f"{100 * value:{sign}.2f}" if isinstance(value, float) else ""
        cells.append(told + (f" ± {100 * error:.2f}" if error is not None else ""))
    return [_TITLES[at.figure], *cells, at.remark]


def _figure(value: Cell) -> str:
    match value:
        case None:
            return ""
        case tuple():
            return str(axes(value))
        case str():
            return one_line(value)
        case _:
            return f"{value:,}"
