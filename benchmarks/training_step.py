"""What our choices bring to one training step on a CPU: ratios, side by side in one run.

Run: python benchmarks/training_step.py        (two minutes; nothing else may run meanwhile)
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from archsearch.analysis.analyze import analyze
from archsearch.convert.to_module import DepthwiseConv2d, build
from archsearch.space.four_blocks import spec_of
from archsearch.study.config import load_study
from archsearch.training.device import choose, keep_freed_memory

BATCH = 128
ROUNDS = 12


def network_step(dtype: torch.dtype, memory_format: torch.memory_format) -> Callable[[], None]:
    """A training step of the default study's first network."""
    study = load_study("cifar10-200k")
    net = build(analyze(spec_of(study.start[0], "first")).network)
    net.to(memory_format=memory_format)
    x = torch.randn(BATCH, 3, 32, 32).to(memory_format=memory_format)
    y = torch.randint(0, 10, (BATCH,))

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        net.zero_grad()

    return step


def depthwise_step(kind: type[nn.Conv2d], stride: int, dilation: int) -> Callable[[], None]:
    """Forward and backward of one depthwise layer, 64 channels of 16x16."""
    conv = kind(64, 64, 3, stride=stride, padding=dilation, dilation=dilation, groups=64)
    x = torch.randn(BATCH, 64, 16, 16).to(memory_format=torch.channels_last).requires_grad_()

    def step() -> None:
        y = conv(x)
        y.backward(torch.ones_like(y))

    return step


def compare(title: str, ours: Callable[[], None], theirs: Callable[[], None]) -> None:
    """Medians of both, in turn, and the ratio round by round."""
    seconds: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        pair = []
        for step in (ours, theirs):
            start = time.perf_counter()
            step()
            pair.append(time.perf_counter() - start)
        seconds.append((pair[0], pair[1]))
    ratios = [b / a for a, b in seconds[2:]]
    one, two = (1e3 * statistics.median(s[i] for s in seconds[2:]) for i in (0, 1))
    ratio, low, high = statistics.median(ratios), min(ratios), max(ratios)
    print(f"{title:<58} {one:7.1f} {two:7.1f}  {ratio:5.2f} ({low:.2f} to {high:.2f})", flush=True)


def main() -> None:
    """Print the table."""
    if "--step" in sys.argv:  # one process of the comparison of allocators
        if "--keep" in sys.argv:
            keep_freed_memory()
        step = network_step(torch.float32, torch.channels_last)
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(statistics.median(times[2:]))
        return
    print(f"torch {torch.__version__}, {choose('cpu').name}, batch {BATCH}")
    print(f"{'':<58} {'ours ms':>7} {'else ms':>7}  ratio (lowest to highest)")
    last, first = torch.channels_last, torch.contiguous_format
    fp32, bf16 = torch.float32, torch.bfloat16
    compare(
        "network: fp32 channels_last, against bf16 autocast",
        network_step(fp32, last),
        network_step(bf16, last),
    )
    compare(
        "network: channels_last, against NCHW", network_step(fp32, last), network_step(fp32, first)
    )
    ours, theirs = depthwise_step(DepthwiseConv2d, 1, 2), depthwise_step(nn.Conv2d, 1, 2)
    compare("dilated depthwise: space-to-batch, against nn.Conv2d", ours, theirs)
    pairs = [[float(run("--step", *keep)) for keep in (("--keep",), ())] for _ in range(3)]
    one, two = (1e3 * statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    ratios = sorted(pair[1] / pair[0] for pair in pairs)
    title = "network: keeping freed memory, against glibc's default"
    print(
        f"{title:<58} {one:7.1f} {two:7.1f}  {ratios[1]:5.2f} ({ratios[0]:.2f} to {ratios[2]:.2f})"
    )


def run(*args: str) -> str:
    """The output of this script in a process of its own."""
    command = [sys.executable, __file__, *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
