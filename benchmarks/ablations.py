"""What one change at a time does to the accuracy on the hold-out.

Run: python benchmarks/ablations.py recipe|rules|rules-longer [--data DIR] [--seeds 0 1 2]
(an hour and more on two cores; it goes on where it was, and accuracy does not mind company)

recipe: what each ingredient of the fast recipe brings (studies/recipes). rules: what each thing
costs that `archsearch diagnose` warns of (studies/rules); rules-longer: what shows only after more
epochs.

Every variant trains on 45,000 images and is scored on the 5,000 held out: the test set is not
touched. Rows are appended to the set's CSV; the table of means goes to standard output.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import statistics
import tempfile
from pathlib import Path

import torch
from ablation_sets import SETS, AblationSet

from archsearch.analysis.analyze import analyze
from archsearch.common.parse import from_json
from archsearch.spec.models import Spec
from archsearch.training.device import choose
from archsearch.training.images import load
from archsearch.training.job import Job
from archsearch.training.recipe import Recipe
from archsearch.training.records import Epoch
from archsearch.training.trainer import Trainer

COLUMNS = ("variant", "seed", "epochs", "val_acc", "train_seconds", "device", "torch_version")


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*")
    asked = parser.parse_args()
    chosen = SETS[asked.set]
    names = chosen.variants if asked.only is None else asked.only
    trainer = Trainer.of(load("cifar10", asked.data), choose("cpu"))
    for seed in asked.seeds:
        for name in names:
            done = rows(chosen.csv)
            if not any(row["variant"] == name and row["seed"] == str(seed) for row in done):
                add(chosen.csv, measured(trainer, chosen, name, seed))
    print(table(chosen, rows(chosen.csv)))


def measured(trainer: Trainer, of: AblationSet, name: str, seed: int) -> dict[str, object]:
    """One variant, trained once."""
    spec, how = copy.deepcopy(of.spec), copy.deepcopy(of.recipe)
    of.variants[name](spec, how)
    analysis = analyze(from_json(Spec, json.dumps(spec), name))
    recipe = from_json(Recipe, json.dumps(how), name)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            key=name,
            spec_hash=analysis.spec_hash,
            network=analysis.network,
            recipe=recipe,
            seed=seed,
            folder=Path(folder),
            final=False,
        )
        done = [e for e in trainer.train(job, test=False, warn=print) if isinstance(e, Epoch)]
    seconds = sum(epoch.train_seconds for epoch in done)
    row = (name, seed, recipe.epochs, done[-1].val_acc, round(seconds, 1))
    return dict(zip(COLUMNS, (*row, trainer.device.name, torch.__version__), strict=True))


def rows(path: Path) -> list[dict[str, str]]:
    """What has been measured."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add(path: Path, row: dict[str, object]) -> None:
    """Append a row."""
    print(row, flush=True)
    new = not path.exists()
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def table(of: AblationSet, found: list[dict[str, str]]) -> str:
    """Mean, spread and difference to the set's base, seed by seed, as Markdown."""
    scores = {
        name: {row["seed"]: 100 * float(row["val_acc"]) for row in found if row["variant"] == name}
        for name in of.variants
    }
    base = scores[of.base]
    lines = [
        "| change | seeds | hold-out % | least to most | difference, seed by seed | least to most |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for name, by_seed in scores.items():
        if not by_seed:
            continue
        values = list(by_seed.values())
        pairs = [value - base[seed] for seed, value in by_seed.items() if seed in base]
        compared = bool(pairs) and name != of.base
        lines.append(
            f"| {name} | {len(values)} | {statistics.mean(values):.2f} | "
            f"{min(values):.2f} to {max(values):.2f} | "
            + (f"{statistics.mean(pairs):+.2f} | {min(pairs):+.2f} to {max(pairs):+.2f} |"
               if compared else " | |")
        )  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
