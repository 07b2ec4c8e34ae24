"""Specs a second: the analyzer, and what else counts a network's parameters, side by side.

Run: pip install -e '.[benchmark]', then python benchmarks/analyzer.py [--specs N] [--out FILE]
(some minutes; nothing else may run meanwhile)
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch

from archsearch.analysis.analyze import analyze
from archsearch.analysis.cached_totals import Screen
from archsearch.analysis.constraints import Constraints, verdict_on
from archsearch.common.parse import from_json
from archsearch.space.counting.lookup import draw_many, look_up, tabulate
from archsearch.space.four_blocks import Space, knob_choices, spec_data
from archsearch.spec import ops, params_and_macs
from archsearch.spec.models import Spec
from archsearch.spec.network import Network
from archsearch.training.device import choose

SEED = 0
SPECS = 300
TEXTS = 100_000
CANDIDATES = 1_000_000
ROUNDS = 3
CONVOLUTIONS = 12
PACKAGES = ("torchinfo", "fvcore", "thop", "ptflops", "torchscan")
Layer = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One spec, in every form that a row of the table starts from."""

    text: str
    spec: Spec
    network: Network


@dataclass(frozen=True)
class Contender:
    """A way through some specs: their parameter counts, or none where there is nothing to count.

    Attributes:
        specs: how many it goes through.
        truth: their parameter counts, as `build` holds them to torch; empty where other rows do.
    """

    title: str
    count: Callable[[], Sequence[int]]
    specs: int
    truth: Sequence[int] = ()


@dataclass(frozen=True)
class Measured:
    """What a contender did in each round, or why it could not."""

    title: str
    seconds_a_spec: list[float]
    differences: list[int]
    error: str = ""


# Specs


def draw_cases(count: int) -> list[Case]:
    """Different networks of four blocks and twelve convolutions, as the default space has them."""
    rng = random.Random(SEED)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[draw_text(rng)] = None
    return [case_of(text.replace('"drawn"', f'"drawn-{i}"')) for i, text in enumerate(texts)]


def case_of(text: str) -> Case:
    """A drawn spec; it must have as many convolutions as we say."""
    spec = from_json(Spec, text, "drawn")
    network = analyze(spec).network
    found = sum(isinstance(node.op, ops.Conv2d) for node in network.nodes())
    if found != CONVOLUTIONS:
        raise AssertionError(f"drew {found} convolutions, not {CONVOLUTIONS}")
    return Case(text, spec, network)


def draw_text(rng: random.Random) -> str:
    """Compact JSON without default fields."""
    blocks = []
    for i, widths in enumerate(((16, 24, 32), (32, 40, 48), (48, 64, 80), (64, 96, 128))):
        stride = rng.choice((1, 2)) if i else 1
        layers = draw_block(rng, rng.choice(widths), stride)
        blocks.append({"name": f"conv{i + 1}", "layers": layers})
    output = {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]}
    spec = {"name": "drawn", "blocks": blocks, "output": output}
    return json.dumps(spec, separators=(",", ":"))


def draw_block(rng: random.Random, width: int, stride: int) -> list[Layer]:
    """Three convolutions; a depthwise-separable layer is two."""
    entry = {"op": "conv", **settings(rng, width), **({"stride": stride} if stride > 1 else {})}
    match rng.choice(("conv", "separable entry", "separable body")):
        case "separable entry":
            return [entry | {"op": "depthwise_separable"}, body(rng, "conv", width)]
        case "separable body":
            return [entry, body(rng, "depthwise_separable", width)]
        case _:
            return [entry, body(rng, "conv", width), body(rng, "conv", width)]


def body(rng: random.Random, op: str, width: int) -> Layer:
    """A layer that keeps its map, dilated or not, residual or not."""
    dilation = rng.choice((1, 1, 2, 3))
    layer = {"op": op, **settings(rng, width), **({"dilation": dilation} if dilation > 1 else {})}
    return {"op": "residual", "body": [layer]} if rng.random() < 0.5 else layer


def settings(rng: random.Random, width: int) -> Layer:
    """Width and kernel."""
    kernel = rng.choice((1, 3, 3, 3, 5))
    return {"out_channels": width} | ({"kernel_size": kernel} if kernel != 3 else {})


def draw_candidates(count: int) -> list[str]:
    """Different candidates of the default study's space that have twelve convolutions."""
    space = Space()
    choices = knob_choices(space)
    rng = np.random.default_rng(SEED)
    texts: dict[str, None] = {}
    while len(texts) < count:
        picks = {knob: pick.tolist() for knob, pick in draw_many(space, count, rng).items()}
        for i in range(count):
            data = spec_data({knob: choices[knob][picks[knob][i]] for knob in choices}, "drawn")
            text = json.dumps(data, separators=(",", ":"))
            if convolutions_in(text) == CONVOLUTIONS:
                texts[text] = None
    return [text.replace("drawn", f"drawn-{i}") for i, text in enumerate(list(texts)[:count])]


def convolutions_in(text: str) -> int:
    """A depthwise-separable layer is two."""
    return text.count('"op":"conv"') + 2 * text.count('"op":"depthwise_separable"')


# Ours


def screened(texts: Sequence[str], screen: Screen) -> list[int]:
    """Texts in, verdicts out."""
    return [screen(text, "bench").totals.params for text in texts]


def thorough(cases: Sequence[Case]) -> list[int]:
    """What `archsearch validate` does to a file: models and resolver, nothing remembered."""
    limits = Constraints()
    return [verdict_on(case.text, "bench", limits).analysis.params for case in cases]


def analyze_alone(cases: Sequence[Case]) -> list[int]:
    """From a record to parameters, multiply-accumulates and receptive fields."""
    return [analyze(case.spec).totals.params for case in cases]


def parse_alone(cases: Sequence[Case]) -> list[int]:
    """Text to record; there is nothing to count yet."""
    for case in cases:
        from_json(Spec, case.text, "bench")
    return []


def vectorised() -> Contender:
    """Candidates of the default study's space as arrays."""
    space = Space()
    picks = draw_many(space, CANDIDATES, np.random.default_rng(SEED))
    table = tabulate(space)

    def count() -> list[int]:
        look_up(table, picks)
        return []

    return Contender("archsearch: arrays of knobs to totals", count, CANDIDATES)


def contenders(count: int) -> list[Contender]:
    """The table's rows, in order; ratios are to the first."""
    cases = draw_cases(count)
    truth = [parameters_of(case) for case in cases]
    candidates = draw_candidates(TEXTS)
    random_texts = [case.text for case in draw_cases(TEXTS // 10)]
    kept = Screen(Constraints())
    screened(candidates, kept)
    screened([case.text for case in cases], kept)

    def on_cases(title: str, way: Callable[[Sequence[Case]], list[int]]) -> Contender:
        return Contender(title, lambda: way(cases), len(cases), truth)

    def on_networks(title: str, way: Callable[[Sequence[Network]], list[int]]) -> Contender:
        # They start from shapes that are worked out: building is what they pay for.
        return on_cases(title, lambda some: way([case.network for case in some]))

    def fresh(texts: Sequence[str]) -> Callable[[], list[int]]:
        return lambda: screened(texts, Screen(Constraints()))

    return [
        Contender("archsearch: JSON to verdict, candidates of a search", fresh(candidates), TEXTS),
        Contender(
            "archsearch: JSON to verdict, the same once more",
            lambda: screened(candidates, kept),
            TEXTS,
        ),
        Contender(
            "archsearch: JSON to verdict, random layers",
            fresh(random_texts),
            len(random_texts),
        ),
        on_cases(
            "archsearch: JSON to verdict, blocks met before",
            lambda some: screened([case.text for case in some], kept),
        ),
        on_cases("archsearch: JSON to verdict, nothing remembered", thorough),
        on_cases("archsearch: analyze alone, nothing remembered", analyze_alone),
        Contender("pydantic alone: JSON to the spec's models", lambda: parse_alone(cases), count),
        vectorised(),
        on_networks("build alone (torch)", peers.build_alone),
        on_networks("build + torchinfo.summary", peers.by_torchinfo),
        on_networks("build + fvcore", peers.by_fvcore),
        on_networks("build + thop.profile", peers.by_thop),
        on_networks("build + ptflops", peers.by_ptflops),
        on_networks("build + torchscan", peers.by_torchscan),
    ]


# Measuring


def parameters_of(case: Case) -> int:
    """What torch itself counts is held to this by `build`."""
    return sum(params_and_macs.params(node.op) for node in case.network.nodes())


def measure(rows: Sequence[Contender]) -> list[Measured]:
    """Every contender once a round, in turn."""
    measured = [Measured(row.title, [], [], first_error(row)) for row in rows]
    for number in range(ROUNDS):
        for row, result in zip(rows, measured, strict=True):
            if result.error:
                continue
            start = time.perf_counter()
            with redirect_stdout(StringIO()):
                counts = row.count()
            result.seconds_a_spec.append((time.perf_counter() - start) / row.specs)
            if number == 0 and row.truth:
                pairs = zip(counts, row.truth, strict=True)
                result.differences.extend(count - truth for count, truth in pairs)
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
    return measured


def first_error(row: Contender) -> str:
    """Imports what the contender needs, untimed; what goes wrong is part of the result."""
    try:
        with redirect_stdout(StringIO()):
            row.count()
    except Exception as error:  # noqa: BLE001 # whatever stops a peer is shown in its row
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


# Telling

HEADINGS = ("", "specs/s", "time, first row = 1", "parameters agree")


def rows_of(measured: Sequence[Measured]) -> list[tuple[str, str, str, str]]:
    """The table's cells."""
    return [row_of(result, measured[0].seconds_a_spec) for result in measured]


def row_of(result: Measured, first: list[float]) -> tuple[str, str, str, str]:
    """Medians, and the ratio round by round from lowest to highest."""
    if result.error:
        return result.title, "-", "-", f"does not run: {result.error}"
    rate = 1 / statistics.median(result.seconds_a_spec)
    ratios = [theirs / ours for theirs, ours in zip(result.seconds_a_spec, first, strict=True)]
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    ratio = f"{middle:,.2f} ({low:,.2f} to {high:,.2f})"
    return result.title, f"{rate:,.0f}", ratio, agreement(result.differences)


def agreement(differences: Sequence[int]) -> str:
    """How many counts are ours, and by how much the others are off."""
    if not differences:
        return ""
    off = [difference for difference in differences if difference]
    if not off:
        return f"all {len(differences)}"
    low, high = min(off), max(off)
    return f"{len(differences) - len(off)} of {len(differences)}; others off {low:+,} to {high:+,}"


def conditions(count: int) -> list[str]:
    """What the figures hold for."""
    versions = [f"{name} {version_of(name)}" for name in ("torch", "pydantic", *PACKAGES)]
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {choose('cpu').name}, one of them used, "
        f"Python {platform.python_version()}",
        ", ".join(versions),
        f"median of {ROUNDS} rounds, all rows in turn; {CONVOLUTIONS} convolutions each, "
        f"no two specs alike, seed {SEED}",
        f"candidates of a search: {TEXTS:,} of the default study's space, through a memory that is "
        f"empty at first; random layers: {TEXTS // 10:,}, likewise; arrays: {CANDIDATES:,}; all "
        f"other rows: {count} specs of random layers",
    ]


def version_of(package: str) -> str:
    """Of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def as_text(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns for a terminal."""
    table = [HEADINGS, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADINGS))]
    lines = [
        f"{title:<{widths[0]}}  {rate:>{widths[1]}}  {ratio:>{widths[2]}}  {agrees}"
        for title, rate, ratio, agrees in table
    ]
    return "\n".join(lines)


def as_markdown(rows: Sequence[tuple[str, ...]], told: Sequence[str]) -> str:
    """The same, with its conditions."""
    command = "`python -W ignore benchmarks/analyzer.py --out studies/benchmarks/analyzer.md`"
    lines = [
        "# The analyzer and its peers",
        "",
        f"- {command}",
        *(f"- {line}" for line in told),
        "",
    ]
    lines += [f"| {' | '.join(HEADINGS)} |", "|---|---:|---:|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table; with --out write it as Markdown too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--specs", type=int, default=SPECS, help="how many networks")
    parser.add_argument("--out", type=Path, help="a Markdown file to write")
    given = parser.parse_args()
    gc.set_threshold(50_000)  # as archsearch.cli has it
    torch.set_num_threads(1)  # an image of 3x32x32 has no work for two
    told = conditions(given.specs)
    print("\n".join(told))
    rows = rows_of(measure(contenders(given.specs)))
    print(as_text(rows))
    if given.out:
        given.out.write_text(as_markdown(rows, told))


if __name__ == "__main__":
    main()
