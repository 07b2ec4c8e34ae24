"""Pictures: their size, that they show what they should, and that odd input does not break them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from archsearch.training.evaluation import plots
from archsearch.training.evaluation.evaluate import evaluate
from archsearch.training.evaluation.plots import DPI, Subject, write_charts
from archsearch.training.records import Epoch

CLASSES = ("cat", "dog", "ship")
SIZES = {
    "confusion.png": (7.2, 7.0),
    "calibration.png": (6.4, 6.6),
    "curves.png": (7.2, 7.4),
    "mistakes.png": (7.6, 0.8 + 1.8 * 2),  # eight images in two rows of five
    "per_class.png": (6.4, 1.5 + 0.36 * len(CLASSES)),
}
ORANGE = (0xD5, 0x5E, 0x00)


def epoch(number: int, val_acc: float | None) -> Epoch:
    return Epoch(
        epoch=number, lr=0.1 / number, train_loss=2 / number, train_acc=1 - 1 / (number + 1),
        val_loss=None if val_acc is None else 1.5 / number, val_acc=val_acc, train_seconds=1,
        images_per_second=1,
    )  # fmt: skip


def subject(mistakes: int = 8, **changes: object) -> Subject:
    """Sixty images of three classes; the first `mistakes` are taken for the next class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    wanted = torch.where(torch.arange(60) < mistakes, (labels + 1) % 3, labels)
    logits = 3 * torch.nn.functional.one_hot(wanted, 3) + torch.rand(60, 3, generator=generator)
    pixels = np.zeros((60, 8, 8, 3), np.uint8)
    pixels[:, :, :, 1] = 255  # no chart is green but by these images
    made = Subject(
        evaluation=evaluate(logits, logits, labels),
        classes=CLASSES,
        history=[epoch(number, 0.3 * number) for number in (1, 2, 3)],
        target=0.85,
        pixels=pixels,
        split="test",
        caption="net; shapes test, 60 images\nCPU, fp32, seed 0",
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type] # of a test's choosing


def drawn(folder: Path, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(folder / name) as image:
        return np.asarray(image.convert("RGB"))


def count(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], color: tuple[int, ...]) -> int:
    return int((pixels == np.array(color)).all(-1).sum())


def test_every_chart_has_its_size_and_colours(tmp_path: Path) -> None:
    assert set(write_charts(tmp_path, subject())) == set(SIZES)
    for name, inches in SIZES.items():
        pixels = drawn(tmp_path, name)
        assert pixels.shape[:2] == tuple(int(side * DPI) for side in reversed(inches)), name
        assert len(np.unique(pixels @ np.array([1, 256, 65536]))) > 20, name
        assert count(pixels, ORANGE) > 50, name  # mistakes, the diagonal, test, words, the mean
        border = pixels[[0, -1]].reshape(-1, 3)
        assert (border == 255).all(), f"{name} runs over its edge"


def only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(plots, "CHARTS", {name: plots.CHARTS[name]})


@pytest.mark.parametrize("mistakes", [0, 3, 40])
def test_a_grid_shows_each_mistake_up_to_25(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistakes: int
) -> None:
    only(monkeypatch, "mistakes.png")
    write_charts(tmp_path, subject(mistakes))
    green = count(drawn(tmp_path, "mistakes.png"), (0, 255, 0))
    one = 205 * 205  # pixels of one image, about
    assert 0.85 * min(mistakes, 25) * one <= green <= 1.15 * min(mistakes, 25) * one


def test_odd_input_is_drawn(tmp_path: Path) -> None:
    odd = subject(
        60,
        history=[
            epoch(1, None).model_copy(update={"val_loss": float("nan"), "train_loss": float("inf")})
        ],
        target=None,
        caption="$\\frac{$ 网络 🦊\n$",
        classes=("$x", "$_^{$", "<b>&"),
        pixels=np.zeros((60, 8, 8, 1), np.uint8),
    )
    assert len(write_charts(tmp_path, odd)) == len(SIZES)


def test_curves_show_the_holdout_only_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "curves.png")
    green = (0x00, 0x9E, 0x73)
    write_charts(tmp_path, subject())
    assert count(drawn(tmp_path, "curves.png"), green) > 200
    write_charts(tmp_path, subject(history=[epoch(number, None) for number in (1, 2, 3)]))
    assert count(drawn(tmp_path, "curves.png"), green) == 0


def test_drawing_leaves_no_state_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "per_class.png")
    before = mpl.rcParams.copy()
    write_charts(tmp_path, subject())
    assert "matplotlib.pyplot" not in sys.modules
    assert mpl.rcParams.copy() == before


@pytest.mark.parametrize(("mistakes", "rows"), [(0, 1), (1, 1), (5, 1), (6, 2), (25, 5), (40, 5)])
def test_the_sheet_of_mistakes_is_as_tall_as_its_images_need(
    mistakes: int, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "mistakes.png")
    write_charts(tmp_path, subject(mistakes))
    pixels = drawn(tmp_path, "mistakes.png")
    assert pixels.shape[0] == int((0.8 + 1.8 * rows) * DPI)
    green = (pixels == np.array((0, 255, 0))).all(-1)  # the images
    assert green.any() == bool(mistakes)
    if mistakes:
        down = np.flatnonzero(green.any(1))
        assert down[-1] - down[0] > 0.55 * pixels.shape[0] * (1 if rows > 1 else 0.6)
