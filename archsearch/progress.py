"""What a user sees while networks train: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from archsearch.events import (
    Event,
    FinalEnded,
    Rejected,
    SpaceCounted,
    Started,
    StudyOpened,
    Trained,
    TrialEnded,
)
from archsearch.results import Entry, Epoch, axes

SHOWN_BEST = 5


def stderr_console() -> Console:
    """Everything but data goes to standard error."""
    return Console(stderr=True, highlight=False)


@dataclass
class SearchState:
    """What has happened so far, folded from events; drawing reads it, nothing else."""

    wanted: int
    final_runs: int
    done: int = 0
    in_flight: str = ""
    epochs: int = 0
    epoch: Epoch | None = None
    best: list[Entry] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    finals_done: int = 0
    trial_epoch_seconds: list[float] = field(default_factory=list)
    final_epoch_seconds: list[float] = field(default_factory=list)
    trial_epochs: int = 0
    final_epochs: int = 0

    def apply(self, event: Event) -> str | None:
        """Take an event in; the line that tells it, where it is worth one."""
        match event:
            case StudyOpened(entries=entries):
                return self._opened(entries)
            case SpaceCounted(accounting=found):
                kept = ", ".join(
                    f"{rule} {share.fraction:.0%}" for rule, share in found.alone.items()
                )
                return (
                    f"space: {found.feasible.fraction:.3%} of {found.settings:,} settings are "
                    f"within the limits (kept alone: {kept or 'there are none'})"
                )
            case Started():
                return self._started(event)
            case Trained(epoch=epoch, final=final):
                self.epoch = epoch
                seconds = self.final_epoch_seconds if final else self.trial_epoch_seconds
                seconds.append(epoch.train_seconds)
                return f"  epoch {epoch.epoch}/{self.epochs} {epoch_figures(epoch)}"
            case TrialEnded(entry=entry):
                return self._ended(entry)
            case FinalEnded(number=number, test_acc=test_acc, reason=reason):
                self.finals_done += 1
                self.in_flight, self.epoch = "", None
                told = reason if test_acc is None else f"{test_acc:.2%} of the test images"
                return f"finalist {number}: {told}"
            case Rejected(rejection=rejection):
                self.rejected.update(rejection.rules)
                return None

    def _opened(self, entries: list[Entry]) -> str | None:
        trained = [entry for entry in entries if entry.status == "trained"]
        self.best = trained[:SHOWN_BEST]
        self.done = sum(entry.status != "failed" for entry in entries)
        if not entries:
            return None
        told = "done" if self.done >= self.wanted else "going on"
        return f"{self.done} of {self.wanted} trials are trained already: {told}"

    def _started(self, event: Started) -> str:
        analysis = event.analysis
        final = event.final_seed is not None
        self.in_flight = (
            f"{'finalist' if final else 'trial'} {event.number} {analysis.spec_hash[:12]}: "
            f"{analysis.params:,} params, RF {axes(analysis.receptive_field)}, "
            f"{analysis.macs / 1e6:.1f}M MACs"
        )
        if final:
            self.in_flight += f"; seed {event.final_seed}, all training images"
        self.epochs, self.epoch = event.epochs, None
        return self.in_flight + (" (again, from its checkpoint)" if event.again else "")

    def _ended(self, entry: Entry) -> str:
        self.in_flight, self.epoch = "", None
        if entry.status != "failed":
            self.done += 1
        if entry.status == "trained":
            ranked = sorted([*self.best, entry], key=lambda e: -(e.val_acc or 0))
            self.best = ranked[:SHOWN_BEST]
        told = f"{entry.val_acc:.2%} of the hold-out" if entry.val_acc is not None else ""
        line = f"{self.done}/{self.wanted} trial {entry.trial} {entry.status} {told}".rstrip()
        if entry.reason:
            line += f" ({entry.reason})"
        if self.rejected:
            line += f"; {sum(self.rejected.values()):,} rule breaks rejected so far"
        return line

    def seconds_left(self) -> float | None:
        """From measured epochs, as if nothing more were pruned; None before the first."""
        if not self.trial_epoch_seconds and not self.final_epoch_seconds:
            return None
        trial = _mean(self.trial_epoch_seconds) or _mean(self.final_epoch_seconds)
        # All images are a ninth more than the ranking's.
        final = _mean(self.final_epoch_seconds) or trial * 10 / 9
        trials_left = max(0, self.wanted - self.done) * self.trial_epochs
        finals_left = max(0, self.final_runs - self.finals_done) * self.final_epochs
        current = self.epoch.epoch if self.epoch else 0
        in_trial = self.done < self.wanted
        seconds = trials_left * trial + finals_left * final
        return max(0.0, seconds - current * (trial if in_trial else final))

    def draw(self, started: float) -> RenderableType:
        """The live view."""
        top = Table.grid(padding=(0, 2))
        left = self.seconds_left()
        top.add_row(
            Text("trained", "bold"),
            ProgressBar(total=max(1, self.wanted), completed=self.done, width=30),
            Text(f"{self.done}/{self.wanted}"),
            Text(f"elapsed {clock(time.monotonic() - started)}"),
            Text(f"about {clock(left)} left" if left is not None else ""),
        )
        parts: list[RenderableType] = [top]
        if self.in_flight:
            parts.append(Text(self.in_flight))
            done = self.epoch.epoch if self.epoch else 0
            row = Table.grid(padding=(0, 2))
            row.add_row(
                Text(f"  epoch {done}/{self.epochs}"),
                ProgressBar(total=max(1, self.epochs), completed=done, width=30),
                Text(epoch_figures(self.epoch) if self.epoch else ""),
            )
            parts.append(row)
        if self.best:
            best = Table.grid(padding=(0, 2))
            for entry in self.best:
                best.add_row(
                    Text(f"  trial {entry.trial}"),
                    Text(entry.spec_hash[:12]),
                    Text(f"{entry.val_acc or 0:.2%}", "green"),
                    Text(f"{entry.params:,} params"),
                    Text(f"RF {entry.receptive_field}"),
                )
            parts += [Text("best so far, hold-out", "bold"), best]
        if self.rejected:
            told = ", ".join(f"{rule} {count:,}" for rule, count in self.rejected.most_common())
            parts.append(Text(f"rejected before training: {told}", "dim"))
        return Group(*parts)


@contextmanager
def search_progress(state: SearchState) -> Iterator[ProgressView]:
    """A live view on a terminal, else timestamped lines."""
    console = stderr_console()
    started = time.monotonic()
    if not console.is_terminal:
        yield _Lines(state, console)
        return
    with Live(console=console, get_renderable=lambda: state.draw(started), refresh_per_second=2):
        yield _Quiet(state, console)


class ProgressView(Protocol):
    """Shows a search."""

    def event(self, event: Event) -> None:
        """Something happened."""
        ...

    def note(self, message: str) -> None:
        """Something that the user wants to know."""
        ...

    def warn(self, message: str) -> None:
        """Something that the user should know."""
        ...


@dataclass
class _Lines:
    state: SearchState
    console: Console

    def event(self, event: Event) -> None:
        line = self.state.apply(event)
        if line:
            self.note(line)

    def note(self, message: str) -> None:
        self.console.print(Text(f"{time.strftime('%H:%M:%S')} {message}"), soft_wrap=True)
        sys.stderr.flush()

    def warn(self, message: str) -> None:
        self.note(message)


@dataclass
class _Quiet:
    """Above the live view only what outlasts it."""

    state: SearchState
    console: Console

    def event(self, event: Event) -> None:
        line = self.state.apply(event)
        if line and isinstance(event, StudyOpened | SpaceCounted | TrialEnded | FinalEnded):
            self.note(line)

    def note(self, message: str) -> None:
        self.console.print(Text(message), soft_wrap=True)

    def warn(self, message: str) -> None:
        self.console.print(Text(message, "yellow"))


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


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
