"""What `ablations.py` can take apart: a network, its recipe, and what is changed about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STUDIES = Path(__file__).parent.parent / "studies"
RECORD = STUDIES / "records" / "time-to-85"
RULES = STUDIES / "rules"

Parts = dict[str, Any]
Change = Callable[[Parts, Parts], None]


@dataclass(frozen=True)
class AblationSet:
    """Changes to a network and its recipe, one at a time.

    Attributes:
        base: the variant that changes nothing.
        csv: where what was measured is kept.
    """

    spec: Parts
    recipe: Parts
    base: str
    variants: dict[str, Change]
    csv: Path


# Changes


def nothing(_spec: Parts, _recipe: Parts) -> None:
    """As it is."""


def recipe(**fields: object) -> Change:
    """Other recipe fields."""
    return lambda _spec, recipe: recipe.update(fields)


def init(**fields: bool) -> Change:
    """Other beginnings of the weights."""
    return lambda _spec, recipe: recipe.setdefault("init", {}).update(fields)


def augment(**fields: object) -> Change:
    """Other augmentation."""
    return lambda _spec, recipe: recipe.setdefault("augment", {}).update(fields)


def activation(kind: str) -> Change:
    """Another activation throughout."""

    def change(spec: Parts, _recipe: Parts) -> None:
        text = json.dumps(spec).replace('"silu"', f'"{kind}"')
        spec.update(json.loads(text))

    return change


def layers(*places: str, **fields: object) -> Change:
    """Other fields of the layers at `places` ("conv2.0": the first of the block conv2)."""

    def change(spec: Parts, _recipe: Parts) -> None:
        for place in places:
            block, number = place.split(".")
            of = {each["name"]: each for each in spec["blocks"]} | {"output": spec["output"]}
            layer = of[block]["layers"][int(number)]
            if fields.get("op", layer["op"]) != layer["op"]:
                layer.clear()
            layer.update(fields)

    return change


def everywhere(**fields: object) -> Change:
    """Other fields of every convolution."""

    def change(spec: Parts, _recipe: Parts) -> None:
        for block in spec["blocks"]:
            for layer in block["layers"]:
                layer.update(fields)

    return change


def on_logits(layer: Parts) -> Change:
    """One layer more, after the last."""
    return lambda spec, _recipe: spec["output"]["layers"].append(layer)


# The sets


def _read(path: Path) -> Parts:
    parts: Parts = json.loads(path.read_text(encoding="utf-8"))
    return parts


_FAST = AblationSet(
    spec=_read(RECORD / "spec.json"),
    recipe=_read(RECORD / "recipe.json") | {"epochs": 3},
    base="the record's recipe",
    variants={
        "the record's recipe": nothing,
        "sgd for every layer, not muon": recipe(optimizer="sgd"),
        "no whitening": init(whiten=False),
        "no identity-like start": init(dirac=False),
        "random flips, not alternating": augment(flip=0.5),
        "norms and biases at lr": recipe(norm_bias_lr=1.0),
        "no label smoothing": recipe(label_smoothing=0.0),
        "weights averaged, 0.98 a step": recipe(average={"decay": 0.98}),
        "batch 512": recipe(batch_size=512),
        "peak at half": recipe(schedule={"kind": "triangular", "peak": 0.5}),
        "one-cycle": recipe(schedule={"kind": "one_cycle"}),
        "relu": activation("relu"),
    },
    csv=STUDIES / "recipes" / "ablations.csv",
)

_STRIDED = ("conv1.0", "conv3.0")
_HEAVY: Parts = {
    "affine": {"p": 0.25},
    "color_jitter": {"p": 0.25},
    "grayscale": 0.15,
    "cutout": {"p": 0.5, "size": 16},
}

_RULES = AblationSet(
    spec=_read(RULES / "spec.json"),
    recipe=_read(RULES / "recipe.json"),
    base="the base",
    variants={
        "the base": nothing,
        "skipped-cells": layers("conv3.0", kernel_size=1),
        "padded-pointwise": layers("conv3.1", "conv4.0", pointwise_padding=1),
        "no-activation": layers(*_STRIDED, activation=None),
        "no-norm": layers(*_STRIDED, norm=None),
        "activation-on-logits": layers("output.1", activation="relu"),
        "norm-on-logits": on_logits({"op": "norm"}),
        "dropout-on-logits": layers("output.1", dropout=0.1),
        "depthwise-on-image": layers(
            "conv1.0", op="depthwise_separable", out_channels=32, stride=2
        ),
        "bottleneck": layers("conv3.0", out_channels=16),
        "padding-kernel": layers("conv2.1", "conv4.0", stride=2),
        "max-pool-head": layers("output.0", op="max_pool", kernel_size=8),
        "dropout": everywhere(dropout=0.1),
        "stops-at-target": recipe(stop_at_target=True, target_accuracy=0.6),
        "flat-schedule": recipe(schedule={"kind": "constant"}),
        "decayed-norms": recipe(decay_norms_and_biases=True),
        "no-augmentation": augment(flip=0.0, translate=0),
        "heavy-augmentation": augment(**_HEAVY),
    },
    csv=RULES / "ablations.csv",
)

_LONGER = AblationSet(
    spec=_RULES.spec,
    recipe=_RULES.recipe | {"epochs": 8},
    base="the base",
    variants={
        "the base": nothing,
        "no-augmentation": augment(flip=0.0, translate=0),
    },
    csv=RULES / "ablations-8-epochs.csv",
)

SETS = {"recipe": _FAST, "rules": _RULES, "rules-longer": _LONGER}
