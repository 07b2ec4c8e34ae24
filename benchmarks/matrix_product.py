"""The fastest fp32 matrix product of this machine, which a training step is held against.

Run by throughput.py, or: python benchmarks/matrix_product.py
"""

from __future__ import annotations

import json
import time

import torch

from archsearch.training.device import choose

SIDE = 2048
PRODUCTS = 10


def flops_per_second() -> float:
    """Of the fastest of some products; a multiply-add counts twice."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    seconds = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(seconds)


if __name__ == "__main__":
    told = {"machine": choose("cpu").name, "torch": torch.__version__}
    print(json.dumps({**told, "flops_per_second": flops_per_second()}))
