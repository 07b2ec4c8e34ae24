"""archsearch's training loop, timed, with the device settings that `archsearch train` has on a CPU.

Run by throughput.py and time_to_85.py, or: python benchmarks/our_loop.py SPEC [--recipe FILE] ...
"""

from __future__ import annotations

import sys

import torch
from timed_training import Figures, Task, loop_arguments, task_of, tell

from archsearch.convert.to_module import build
from archsearch.errors import ArchsearchError
from archsearch.training.device import choose
from archsearch.training.loop import train


def trained(task: Task) -> Figures:
    """Train, and score nothing."""
    device = choose("cpu")
    torch.manual_seed(task.seed)
    net = build(task.analysis.network)
    epochs = list(
        train(net, task.recipe, task.fit, None, device=device, seed=task.seed, run="benchmark")
    )
    last = epochs[-1]
    return Figures(
        dataset=task.dataset.name,
        precision=device.precision,
        threads=torch.get_num_threads(),
        images=round(last.images_per_second * last.train_seconds),  # the last, short batch is left
        epoch_seconds=[epoch.train_seconds for epoch in epochs],
    )


if __name__ == "__main__":
    try:
        tell(trained(task_of(loop_arguments(str(__doc__)).parse_args())))
    except ArchsearchError as error:
        sys.exit(f"error: {error}")
