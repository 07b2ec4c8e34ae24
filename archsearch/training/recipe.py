"""How a network is trained: a record, and the learning rate that follows from it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from archsearch.spec.models import Flag, Frozen, null_if_false

Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]
Ratio = Annotated[float, Field(strict=True, ge=0.01, le=100, allow_inf_nan=False)]


class Affine(Frozen):
    """Shift, scale and rotate, each drawn evenly from -limit to +limit."""

    p: Fraction = 0.25
    shift: Fraction = 0.1
    """Of the image's side."""
    scale: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.1
    rotate: Annotated[float, Field(strict=True, ge=0, le=180, allow_inf_nan=False)] = 15.0
    """Degrees."""


class ColorJitter(Frozen):
    """torchvision's ColorJitter, each factor drawn per image."""

    p: Fraction = 0.25
    brightness: Fraction = 0.3
    contrast: Fraction = 0.3
    saturation: Fraction = 0.3
    hue: Annotated[float, Field(strict=True, ge=0, le=0.5, allow_inf_nan=False)] = 0.2


class Cutout(Frozen):
    """One square of the mean colour, wholly inside the image."""

    p: Fraction = 1.0
    size: Annotated[int, Field(strict=True, ge=1, le=1024)] = 8


class Erasing(Frozen):
    """torchvision's RandomErasing: one rectangle, wholly inside the image, of the mean colour."""

    p: Fraction = 0.5
    area: tuple[Fraction, Fraction] = (0.02, 0.33)
    """Least and greatest share of the image."""
    ratio: tuple[Ratio, Ratio] = (0.3, 3.3)
    """Least and greatest height over width."""


class Augment(Frozen):
    """Changes to training images, drawn anew per image and epoch, in this order."""

    flip: Fraction | Literal["alternating"] = 0.5
    """Probability of a left-right flip; "alternating": an image that was not flipped in one epoch
    is in the next (Jordan 2024, arXiv 2404.00498)."""
    translate: Annotated[int, Field(strict=True, ge=0, le=16)] = 2
    """Pixels, both ways and axes; the border is mirrored."""
    affine: Affine | None = None
    color_jitter: ColorJitter | None = None
    grayscale: Fraction = 0.0
    """Probability."""
    cutout: Cutout | None = None
    erasing: Erasing | None = None


class SmallFirst(Frozen):
    """Training begins on smaller images: fewer sums a step, and the same network."""

    side: Annotated[int, Field(strict=True, ge=8, le=1024)] = 24
    """Pixels; where images are no larger than that, nothing changes."""
    until: Fraction = 0.4
    """For this share of all steps."""


class Init(Frozen):
    """How weights begin, where it is not as PyTorch begins them."""

    whiten: Flag = False
    """The first convolution's filters are the principal components of training patches, each
    scaled to variance one, and their negatives (Jordan 2024, arXiv 2404.00498)."""
    dirac: Flag = False
    """A full convolution's first filters pass its inputs on as they are."""
    zero_residual: Flag = False
    """The last norm of a residual body begins at zero, so that the sum begins as its shortcut
    (Goyal et al. 2017, arXiv 1706.02677)."""


class Average(Frozen):
    """An exponential moving average of the weights is what is scored and kept."""

    decay: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.99
    """A step."""


class Triangular(Frozen):
    """Up in a line to the peak, down in a line to zero."""

    kind: Literal["triangular"]
    peak: Fraction = 0.2
    """Where the peak is, as a share of all steps."""


class OneCycle(Frozen):
    """torch's OneCycleLR with cosine phases; momentum stays as it is."""

    kind: Literal["one_cycle"]
    peak: Fraction = 0.3
    start_factor: Positive = 25.0
    """The peak over the first learning rate."""
    final_factor: Positive = 1e4
    """The first learning rate over the last."""


class Cosine(Frozen):
    """Down to zero along a half cosine."""

    kind: Literal["cosine"]


class Step(Frozen):
    """Times `gamma` at each milestone."""

    kind: Literal["step"]
    milestones: tuple[Annotated[int, Field(strict=True, ge=1)], ...]
    """Epochs."""
    gamma: Positive = 0.1


class Plateau(Frozen):
    """torch's ReduceLROnPlateau: times `factor` when the loss no longer falls.

    The loss is the hold-out's, or the training loss where nothing is held out.
    """

    kind: Literal["plateau"]
    factor: Fraction = 0.1
    patience: Annotated[int, Field(strict=True, ge=0)] = 10
    """Epochs in a row without a better loss that are borne."""
    threshold: Fraction = 1e-4
    """A better loss is less than the best one by this share of it."""


class Constant(Frozen):
    """The same throughout."""

    kind: Literal["constant"]


Schedule = Annotated[
    Triangular | OneCycle | Cosine | Step | Plateau | Constant, Field(discriminator="kind")
]


class Recipe(Frozen):
    """Everything about a training run that is not the network, the data or the seed.

    Example:
        >>> import archsearch as asr
        >>> recipe = asr.Recipe(epochs=3, batch_size=64)
        >>> recipe.optimizer, recipe.lr
        ('sgd', 0.1)
    """

    other_keys: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("learning_rate", "max_lr"), "lr"),
        **dict.fromkeys(("wd", "l2"), "weight_decay"),
        **dict.fromkeys(("scheduler", "lr_schedule", "lr_scheduler"), "schedule"),
        "bs": "batch_size",
    }
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = "sgd"
    """muon: orthogonal updates for the kernels of full convolutions, sgd for the rest."""
    lr: Positive = 0.1
    """The peak learning rate."""
    norm_bias_lr: Positive = 1.0
    """Norms and biases learn at this multiple of `lr`."""
    muon_lr: Positive = 0.08
    """muon alone: the peak learning rate of kernels, relative to their size."""
    muon_momentum: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.6
    """muon alone: of kernels."""
    momentum: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.9
    """sgd alone, and what muon leaves to it."""
    nesterov: Flag = True
    """sgd with momentum alone."""
    weight_decay: NonNegative = 5e-4
    decay_norms_and_biases: Flag = False
    schedule: Schedule = Triangular(kind="triangular")
    epochs: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 12
    batch_size: Annotated[int, Field(strict=True, ge=1, le=65_536)] = 128
    label_smoothing: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.1
    l1: NonNegative = 0.0
    """Times the sum of all kernels' and matrices' absolute values is added to the loss."""
    clip_value: Positive | None = None
    """Each gradient element is clipped to this size."""
    clip_norm: Positive | None = None
    """All gradients together are scaled down to this norm."""
    augment: Augment = Augment()
    small_first: SmallFirst | None = None
    init: Init = Init()
    average: Average | None = None
    target_accuracy: Annotated[
        Fraction | None,
        BeforeValidator(null_if_false, json_schema_input_type=Fraction | Literal[False] | None),
    ] = 0.85
    """null (in TOML: false): none."""
    stop_at_target: Flag = False
    """End at the first epoch whose hold-out accuracy reaches the target."""


def recipe_hash(recipe: Recipe) -> str:
    """The sha256 of a recipe's canonical JSON: what is not default, so a new field moves none."""
    return hashlib.sha256(recipe.model_dump_json(exclude_defaults=True).encode()).hexdigest()


def learning_rate(
    recipe: Recipe, step: int, steps_per_epoch: int, losses: Sequence[float] = ()
) -> float:
    """The rate of optimizer step `step` (0, 1, ...) of a run of `recipe.epochs` epochs.

    A plateau goes by `losses`, those of the epochs that are done.
    """
    total = recipe.epochs * steps_per_epoch
    match recipe.schedule:
        case Triangular(peak=peak):
            up, down = max(1.0, peak * total), max(1.0, (1 - peak) * total)
            return recipe.lr * min(1.0, (step + 1) / up, (total - step) / down)
        case OneCycle(peak=peak, start_factor=start, final_factor=final):
            first, last = recipe.lr / start, recipe.lr / start / final
            turn = max(1.0, peak * total - 1)
            if step <= turn:
                return _half_cosine(first, recipe.lr, step / turn)
            return _half_cosine(recipe.lr, last, (step - turn) / max(1.0, total - 1 - turn))
        case Cosine():
            return _half_cosine(recipe.lr, 0.0, step / total)
        case Step(milestones=milestones, gamma=gamma):
            epoch = step // steps_per_epoch
            passed = sum(milestone <= epoch for milestone in milestones)
            return float(recipe.lr * gamma**passed)
        case Plateau():
            return recipe.lr * _plateaus(recipe.schedule, losses)
        case Constant():
            return recipe.lr


def _plateaus(schedule: Plateau, losses: Sequence[float]) -> float:
    """What is left of the first learning rate."""
    left, best, borne = 1.0, math.inf, 0
    for loss in losses:
        if loss < best * (1 - schedule.threshold):
            best, borne = loss, 0
        else:
            borne += 1
        if borne > schedule.patience:
            left, borne = left * schedule.factor, 0
    return left


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
