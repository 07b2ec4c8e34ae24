"""Augmentations against torchvision's, and for what they must leave alone."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from archsearch.training import augment as a
from archsearch.training.recipe import Affine, Augment, ColorJitter, Cutout, Erasing

N, H, W = 6, 12, 16


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (N, H, W, 3), dtype=torch.uint8, generator=seeded())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(pixels: torch.Tensor, augment: Augment, seed: int = 0) -> torch.Tensor:
    """In [0, 1], not normalised."""
    plain = a.Augmenter(pixels, augment, torch.zeros(3), torch.ones(3))
    return plain.batch(torch.arange(len(pixels)), seeded(seed))


def as_float(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.permute(0, 3, 1, 2).float() / 255


def test_without_augmentation_images_are_as_they_are(pixels: torch.Tensor) -> None:
    torch.testing.assert_close(batch(pixels, Augment(flip=0, translate=0)), as_float(pixels))


def test_a_certain_flip_mirrors_left_and_right(pixels: torch.Tensor) -> None:
    found = batch(pixels, Augment(flip=1, translate=0))
    torch.testing.assert_close(found, as_float(pixels).flip(3))


def test_translation_is_a_window_of_the_mirrored_image(pixels: torch.Tensor) -> None:
    padded = tv.pad(as_float(pixels), [2, 2, 2, 2], padding_mode="reflect")
    windows = padded.unfold(2, H, 1).unfold(3, W, 1)  # (N, C, 5, 5, H, W)
    offsets = set()
    for seed in range(20):
        for i, image in enumerate(batch(pixels, Augment(flip=0, translate=2), seed)):
            hits = (windows[i] == image[:, None, None]).all((0, 3, 4)).nonzero().tolist()
            assert len(hits) == 1
            offsets.add(tuple(hits[0]))
    assert len(offsets) == 25


def test_batches_are_drawn_from_the_generator_alone(pixels: torch.Tensor) -> None:
    everything = Augment(
        affine=Affine(p=0.5), color_jitter=ColorJitter(p=0.5), grayscale=0.5, cutout=Cutout(p=0.5)
    )
    torch.testing.assert_close(batch(pixels, everything, 3), batch(pixels, everything, 3))
    assert not torch.equal(batch(pixels, everything, 3), batch(pixels, everything, 4))


def test_statistics_are_those_of_the_pixels(pixels: torch.Tensor) -> None:
    mean, std = a.statistics(pixels)
    x = as_float(pixels)
    torch.testing.assert_close(mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(std, x.std((0, 2, 3), correction=0))
    normal = a.normalised(pixels, mean, std)
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("degrees", [0.0, 20.0, -35.0])
def test_affine_turns_and_scales_like_torchvision(
    degrees: float, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter(
        [torch.full((N,), math.radians(degrees)), torch.full((N,), 0.1), torch.zeros(2 * N)]
    )
    monkeypatch.setattr(a, "_even", lambda *_: next(drawn))
    found = a.affine(as_float(pixels), Affine(p=1), seeded())
    wanted = tv.affine(
        as_float(pixels), -degrees, [0, 0], 1.1, [0.0], interpolation=InterpolationMode.BILINEAR
    )
    inside = tv.affine(torch.ones(N, 3, H, W), -degrees, [0, 0], 1.1, [0.0]) > 0
    middle = inside[:, :, 3:-3, 5:-5]
    torch.testing.assert_close(
        found[:, :, 3:-3, 5:-5][middle], wanted[:, :, 3:-3, 5:-5][middle], atol=1e-4, rtol=0
    )


def test_jitter_is_torchvisions_brightness_contrast_and_saturation(
    pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter(
        [torch.full((N,), 0.2), torch.full((N,), -0.3), torch.full((N,), 0.25), torch.zeros(N)]
    )
    monkeypatch.setattr(a, "_even", lambda *_: next(drawn))
    found = a.color_jitter(as_float(pixels), ColorJitter(p=1), seeded())
    wanted = tv.adjust_saturation(
        tv.adjust_contrast(tv.adjust_brightness(as_float(pixels), 1.2), 0.7), 1.25
    )
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)


def test_a_third_of_a_circle_of_hue_rotates_the_channels(pixels: torch.Tensor) -> None:
    x = as_float(pixels)
    found = a._turn_hue(x, torch.full((N,), 1 / 3))
    torch.testing.assert_close(found, x.roll(1, dims=1), atol=1e-5, rtol=0)


def test_cutout_fills_one_square_of_its_size(pixels: torch.Tensor) -> None:
    fill = torch.full((3, 1, 1), -1.0)
    found = a.cutout(as_float(pixels), Cutout(size=5), fill, seeded())
    for image, before in zip(found, as_float(pixels), strict=True):
        rows, columns = (image[0] == -1).nonzero(as_tuple=True)
        assert len(rows) == 25
        assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == 4
        kept = image != -1
        torch.testing.assert_close(image[kept], before[kept])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_probabilities_are_kept_to(share: float) -> None:
    many = torch.randint(0, 256, (2_000, 4, 4, 3), dtype=torch.uint8, generator=seeded())
    found = batch(many, Augment(flip=0, translate=0, grayscale=share))
    gray = (found.amax(1) - found.amin(1)).amax((1, 2)) < 1e-6
    assert gray.float().mean().item() == pytest.approx(share, abs=0.04)


def test_an_alternating_flip_mirrors_every_image_every_other_epoch(pixels: torch.Tensor) -> None:
    many = pixels.repeat(10, 1, 1, 1)
    augment = Augment(flip="alternating", translate=0)
    images = a.Augmenter(many, augment, torch.zeros(3), torch.ones(3), seed=3)
    index = torch.randperm(len(many), generator=seeded())
    epochs = [images.batch(index, seeded(epoch), epoch) for epoch in range(4)]
    torch.testing.assert_close(epochs[0], epochs[1].flip(3))
    torch.testing.assert_close(epochs[0], epochs[2])
    torch.testing.assert_close(epochs[1], epochs[3])
    flipped = (epochs[0] != as_float(many[index])).flatten(1).any(1)
    assert 0.2 < flipped.float().mean() < 0.8


def test_erasing_fills_one_rectangle_of_the_wanted_area_and_ratio() -> None:
    side, count = 40, 200
    pixels = torch.full((count, side, side, 3), 255, dtype=torch.uint8)
    config = Erasing(p=0.5, area=(0.05, 0.2), ratio=(0.5, 2.0))
    plain = a.Augmenter(
        pixels, Augment(flip=0, translate=0, erasing=config), torch.zeros(3), torch.ones(3)
    )
    erased = plain.batch(torch.arange(count), seeded())[:, 0] == 0
    hit = erased.flatten(1).any(1)
    assert 0.35 < hit.float().mean() < 0.65
    places = set()
    for mask in erased[hit]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        h, w = len(rows), len(columns)
        assert mask.sum() == h * w == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        # Sides are whole pixels, so both may be off by half a pixel a side.
        assert 0.05 * 0.85 < h * w / side**2 < 0.2 * 1.15
        assert 0.5 * 0.85 < h / w < 2.0 * 1.18
        places.add((int(rows[0]), int(columns[0])))
    assert len(places) > 50


def test_a_rectangle_larger_than_the_image_is_cut_to_it() -> None:
    pixels = torch.full((3, 8, 4, 3), 255, dtype=torch.uint8)
    config = Erasing(p=1.0, area=(1.0, 1.0), ratio=(1.0, 1.0))
    augment = Augment(flip=0, translate=0, erasing=config)
    assert (
        a.Augmenter(pixels, augment, torch.zeros(3), torch.ones(3))
        .batch(torch.arange(3), seeded())
        .sum()
        == 3 * 3 * (8 - 6) * 4
    )  # sqrt(32) rounds to 6 rows; all 4 columns


def test_shrunk_images_are_means_of_their_pixels(pixels: torch.Tensor) -> None:
    x_NCHW = as_float(pixels)  # 12 x 16
    half = x_NCHW[..., 2:14].reshape(N, 3, 6, 2, 6, 2).mean((3, 5))
    torch.testing.assert_close(a.shrunk(x_NCHW[..., 2:14], 6), half)
    assert a.shrunk(x_NCHW, 12).shape == (N, 3, 12, 12)
    assert a.shrunk(x_NCHW, 16) is x_NCHW
