"""What each ingredient of the fast recipe brings on the hold-out, one change at a time.

Run: python benchmarks/ablations.py --data DIR [--epochs 4] [--seeds 3] [--only NAME ...]
(an hour and more on two cores; it goes on where it was, and accuracy does not mind company)

Every variant trains the spec and recipe of studies/records/time-to-85 with one thing changed, on
45,000 images, and is scored on the 5,000 held out: the test set is not touched. Rows are appended
to studies/recipes/ablations.csv; the table of means goes to standard output.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from archsearch.analyze import analyze
from archsearch.data import load
from archsearch.device import choose
from archsearch.jobs import Job
from archsearch.local import Trainer
from archsearch.parse import from_json
from archsearch.recipe import Recipe
from archsearch.results import Epoch
from archsearch.spec import Spec

STUDIES = Path(__file__).parent.parent / "studies"
RECORD = STUDIES / "records" / "time-to-85"
CSV = STUDIES / "recipes" / "ablations.csv"
COLUMNS = ("variant", "seed", "epochs", "val_acc", "train_seconds", "device", "torch_version")

Parts = dict[str, Any]
Change = Callable[[Parts, Parts], None]


def recipe(**fields: object) -> Change:
    """Other recipe fields."""
    return lambda _spec, recipe: recipe.update(fields)


def init(**fields: bool) -> Change:
    """Other beginnings of the weights."""
    return lambda _spec, recipe: recipe["init"].update(fields)


def augment(**fields: object) -> Change:
    """Other augmentation."""
    return lambda _spec, recipe: recipe["augment"].update(fields)


def activation(kind: str) -> Change:
    """Another activation throughout."""

    def change(spec: Parts, _recipe: Parts) -> None:
        text = json.dumps(spec).replace('"silu"', f'"{kind}"')
        spec.update(json.loads(text))

    return change


VARIANTS: dict[str, Change] = {
    "the record's recipe": recipe(),
    "sgd for every layer, not muon": recipe(optimizer="sgd"),
    "no whitening": init(whiten=False),
    "no identity-like start": init(dirac=False),
    "random flips, not alternating": augment(flip=0.5),
    "norms and biases at lr": recipe(norm_bias_lr=1.0),
    "no label smoothing": recipe(label_smoothing=0.0),
    "weights averaged, 0.98 a step": recipe(average={"decay": 0.98}),
    "batch 512": recipe(batch_size=512),
    "peak at half": recipe(schedule={"kind": "triangular", "peak": 0.5}),
    "one-cycle": recipe(schedule={"kind": "one_cycle"}),
    "relu": activation("relu"),
}


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    asked = parser.parse_args()
    trainer = Trainer.of(load("cifar10", asked.data), choose("cpu"))
    for seed in range(asked.seeds):
        for name in asked.only:
            if not any(row["variant"] == name and row["seed"] == str(seed) for row in rows()):
                add(measured(trainer, name, seed, asked.epochs))
    print(table(rows()))


def measured(trainer: Trainer, name: str, seed: int, epochs: int) -> dict[str, object]:
    """One variant, trained once."""
    spec = json.loads((RECORD / "spec.json").read_text(encoding="utf-8"))
    how = json.loads((RECORD / "recipe.json").read_text(encoding="utf-8"))
    VARIANTS[name](spec, how)
    how["epochs"] = epochs
    analysis = analyze(from_json(Spec, json.dumps(spec), name))
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            key=name,
            spec_hash=analysis.spec_hash,
            network=analysis.network,
            recipe=from_json(Recipe, json.dumps(how), name),
            seed=seed,
            folder=Path(folder),
            final=False,
        )
        done = [e for e in trainer.train(job, test=False, warn=print) if isinstance(e, Epoch)]
    seconds = sum(epoch.train_seconds for epoch in done)
    row = (name, seed, epochs, done[-1].val_acc, round(seconds, 1))
    return dict(zip(COLUMNS, (*row, trainer.device.name, torch.__version__), strict=True))


def rows() -> list[dict[str, str]]:
    """What has been measured."""
    if not CSV.exists():
        return []
    with CSV.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add(row: dict[str, object]) -> None:
    """Append a row."""
    print(row, flush=True)
    new = not CSV.exists()
    CSV.parent.mkdir(exist_ok=True)
    with CSV.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def table(found: list[dict[str, str]]) -> str:
    """Mean, spread and difference to the record's recipe, seed by seed, as Markdown."""
    scores = {
        name: {row["seed"]: 100 * float(row["val_acc"]) for row in found if row["variant"] == name}
        for name in VARIANTS
    }
    base = scores["the record's recipe"]
    lines = ["| change | seeds | hold-out % | least to most | against the record, seed by seed |"]
    lines.append("|---|---|---|---|---|")
    for name, by_seed in scores.items():
        if not by_seed:
            continue
        values = list(by_seed.values())
        pairs = [value - base[seed] for seed, value in by_seed.items() if seed in base]
        gain = f"{statistics.mean(pairs):+.2f}" if pairs and by_seed is not base else ""
        lines.append(
            f"| {name} | {len(values)} | {statistics.mean(values):.2f} | "
            f"{min(values):.2f} to {max(values):.2f} | {gain} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
