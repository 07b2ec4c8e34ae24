"""Random changes to training images: a whole batch at a time, on its device, each image its own."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from archsearch.training.recipe import Affine, Augment, ColorJitter, Cutout, Erasing

# N images, C channels, H W pixels

_LUMA = (0.2989, 0.587, 0.114)
"""ITU-R 601-2, as torchvision's rgb_to_grayscale."""


class Augmenter:
    """Turns indices into batches of changed, normalised images.

    Args:
        pixels_NHWC: all training images, uint8.
        augment: what to draw.
        mean, std: per channel, of pixels in [0, 1].
        seed: of which images alternating flips begin with.
    """

    def __init__(
        self, pixels_NHWC: Tensor, augment: Augment, mean: Tensor, std: Tensor, seed: int = 0
    ) -> None:
        self._augment = augment
        self._size = pixels_NHWC.shape[1:3]
        self._padded = _mirrored(pixels_NHWC, augment.translate)
        self._mean, self._std = mean.view(-1, 1, 1), std.view(-1, 1, 1)
        # Another stream than any epoch's, whose seeds are far apart.
        coins = torch.Generator().manual_seed(seed ^ 0x666C6970)
        self._first_flips = (torch.rand(len(pixels_NHWC), generator=coins) < 0.5).to(
            pixels_NHWC.device
        )

    def batch(self, index: Tensor, generator: torch.Generator, epoch: int = 0) -> Tensor:
        """Images `index` (N,), changed as drawn from `generator`: (N, C, H, W), channels last.

        Both are on the images' device; `epoch` (0, 1, ...) decides alternating flips.
        """
        augment = self._augment
        flips = self._flips(index, generator, epoch)
        x = _window(self._padded, self._size, index, augment.translate, flips, generator)
        x = x.permute(0, 3, 1, 2).to(torch.float32).div_(255)
        if augment.affine:
            x = affine(x, augment.affine, generator)
        if augment.color_jitter:
            x = color_jitter(x, augment.color_jitter, generator)
        if augment.grayscale:
            x = torch.where(_chosen(x, augment.grayscale, generator), _gray(x), x)
        if augment.cutout:
            x = cutout(x, augment.cutout, self._mean, generator)
        if augment.erasing:
            x = erasing(x, augment.erasing, self._mean, generator)
        return x.sub_(self._mean).div_(self._std)

    def _flips(self, index: Tensor, generator: torch.Generator, epoch: int) -> Tensor | None:
        if self._augment.flip == "alternating":
            return self._first_flips[index] ^ bool(epoch % 2)
        if not self._augment.flip:
            return None
        return _drawn(len(index), generator) < self._augment.flip


def shrunk(x_NCHW: Tensor, side: int) -> Tensor:
    """Images at most `side` pixels high and wide, bilinear; smaller ones as they are."""
    size = [min(side, length) for length in x_NCHW.shape[2:]]
    if size == list(x_NCHW.shape[2:]):
        return x_NCHW
    return F.interpolate(x_NCHW, size=size, mode="bilinear", align_corners=False)


def normalised(pixels_NHWC: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images as a network takes them, (N, C, H, W), channels last."""
    x = pixels_NHWC.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    return x.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


def statistics(pixels_NHWC: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of pixels in [0, 1]."""
    channels = (channel.flatten().long() for channel in pixels_NHWC.unbind(-1))
    counts = torch.stack([channel.bincount(minlength=256) for channel in channels]).double()
    level = torch.arange(256, device=counts.device).double() / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = (share * level).sum(1)
    std = (share * (level - mean[:, None]) ** 2).sum(1).sqrt().clamp_min(1e-6)
    return mean.float(), std.float()


def _mirrored(pixels_NHWC: Tensor, border: int) -> Tensor:
    if not border:
        return pixels_NHWC
    # 0 1 2 3 with a border of 2: 2 1 0 1 2 3 2 1; it goes on mirroring where that is short.
    rows, columns = (
        torch.from_numpy(np.pad(np.arange(size), border, mode="reflect")).to(pixels_NHWC.device)
        for size in pixels_NHWC.shape[1:3]
    )
    return pixels_NHWC[:, rows][:, :, columns].contiguous()


def _window(
    padded_NHWC: Tensor,
    size: tuple[int, int] | torch.Size,
    index: Tensor,
    translate: int,
    flips: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """Each image moved and perhaps flipped: one gather, uint8 (N, H, W, C)."""
    count, device = len(index), padded_NHWC.device
    rows, columns = (torch.arange(side, device=device).expand(count, side) for side in size)
    if translate:
        shifts = torch.randint(
            0, 2 * translate + 1, (2, count, 1), generator=generator, device=device
        )
        rows, columns = rows + shifts[0], columns + shifts[1]
    if flips is not None:
        columns = torch.where(flips[:, None], columns.flip(1), columns)
    return padded_NHWC[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def affine(x_NCHW: Tensor, config: Affine, generator: torch.Generator) -> Tensor:
    """Shift, scale and rotate by chance; bilinear, the border is mirrored."""
    n, _, h, w = x_NCHW.shape
    turn = _even(n, math.radians(config.rotate), generator)
    scale = 1 + _even(n, config.scale, generator)
    shift = _even(2 * n, 2 * config.shift, generator).view(n, 2)
    cos, sin = turn.cos() / scale, turn.sin() / scale
    # The grid's axes run over [-1, 1] on both sides, so a map that is not square needs its ratio.
    theta = [cos, -sin * h / w, shift[:, 0], sin * w / h, cos, shift[:, 1]]
    grid = F.affine_grid(
        torch.stack(theta, 1).view(n, 2, 3), list(x_NCHW.shape), align_corners=False
    )
    moved = F.grid_sample(x_NCHW, grid, padding_mode="reflection", align_corners=False)
    return torch.where(_chosen(x_NCHW, config.p, generator), moved, x_NCHW)


def color_jitter(x_NCHW: Tensor, config: ColorJitter, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, then hue, by chance."""
    n = len(x_NCHW)

    def factor(limit: float) -> Tensor:
        return (1 + _even(n, limit, generator)).view(n, 1, 1, 1)

    y = (x_NCHW * factor(config.brightness)).clamp(0, 1)
    middle = _gray(y).mean((1, 2, 3), keepdim=True)
    y = middle.lerp(y, factor(config.contrast)).clamp(0, 1)
    y = _gray(y).lerp(y, factor(config.saturation)).clamp(0, 1)
    y = _turn_hue(y, _even(n, config.hue, generator))
    return torch.where(_chosen(x_NCHW, config.p, generator), y, x_NCHW)


def cutout(x_NCHW: Tensor, config: Cutout, fill: Tensor, generator: torch.Generator) -> Tensor:
    """Fill one square an image, by chance (DeVries and Taylor 2017, arXiv 1708.04552)."""
    size = torch.full((len(x_NCHW),), config.size, device=x_NCHW.device)
    return _rectangles_filled(x_NCHW, size, size, config.p, fill, generator)


def erasing(x_NCHW: Tensor, config: Erasing, fill: Tensor, generator: torch.Generator) -> Tensor:
    """Fill one rectangle an image, by chance (Zhong et al. 2017, arXiv 1708.04896).

    Where torchvision draws again until a rectangle fits, its long side is cut to the image here.
    """
    n, _, h, w = x_NCHW.shape
    least, most = config.area
    area = h * w * (least + (most - least) * _drawn(n, generator))
    low, high = (math.log(ratio) for ratio in config.ratio)
    ratio = (low + (high - low) * _drawn(n, generator)).exp()
    height, width = ((area * r).sqrt().round().long() for r in (ratio, 1 / ratio))
    return _rectangles_filled(x_NCHW, height, width, config.p, fill, generator)


def _rectangles_filled(
    x_NCHW: Tensor,
    height: Tensor,
    width: Tensor,
    p: float,
    fill: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """By chance, each image with a rectangle of its own size (N,), cut to the image, in it."""
    chosen = _chosen(x_NCHW, p, generator)
    inside = []
    for side, sizes in zip(x_NCHW.shape[2:], (height, width), strict=True):
        size = sizes.clamp(max=side)
        first = (_drawn(len(x_NCHW), generator) * (side - size + 1)).long()
        at = torch.arange(side, device=x_NCHW.device)
        inside.append((at >= first[:, None]) & (at < (first + size)[:, None]))
    mask = chosen & inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(mask, fill, x_NCHW)


def _drawn(count: int, generator: torch.Generator) -> Tensor:
    """(count,) numbers between 0 and 1, on the generator's device: nothing waits for a copy."""
    return torch.rand(count, generator=generator, device=generator.device)


def _even(count: int, limit: float, generator: torch.Generator) -> Tensor:
    """(count,) numbers between -limit and +limit."""
    return (_drawn(count, generator) * 2 - 1) * limit


def _chosen(x_NCHW: Tensor, p: float, generator: torch.Generator) -> Tensor:
    return (_drawn(len(x_NCHW), generator) < p).view(-1, 1, 1, 1)


def _gray(x_NCHW: Tensor) -> Tensor:
    if x_NCHW.shape[1] != len(_LUMA):
        return x_NCHW.mean(1, keepdim=True).expand_as(x_NCHW)
    luma = torch.tensor(_LUMA, device=x_NCHW.device).view(-1, 1, 1)
    return (x_NCHW * luma).sum(1, keepdim=True).expand_as(x_NCHW)


def _turn_hue(x_NCHW: Tensor, turn: Tensor) -> Tensor:
    """Turn RGB about the grey axis by `turn` (N,), a share of a full circle."""
    if x_NCHW.shape[1] != len(_LUMA):
        return x_NCHW
    angle = turn * 2 * math.pi
    cos, sin = angle.cos(), angle.sin()
    # Rodrigues' formula about (1, 1, 1) / sqrt(3): a circulant matrix of these three.
    on = cos + (1 - cos) / 3
    ahead = (1 - cos) / 3 - sin / math.sqrt(3)
    behind = (1 - cos) / 3 + sin / math.sqrt(3)
    elements = [on, ahead, behind, behind, on, ahead, ahead, behind, on]
    matrix = torch.stack(elements, 1).view(-1, 3, 3)
    turned = torch.einsum("nij,njhw->nihw", matrix, x_NCHW).clamp(0, 1)
    return turned.contiguous(memory_format=torch.channels_last)
