"""A training run, finished or not, read back from its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.common.console import note
from archsearch.common.parse import from_json, read_text, source_name
from archsearch.errors import ArchsearchError, InputError, Problem, one_line
from archsearch.spec.models import Spec
from archsearch.training import checkpoint
from archsearch.training.checkpoint import Checkpoint
from archsearch.training.loop import target_reached
from archsearch.training.recipe import Recipe
from archsearch.training.records import Epoch, Result, RunRecord
from archsearch.training.run_paths import RunPaths

_REMEDY = "run the command that trained it again: it goes on where it stopped"

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """What `archsearch train` (or a search, of one trial) left.

    Attributes:
        checkpoint: with at least one epoch in its history.
        result: None before the test at the end, and of a search's trials.
    """

    path: Path
    analysis: Analysis
    recipe: Recipe
    made: RunRecord
    checkpoint: Checkpoint
    result: Result | None

    @property
    def history(self) -> tuple[Epoch, ...]:
        """The epochs behind the weights."""
        return self.checkpoint.history

    @property
    def finished(self) -> bool:
        """Whether it has all its epochs, or ended early at its target as it was told to."""
        all_trained = len(self.history) >= self.recipe.epochs
        return all_trained or target_reached(self.recipe, self.history[-1])


def read(folder: Path) -> RunFolder:
    """The run in `folder`.

    Raises:
        InputError: files are missing, damaged or of two runs: every problem found.
        ArchsearchError: there is no run at all.
    """
    _check_is_run(folder)
    paths = RunPaths(folder)
    problems: list[Problem] = []

    def part(path: Path, parse: Callable[[Path], T]) -> T | None:
        name = path.name
        if not path.is_file():
            problems.append(Problem(name, "missing", f"is not there; {_REMEDY}"))
            return None
        try:
            return parse(path)
        except InputError as error:
            problems.extend(p._replace(place=f"{name} {p.place}".strip()) for p in error.problems)
        except ArchsearchError as error:
            reason = str(error).removeprefix(f"{path}: ")
            problems.append(Problem(name, "file", one_line(reason)))
        return None

    analysis = part(paths.spec, lambda path: analyze(_json(Spec, path)))
    recipe = part(paths.recipe, lambda path: _json(Recipe, path))
    made = part(paths.run, lambda path: _json(RunRecord, path))
    state = part(paths.checkpoint, _checkpoint)
    tested = paths.result.exists()
    result = part(paths.result, lambda path: _json(Result, path)) if tested else None
    if analysis:
        wanted = analysis.spec_hash[:12]
        networks = {
            paths.run.name: made.spec_hash[:12] if made else None,
            paths.checkpoint.name: state.run.removeprefix("network ")[:12] if state else None,
        }
        for name, found in networks.items():
            if found is not None and found != wanted:
                message = (
                    f"is of network {one_line(found)}, spec.json is network {wanted}: "
                    "the files are of two runs; put this run's own back"
                )
                problems.append(Problem(name, "other-network", message))
    if problems or not (analysis and recipe and made and state):
        raise InputError(str(folder), problems)
    return RunFolder(
        path=folder, analysis=analysis, recipe=recipe, made=made, checkpoint=state, result=result
    )


def _check_is_run(folder: Path) -> None:
    name = one_line(str(folder))
    if not folder.is_dir():
        raise ArchsearchError(f"{name}: no such folder; give one that archsearch train wrote")
    paths = RunPaths(folder)
    needed = (paths.spec, paths.recipe, paths.run, paths.checkpoint)
    if any(path.exists() for path in needed):
        return
    if (folder / "trials").is_dir():
        raise ArchsearchError(f"{name}: is a study; give one of its runs: {name}/trials/NETWORK")
    raise ArchsearchError(
        f"{name}: holds no training run ({', '.join(path.name for path in needed)}); "
        "give a folder that archsearch train wrote"
    )


def _json(model: type[Model], path: Path) -> Model:
    try:
        text = read_text(str(path))
    except ArchsearchError as error:
        reason = str(error).removeprefix(f"{source_name(str(path))}: ")
        raise ArchsearchError(f"{reason}; {_REMEDY}") from error
    return from_json(model, text, path.name)


def _checkpoint(path: Path) -> Checkpoint:
    found = checkpoint.read(path, note)
    if not found.history:
        raise ArchsearchError(f"has no epoch: there is nothing to evaluate yet; {_REMEDY}")
    return found
