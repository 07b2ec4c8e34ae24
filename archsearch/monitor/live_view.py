"""What a user sees while networks train: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from archsearch.analysis.verdict_view import network_figures
from archsearch.common.console import stderr_console
from archsearch.common.machine import load
from archsearch.leaderboard.entry import Entry
from archsearch.search import events
from archsearch.space.counting.account import Accounting
from archsearch.spec.formatting import axes
from archsearch.training.progress import clock, epoch_figures

SHOWN_BEST = 5
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class InFlight:
    """A network in training; without a number, the reference."""

    number: int | None
    about: str
    epochs: int
    final: bool
    done: int = 0
    figures: str = ""

    @property
    def label(self) -> str:
        """What it is called."""
        if self.number is None:
            return "reference"
        return f"{'finalist' if self.final else 'trial'} {self.number}"


@dataclass
class SearchState:
    """What has happened so far, folded from events; drawing reads it, nothing else.

    Attributes:
        wanted: trials in all; `done` of them have ended.
        at_a_time: how many are trained side by side, once there is room for all.
        together: how many were at most.
        opened: whether it is known what earlier calls have left.
        curves: hold-out accuracy by epoch, by trial.
        ended_epochs: of each trial that ended while this state looked on.
    """

    wanted: int
    final_runs: int
    trial_epochs: int
    final_epochs: int
    at_a_time: int = 1
    together: int = 1
    opened: bool = False
    done: int = 0
    finals_done: int = 0
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    best: list[Entry] = field(default_factory=list)
    curves: dict[int, list[float]] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    trial_epoch_seconds: list[float] = field(default_factory=list)
    final_epoch_seconds: list[float] = field(default_factory=list)
    ended_epochs: list[int] = field(default_factory=list)

    def apply(self, event: events.Event) -> str | None:
        """Take an event in; the line that tells it, where it is worth one."""
        match event:
            case events.ExecutorReady(study=study, folder=folder, run=run, capacity=capacity):
                self.at_a_time = capacity
                where = f"{study} in {folder}, {run.dataset} on {run.device} ({run.precision})"
                return f"study {where}" + f", up to {capacity} at a time" * (capacity > 1)
            case events.StudyOpened(entries=entries, curves=curves):
                self.curves |= curves
                return self._opened(entries)
            case events.SpaceCounted(accounting=found):
                return _space_told(found)
            case events.Started():
                return self._started(event)
            case events.Trained():
                return self._trained(event)
            case events.TrialEnded():
                return self._ended(event)
            case events.FinalEnded() | events.ReferenceEnded():
                return self._retrained(event)
            case events.Rejection(rules=rules):
                self.rejected.update(rules)
                return None
            case events.DatabaseAway() | events.DatabaseBack():
                return outage_told(event)

    def _opened(self, entries: list[Entry]) -> str | None:
        self.opened = True
        self.best = best_of(entries)
        self.done = sum(entry.status != "failed" for entry in entries)
        self.finals_done = sum(entry.test_seeds for entry in entries)
        if not entries:
            return None
        told = "done" if self.done >= self.wanted else "going on"
        return f"{self.done} of {self.wanted} trials are trained already: {told}"

    def _started(self, event: events.Started) -> str:
        analysis, final = event.analysis, event.final_seed is not None
        about = network_figures(analysis)
        if final:
            about += f"; seed {event.final_seed}, all training images"
        at = self.in_flight[event.key] = InFlight(event.number, about, event.epochs, final)
        self.together = max(self.together, len(self.in_flight))
        if event.number is not None and not final:
            self.curves[event.number] = []
        return f"{at.label} {about}" + (" (again, from its checkpoint)" if event.again else "")

    def _trained(self, event: events.Trained) -> str:
        at, epoch = self.in_flight[event.key], event.epoch
        at.done, at.figures = epoch.epoch, epoch_figures(epoch)
        seconds = self.final_epoch_seconds if event.final else self.trial_epoch_seconds
        seconds.append(epoch.train_seconds)
        if at.number is not None and epoch.val_acc is not None:
            self.curves.setdefault(at.number, []).append(epoch.val_acc)
        return f"  {at.label} epoch {at.done}/{at.epochs} {at.figures}"

    def _ended(self, event: events.TrialEnded) -> str:
        entry = event.entry
        del self.in_flight[event.key]
        if entry.status != "failed":
            self.done += 1
            self.ended_epochs.append(entry.epochs)
        self.best = best_of(event.board)
        told = f"{entry.val_acc:.2%} of the hold-out" if entry.val_acc is not None else ""
        line = f"{self.done}/{self.wanted} trial {entry.trial} {entry.status} {told}".rstrip()
        if entry.reason:
            line += f" ({entry.reason})"
        if self.rejected:
            line += f"; {sum(self.rejected.values()):,} rule breaks rejected so far"
        left = self.seconds_left()
        return line + (f"; about {clock(left)} left" if left else "")

    def _retrained(self, event: events.FinalEnded | events.ReferenceEnded) -> str:
        del self.in_flight[event.key]
        if isinstance(event, events.ReferenceEnded):
            told = event.reason if event.val_acc is None else f"{event.val_acc:.2%} of the hold-out"
            return f"reference, the spec itself: {told}"
        self.finals_done += 1
        accuracy = event.test_acc
        told = event.reason if accuracy is None else f"{accuracy:.2%} of the test images"
        return f"finalist {event.number}: {told}"

    def seconds_left(self) -> float | None:
        """From measured epochs, as if as many were pruned as so far; None before the first."""
        if not self.trial_epoch_seconds and not self.final_epoch_seconds:
            return None
        trial = _mean(self.trial_epoch_seconds) or _mean(self.final_epoch_seconds)
        # All images are a ninth more than the ranking's.
        final = _mean(self.final_epoch_seconds) or trial * 10 / 9
        a_trial = _mean(self.ended_epochs) or self.trial_epochs
        trial_epochs = max(0, self.wanted - self.done) * a_trial
        final_epochs = max(0, self.final_runs - self.finals_done) * self.final_epochs
        for at in self.in_flight.values():
            if at.final:
                final_epochs -= at.done
            elif at.number is not None:
                trial_epochs -= min(at.done, a_trial)
        # The trials of a search keep all workers busy; so few finalists may not.
        together = min(self.at_a_time, self.together)
        side_by_side = min(together, max(1, self.final_runs - self.finals_done))
        trials = max(0.0, trial_epochs) * trial / together
        return trials + max(0.0, final_epochs) * final / side_by_side

    def draw(self, elapsed_s: float | None = None) -> RenderableType:
        """The live view."""
        top = Table.grid(padding=(0, 2))
        left = self.seconds_left()
        top.add_row(
            Text("trained", "bold"),
            ProgressBar(total=max(1, self.wanted), completed=self.done, width=30),
            Text(f"{self.done}/{self.wanted}"),
            Text(f"elapsed {clock(elapsed_s)}" if elapsed_s is not None else ""),
            Text(f"about {clock(left)} left" if left is not None else ""),
        )
        parts: list[RenderableType] = [top]
        if self.finals_done or any(at.final for at in self.in_flight.values()):
            parts.append(Text(f"finalists tested {self.finals_done}/{self.final_runs}"))
        if self.in_flight:
            parts.append(Text(f"in training; {load()}", "bold"))
            rows = Table.grid(padding=(0, 2))
            for at in self.in_flight.values():
                bar = ProgressBar(total=max(1, at.epochs), completed=at.done, width=12)
                label, epochs = Text(f"  {at.label}"), Text(f"{at.done}/{at.epochs}")
                rows.add_row(label, bar, epochs, Text(at.figures or at.about))
            parts.append(rows)
        if self.best:
            parts += [Text("best so far, hold-out", "bold"), self._best()]
        if self.rejected:
            told = ", ".join(f"{rule} {count:,}" for rule, count in self.rejected.most_common())
            parts.append(Text(f"rejected before training: {told}", "dim"))
        return Group(*parts)

    def _best(self) -> Table:
        best = Table.grid(padding=(0, 2))
        shown = [self.curves.get(entry.trial, []) for entry in self.best]
        heights = [value for curve in shown for value in curve]
        for entry, curve in zip(self.best, shown, strict=True):
            best.add_row(
                Text(f"  trial {entry.trial}"),
                Text(entry.spec_hash[:12]),
                Text(f"{entry.val_acc or 0:.2%}", "green"),
                Text(sparkline(curve, min(heights, default=0), max(heights, default=1))),
                Text(f"{entry.params:,} params"),
                Text(f"RF {axes(entry.receptive_field)}"),
                Text(f"{entry.macs / 1e6:.1f}M MACs"),
            )
        return best


def _space_told(found: Accounting) -> str:
    kept = ", ".join(f"{rule} {share.fraction:.0%}" for rule, share in found.alone.items())
    return (
        f"space: {found.feasible.fraction:.3%} of {found.settings:,} settings are "
        f"within the limits (kept alone: {kept or 'there are none'})"
    )


def outage_told(event: events.DatabaseAway | events.DatabaseBack) -> str:
    """Why nothing happens for a while, and that it is over."""
    if isinstance(event, events.DatabaseBack):
        return f"going on: the database is back after {event.away_s:.0f} s; nothing is lost"
    waits = clock(event.patience_s)
    return f"paused: the database is away ({event.why}); waiting up to {waits}"


def best_of(board: Sequence[Entry]) -> list[Entry]:
    """What is shown of a leaderboard while it grows; it is in the order of the objective."""
    return [entry for entry in board if entry.status == "trained"][:SHOWN_BEST]


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """Values between `low` and `high` as bars of eight heights."""
    span = (high - low) or 1.0
    return "".join(_BARS[min(7, max(0, int(8 * (value - low) / span)))] for value in values)


@contextmanager
def search_progress(state: SearchState) -> Iterator[ProgressView]:
    """A live view on a terminal, else timestamped lines."""
    console = stderr_console()
    started = time.monotonic()
    view = ProgressView(state, console)
    if not console.is_terminal:
        yield view
        return
    with Live(
        console=console,
        get_renderable=lambda: state.draw(time.monotonic() - started),
        refresh_per_second=2,
    ):
        yield view


@dataclass
class ProgressView:
    """Shows a search: above a live view only what outlasts it, else every line with its time."""

    state: SearchState
    console: Console

    def event(self, event: events.Event) -> None:
        """Something happened."""
        line = self.state.apply(event)
        drawn = self.console.is_terminal and isinstance(event, events.Started | events.Trained)
        if line and not drawn:
            self._print(line)

    def warn(self, message: str) -> None:
        """Something that the user should know."""
        if self.console.is_terminal:
            self.console.print(Text(message, "yellow"))
        else:
            self._print(message)

    def _print(self, line: str) -> None:
        stamp = "" if self.console.is_terminal else f"{time.strftime('%H:%M:%S')} "
        self.console.print(Text(f"{stamp}{line}"), soft_wrap=True)
        sys.stderr.flush()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
