"""Optimizers: which parameters they take, and what one step does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from archsearch.training.optimizers import Muon, add_l1, make_optimizers, orthogonalised, set_share
from archsearch.training.recipe import Recipe


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(16),
        nn.Conv2d(16, 16, 3, groups=16), nn.BatchNorm2d(16),
        nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8),
        nn.Flatten(), nn.LazyLinear(10),
    )  # fmt: skip


def trained(recipe: Recipe) -> tuple[nn.Sequential, list[torch.optim.Optimizer]]:
    model = net()
    model(torch.randn(4, 3, 13, 13)).logsumexp(1).sum().backward()
    return model, make_optimizers(model, recipe)


@pytest.mark.parametrize("shape", [(8, 27), (64, 16), (16, 16)])
def test_orthogonalised_keeps_directions_and_levels_sizes(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalised(matrix)
    assert found.shape == shape
    levels = (u.T @ found @ v.T).diagonal()
    assert levels.max() < 1.3
    assert levels.median() > 0.6
    torch.testing.assert_close(u @ (u.T @ found @ v.T) @ v, found, atol=1e-4, rtol=1e-4)
    assert (u.T @ found @ v.T - levels.diag()).abs().max() < 1e-4


def test_muon_takes_mixing_kernels_with_a_norm_behind_and_sgd_the_rest() -> None:
    model, optimizers = trained(Recipe(optimizer="muon", momentum=0.0))
    sgd, muon = optimizers
    assert isinstance(muon, Muon)
    held = [p for group in muon.param_groups for p in group["params"]]
    assert [id(p) for p in held] == [id(model[3].weight), id(model[10].weight)]
    rest = {id(p) for group in sgd.param_groups for p in group["params"]}
    assert rest == {id(p) for p in model.parameters()} - {id(p) for p in held}


def test_a_muon_step_is_relative_to_a_kernel_of_fixed_size() -> None:
    model, optimizers = trained(Recipe(optimizer="muon", muon_lr=0.25, muon_momentum=0.0))
    set_share(optimizers, 0.5)
    kernel = model[3].weight
    assert isinstance(kernel, torch.Tensor)
    assert kernel.grad is not None
    unit = kernel.detach() * 4 / kernel.detach().norm()  # sqrt(16 output channels)
    wanted = unit - 0.125 * orthogonalised(kernel.grad.flatten(1)).view_as(kernel)
    optimizers[1].step()
    torch.testing.assert_close(kernel.detach(), wanted)


def test_the_rest_of_a_muon_step_is_torchs_sgd() -> None:
    recipe = Recipe(optimizer="muon", lr=0.3, weight_decay=0.01, norm_bias_lr=4.0)
    model, optimizers = trained(recipe)
    twin = net()
    twin(torch.zeros(1, 3, 13, 13))
    twin.load_state_dict(model.state_dict())
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        theirs.grad = mine.grad
    set_share(optimizers, 1.0)
    optimizers[0].step()
    matrix, vector = (list(twin[13].parameters()), [twin[1].weight])
    torch.optim.SGD(
        [
            {"params": matrix[:1], "weight_decay": 0.01},
            {"params": vector, "lr": 1.2},
            {"params": matrix[1:], "lr": 1.2},
        ],
        lr=0.3, momentum=0.9, nesterov=True,
    ).step()  # fmt: skip
    torch.testing.assert_close(model[13].weight, twin[13].weight)
    torch.testing.assert_close(model[13].bias, twin[13].bias)
    torch.testing.assert_close(model[1].weight, twin[1].weight)


def test_l1_is_the_gradient_of_the_absolute_values() -> None:
    model, _ = trained(Recipe())
    params = list(model.parameters())
    before = [p.grad.clone() for p in params if p.grad is not None]
    add_l1(model, Recipe(l1=0.01))
    penalty = torch.stack([p.abs().sum() for p in params if p.ndim > 1]).sum() * 0.01
    wanted = torch.autograd.grad(penalty, params, materialize_grads=True)
    for old, p, extra in zip(before, params, wanted, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, old + extra)
