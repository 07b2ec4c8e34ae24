"""One timed training in a process of its own: what it is told, and the figures that it tells.

A process for each, because what one sets (the allocator, threads) must not reach the next.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.common.parse import from_json, read_text
from archsearch.errors import ArchsearchError
from archsearch.spec.models import Spec
from archsearch.training.images import Dataset, Images, load
from archsearch.training.recipe import Recipe

HERE = Path(__file__).parent
STUDIES = HERE.parent / "studies"
EPOCH_IMAGES = 50_000
"""CIFAR-10's training images."""
PART_IMAGES = 10_240
"""Of a part of an epoch, about: ten seconds for a small network on two cores."""


@dataclass(frozen=True)
class Figures:
    """What a training was.

    Attributes:
        images: an epoch.
        epoch_seconds: of training steps, data loading included; nothing else.
        test_acc: at the end, where it was asked for.
    """

    dataset: str
    precision: str
    threads: int
    images: int
    epoch_seconds: list[float]
    test_acc: float | None = None

    @property
    def images_per_second(self) -> float:
        """Of all epochs but the first, in which torch chooses its kernels."""
        later = self.epoch_seconds[1:]
        return self.images * len(later) / sum(later)


# The drivers' side


def recipe_file(spec: Path) -> Path | None:
    """The recipe beside a spec, as studies keep them; None where there is none."""
    beside = spec.with_name("recipe.json")
    return beside if beside.is_file() else None


def network_and_recipe(spec: Path, recipe: Path | None) -> tuple[Analysis, Recipe]:
    """What two files say; without a recipe, the default one.

    Raises:
        ArchsearchError: a file cannot be read, or is not what it must be.
    """
    analysis = analyze(from_json(Spec, read_text(str(spec)), str(spec)))
    if recipe is None:
        return analysis, Recipe()
    return analysis, from_json(Recipe, read_text(str(recipe)), str(recipe))


def part_of_an_epoch(
    loop: Sequence[str], spec: Path, data: Path | None, batches: int | None
) -> Figures:
    """Train `spec` by the recipe beside it for two short epochs, the first to warm up.

    Args:
        loop: a loop's script and its own options.
        spec: a spec file.
        data: where CIFAR-10 is.
        batches: an epoch; None: about `PART_IMAGES` images' worth.
    """
    recipe = recipe_file(spec)
    size = network_and_recipe(spec, recipe)[1].batch_size
    images = size * (batches or max(1, PART_IMAGES // size))
    script, *options = loop
    part = ("--images", str(images), "--epochs", "2")
    return Figures(**run(script, *told(spec, recipe, data), *part, *options))


def told(spec: Path, recipe: Path | None, data: Path | None) -> list[str]:
    """Files as command line arguments, of the loops as of `archsearch train`."""
    given = {"--recipe": recipe, "--data": data}
    options = [(name, str(path)) for name, path in given.items() if path]
    return [str(spec), *(word for option in options for word in option)]


def run(script: str, *args: str) -> dict[str, Any]:
    """The JSON that a script of this folder prints in a process of its own.

    Raises:
        ArchsearchError: it failed; it told why on standard error.
    """
    command = [sys.executable, str(HERE / script), *args]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ArchsearchError(f"{script} ended with status {done.returncode}: see above")
    return dict(json.loads(done.stdout))


def has_cifar10(data: Path | None) -> bool:
    """Whether CIFAR-10 was pointed to; if not, generated images stand in."""
    return data is not None or bool(os.environ.get("ARCHSEARCH_DATA"))


def about_images(dataset: str) -> str:
    """A line for the conditions."""
    if dataset == "cifar10":
        return "CIFAR-10"
    return "generated images (`shapes`), not CIFAR-10: times hold, accuracies say nothing"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Markdown; all but the first `left` columns are figures."""
    rule = ["---"] * left + ["---:"] * (len(headings) - left)
    return [f"| {' | '.join(headings)} |", f"|{'|'.join(rule)}|"] + [
        f"| {' | '.join(row)} |" for row in rows
    ]


def as_markdown(title: str, lines: Sequence[str], found: Sequence[str]) -> str:
    """A report: the command that made it, what holds for it, and its table."""
    command = f"python {shlex.join(['benchmarks/' + Path(sys.argv[0]).name, *sys.argv[1:]])}"
    return "\n".join(
        [f"# {title}", "", *(f"- {line}" for line in (f"`{command}`", *lines)), "", *found]
    )


# The loops' side


@dataclass(frozen=True)
class Task:
    """What a loop is to train: `fit` each epoch, from the weights that `seed` draws."""

    analysis: Analysis
    recipe: Recipe
    dataset: Dataset
    fit: Images
    seed: int


def loop_arguments(description: str) -> argparse.ArgumentParser:
    """What every loop is told on its command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--recipe", type=Path, help="the default recipe unless given")
    parser.add_argument("--data", type=Path, help="CIFAR-10; else ARCHSEARCH_DATA, else generated")
    parser.add_argument("--images", type=int, help="an epoch; all training images unless given")
    parser.add_argument("--epochs", type=int, help="the recipe's unless given")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def task_of(given: argparse.Namespace) -> Task:
    """Files and images, read.

    Raises:
        ArchsearchError: something is not what it must be.
    """
    analysis, recipe = network_and_recipe(given.spec, given.recipe)
    if given.epochs:
        recipe = recipe.model_copy(update={"epochs": given.epochs})
    dataset = load("cifar10" if has_cifar10(given.data) else "shapes", given.data)
    fit = dataset.train
    if given.images:
        order = torch.randperm(len(fit), generator=torch.Generator().manual_seed(0))
        fit = fit[order[torch.arange(given.images) % len(fit)]]
    return Task(analysis, recipe, dataset, fit, given.seed)


def tell(figures: Figures) -> None:
    """Print figures as a driver reads them."""
    print(json.dumps(asdict(figures)))
