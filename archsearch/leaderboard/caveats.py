"""What keeps the figures of several studies from being compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from archsearch.errors import ArchsearchError
from archsearch.leaderboard.reader import STUDY, Board, values_of
from archsearch.study.config import read_study
from archsearch.study.folder import StudyFolder
from archsearch.training.recipe import Recipe


def what_differs(boards: Iterable[Board], rows: pd.DataFrame) -> list[str]:
    """Return what makes figures of these rows' studies differ, besides the networks."""
    studies = {str(name): mine for name, mine in rows.groupby(STUDY, sort=False)}
    if len(studies) < 2:
        return []
    recipes = {board.name: _recipe(board.folder) for board in boards if board.name in studies}
    return [*_accuracy(studies, recipes), *_time(studies)]


def _accuracy(
    studies: Mapping[str, pd.DataFrame], recipes: Mapping[str, Recipe | None]
) -> Iterable[str]:
    data = _values(studies, "dataset")
    if _differ(data):
        yield f"accuracies are of different data sets ({_list(data)}): they cannot be compared"
    trained = {name: rows[rows["status"] == "trained"] for name, rows in studies.items()}
    for what, column in (("hold-out", "epochs"), ("test", "final_epochs")):
        epochs = _values(trained, column)
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
    told = [dict(recipe) for recipe in recipes.values() if recipe is not None]
    if fields := [name for name in Recipe.model_fields if len({repr(r[name]) for r in told}) > 1]:
        yield (
            f"the studies rank by recipes that differ in {', '.join(fields)}: "
            "hold-out accuracies tell of the recipe, too"
        )


def _time(studies: Mapping[str, pd.DataFrame]) -> Iterable[str]:
    for column in ("device", "precision"):
        values = _values(studies, column)
        if _differ(values):
            yield f"seconds are of different {column}s ({_list(values)})"


def _recipe(folder: StudyFolder) -> Recipe | None:
    """What the study ranks by; None where its study file is gone or cannot be read."""
    try:
        return read_study(folder.study).recipe if folder.study.is_file() else None
    except ArchsearchError:
        return None


def _values(studies: Mapping[str, pd.DataFrame], column: str) -> dict[str, list[str]]:
    return {name: values_of(rows[column]) for name, rows in studies.items()}


def _differ(by_study: Mapping[str, list[str]]) -> bool:
    """Whether studies that know it know something else."""
    return len({tuple(values) for values in by_study.values() if values}) > 1


def _list(by_study: Mapping[str, list[str]]) -> str:
    return "; ".join(
        f"{name}: {', '.join(values) or 'unknown'}" for name, values in by_study.items()
    )
