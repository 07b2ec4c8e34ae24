"""Images a second in training: archsearch and the loop that people write, side by side.

Run: python benchmarks/throughput.py [SPEC ...] [--data DIR] [--batches N] > FILE.md
(five minutes a spec; nothing else may run meanwhile)
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from timed_training import (
    EPOCH_IMAGES,
    STUDIES,
    Figures,
    about_images,
    as_markdown,
    network_and_recipe,
    part_of_an_epoch,
    recipe_file,
    run,
    table,
)

from archsearch.errors import ArchsearchError

ROUNDS = 3
OURS = "archsearch"
LOOPS = {
    OURS: ("our_loop.py",),
    "plain loop, num_workers=0": ("plain_loop.py", "--workers", "0"),
    "plain loop, num_workers=2": ("plain_loop.py", "--workers", "2"),
}
FLOPS_PER_MAC = 6
"""In training: two for the multiply-add, forward, and backward to the input and to the weights."""


@dataclass(frozen=True)
class Round:
    """Every loop once, and the machine's peak just before.

    Attributes:
        peak: floating point operations a second, of `matrix_product.py`.
    """

    machine: str
    torch: str
    peak: float
    figures: dict[str, Figures]

    def rate(self, loop: str) -> float:
        """Images a second."""
        return self.figures[loop].images_per_second


def measure(spec: Path, data: Path | None, batches: int | None, rounds: int) -> list[Round]:
    """All loops in turn, each round from another one on."""
    names, measured = list(LOOPS), []
    for number in range(rounds):
        found = run("matrix_product.py")
        first = number % len(names)
        figures = {
            name: part_of_an_epoch(LOOPS[name], spec, data, batches)
            for name in (*names[first:], *names[:first])
        }
        peak = float(found["flops_per_second"])
        measured.append(Round(found["machine"], found["torch"], peak, figures))
        print(f"{spec}: round {number + 1} of {rounds}", file=sys.stderr)
    return measured


# Telling

HEADINGS = ("network", "loop", "images/s", "s an epoch", "archsearch is faster", "of the peak")


def rows_of(spec: Path, rounds: Sequence[Round]) -> list[tuple[str, ...]]:
    """A network's rows of the table."""
    analysis = network_and_recipe(spec, None)[0]
    flops = FLOPS_PER_MAC * analysis.macs

    def row(loop: str) -> tuple[str, ...]:
        precision = rounds[0].figures[loop].precision
        return (
            f"{analysis.spec.name}, {analysis.macs / 1e6:.1f} M MACs",
            f"{loop}, {precision}",
            spread(rounds, lambda r: r.rate(loop), ",.0f"),
            spread(rounds, lambda r: EPOCH_IMAGES / r.rate(loop), ".1f"),
            "" if loop == OURS else spread(rounds, lambda r: r.rate(OURS) / r.rate(loop), ".2f"),
            spread(rounds, lambda r: r.rate(loop) * flops / r.peak, ".1%"),
        )

    return [row(loop) for loop in LOOPS]


def spread(rounds: Sequence[Round], value: Callable[[Round], float], form: str) -> str:
    """The median over the rounds, and the range."""
    values = [value(each) for each in rounds]
    low, middle, high = (
        format(number, form) for number in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low} to {high})"


def conditions(rounds: Sequence[Round]) -> list[str]:
    """What the figures hold for; peak and images of all rounds alike."""
    one = rounds[0]
    threads = {figures.threads for each in rounds for figures in each.figures.values()}
    peaks = [each.peak / 1e9 for each in rounds]
    images = {figures.images for each in rounds for figures in each.figures.values()}
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {one.machine}, torch {one.torch}, "
        f"threads of every loop: {', '.join(map(str, sorted(threads)))}",
        about_images(one.figures[OURS].dataset),
        "each loop in a process of its own, in turn, each round from another one on; "
        "median over the rounds, and the range",
        f"two epochs of {' or '.join(f'{count:,}' for count in sorted(images))} images, the first "
        f"to warm up; batch size and augmentation of the recipe; s an epoch: of {EPOCH_IMAGES:,}",
        "archsearch is faster: its images/s over the loop's, round by round",
        f"the peak: a 2048x2048 fp32 matrix product before each round, "
        f"{statistics.median(peaks):,.0f} GFLOP/s ({min(peaks):,.0f} to {max(peaks):,.0f}); "
        f"a training step takes {FLOPS_PER_MAC} FLOPs a MAC",
    ]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("specs", type=Path, nargs="*", metavar="SPEC", help="seeds and records")
    parser.add_argument("--data", type=Path, help="CIFAR-10; else ARCHSEARCH_DATA, else generated")
    parser.add_argument("--batches", type=int, help="an epoch; about 10,000 images unless given")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    defaults = [*STUDIES.glob("records/*/spec.json"), *STUDIES.glob("seeds/*/spec.json")]
    specs = given.specs or defaults
    for spec in specs:
        network_and_recipe(spec, recipe_file(spec))  # what is wrong is told before minutes pass
    measured = {spec: measure(spec, given.data, given.batches, given.rounds) for spec in specs}
    told = conditions([each for rounds in measured.values() for each in rounds])
    rows = [row for spec, rounds in measured.items() for row in rows_of(spec, rounds)]
    print(as_markdown("Training: images a second", told, table(HEADINGS, rows, 2)))


if __name__ == "__main__":
    try:
        main()
    except ArchsearchError as error:
        sys.exit(f"error: {error}")
