"""Networks that others have counted: published figures, and torchvision's modules run by torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.spec.models import Spec
from tests.analysis.known_networks import (
    MOBILENET_WIDTHS_AND_STRIDES,
    alexnet,
    basic,
    bottleneck,
    bottleneck_of_the_paper,
    mobilenet,
    resnet,
    vgg16,
)


def mobilenet_by_hand() -> nn.Module:
    """MobileNet v1 without a line of ours."""

    def unit(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]

    layers, width = unit(3, 32, 3, 2, 1), 32
    for outputs, stride in MOBILENET_WIDTHS_AND_STRIDES:
        layers += unit(width, width, 3, stride, width) + unit(width, outputs, 1, 1, 1)
        width = outputs
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000)
    )  # fmt: skip


SPECS = {
    "alexnet": alexnet(),
    "vgg16": vgg16(),
    "resnet18": resnet("resnet18", basic, 2, 2, 2, 2),
    "resnet50": resnet("resnet50", bottleneck, 3, 4, 6, 3),
    "mobilenet": mobilenet(),
    "resnet50 of the paper": resnet("resnet50", bottleneck_of_the_paper, 3, 4, 6, 3),
    "resnet101 of the paper": resnet("resnet101", bottleneck_of_the_paper, 3, 4, 23, 3),
}
MODULES: dict[str, Callable[[], nn.Module]] = {
    "alexnet": models.alexnet,
    "vgg16": models.vgg16,
    "resnet18": models.resnet18,
    "resnet50": models.resnet50,
    "mobilenet": mobilenet_by_hand,
}


@cache
def analyzed(name: str) -> Analysis:
    return analyze(Spec.model_validate(SPECS[name]))


@pytest.mark.parametrize(
    ("name", "params", "receptive_field"),
    [
        # Parameters: torchvision's. Receptive fields: Araujo, Norris, Sim, Distill 2019, but for
        # those that depend on where torchvision strides.
        ("alexnet", 61_100_840, 195),
        ("vgg16", 138_357_544, 212),
        ("resnet18", 11_689_512, 435),
        ("resnet50", 25_557_032, 427),
        ("resnet50 of the paper", 25_557_032, 483),
        ("resnet101 of the paper", 44_549_160, 1027),
        ("mobilenet", 4_231_976, 315),
    ],
)
def test_published_figures(name: str, params: int, receptive_field: int) -> None:
    analysis = analyzed(name)
    assert analysis.params == params
    assert analysis.receptive_field == (receptive_field, receptive_field)


@pytest.mark.parametrize("name", list(MODULES))
def test_params_shapes_and_macs_are_what_torch_counts(name: str) -> None:
    shapes: list[tuple[int, ...]] = []
    macs: list[int] = []

    def record(module: nn.Module, _args: Any, out: torch.Tensor) -> None:
        weight = module.get_parameter("weight")
        shapes.append(tuple(out.shape[1:]))
        macs.append(out[0].numel() // weight.shape[0] * weight.numel())

    with torch.device("meta"):  # shapes without numbers: a VGG-16 takes half a gigabyte
        net = MODULES[name]().eval()
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(record)
        net(torch.empty(1, 3, 224, 224))
    analysis = analyzed(name)
    rows = [row for row in analysis.rows if row.macs]
    assert [row.after.shape for row in rows] == shapes
    assert [row.macs for row in rows] == macs
    assert analysis.macs == sum(macs)
    assert analysis.params == sum(p.numel() for p in net.parameters())
