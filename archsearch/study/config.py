"""A study file: the search space, the limits, the recipes, the sampler and the pruner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, Field, StrictInt

from archsearch.analysis.constraints import Constraints
from archsearch.common.parse import Given, from_mapping, from_toml, is_name, read_text, source_of
from archsearch.errors import InputError, Problem
from archsearch.space.edits.knobs import knobs_of
from archsearch.space.four_blocks import Space
from archsearch.space.neighbourhood import MAX_KNOBS, Neighbourhood
from archsearch.space.settings import AnySpace, setting_problems
from archsearch.spec.formatting import shape_text
from archsearch.spec.models import Format, Frozen, Input, Spec
from archsearch.study.objective import ObjectiveName
from archsearch.training.datasets import CLASSES, DatasetName
from archsearch.training.recipe import Recipe
from archsearch.training.recipe_files import NamedRecipe

Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Several = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Names a folder, so it must not be a path."""
SamplerKind = Literal["tpe", "random", "gp", "nsga2"]


class Sampler(Frozen):
    """Who proposes."""

    kind: SamplerKind = "tpe"
    """Optuna's; nsga2 breeds generations of 50, so it needs more trials than the others."""
    startup_trials: Count = 10
    """Random proposals before tpe or gp has enough to learn from."""
    patience: Several = 5_000
    """Proposals without a new network within the limits before the search gives up."""


class Pruner(Frozen):
    """Who stops a trial early; nobody where the objective is another than accuracy."""

    kind: Literal["percentile", "median", "none"] = "percentile"
    """percentile: stops what falls out of the best `keep_percent` so far, at the same epoch;
    median: of the best half."""
    keep_percent: Annotated[float, Field(gt=0, lt=100)] = 75.0
    """Of kind percentile. Early epochs rank weakly: half costs good networks
    (studies/cifar10-200k)."""
    startup_trials: Count = 4
    """Trials that run to their end first."""
    warmup_epochs: Count = 1
    """Epochs that every trial gets."""


class Study(Frozen):
    """Everything that decides a search, but for where it runs and how long.

    Example:
        >>> import archsearch as asr
        >>> study = asr.Study(name="mine", constraints={"max_params": 50_000}, finalists=1)
        >>> study.dataset, study.recipe.epochs
        ('cifar10', 3)
    """

    format: Format = 1
    name: FolderName
    dataset: DatasetName = "cifar10"
    seed: Count = 0
    objective: ObjectiveName = "accuracy"
    """accuracy: of the hold-out. params, time: the smallest network, or the fewest training
    seconds, at the ranking recipe's target accuracy."""
    constraints: Constraints = Constraints()
    space: AnySpace = Space()
    """Choices for four blocks; or, with `base`, a spec, and how many of its edits (`max_edits`) a
    network may have: `archsearch search --from` writes such a study."""
    start: Annotated[tuple[dict[str, StrictInt | str], ...], Field(max_length=1_000)] = ()
    """Settings of the space that are known to be good: tried first, held to the same limits. Of a
    spec's neighbourhood they say their edits alone."""
    recipe: NamedRecipe = Recipe(epochs=3)
    """For ranking, on nine tenths of the training set; the last tenth scores."""
    final_recipe: NamedRecipe = Recipe(epochs=10)
    """For the finalists, on the whole training set."""
    finalists: Count = 3
    """The best by hold-out accuracy, retrained and tested once."""
    final_seeds: Several = 1
    """Retrainings of each finalist."""
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()


def study_toml(study: Study) -> str:
    """A study as a study file, every field written out."""
    return tomli_w.dumps(_plain(study))


def _plain(record: BaseModel, *, every: bool = True) -> dict[str, Any]:
    """A record as TOML can hold it: what is switched off is false, what is absent is left out.

    Args:
        record: to write.
        every: also the fields that its author did not write; a spec's would fill pages.
    """
    plain: dict[str, Any] = {}
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        if not every and name not in record.model_fields_set:
            continue
        if isinstance(value, BaseModel):
            plain[name] = _plain(value, every=every and not isinstance(value, Spec))
        elif value is not None:
            plain[name] = value if every else _listed(value)
        elif field.default is not None:
            plain[name] = False
    return plain


def _listed(value: object) -> object:
    """A value of a spec; layers, and branches of them, are lists of records."""
    if isinstance(value, tuple):
        return [_listed(item) for item in value]
    return _plain(value, every=False) if isinstance(value, BaseModel) else value


DEFAULT_STUDY = "cifar10-200k"


def shipped_studies() -> list[str]:
    """Names of the studies inside the package."""
    folder = resources.files("archsearch.study") / "shipped"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir())


def sound(study: Study, source: str) -> Study:
    """The study itself, if its fields go together.

    Raises:
        InputError: they do not.
    """
    problems = []
    if isinstance(study.space, Neighbourhood):
        problems += [
            problem._replace(place=f"space.base.{problem.place}")
            for problem in base_problems(study.space.base, study.dataset)
        ]
    if not problems:
        problems += [
            problem
            for i, knobs in enumerate(study.start)
            for problem in setting_problems(study.space, knobs, f"start.{i}")
        ]
    if study.objective != "accuracy" and study.recipe.target_accuracy is None:
        message = f"is needed by objective {study.objective}; give the accuracy to reach"
        problems.append(Problem("recipe.target_accuracy", "missing", message))
    if problems:
        raise InputError(source, problems)
    return study


def base_problems(base: Spec, dataset: str) -> Iterator[Problem]:
    """Why a spec cannot be searched around: its shapes, its size, images that it is not for."""
    try:
        count = len(knobs_of(base))
    except InputError as error:
        yield from error.problems
    else:
        if count > MAX_KNOBS:
            message = f"offer {count:,} knobs, more than {MAX_KNOBS:,}; take a spec of fewer layers"
            yield Problem("blocks", "knobs", message)
    if base.input != Input():
        got, wanted = shape_text(base.input.shape), shape_text(Input().shape)
        yield Problem("input", "dataset", f"must be {wanted} for {dataset}, got {got}")
    if base.classes != CLASSES:
        message = f"must be {CLASSES} for {dataset}, got {base.classes:,}"
        yield Problem("classes", "dataset", message)


def load_study(study: Study | Given) -> Study:
    """Read a study from the name of a shipped one, a TOML file or a dict.

    Args:
        study: a name, a path, a dict, or a `Study`, which is returned unchanged.

    Raises:
        InputError: the study is invalid; the error lists all problems.
        ArchsearchError: there is no such study.

    Example:
        >>> import archsearch as asr
        >>> study = asr.load_study("cifar10-200k")
        >>> study.constraints.max_params, study.recipe.epochs, study.sampler.kind
        (200000, 3, 'tpe')
    """
    if isinstance(study, Study):
        return sound(study, study.name)
    source = source_of(study)
    if isinstance(study, Mapping):
        return sound(from_mapping(Study, study, source), source)
    if is_name(study, shipped_studies(), "study"):
        file = resources.files("archsearch.study") / "shipped" / f"{study}.toml"
        return sound(from_toml(Study, file.read_text(encoding="utf-8"), source), source)
    return sound(read_study(Path(study)), source)


def read_study(path: Path) -> Study:
    """Read a study file as it is written: its fields need not go together.

    Raises:
        InputError: the file has problems.
        ArchsearchError: it cannot be read.
    """
    return from_toml(Study, read_text(str(path)), str(path))


def with_changes(study: Study, source: str, **changes: object) -> Study:
    """The study with other values in some of its fields; those that are None stay.

    Raises:
        InputError: they do not go together; told of `source`.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if not given:
        return study
    return sound(from_mapping(Study, dict(study) | given, source), source)
