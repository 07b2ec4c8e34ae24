"""How long a search will take, from a few networks trained for a few steps."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil

import numpy as np
import torch

from archsearch.convert.to_module import build
from archsearch.space.sampling import draw_setting
from archsearch.space.settings import judge_setting
from archsearch.spec.network import Network
from archsearch.study.config import Study
from archsearch.training.loop import train
from archsearch.training.recipe import Recipe
from archsearch.training.trainer import Trainer

NETWORKS = 3
_BATCHES = 8
_PATIENCE = 20_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of a whole search, nothing pruned.

    Attributes:
        images_per_second: of each network that was tried, in ranking.
        trials: seconds of all trials; `finals`: of the finalists.
    """

    images_per_second: tuple[float, ...]
    trials: float
    finals: float


def estimate(study: Study, trainer: Trainer, trials: int, workers: int) -> Estimate | None:
    """Time `NETWORKS` random networks within the limits; None where none was found.

    Each of the `workers` is taken to be as fast as this process alone.
    """
    networks = list(islice(_within_limits(study), NETWORKS))
    if not networks:
        return None
    ranking = [images_per_second(trainer, network, study.recipe) for network in networks]
    final = [images_per_second(trainer, network, study.final_recipe) for network in networks]
    ranked, all_images = len(trainer.fit), len(trainer.dataset.train)
    finalists = min(study.finalists, trials) * study.final_seeds
    return Estimate(
        tuple(ranking),
        ceil(trials / workers) * study.recipe.epochs * ranked * _mean_inverse(ranking),
        ceil(finalists / workers) * study.final_recipe.epochs * all_images * _mean_inverse(final),
    )


def images_per_second(trainer: Trainer, network: Network, recipe: Recipe) -> float:
    """How fast `network` trains: a few steps after a few to warm up."""
    count = min(len(trainer.fit), _BATCHES * recipe.batch_size)
    # Time does not depend on the rate; so small a one diverges nowhere.
    changes = {"epochs": 2, "stop_at_target": False, "small_first": None, "lr": 1e-6}
    epochs = train(
        build(network),
        recipe.model_copy(update=changes),
        trainer.fit[torch.arange(count)],
        None,
        device=trainer.device,
        seed=0,
        run="estimate",
    )
    return list(epochs)[-1].images_per_second


def _within_limits(study: Study) -> Iterator[Network]:
    rng = np.random.default_rng(study.seed)
    for _ in range(_PATIENCE):
        knobs = draw_setting(study.space, study.start, rng)
        verdict, broken = judge_setting(study.space, knobs, study.constraints, "estimate")
        if verdict and not broken:
            yield verdict.analysis.network


def _mean_inverse(speeds: list[float]) -> float:
    """Mean seconds an image."""
    return statistics.fmean(1 / speed for speed in speeds)
