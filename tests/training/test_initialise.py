"""Where weights begin: each choice by what it does to a network's outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from archsearch.analysis.analyze import analyze
from archsearch.convert.to_module import Merge, Net, build
from archsearch.spec.models import Spec
from archsearch.training.augment import normalised, statistics
from archsearch.training.images import load
from archsearch.training.initialise import initialise, whitening
from archsearch.training.recipe import Init
from tests.strategies import HEADS, spec_of


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return load("shapes", None).train.pixels[:600]


def net_of(*layers: dict[str, object]) -> Net:
    raw = spec_of([list(layers)], HEADS[0], 32, 32)
    raw["input"]["channels"] = 3
    torch.manual_seed(0)
    return build(analyze(Spec.model_validate(raw)).network)


def first_conv(net: nn.Module) -> nn.Conv2d:
    return next(m for m in net.modules() if isinstance(m, nn.Conv2d))


def test_whitened_outputs_are_uncorrelated_and_of_one_size(pixels: torch.Tensor) -> None:
    mean, std = statistics(pixels)
    x_NCHW = normalised(pixels, mean, std)
    kernels = whitening(x_NCHW, (24, 3, 3, 3))
    y = F.conv2d(x_NCHW, kernels, stride=3).permute(0, 2, 3, 1).reshape(-1, 24).double()
    torch.testing.assert_close(y[:, :12], -y[:, 12:])
    moment = y[:, :12].T @ y[:, :12] / len(y)
    off_diagonal = moment - moment.diagonal().diag()
    assert off_diagonal.abs().max() < 0.01
    assert moment.diagonal()[0] == pytest.approx(1, abs=0.01)
    assert moment.diagonal().max() < 1.01  # what hardly varies stays small
    plain = torch.randn(24, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    z = F.conv2d(x_NCHW, plain, stride=3).permute(0, 2, 3, 1).reshape(-1, 24)
    assert torch.corrcoef(z.T).fill_diagonal_(0).abs().max() > 0.5  # else this shows nothing


def test_more_filters_than_components_repeat_them() -> None:
    x_NCHW = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    kernels = whitening(x_NCHW, (9, 1, 1, 2))
    assert kernels.shape == (9, 1, 1, 2)
    torch.testing.assert_close(kernels[0], kernels[2])
    torch.testing.assert_close(kernels[0], -kernels[5])


def test_only_what_the_recipe_names_is_set(pixels: torch.Tensor) -> None:
    layers: tuple[dict[str, object], ...] = (
        {"op": "conv", "out_channels": 16},
        {"op": "residual", "body": [{"op": "conv", "out_channels": 16}]},
    )
    mean, std = statistics(pixels)
    before = net_of(*layers).state_dict()
    changed = {}
    for name in Init.model_fields:
        net = net_of(*layers)
        initialise(net, Init.model_validate({name: True}), pixels, mean, std)
        changed[name] = {
            key for key, value in net.state_dict().items() if not torch.equal(value, before[key])
        }
    kernels = [key for key, value in before.items() if value.ndim == 4]
    assert changed["whiten"] == {kernels[0]}
    assert changed["dirac"] == set(kernels)
    assert len(changed["zero_residual"]) == 1
    untouched = net_of(*layers)
    initialise(untouched, Init(), pixels, mean, std)
    assert all(torch.equal(value, before[key]) for key, value in untouched.state_dict().items())


def test_dirac_passes_its_inputs_on(pixels: torch.Tensor) -> None:
    net = net_of({"op": "conv", "out_channels": 8, "norm": None, "activation": None})
    initialise(net, Init(dirac=True), pixels, *statistics(pixels))
    conv = first_conv(net)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(conv(x)[:, :3], x)


def test_a_residual_begins_as_its_shortcut(pixels: torch.Tensor) -> None:
    body = [
        {"op": "conv", "out_channels": 8},
        {"op": "conv", "out_channels": 8, "activation": None},
    ]
    net = net_of({"op": "conv", "out_channels": 8}, {"op": "residual", "body": body})
    initialise(net, Init(zero_residual=True), pixels, *statistics(pixels))
    merge = next(m for m in net.modules() if isinstance(m, Merge))
    x = torch.randn(2, 8, 9, 9)
    torch.testing.assert_close(merge(x), x)


def test_a_sum_of_equal_branches_is_not_a_residual(pixels: torch.Tensor) -> None:
    branch = [{"op": "conv", "out_channels": 8}]
    net = net_of(
        {"op": "conv", "out_channels": 8},
        {"op": "parallel", "branches": [branch, branch], "merge": "add"},
    )
    before = {key: value.clone() for key, value in net.state_dict().items()}
    initialise(net, Init(zero_residual=True), pixels, *statistics(pixels))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
