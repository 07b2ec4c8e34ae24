"""Specs a second: the analyzer, and what else counts a network's parameters, side by side.

Run: pip install -e '.[benchmark]', then python benchmarks/analyzer.py [--specs N] [--out FILE]
(some minutes; nothing else may run meanwhile)
"""

from __future__ import annotations

import argparse
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

import peers
import torch

from archsearch import ops
from archsearch.analyze import analyze
from archsearch.constraints import Constraints, judge
from archsearch.device import choose
from archsearch.network import Network
from archsearch.parse import from_json
from archsearch.screen import Screen
from archsearch.spec import Spec

SEED = 0
SPECS = 300
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
    """A way from cases to their parameter counts."""

    title: str
    count: Callable[[Sequence[Case]], list[int]]


@dataclass(frozen=True)
class Measured:
    """What a contender did: seconds of each round, or why it could not."""

    title: str
    seconds: list[float]
    differences: list[int]
    error: str = ""


# Specs


def draw_cases(count: int) -> list[Case]:
    """Different networks of four blocks and twelve convolutions, as `space.spec_of` writes them."""
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


# Ours


def json_to_verdict(cases: Sequence[Case]) -> list[int]:
    """Text in, verdict out: what `archsearch validate` does to a file."""
    limits = Constraints()
    counts = []
    for case in cases:
        verdict = judge(analyze(from_json(Spec, case.text, "bench")), limits)
        counts.append(verdict.analysis.params)
    return counts


def analyze_alone(cases: Sequence[Case]) -> list[int]:
    """From a record to parameters, multiply-accumulates and receptive field."""
    counts = []
    for case in cases:
        analysis = analyze(case.spec)
        _ = analysis.macs, analysis.receptive_field
        counts.append(analysis.params)
    return counts


def parse_alone(cases: Sequence[Case]) -> list[int]:
    """Text to record; there is nothing to count yet."""
    for case in cases:
        from_json(Spec, case.text, "bench")
    return []


def screened(cases: Sequence[Case]) -> list[int]:
    """`archsearch.screen`: texts in, verdicts out; nothing is remembered from round to round."""
    screen = Screen(Constraints())
    return [screen(case.text, "bench").totals.params for case in cases]


def on_networks(title: str, count: Callable[[Sequence[Network]], list[int]]) -> Contender:
    """A contender that starts from shapes that are worked out: building is what it pays for."""
    return Contender(title, lambda cases: count([case.network for case in cases]))


OURS = Contender("archsearch: JSON to verdict", json_to_verdict)
CONTENDERS = (
    OURS,
    Contender("archsearch: analyze alone", analyze_alone),
    Contender("archsearch: parse alone (pydantic)", parse_alone),
    Contender("archsearch: screen", screened),
    on_networks("build alone (torch)", peers.build_alone),
    on_networks("build + torchinfo.summary", peers.by_torchinfo),
    on_networks("build + fvcore", peers.by_fvcore),
    on_networks("build + thop.profile", peers.by_thop),
    on_networks("build + ptflops", peers.by_ptflops),
    on_networks("build + torchscan", peers.by_torchscan),
)


# Measuring


def parameters_of(case: Case) -> int:
    """What torch itself counts is held to this by `build`."""
    return sum(ops.params(node.op) for node in case.network.nodes())


def measure(cases: Sequence[Case]) -> list[Measured]:
    """Every contender once a round, in turn; the first pass, over few cases, is not timed."""
    measured = [first_pass(contender, cases[:3]) for contender in CONTENDERS]
    known = [parameters_of(case) for case in cases]
    for round_ in range(ROUNDS):
        for contender, result in zip(CONTENDERS, measured, strict=True):
            if result.error:
                continue
            start = time.perf_counter()
            with redirect_stdout(StringIO()):
                counts = contender.count(cases)
            result.seconds.append(time.perf_counter() - start)
            if round_ == 0 and counts:
                pairs = zip(counts, known, strict=True)
                result.differences.extend(count - truth for count, truth in pairs)
        print(f"round {round_ + 1} of {ROUNDS}", file=sys.stderr)
    return measured


def first_pass(contender: Contender, cases: Sequence[Case]) -> Measured:
    """Imports what the contender needs; what goes wrong is part of the result."""
    try:
        with redirect_stdout(StringIO()):
            contender.count(cases)
    except Exception as error:  # noqa: BLE001 # whatever stops a peer is shown in its row
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        return Measured(contender.title, [], [], told)
    return Measured(contender.title, [], [])


# Telling

HEADINGS = ("", "specs/s", "time, ours = 1", "agrees on parameters")


def rows_of(measured: Sequence[Measured], count: int) -> list[tuple[str, str, str, str]]:
    """The table's cells."""
    ours = measured[0].seconds
    return [row_of(result, ours, count) for result in measured]


def row_of(result: Measured, ours: list[float], count: int) -> tuple[str, str, str, str]:
    """Medians, and the ratio round by round from lowest to highest."""
    if result.error:
        return result.title, "-", "-", f"does not run: {result.error}"
    rate = count / statistics.median(result.seconds)
    ratios = [theirs / mine for theirs, mine in zip(result.seconds, ours, strict=True)]
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    ratio = f"{middle:,.2f} ({low:,.2f} to {high:,.2f})"
    return result.title, f"{rate:,.1f}", ratio, agreement(result.differences)


def agreement(differences: Sequence[int]) -> str:
    """How many counts are ours, and by how much the others are off."""
    if not differences:
        return "counts nothing"
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
        f"{count} different specs of {CONVOLUTIONS} convolutions (seed {SEED}), "
        f"median of {ROUNDS} rounds",
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
    lines = ["# The analyzer and its peers", "", *(f"- {line}" for line in told), ""]
    lines += [f"| {' | '.join(HEADINGS)} |", "|---|---:|---:|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table; with --out write it as Markdown too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--specs", type=int, default=SPECS, help="how many networks")
    parser.add_argument("--out", type=Path, help="a Markdown file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)  # an image of 3x32x32 has no work for two
    cases = draw_cases(given.specs)
    told = conditions(len(cases))
    print("\n".join(told))
    rows = rows_of(measure(cases), len(cases))
    print(as_text(rows))
    if given.out:
        given.out.write_text(as_markdown(rows, told))


if __name__ == "__main__":
    main()
