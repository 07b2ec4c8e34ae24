"""A trained network on images: accuracy, confusion, calibration and its most confident mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archsearch.common.interval import Interval, wilson
from archsearch.convert.to_module import build
from archsearch.errors import ArchsearchError, CheckpointError, one_line
from archsearch.training.augment import normalised
from archsearch.training.checkpoint import difference, trained_weights
from archsearch.training.device import Device
from archsearch.training.evaluation.records import Bin
from archsearch.training.evaluation.run_folder import RunFolder
from archsearch.training.images import Images
from archsearch.training.loop import EVAL_BATCH
from archsearch.training.run_paths import RunPaths

# N images, K classes

BINS = 15
"""Of confidence, as in Guo et al. 2017, arXiv 1706.04599."""


class Mistake(NamedTuple):
    """An image that was taken for another class; `image` is its place in its data set, from 0."""

    image: int
    true: int
    predicted: int
    confidence: float


class ClassScore(NamedTuple):
    """How the images of one class did; no accuracy where there are no images."""

    images: int
    right: int
    accuracy: float | None
    interval: Interval


class Confusion(NamedTuple):
    """How many images of one class were taken for another."""

    true: int
    predicted: int
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is known of a network's answers.

    Attributes:
        accuracy: single view: each image as it is, once.
        accuracy_with_flip: of the mean of the probabilities of an image and its mirror image.
        loss: mean cross entropy, single view.
        confusion: images by true class (row) and predicted class (column).
        mistakes: all of them, the most confident first.
    """

    accuracy: float
    accuracy_with_flip: float
    loss: float
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[Bin, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def images(self) -> int:
        """How many were evaluated."""
        return sum(map(sum, self.confusion))

    @property
    def interval(self) -> Interval:
        """In which the accuracy on many more such images is likely to be."""
        return wilson(self.images - len(self.mistakes), self.images)

    @property
    def mean_confidence(self) -> float:
        """Over all images."""
        return sum(b.images * (b.confidence or 0.0) for b in self.calibration) / self.images

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: |accuracy - confidence|, its mean over images."""
        gaps = (
            b.images * abs(b.accuracy - b.confidence)
            for b in self.calibration
            if b.accuracy is not None and b.confidence is not None
        )
        return sum(gaps) / self.images

    @property
    def per_class(self) -> tuple[ClassScore, ...]:
        """In the order of the classes."""
        scores = []
        for label, row in enumerate(self.confusion):
            count, right = sum(row), row[label]
            share = right / count if count else None
            scores.append(ClassScore(count, right, share, wilson(right, count)))
        return tuple(scores)

    @property
    def confusions(self) -> tuple[Confusion, ...]:
        """The most frequent first."""
        found = [
            Confusion(true, predicted, count)
            for true, row in enumerate(self.confusion)
            for predicted, count in enumerate(row)
            if count and true != predicted
        ]
        return tuple(sorted(found, key=lambda c: (-c.images, c.true, c.predicted)))


def evaluate(logits_NK: Tensor, mirrored_NK: Tensor, labels_N: Tensor) -> Evaluation:
    """Judge a network's answers to images and to their mirror images."""
    classes = logits_NK.shape[1]
    predicted_N = logits_NK.argmax(1)  # of logits: two may differ and their softmax not
    probabilities_NK = logits_NK.double().softmax(1)
    confidence_N = probabilities_NK.gather(1, predicted_N[:, None])[:, 0]
    both_NK = (probabilities_NK + mirrored_NK.double().softmax(1)) / 2
    right_N = predicted_N == labels_N
    cells = (labels_N * classes + predicted_N).bincount(minlength=classes**2)
    return Evaluation(
        accuracy=int(right_N.sum()) / len(labels_N),
        accuracy_with_flip=int((both_NK.argmax(1) == labels_N).sum()) / len(labels_N),
        loss=F.cross_entropy(logits_NK.double(), labels_N).item(),
        confusion=tuple(tuple(row) for row in cells.view(classes, classes).tolist()),
        calibration=calibration(confidence_N, right_N),
        mistakes=_mistakes(labels_N, predicted_N, confidence_N),
    )


def calibration(confidence_N: Tensor, right_N: Tensor) -> tuple[Bin, ...]:
    """Confidence and accuracy in `BINS` bins of equal width."""
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    bin_N = torch.bucketize(confidence_N.double(), edges[1:-1])
    counts = bin_N.bincount(minlength=BINS).tolist()
    confidences = bin_N.bincount(confidence_N.double(), minlength=BINS).tolist()
    rights = bin_N.bincount(right_N.double(), minlength=BINS).tolist()
    return tuple(
        Bin(
            low=i / BINS,
            high=(i + 1) / BINS,
            images=count,
            confidence=confidences[i] / count if count else None,
            accuracy=rights[i] / count if count else None,
        )
        for i, count in enumerate(counts)
    )


def _mistakes(labels_N: Tensor, predicted_N: Tensor, confidence_N: Tensor) -> tuple[Mistake, ...]:
    wrong = (predicted_N != labels_N).nonzero()[:, 0]
    wrong = wrong[confidence_N[wrong].argsort(descending=True, stable=True)]
    columns = (wrong, labels_N[wrong], predicted_N[wrong], confidence_N[wrong])
    return tuple(Mistake(*row) for row in zip(*(c.tolist() for c in columns), strict=True))


def answers(
    model: nn.Module, images: Images, mean: Tensor, std: Tensor, device: Device
) -> tuple[Tensor, Tensor]:
    """Logits (N, K) of images and of their mirror images, fp32, on the CPU.

    The batches are those of `loop.evaluate`, so that the accuracy is the same to the image.

    Raises:
        ArchsearchError: they are not numbers, or there is not enough memory.
    """
    model.to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload] # stub
    model.eval()
    mean, std = mean.to(device.torch), std.to(device.torch)
    views: tuple[list[Tensor], list[Tensor]] = ([], [])
    try:
        with torch.inference_mode():
            for start in range(0, len(images), EVAL_BATCH):
                pixels = images.pixels[start : start + EVAL_BATCH].to(device.torch)
                for view, seen in zip(views, (pixels, pixels.flip(2)), strict=True):
                    with device.autocast():
                        logits_NK = model(normalised(seen, mean, std))
                    view.append(logits_NK.float().cpu())
    except (RuntimeError, MemoryError) as error:
        why = str(error).splitlines()[0] if str(error) else "out of memory"
        raise ArchsearchError(f"torch cannot run this network here: {why}") from error
    plain_NK, mirrored_NK = (torch.cat(view) for view in views)
    bad = int((~(plain_NK.isfinite() & mirrored_NK.isfinite()).all(1)).sum())
    if bad:
        raise ArchsearchError(
            f"the network's answers to {bad:,} of {len(images):,} images are not finite numbers: "
            "training left the numbers; train again with a lower lr or with clipped gradients"
        )
    return plain_NK, mirrored_NK


def trained(run: RunFolder) -> nn.Module:
    """The network as training left it: with averaged weights where the recipe averages.

    Raises:
        CheckpointError: the weights do not fit the network.
    """
    with torch.random.fork_rng(devices=[]):
        model = build(run.analysis.network)
    weights = trained_weights(run.checkpoint.state)
    if why := difference(weights, model.state_dict()):
        raise CheckpointError(
            f"{one_line(str(RunPaths(run.path).checkpoint))}: its weights do not fit the network "
            f"in spec.json ({why}): it is damaged, or of another version of archsearch; train "
            "again in another folder"
        )
    model.load_state_dict(weights)
    return model
