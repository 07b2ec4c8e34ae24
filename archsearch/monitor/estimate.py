"""Predict how long a search will take, from a few measured training steps of a few networks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from archsearch.common.remembered import remembered
from archsearch.convert.to_module import build
from archsearch.space.sampling import draw_setting
from archsearch.space.settings import judge_setting
from archsearch.spec.hash import spec_hash
from archsearch.spec.network import Network
from archsearch.study.config import Study
from archsearch.training.augment import Augmenter
from archsearch.training.augment import statistics as image_statistics
from archsearch.training.datasets import DATASETS
from archsearch.training.device import Device
from archsearch.training.loop import Training, averaged, fit_epoch
from archsearch.training.optimizers import make_optimizers
from archsearch.training.recipe import Recipe

NETWORKS = 3
CPU_BATCH = 32
"""Images of a measured step on a CPU, where the time of an image hardly depends on the batch."""
REPEATS = 3
_STEPS = 2
_PATIENCE = 20_000


class Cost(NamedTuple):
    """Seconds that training a network takes.

    Attributes:
        image: forward and backward pass of one image.
        step: one step of the optimizer.
    """

    image: float
    step: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of a whole search, if no trial is stopped early.

    Attributes:
        images_per_second: of each network that was measured, in a trial.
        trials: seconds of all trials.
        finals: seconds of the finalists.
    """

    images_per_second: tuple[float, ...]
    trials: float
    finals: float


def networks_within_limits(study: Study, within_s: float | None = None) -> list[Network]:
    """Draw `NETWORKS` random networks within the limits, or fewer if there are hardly any.

    Args:
        study: the space and its limits.
        within_s: seconds after which to give up; None: only after many draws.
    """
    until = None if within_s is None else time.monotonic() + within_s
    return list(islice(_within_limits(study, until), NETWORKS))


def estimate(
    study: Study, networks: Sequence[Network], device: Device, trials: int, workers: int
) -> Estimate:
    """Predict the time of a search from the pace of some networks of its space.

    Each of the `workers` is taken to be as fast as this process alone.
    """
    facts = DATASETS[study.dataset]
    fit = facts.train - facts.held_out
    ranking = [epoch_seconds(device, each, study.recipe, fit) for each in networks]
    final = [epoch_seconds(device, each, study.final_recipe, facts.train) for each in networks]
    finalists = min(study.finalists, trials) * study.final_seeds
    return Estimate(
        tuple(fit / seconds for seconds in ranking),
        ceil(trials / workers) * study.recipe.epochs * statistics.fmean(ranking),
        ceil(finalists / workers) * study.final_recipe.epochs * statistics.fmean(final),
    )


def epoch_seconds(device: Device, network: Network, recipe: Recipe, images: int) -> float:
    """Predict the mean seconds of an epoch on so many images."""
    cost = _cost(device, network, recipe)
    batch = min(recipe.batch_size, images)
    return images * cost.image * _mean_size(network, recipe) + images // batch * cost.step


def _mean_size(network: Network, recipe: Recipe) -> float:
    """Return the mean share of an image's pixels over a training: its first part may be smaller."""
    if recipe.small_first is None:
        return 1.0
    height, width = network.image.size
    small = min(1.0, recipe.small_first.side**2 / (height * width))
    return recipe.small_first.until * small + 1 - recipe.small_first.until


def _cost(device: Device, network: Network, recipe: Recipe) -> Cost:
    """Return what was measured on this machine, now or earlier."""
    batch = recipe.batch_size if device.torch.type == "cuda" else CPU_BATCH
    threads = torch.get_num_threads()
    key = f"{device.name}, {device.precision}, {threads} threads, torch {torch.__version__}"
    key += f", network {spec_hash(network)[:12]}"
    step = remembered(
        "steps", f"{key}, {recipe.optimizer}", lambda: _step_seconds(device, network, recipe)
    )
    image = remembered(
        "steps", f"{key}, batch {batch}", lambda: _batch_seconds(device, network, batch) / batch
    )
    return Cost(image, step)


def _batch_seconds(device: Device, network: Network, batch: int) -> float:
    """Measure the forward and backward pass of a batch, with the cheapest optimizer."""
    # Time does not depend on the rate; so small a one diverges nowhere.
    at = _training(device, network, Recipe(lr=1e-6, batch_size=batch), _STEPS * batch)
    return _fastest(device, lambda: fit_epoch(at, (), batch)) / _STEPS


def _step_seconds(device: Device, network: Network, recipe: Recipe) -> float:
    """Measure a step of the optimizer."""
    at = _training(device, network, recipe.model_copy(update={"lr": 1e-6}), 1)
    for param in at.model.parameters():
        param.grad = torch.full_like(param, 1e-6)

    def step() -> None:
        for optimizer in at.optimizers:
            optimizer.step()

    return _fastest(device, step)


def _training(device: Device, network: Network, recipe: Recipe, images: int) -> Training:
    """Return what an epoch on random images works on."""
    channels, height, width = network.image.shape
    shape = (images, height, width, channels)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(device.torch)
    labels: Tensor = torch.zeros(images, dtype=torch.int64, device=device.torch)
    model = build(network)
    model.to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload] # stub
    return Training(
        model,
        averaged(model, recipe),
        make_optimizers(model, recipe),
        Augmenter(pixels, recipe.augment, *image_statistics(pixels), 0),
        labels,
        recipe,
        device,
        0,
    )


def _fastest(device: Device, call: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some calls, after one to warm up.

    With one thread on a CPU these are seconds of this process alone, whatever else runs here.
    """
    alone = device.torch.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    call()
    seconds = []
    for _ in range(REPEATS):
        device.synchronize()
        started = clock()
        call()
        device.synchronize()
        seconds.append(clock() - started)
    return min(seconds)


def _within_limits(study: Study, until: float | None) -> Iterator[Network]:
    rng = np.random.default_rng(study.seed)
    for _ in range(_PATIENCE):
        if until is not None and time.monotonic() > until:
            return
        knobs = draw_setting(study.space, study.start, rng)
        verdict, broken = judge_setting(study.space, knobs, study.constraints, "estimate")
        if verdict and not broken:
            yield verdict.analysis.network
