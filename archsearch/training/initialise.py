"""How a network's weights begin, where a recipe does not leave that to PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archsearch.convert.to_module import Merge
from archsearch.training.augment import normalised
from archsearch.training.recipe import Init

WHITENING_IMAGES = 5_000
_LEAST_VARIANCE = 5e-4
"""Added to every component's variance: what hardly varies is noise and is not blown up."""


@torch.no_grad()
def initialise(
    model: nn.Module, init: Init, pixels_NHWC: Tensor, mean: Tensor, std: Tensor
) -> None:
    """Set the weights that `init` names; the others stay as they are.

    `pixels_NHWC` are images to whiten by, uint8, on the model's device; `mean` and `std` are per
    channel, of pixels in [0, 1].
    """
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if init.dirac:
        for conv in convs:
            _pass_on(conv)
    if init.whiten and convs and convs[0].groups == 1:
        x_NCHW = normalised(pixels_NHWC[:WHITENING_IMAGES], mean, std)
        convs[0].weight.copy_(whitening(x_NCHW, convs[0].weight.shape))
    if init.zero_residual:
        for merge in model.modules():
            if isinstance(merge, Merge) and merge.residual:
                _end_at_zero(merge.branches[0])


def whitening(x_NCHW: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Kernels (O, C, H, W) whose outputs on the patches of `x_NCHW` are uncorrelated.

    The first half are principal components, largest first, divided by their standard deviation;
    the second half are their negatives, so that a rectifier keeps both signs. More filters than
    twice the components repeat them.
    """
    out_channels, in_channels, h, w = shape
    # Every third patch along each axis: neighbours say the same.
    patches = x_NCHW.unfold(2, h, 3).unfold(3, w, 3)  # (N, C, rows, columns, h, w)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, in_channels * h * w).double()
    variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (components / (variances + _LEAST_VARIANCE).sqrt()).T.flip(0)
    order = torch.arange(-(-out_channels // 2), device=filters.device) % len(filters)
    half = filters[order]
    both = torch.cat([half, -half])[:out_channels]
    return both.reshape(out_channels, in_channels, h, w).to(x_NCHW.dtype)


def _pass_on(conv: nn.Conv2d) -> None:
    """Let the first filters of a full convolution with a centre repeat its inputs."""
    centred = all(size % 2 and size > 1 for size in conv.kernel_size)
    if conv.groups == 1 and centred and conv.out_channels >= conv.in_channels:
        nn.init.dirac_(conv.weight[: conv.in_channels])


def _end_at_zero(body: nn.Module) -> None:
    norms = [m for m in body.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)]
    if norms:
        nn.init.zeros_(norms[-1].weight)
