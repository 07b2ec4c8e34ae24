"""One network's training as a user sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from archsearch.common.console import stderr_console
from archsearch.training.records import Epoch


@contextmanager
def train_progress(title: str, epochs: int) -> Iterator[Callable[[Epoch], None]]:
    """Shows one network's training: a bar on a terminal, else a line an epoch."""
    console = stderr_console()
    console.print(Text(title), soft_wrap=True)
    if not console.is_terminal:
        yield lambda epoch: console.print(
            Text(f"epoch {epoch.epoch}/{epochs} {epoch_figures(epoch)}"), soft_wrap=True
        )
        return
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total} epochs", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=epochs)
        yield lambda epoch: progress.update(
            task, completed=epoch.epoch, description=epoch_figures(epoch)
        )


def epoch_figures(epoch: Epoch) -> str:
    """An epoch's figures on one line."""
    parts = [f"loss {epoch.train_loss:.3f}", f"train {epoch.train_acc:.2%}"]
    if epoch.val_acc is not None:
        parts.append(f"hold-out {epoch.val_acc:.2%}")
    parts += [f"{epoch.train_seconds:.1f} s", f"{epoch.images_per_second:,.0f} images/s"]
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """1:02:03."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
