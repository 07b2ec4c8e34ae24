"""Whether figures of several studies can be held against one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from archsearch.errors import ArchsearchError
from archsearch.leaderboard.reader import STUDY, Board, Row
from archsearch.study.config import read_study
from archsearch.study.folder import StudyFolder
from archsearch.training.recipe import Recipe

_TIMED = ("device", "precision")


def what_differs(boards: Iterable[Board], rows: Iterable[Row]) -> list[str]:
    """What makes figures of these rows' studies differ, besides the networks; a sentence each."""
    shown: dict[str, list[Row]] = {}
    for row in rows:
        shown.setdefault(str(row[STUDY]), []).append(row)
    if len(shown) < 2:
        return []
    recipes = {board.name: _recipe(board.folder) for board in boards if board.name in shown}
    return [*_accuracy(shown, recipes), *_time(shown)]


def _accuracy(
    shown: Mapping[str, list[Row]], recipes: Mapping[str, Recipe | None]
) -> Iterable[str]:
    data = {name: _values(rows, "dataset") for name, rows in shown.items()}
    if _differ(data):
        yield f"accuracies are of different data sets ({_list(data)}): they cannot be compared"
    for what, column in (("hold-out", "epochs"), ("test", "final_epochs")):
        epochs = {
            name: _values((row for row in rows if row["status"] == "trained"), column)
            for name, rows in shown.items()
        }
        if _differ(epochs):
            yield (
                f"{what} accuracies are after different numbers of epochs ({_list(epochs)}): "
                "more epochs, not better networks, may be what is seen"
            )
    unknown = [name for name, recipe in recipes.items() if recipe is None]
    if unknown:
        yield (
            f"which recipe trained {', '.join(unknown)} is not known (no study.toml that can be "
            "read): whether accuracies can be compared is not, either"
        )
    told = [recipe for recipe in recipes.values() if recipe is not None]
    if fields := [
        name for name in Recipe.model_fields if len({repr(getattr(r, name)) for r in told}) > 1
    ]:
        yield (
            f"the studies rank by recipes that differ in {', '.join(fields)}: "
            "hold-out accuracies tell of the recipe, too"
        )


def _time(shown: Mapping[str, list[Row]]) -> Iterable[str]:
    for column in _TIMED:
        values = {name: _values(rows, column) for name, rows in shown.items()}
        if _differ(values):
            yield f"seconds are of different {column}s ({_list(values)})"


def _recipe(folder: StudyFolder) -> Recipe | None:
    """What the study ranks by; None where its study file is gone or cannot be read."""
    try:
        return read_study(folder.study).recipe if folder.study.is_file() else None
    except ArchsearchError:
        return None


def _values(rows: Iterable[Row], column: str) -> list[str]:
    return sorted({str(value) for row in rows if (value := row.get(column)) is not None})


def _differ(by_study: Mapping[str, list[str]]) -> bool:
    """Whether studies that know it know something else."""
    return len({tuple(values) for values in by_study.values() if values}) > 1


def _list(by_study: Mapping[str, list[str]]) -> str:
    return "; ".join(
        f"{name}: {', '.join(values) or 'unknown'}" for name, values in by_study.items()
    )
