"""How well a search's ranking foretells what its networks reach when they are trained in full.

Run: python benchmarks/rank_correlation.py STUDY --recipe NAME|FILE --out DIR [--networks 8]
(an hour on two cores; it goes on where it was, and accuracy does not mind company)

Networks at even ranks of STUDY's leaderboard, best to worst, are trained on all training images
and tested once, at their last epoch. Nothing is chosen by that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from search_quality import spearman
from time_to_85 import REACHED_OR_NOT
from timed_training import as_markdown, table

from archsearch.common.csv_files import read_csv
from archsearch.common.machine import threads_each
from archsearch.common.parse import from_json, read_text
from archsearch.errors import ArchsearchError
from archsearch.study.folder import StudyFolder
from archsearch.training.recipe import Recipe
from archsearch.training.recipe_files import load_recipe


@dataclass(frozen=True)
class Pair:
    """A network's place in the search, and what became of it.

    Attributes:
        result: of `archsearch train`.
    """

    rank: int
    spec_hash: str
    val_acc: float
    result: dict[str, Any]

    @property
    def test_acc(self) -> float:
        """Trained in full."""
        return float(self.result["test_acc"])


def at_even_ranks(rows: Sequence[dict[str, str]], count: int) -> list[dict[str, str]]:
    """`count` of the networks that were trained to their end, the best and the worst with them."""
    whole = [row for row in rows if row["status"] == "trained"]
    places = np.linspace(0, len(whole) - 1, min(count, len(whole))).round().astype(int)
    return [whole[place] for place in places]


def trained_in_full(row: dict[str, str], given: argparse.Namespace) -> Pair:
    """Train one network, or read what an earlier call left.

    Raises:
        ArchsearchError: training failed; it told why on standard error.
    """
    out = given.out / row["spec_hash"][:12]
    if not (out / "result.json").is_file():
        command = [sys.executable, "-m", "archsearch", "train", str(given.study / row["spec_path"])]
        command += ["--recipe", given.recipe, "--full", "--out", str(out), "--seed", row["seed"]]
        command += ["--dataset", row["dataset"]]
        command += ["--data", str(given.data)] if given.data else []
        env = {**os.environ, "OMP_NUM_THREADS": str(threads_each(given.at_a_time))}
        done = subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=False)
        if done.returncode not in REACHED_OR_NOT:
            raise ArchsearchError(f"archsearch train ended with {done.returncode}: see above")
    kept = from_json(Recipe, read_text(str(out / "recipe.json")), str(out / "recipe.json"))
    if kept != load_recipe(given.recipe):
        raise ArchsearchError(f"{out}: was trained by another recipe; give another --out")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return Pair(int(row["rank"]), row["spec_hash"], float(row["val_acc"]), result)


def report(pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """What is found, in sentences and as a table."""
    val, test = (np.array([getattr(p, name) for p in pairs]) for name in ("val_acc", "test_acc"))
    rho, low, high = spearman(val, test)
    result = pairs[0].result
    sentences = [
        f"{result['dataset']}, {result['device']}, {result['precision']}, torch "
        f"{result['torch_version']}, seed {result['seed']}, one run a network; "
        f"{result['epochs']} epochs on all training images, single-view test once at the end",
        f"Spearman's rank correlation of {len(pairs)} networks: {rho:.2f} "
        f"(95% bootstrap interval {low:.2f} to {high:.2f}; so few networks make it too narrow)",
    ]
    rows = [
        (str(p.rank), f"`{p.spec_hash[:12]}`", f"{p.val_acc:.2%}", f"{p.test_acc:.2%}")
        for p in pairs
    ]
    headings = ("rank", "network", "hold-out, ranking", "test, in full")
    return sentences, table(headings, rows, 2)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--recipe", required=True, help="fast, best, or a file: training in full")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--at-a-time", type=int, default=2)
    parser.add_argument("--data", type=Path, help="CIFAR-10; else ARCHSEARCH_DATA")
    given = parser.parse_args()
    rows = at_even_ranks(read_csv(StudyFolder(given.study).leaderboard), given.networks)
    if len(rows) < 3:
        raise ArchsearchError(f"{given.study}: has {len(rows)} whole trials; 3 are needed")
    with ThreadPoolExecutor(given.at_a_time) as pool:
        pairs = list(pool.map(lambda row: trained_in_full(row, given), rows))
    sentences, found = report(pairs)
    print(as_markdown("Ranking against full training", sentences, found))


if __name__ == "__main__":
    try:
        main()
    except ArchsearchError as error:
        sys.exit(f"error: {error}")
