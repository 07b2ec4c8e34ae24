"""The recipe's optimizers: what they update, at which share of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn, optim

from archsearch.training.recipe import Recipe

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 3


class Muon(optim.Optimizer):
    """Momentum whose every update of a kernel is made orthogonal, and kernels of a fixed size.

    A norm follows the kernels, so their size carries no meaning: each is held at the Frobenius
    norm sqrt(out_channels), and `lr` is the size of a step relative to it. Source: Jordan et al.
    2024, "Muon: An optimizer for hidden layers in neural networks", as cifar10-airbench has it.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # none of ours has one
        """One update of every kernel (O, I, H, W) that has a gradient."""
        del closure
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                state = self.state[kernel]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(kernel)
                momentum: Tensor = state["momentum_buffer"]
                momentum.mul_(group["momentum"]).add_(kernel.grad)
                wanted = kernel.grad.add(momentum, alpha=group["momentum"])
                # Columns in the order of memory, channels last, so that nothing is copied.
                rows = wanted.permute(0, 2, 3, 1)
                update = orthogonalised(rows.flatten(1)).view(rows.shape).permute(0, 3, 1, 2)
                kernel.mul_(len(kernel) ** 0.5 / kernel.norm().clamp_min(1e-7))
                kernel.add_(update, alpha=-group["lr"])


def orthogonalised(matrix: Tensor) -> Tensor:
    """About U V^T of a matrix U S V^T, by Newton-Schulz iteration: singular values near 1."""
    a, b, c = _NEWTON_SCHULZ
    x = matrix / (matrix.norm() + 1e-7)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    result: Tensor = x.T if tall else x
    return result


STATE_KEYS: dict[type[optim.Optimizer], frozenset[str]] = {
    optim.SGD: frozenset(),
    optim.Adam: frozenset({"step", "exp_avg", "exp_avg_sq"}),
    optim.AdamW: frozenset({"step", "exp_avg", "exp_avg_sq"}),
    Muon: frozenset({"momentum_buffer"}),
}
"""What each optimizer of `make_optimizers` needs of a parameter that it has updated before."""


def make_optimizers(model: nn.Module, recipe: Recipe) -> list[optim.Optimizer]:
    """The recipe's optimizers, one or two; each group's `peak_lr` is its own learning rate.

    Weight decay falls on matrices and kernels alone unless the recipe says so.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    kernels = _muon_kernels(model) if recipe.optimizer == "muon" else []
    taken = {id(p) for p in kernels}
    weights = [p for p in trained if p.ndim > 1 and id(p) not in taken]
    vectors = [p for p in trained if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay, "peak_lr": recipe.lr},
        {
            "params": vectors,
            "weight_decay": recipe.weight_decay if recipe.decay_norms_and_biases else 0.0,
            "peak_lr": recipe.lr * recipe.norm_bias_lr,
        },
    ]
    if recipe.optimizer == "adam":
        return [optim.Adam(groups, lr=recipe.lr)]
    if recipe.optimizer == "adamw":
        return [optim.AdamW(groups, lr=recipe.lr)]
    nesterov = recipe.nesterov and recipe.momentum > 0
    sgd = optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)
    if not kernels:
        return [sgd]
    held = [{"params": kernels, "peak_lr": recipe.muon_lr}]
    return [sgd, Muon(held, lr=recipe.muon_lr, momentum=recipe.muon_momentum)]


def _muon_kernels(model: nn.Module) -> list[Tensor]:
    """Kernels that mix channels and have a norm behind them, but for the first convolution's."""
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm)
    modules = [m for m in model.modules() if isinstance(m, kinds)]
    return [
        conv.weight
        for conv, following in pairwise(modules[1:])
        if isinstance(conv, nn.Conv2d)
        and conv.groups < conv.in_channels
        and isinstance(following, nn.BatchNorm2d | nn.GroupNorm)
    ]


def set_share(optimizers: Iterable[optim.Optimizer], share: float) -> None:
    """Every group's learning rate from the next step on, as a share of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share


def add_l1(model: nn.Module, recipe: Recipe) -> None:
    """Add the gradient of the recipe's l1 penalty: its sign, on kernels and matrices."""
    if not recipe.l1:
        return
    for p in model.parameters():
        if p.ndim > 1 and p.grad is not None:
            p.grad.add_(p.detach().sign(), alpha=recipe.l1)


def clip(model: nn.Module, recipe: Recipe) -> None:
    """Clip gradients as the recipe says."""
    if recipe.clip_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), recipe.clip_value)
    if recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
