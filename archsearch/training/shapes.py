"""`shapes`: a small generated data set for demos, tests and machines without internet access.

Ten classes of one bright figure each, at random places, sizes, angles and colours on a dark,
noisy background. Generated in about a second, the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from archsearch.training.datasets import DATASETS, SIDE

_SEED = 20_260_101

Bytes = NDArray[np.uint8]
Reals = NDArray[np.float64]
Figure = Callable[[Reals, Reals], NDArray[np.bool_]]


def generate() -> tuple[Bytes, Bytes]:
    """Training and test images, (10, count, 32, 32, 3) each, one row a class."""
    rng = np.random.default_rng(_SEED)
    train, test = (count // len(CLASSES) for count in DATASETS["shapes"][:2])
    images = np.stack([_images(rng, figure, train + test) for figure in _FIGURES.values()])
    return images[:, :train], images[:, train:]


def _images(rng: np.random.Generator, figure: Figure, count: int) -> Bytes:
    """`count` images (count, 32, 32, 3) of one class."""
    grid = (np.arange(SIDE) - (SIDE - 1) / 2) / (SIDE / 2)
    y, x = np.meshgrid(grid, grid, indexing="ij")

    def draw(low: float, high: float, *shape: int) -> Reals:
        return rng.uniform(low, high, (count, *(shape or (1, 1))))

    x = x - draw(-0.25, 0.25)
    y = y - draw(-0.25, 0.25)
    angle, size = draw(-np.pi / 6, np.pi / 6), draw(0.4, 0.7)
    u = (x * np.cos(angle) + y * np.sin(angle)) / size
    v = (y * np.cos(angle) - x * np.sin(angle)) / size
    inside = figure(u, v)[..., None]
    back, front = draw(0, 0.5, 1, 1, 3), draw(0.5, 1, 1, 1, 3)
    noise = rng.normal(0, 0.15, (count, SIDE, SIDE, 3))
    pixels = np.where(inside, front, back) + noise
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _disc(u: Reals, v: Reals) -> NDArray[np.bool_]:
    return u * u + v * v < 1


def _square(u: Reals, v: Reals) -> NDArray[np.bool_]:
    return np.maximum(np.abs(u), np.abs(v)) < 0.85


_FIGURES: Mapping[str, Figure] = {
    "disc": _disc,
    "ring": lambda u, v: _disc(u, v) & (u * u + v * v > 0.4),
    "square": _square,
    "frame": lambda u, v: _square(u, v) & (np.maximum(np.abs(u), np.abs(v)) > 0.5),
    "triangle": lambda u, v: (v > -0.6) & (v < 1.2 - 1.9 * np.abs(u)),
    "cross": lambda u, v: _disc(u, v) & (np.minimum(np.abs(u), np.abs(v)) < 0.28),
    "bar": lambda u, v: (np.abs(u) < 1.1) & (np.abs(v) < 0.3),
    "two bars": lambda u, v: (np.abs(u) < 1) & (np.abs(np.abs(v) - 0.6) < 0.25),
    "half disc": lambda u, v: _disc(u * 0.9, v * 0.9) & (v > 0),
    "checks": lambda u, v: (np.maximum(np.abs(u), np.abs(v)) < 1) & (u * v > 0),
}
CLASSES = tuple(_FIGURES)
