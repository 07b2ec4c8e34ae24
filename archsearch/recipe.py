"""How a network is trained: a record, and the learning rate that follows from it."""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from archsearch.spec import Flag, Frozen

Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]


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


class Augment(Frozen):
    """Changes to training images, drawn anew per image and epoch, in this order."""

    flip: Fraction = 0.5
    """Probability of a left-right flip."""
    translate: Annotated[int, Field(strict=True, ge=0, le=16)] = 2
    """Pixels, both ways and axes; the border is mirrored."""
    affine: Affine | None = None
    color_jitter: ColorJitter | None = None
    grayscale: Fraction = 0.0
    """Probability."""
    cutout: Cutout | None = None


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


class Constant(Frozen):
    """The same throughout."""

    kind: Literal["constant"]


Schedule = Annotated[Triangular | OneCycle | Cosine | Step | Constant, Field(discriminator="kind")]


class Recipe(Frozen):
    """Everything about a training run that is not the network, the data or the seed."""

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.1
    """The peak learning rate."""
    momentum: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.9
    """sgd alone."""
    nesterov: Flag = True
    """sgd with momentum alone."""
    weight_decay: NonNegative = 5e-4
    decay_norms_and_biases: Flag = False
    schedule: Schedule = Triangular(kind="triangular")
    epochs: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 12
    batch_size: Annotated[int, Field(strict=True, ge=1, le=65_536)] = 128
    label_smoothing: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.1
    clip_value: Positive | None = None
    """Each gradient element is clipped to this size."""
    clip_norm: Positive | None = None
    """All gradients together are scaled down to this norm."""
    augment: Augment = Augment()
    target_accuracy: Annotated[
        Fraction | None,
        BeforeValidator(
            lambda value: None if value is False else value,
            json_schema_input_type=Fraction | Literal[False] | None,
        ),
    ] = 0.85
    """null (in TOML: false): none."""
    stop_at_target: Flag = False
    """End at the first epoch whose hold-out accuracy reaches the target."""


def recipe_hash(recipe: Recipe) -> str:
    """The sha256 of a recipe's canonical JSON."""
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate of optimizer step `step` (0, 1, ...) of a run of `recipe.epochs` epochs."""
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
        case Constant():
            return recipe.lr


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
