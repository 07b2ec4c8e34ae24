"""An evaluation as pictures (matplotlib, PNG)."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from archsearch.common import atomic_files
from archsearch.common.interval import wilson
from archsearch.training.evaluation.evaluate import BINS, Evaluation
from archsearch.training.records import Epoch

# Okabe and Ito's colours, which the colour-blind can tell apart
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"
PALE_BLUE, INK, GREY, PALE_GREY = "#CFE3F0", "#222222", "#6B6B6B", "#D9D9D9"
DPI = 150
GRID_SIDE = 5
"""Of the mistakes' grid, in images."""
_REDS = LinearSegmentedColormap.from_list("reds", ["#FFFFFF", "#F6C9A6", RED])
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # it comes with matplotlib
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a network may be called "$x"
    "text.usetex": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": PALE_GREY,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is drawn.

    Attributes:
        caption: which run and machine, two lines; small, below every picture.
        split: which images, in words.
        pixels: of all evaluated images, uint8 (N, H, W, C).
        target: the accuracy that was aimed at.
    """

    evaluation: Evaluation
    classes: Sequence[str]
    history: Sequence[Epoch]
    target: float | None
    pixels: NDArray[np.uint8]
    split: str
    caption: str


def write_charts(folder: Path, subject: Subject) -> tuple[str, ...]:
    """Draw every picture into `folder`; the names of the files.

    Raises:
        ArchsearchError: a file cannot be written.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a name in another script
        for name, draw in CHARTS.items():
            figure = draw(subject)
            figure.text(0.01, 0.008, subject.caption, fontsize=6.5, color=GREY, va="bottom")
            with atomic_files.replacing(folder / name) as temporary:
                figure.savefig(temporary, format="png", dpi=DPI)
    return tuple(CHARTS)


def _confusion(subject: Subject) -> Figure:
    classes = list(subject.classes)
    counts = np.array(subject.evaluation.confusion)
    right = np.eye(len(classes), dtype=bool)
    wrong = np.where(right, 0, counts)
    top = max(1, int(wrong.max()))
    figure, axes = _figure(7.2, 7.0)
    axes.imshow(np.ma.masked_where(right, wrong), cmap=_REDS, vmin=0, vmax=top)
    blues = LinearSegmentedColormap.from_list("blue", [PALE_BLUE, PALE_BLUE])
    axes.imshow(np.ma.masked_where(~right, counts), cmap=blues)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            dark = row != column and count > 0.75 * top
            axes.text(
                column, row, f"{count:,}", ha="center", va="center", fontsize=8.5,
                color="white" if dark else INK, weight="bold" if row == column else "normal",
            )  # fmt: skip
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="taken for", ylabel="true class")
    axes.set_title(f"What is taken for what ({subject.split}): images")
    axes.set_xticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    return figure


def _calibration(subject: Subject) -> Figure:
    evaluation = subject.evaluation
    bins = [b for b in evaluation.calibration if b.accuracy is not None]
    figure = _sheet(6.4, 6.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 0.92 / BINS
    middles = [(b.low + b.high) / 2 for b in bins]
    shares = [b.accuracy or 0.0 for b in bins]
    upper.bar(middles, shares, width, color=PALE_BLUE, label="accuracy, and its 95% interval")
    for middle, share, found in zip(middles, shares, bins, strict=True):
        interval = wilson(round(share * found.images), found.images)
        upper.plot((middle, middle), interval, color=BLUE, lw=1.4, solid_capstyle="butt")
    upper.plot(middles, shares, "o", color=BLUE, ms=4, clip_on=False)
    upper.plot([0, 1], [0, 1], color=RED, lw=1.4, ls="--", label="accuracy = confidence")
    upper.legend(loc="upper left")
    upper.set(ylim=(0, 1), ylabel="share of the bin's images that is right")
    upper.set_title(
        f"Is it as right as it is sure? ({subject.split})\n"
        f"expected calibration error {evaluation.calibration_error:.2%}"
    )
    lower.bar(middles, [b.images / evaluation.images for b in bins], width, color=BLUE)
    lower.set(xlim=(0, 1), xlabel="confidence: the probability of the answer")
    lower.set_ylabel("share of images")
    for axes in (upper, lower):
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
        axes.grid(axis="y")
    lower.xaxis.set_major_formatter(PercentFormatter(1, 0))
    return figure


def _curves(subject: Subject) -> Figure:
    history = subject.history
    figure = _sheet(7.2, 7.4)
    loss, accuracy, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.4))
    mark = "o" if len(history) < 3 else None
    epochs = [epoch.epoch for epoch in history]

    def line(axes: Axes, label: str, color: str, value: Callable[[Epoch], float | None]) -> None:
        values = [np.nan if (v := value(epoch)) is None else v for epoch in history]
        if np.isfinite(values).any():
            axes.plot(epochs, values, color=color, label=label, marker=mark, ms=4)

    trained = "training (augmented images)"
    line(loss, trained, BLUE, lambda epoch: epoch.train_loss)
    line(loss, "hold-out", GREEN, lambda epoch: epoch.val_loss)
    line(accuracy, trained, BLUE, lambda epoch: epoch.train_acc)
    line(accuracy, "hold-out", GREEN, lambda epoch: epoch.val_acc)
    line(rate, "", GREY, lambda epoch: epoch.lr)
    final = subject.evaluation.accuracy
    label = f"{subject.split}, at the end: {final:.2%}"
    accuracy.plot(epochs[-1], final, "D", color=RED, ms=6, label=label, clip_on=False, zorder=3)
    if subject.target is not None:
        label = f"target: {subject.target:.0%}"
        accuracy.axhline(subject.target, color=GREY, lw=1, ls="--", label=label)
    loss.set(ylabel="loss", title="Loss (training: with all that the recipe adds to it)")
    accuracy.set(ylabel="accuracy", title="Accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, 0))
    rate.set(ylabel="learning rate", xlabel="epoch")
    rate.set_ylim(bottom=0)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True))
    if loss.lines:  # none where no loss was a finite number
        loss.legend(loc="upper right")
    accuracy.legend(loc="lower right")
    for axes in (loss, accuracy, rate):
        axes.grid(axis="y")
    return figure


def _mistakes(subject: Subject) -> Figure:
    shown = subject.evaluation.mistakes[: GRID_SIDE**2]
    rows = max(1, math.ceil(len(shown) / GRID_SIDE))
    height = 0.8 + 1.8 * rows
    figure = _sheet(7.6, height)
    several = f"The {len(shown)} most confident mistakes"
    heading = {0: "No mistakes at all", 1: "The most confident mistake"}.get(len(shown), several)
    figure.suptitle(
        f"{heading} ({subject.split})\n",
        x=0.01, ha="left", fontsize=11, weight="bold",
    )  # fmt: skip
    if shown:
        told = "orange: what it was taken for, and how surely; below: what it is"
        figure.text(0.01, 1 - 0.372 / height, told, fontsize=9)
    all_axes = figure.subplots(rows, GRID_SIDE, squeeze=False).ravel()
    for axes in all_axes:
        axes.set_axis_off()
    for axes, mistake in zip(all_axes, shown, strict=False):
        pixels = subject.pixels[mistake.image]
        axes.imshow(pixels.squeeze(), cmap="gray", interpolation="nearest")
        axes.set_title(
            f"{subject.classes[mistake.predicted]} {mistake.confidence:.0%}",
            color=RED, fontsize=9, loc="center", pad=3,
        )  # fmt: skip
        axes.text(
            0.5, -0.04, f"is: {subject.classes[mistake.true]}",
            transform=axes.transAxes, ha="center", va="top", fontsize=9,
        )  # fmt: skip
    return figure


def _per_class(subject: Subject) -> Figure:
    evaluation = subject.evaluation
    scores = sorted(
        zip(subject.classes, evaluation.per_class, strict=True),
        key=lambda pair: pair[1].accuracy or 0.0,
    )
    figure, axes = _figure(6.4, 1.5 + 0.36 * len(scores))
    places = range(len(scores))
    shares = [score.accuracy or 0.0 for _, score in scores]
    axes.barh(places, shares, 0.72, color=PALE_BLUE)
    for place, (_, score) in zip(places, scores, strict=True):
        axes.plot(score.interval, (place, place), color=BLUE, lw=1.4, solid_capstyle="butt")
        told = "no images" if score.accuracy is None else f"{score.accuracy:.1%}"
        axes.text(0.012, place, told, va="center", fontsize=9, weight="bold")
    axes.plot(shares, places, "o", color=BLUE, ms=5)
    axes.axvline(evaluation.accuracy, color=RED, lw=1.2)
    axes.text(
        evaluation.accuracy, 1.01, f"all: {evaluation.accuracy:.2%}",
        transform=axes.get_xaxis_transform(), color=RED, ha="center", va="bottom", fontsize=9,
    )  # fmt: skip
    axes.set_yticks(places, [name for name, _ in scores])
    axes.set(xlim=(0, 1), xlabel="accuracy; the line is its 95% interval")
    axes.set_title(f"Accuracy by class ({subject.split})", pad=22)
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure


def _sheet(width: float, height: float) -> Figure:
    """An empty figure (inches) with room for a caption of two lines at its foot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    engine: Any = figure.get_layout_engine()
    foot = 0.32 / height
    engine.set(rect=(0, foot, 1, 1 - foot), w_pad=0.06, h_pad=0.06, hspace=0.07)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _sheet(width, height)
    return figure, figure.subplots()


CHARTS: dict[str, Callable[[Subject], Figure]] = {
    "confusion.png": _confusion,
    "calibration.png": _calibration,
    "curves.png": _curves,
    "mistakes.png": _mistakes,
    "per_class.png": _per_class,
}
