"""Facts about the data sets that are known without loading them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

DatasetName = Literal["cifar10", "shapes"]
HOLDOUT_SHARE = 10
"""One training image in ten is held out."""
CLASSES = 10
"""Of each data set."""
SIDE = 32
"""Height and width of each image, in pixels."""


class DatasetFacts(NamedTuple):
    """How many images a data set has, and whether they are drawn by a program."""

    train: int
    test: int
    generated: bool

    @property
    def held_out(self) -> int:
        """Training images that are scored every epoch and not trained on."""
        return self.train // HOLDOUT_SHARE


DATASETS: Mapping[DatasetName, DatasetFacts] = {
    "cifar10": DatasetFacts(train=50_000, test=10_000, generated=False),
    "shapes": DatasetFacts(train=5_000, test=1_000, generated=True),
}
