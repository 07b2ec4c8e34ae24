"""Show one network's training: its epochs, how far the current one is, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from archsearch.common.console import stderr_console
from archsearch.training.loop import batches_per_epoch, target_reached
from archsearch.training.progress import LEAST_SHARE, bar, clock, epoch_figures
from archsearch.training.recipe import Recipe
from archsearch.training.records import Epoch

QUIET_S = 30.0
"""Off a terminal, progress within an epoch is a line at most this often."""
BAR_WIDTH = 24


@dataclass
class TrainingView:
    """What is shown of one training run. `step` must cost next to nothing: it runs every step.

    Attributes:
        recipe: how the network is trained.
        fit: how many images it is trained on.
        held_out: how many are scored after each epoch.
        show: prints a line.
        lively: whether lines between epochs are drawn by a live view instead.
        quiet_s: least seconds between two lines within an epoch.
        seconds: a clock.
        saved: epochs that an interrupted run has left.
        trained: epochs of this call.
        steps: batches trained on or scored since the last epoch ended.
    """

    recipe: Recipe
    fit: int
    held_out: int
    show: Callable[[str], None]
    lively: bool = False
    quiet_s: float = QUIET_S
    seconds: Callable[[], float] = time.monotonic
    saved: list[Epoch] = field(default_factory=list)
    trained: list[Epoch] = field(default_factory=list)
    steps: int = 0
    _began: float | None = None
    _spoke: float = 0.0

    @property
    def done(self) -> int:
        """How many epochs are trained and saved."""
        return len(self.saved) + len(self.trained)

    @property
    def share(self) -> float:
        """How much of the current epoch is done, from 0 to 1."""
        if self.over:
            return 1.0
        return min(1.0, self.steps / batches_per_epoch(self.recipe, self.fit, self.held_out))

    @property
    def over(self) -> bool:
        """Whether no epoch is left, so that the test images are being scored."""
        last = (*self.saved, *self.trained)[-1:]
        return self.done >= self.recipe.epochs or any(target_reached(self.recipe, e) for e in last)

    def step(self) -> None:
        """Count a batch that was trained on or scored."""
        now = self.seconds()
        if self._began is None:
            self._began = self._spoke = now
            if self.saved:
                self.show(resumed(self.saved, self.recipe.epochs))
        self.steps += 1
        if not self.lively and now - self._spoke >= self.quiet_s:
            self._say(self.now(now))

    def epoch(self, epoch: Epoch) -> None:
        """Take in an epoch that has ended, or that an interrupted run has left."""
        if self._began is None:
            self.saved.append(epoch)
            return
        self.trained.append(epoch)
        self.steps = 0
        self._say(f"epoch {epoch.epoch}/{self.recipe.epochs} {epoch_figures(epoch)}")

    def _say(self, line: str) -> None:
        self.show(line)
        self._spoke = self.seconds()

    def now(self, at: float) -> str:
        """Return what is in training and when it will be done."""
        if self._began is None:
            return "starting"
        if self.over:
            return "scoring the test images"
        told = f"epoch {self.done + 1}/{self.recipe.epochs} {self.share:.0%} done"
        left = self.seconds_left(at)
        return told if left is None else f"{told}, about {clock(left)} left"

    def seconds_left(self, at: float) -> float | None:
        """Estimate the seconds left from the pace of this call; None in its first moments."""
        epochs = len(self.trained) + self.share
        if self._began is None or epochs < LEAST_SHARE:
            return None
        return (at - self._began) / epochs * (self.recipe.epochs - self.done - self.share)

    def draw(self) -> Text:
        """Return the line of a live view."""
        at = self.seconds()
        elapsed = clock(at - self._began) if self._began is not None else "0:00"
        return Text(f"{bar(self.share, BAR_WIDTH)}  {self.now(at)}, {elapsed} elapsed")


@contextmanager
def train_progress(title: str, recipe: Recipe, fit: int, held_out: int) -> Iterator[TrainingView]:
    """Show a network's training: on a terminal with a live line, else in lines alone."""
    console = stderr_console()
    console.print(Text(title), soft_wrap=not console.is_terminal)
    view = TrainingView(recipe, fit, held_out, line_printer(console), console.is_terminal)
    if not console.is_terminal:
        yield view
        return
    with Live(console=console, get_renderable=view.draw, refresh_per_second=2, transient=True):
        yield view


def line_printer(console: Console) -> Callable[[str], None]:
    """Return a function that prints a line; a terminal's are wrapped between words."""
    return lambda line: console.print(Text(line), soft_wrap=not console.is_terminal)


def resumed(saved: list[Epoch], epochs: int) -> str:
    """Say what an interrupted run has left."""
    told = f"resuming after epoch {saved[-1].epoch} of {epochs}"
    scored = [epoch for epoch in saved if epoch.val_acc is not None]
    if scored:
        best = max(scored, key=lambda epoch: epoch.val_acc or 0.0)
        told += f": best hold-out so far {best.val_acc:.2%} (epoch {best.epoch})"
    return f"{told}, {clock(sum(epoch.train_seconds for epoch in saved))} of training"
