"""How long training to 85% on CIFAR-10 takes: all training images, one test at the end of each run.

Run: python benchmarks/time_to_85.py [SPEC] [--recipe FILE] [--data DIR] [--seeds 3] [--plain]
(nothing else may run meanwhile) > FILE.md
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from timed_training import (
    EPOCH_IMAGES,
    STUDIES,
    Figures,
    about_images,
    as_markdown,
    has_cifar10,
    network_and_recipe,
    part_of_an_epoch,
    recipe_file,
    run,
    table,
    told,
)

from archsearch.errors import ArchsearchError

TARGET = 0.85
RECORD = STUDIES / "records" / "time-to-85" / "spec.json"
EVA8 = STUDIES / "seeds" / "eva8-session6" / "spec.json"
EVA8_EPOCHS = 71
"""Its author's first epoch at 85% (85.20%)."""
REACHED_OR_NOT = (0, 1)
"""Exit statuses of `archsearch train` that leave a result."""


@dataclass(frozen=True)
class Trained:
    """One run to its end.

    Attributes:
        train_seconds: of its epochs' training steps.
        wall_seconds: of the whole command: start, data, training, checkpoints, test.
    """

    title: str
    test_acc: float
    epochs: float
    train_seconds: float
    wall_seconds: float


# Training


def by_archsearch(
    spec: Path, recipe: Path | None, data: Path | None, seed: int
) -> tuple[Trained, dict[str, Any]]:
    """One run of the command that a user gives, and its result.

    Raises:
        ArchsearchError: it failed; it told why on standard error.
    """
    images = () if has_cifar10(data) else ("--dataset", "shapes")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "archsearch", "train", *told(spec, recipe, data), *images]
        command += ["--full", "--device", "cpu", "--seed", str(seed), "--out", folder]
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        wall_seconds = time.perf_counter() - start
        if done.returncode not in REACHED_OR_NOT:
            raise ArchsearchError(f"archsearch train ended with {done.returncode}: see above")
        result = json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))
    return Trained(
        title=f"archsearch, seed {seed}",
        test_acc=result["test_acc"],
        epochs=result["epochs"],
        train_seconds=result["train_seconds"],
        wall_seconds=wall_seconds,
    ), result


def by_plain_loop(spec: Path, recipe: Path | None, data: Path | None, workers: int) -> Trained:
    """The plain loop over as many epochs of the same images."""
    options = ("--workers", str(workers), "--test")
    start = time.perf_counter()
    figures = Figures(**run("plain_loop.py", *told(spec, recipe, data), *options))
    wall_seconds = time.perf_counter() - start
    if figures.test_acc is None:
        raise AssertionError("plain_loop.py --test did not test")
    return Trained(
        title=f"plain loop, num_workers={workers}, seed 0",
        test_acc=figures.test_acc,
        epochs=len(figures.epoch_seconds),
        train_seconds=sum(figures.epoch_seconds),
        wall_seconds=wall_seconds,
    )


# Telling

HEADINGS = ("", "test accuracy", "epochs", "training s", "wall s")


def report(
    ours: Sequence[Trained], plain: Sequence[Trained], eva8_seconds: float
) -> tuple[list[str], list[str]]:
    """What is found, in sentences and as a table.

    Args:
        ours: a run a seed.
        plain: the plain loop's run, or none.
        eva8_seconds: an epoch of the eva8-session6 recipe in archsearch.
    """
    middle = median_of(ours)
    reached = sum(one.test_acc >= TARGET for one in ours)
    estimate = EVA8_EPOCHS * eva8_seconds
    sentences = [f"{reached} of {len(ours)} runs reach {TARGET:.0%}"]
    sentences += [
        f"{other.title}: {other.train_seconds / middle.train_seconds:.1f} times the training "
        "time for as many epochs"
        for other in plain
    ]
    sentences.append(
        f"eva8-session6's recipe: estimated at {estimate / middle.train_seconds:.1f} times the "
        f"training time, at least: {eva8_seconds:.1f} s an epoch in archsearch, measured over a "
        f"part of one, times the {EVA8_EPOCHS} epochs that its author published; not run to the end"
    )
    rows = [row_of(one) for one in (*ours, middle, *plain)]
    rows.append(
        (
            "eva8-session6, **estimate**, not run to the end",
            "85.20% (published)",
            f"{EVA8_EPOCHS} (published)",
            f"at least {estimate:,.0f}",
            "",
        )
    )
    return sentences, table(HEADINGS, rows, 1)


def median_of(runs: Sequence[Trained]) -> Trained:
    """Of each figure by itself."""
    return Trained(
        title="archsearch, median",
        test_acc=statistics.median(one.test_acc for one in runs),
        epochs=statistics.median(one.epochs for one in runs),
        train_seconds=statistics.median(one.train_seconds for one in runs),
        wall_seconds=statistics.median(one.wall_seconds for one in runs),
    )


def row_of(one: Trained) -> tuple[str, ...]:
    """A run's cells."""
    return (
        one.title,
        f"{one.test_acc:.2%}",
        f"{one.epochs:g}",
        f"{one.train_seconds:,.1f}",
        f"{one.wall_seconds:,.1f}",
    )


def conditions(spec: Path, recipe: Path | None, result: dict[str, Any]) -> list[str]:
    """What the figures hold for."""
    analysis, how = network_and_recipe(spec, recipe)
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {result['device']}, {result['precision']}, "
        f"torch {result['torch_version']}",
        about_images(result["dataset"]),
        f"{analysis.spec.name}, {analysis.spec_hash[:12]}: {analysis.params:,} parameters, "
        f"{analysis.macs:,} MACs; batches of {how.batch_size}",
        f"all training images (CIFAR-10: {EPOCH_IMAGES:,}), nothing held out; the epochs are the "
        "recipe's; single-view test, once, at the end",
        "training s: of the training steps of all epochs; wall s: of the whole command, start, "
        "data, checkpoints and test included",
    ]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("spec", type=Path, nargs="?", default=RECORD, metavar="SPEC")
    parser.add_argument("--recipe", type=Path, help="recipe.json beside the spec unless given")
    parser.add_argument("--data", type=Path, help="CIFAR-10; else ARCHSEARCH_DATA, else generated")
    parser.add_argument("--seeds", type=int, default=3, help="runs of archsearch")
    parser.add_argument("--plain", action="store_true", help="the plain loop too, once")
    parser.add_argument("--workers", type=int, default=2, help="of the plain loop's DataLoader")
    parser.add_argument("--batches", type=int, help="of the part of an epoch of eva8-session6")
    given = parser.parse_args()
    spec, recipe = given.spec, given.recipe or recipe_file(given.spec)
    network_and_recipe(spec, recipe)  # what is wrong is told before minutes pass
    runs = [by_archsearch(spec, recipe, given.data, seed) for seed in range(given.seeds)]
    plain = [by_plain_loop(spec, recipe, given.data, given.workers)] if given.plain else []
    part = part_of_an_epoch(("our_loop.py",), EVA8, given.data, given.batches)
    sentences, found = report(
        [trained for trained, _ in runs], plain, EPOCH_IMAGES / part.images_per_second
    )
    lines = [*conditions(spec, recipe, runs[0][1]), *sentences]
    print(as_markdown("Time to 85%", lines, found))


if __name__ == "__main__":
    try:
        main()
    except ArchsearchError as error:
        sys.exit(f"error: {error}")
