"""What a user sees while networks train: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from archsearch.analysis.verdict_view import network_figures
from archsearch.common.console import rendered, stderr_console
from archsearch.common.machine import load
from archsearch.common.page import Grid, Line, Page
from archsearch.leaderboard.entry import Entry
from archsearch.search import events
from archsearch.space.counting.account import Accounting
from archsearch.spec.formatting import axes
from archsearch.training.progress import LEAST_SHARE, bar, clock, epoch_figures

SHOWN_BEST = 5
QUIET_S = 30.0
"""Off a terminal, a line says what is in training if nothing else was printed for so long."""
SHOWN_EPOCHS = 30
"""The last epochs of a curve."""
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
    began: float = field(default_factory=time.monotonic)

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
        rejected: how often each rule was broken; a proposal may break several.
        stopped: whether nobody is at work on what is left.
        opened: whether it is known what earlier calls have left.
        curves: hold-out accuracy by epoch, by trial.
        ended_epochs: of each trial that ended while this state looked on.
        doing: what happens before the first network is in training; empty after.
        epoch_share: how much of the current epoch of a network in training is done, from 0 to 1.
    """

    wanted: int
    final_runs: int
    trial_epochs: int
    final_epochs: int
    at_a_time: int = 1
    together: int = 1
    opened: bool = False
    stopped: bool = False
    done: int = 0
    finals_done: int = 0
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    best: list[Entry] = field(default_factory=list)
    curves: dict[int, list[float]] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    proposals_rejected: int = 0
    trial_epoch_seconds: list[float] = field(default_factory=list)
    final_epoch_seconds: list[float] = field(default_factory=list)
    ended_epochs: list[int] = field(default_factory=list)
    doing: str = ""
    epoch_share: Callable[[str], float] = lambda _key: 0.0

    def apply(self, event: events.Event) -> str | None:
        """Take an event in; the line that tells it, where it is worth one."""
        match event:
            case events.ExecutorReady(study=study, folder=folder, run=run, capacity=capacity):
                self.at_a_time = capacity
                self.doing = "opening the study"
                where = f"{study} in {folder}, {run.dataset} on {run.device} ({run.precision})"
                return f"study {where}" + f", up to {capacity} at a time" * (capacity > 1)
            case events.StudyOpened(entries=entries, curves=curves):
                self.curves |= curves
                self.doing = "" if entries else "counting the search space"
                return self._opened(entries)
            case events.SpaceCounted() | events.SpaceExhausted():
                return self._space(event)
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
                self.proposals_rejected += 1
                return None
            case events.DatabaseAway() | events.DatabaseBack():
                return outage_told(event)

    def _space(self, event: events.SpaceCounted | events.SpaceExhausted) -> str:
        if isinstance(event, events.SpaceCounted):
            self.doing = "proposing the first network"
            return _space_told(event.accounting)
        self.wanted = self.done
        return f"all {event.networks:,} networks of the space are trained"

    def _opened(self, entries: list[Entry]) -> str | None:
        self.opened = True
        self.best = best_of(entries)
        self.done = sum(entry.status != "failed" for entry in entries)
        self.finals_done = sum(entry.test_seeds for entry in entries)
        if not entries:
            return None
        line = f"{self.done} of {self.wanted} trials are trained already"
        if self.best:
            best = self.best[0]
            line += f"; best so far: trial {best.trial}, {best.val_acc or 0:.2%} of the hold-out"
        if self.finals_done:
            line += f"; {self.finals_done} of {self.final_runs} finalists are tested"
        return line

    def _started(self, event: events.Started) -> str:
        self.doing = ""
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
            line += f"; {self.proposals_rejected:,} proposals rejected so far"
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
        """From measured epochs, as if as many were pruned as so far; None if none was begun."""
        pace = None if self.stopped else self._pace()
        if pace is None:
            return None
        trial, final = pace
        a_trial = _mean(self.ended_epochs) or self.trial_epochs
        trial_epochs = max(0, self.wanted - self.done) * a_trial
        final_epochs = max(0.0, self.final_runs - self.finals_done) * self.final_epochs
        for at in list(self.in_flight.values()):
            if at.final:
                final_epochs -= at.done
            elif at.number is not None:
                trial_epochs -= min(at.done, a_trial)
        # The trials of a search keep all workers busy; so few finalists may not.
        together = min(self.at_a_time, self.together)
        side_by_side = min(together, max(1, self.final_runs - self.finals_done))
        trials = max(0.0, trial_epochs) * trial / together
        return trials + max(0.0, final_epochs) * final / side_by_side

    def _pace(self) -> tuple[float, float] | None:
        """Return the seconds of an epoch of a trial and of a finalist, if one was begun."""
        trial = _mean(self.trial_epoch_seconds) or _mean(self.final_epoch_seconds)
        if not trial:
            now = time.monotonic()
            begun = [
                (now - at.began) / share
                for key, at in list(self.in_flight.items())
                if (share := self.epoch_share(key)) >= LEAST_SHARE
            ]
            trial = _mean(begun)
        if not trial:
            return None
        # All images are a ninth more than the ranking's.
        return trial, _mean(self.final_epoch_seconds) or trial * 10 / 9

    def pulse(self) -> str:
        """Return one line on what is in training, or what happens before that."""
        if not self.in_flight:
            return self.doing
        told = ", ".join(
            f"{at.label} epoch {min(at.done + 1, at.epochs)}/{at.epochs}"
            + (f" {share:.0%} done" if (share := self.epoch_share(key)) else "")  # not on Ray
            for key, at in list(self.in_flight.items())
        )
        left = self.seconds_left()
        return told + (f"; about {clock(left)} left" if left is not None else "")

    def page(self, elapsed_s: float | None = None) -> Page:
        """Return the live view."""
        left = self.seconds_left()
        share = self.done / max(1, self.wanted)
        top = [f"trained  {bar(share, 20)}  {self.done}/{self.wanted}"]
        top += [f"elapsed {clock(elapsed_s)}"] if elapsed_s is not None else []
        top += [f"about {clock(left)} left"] if left is not None else []
        parts: list[Line | Grid] = [Line("  ".join(top), "bold")]
        at_work = list(self.in_flight.items())
        if self.finals_done or any(at.final for _, at in at_work):
            parts.append(Line(f"finalists tested {self.finals_done}/{self.final_runs}"))
        if at_work:
            rows = [
                (
                    f"  {at.label}",
                    bar((at.done + self.epoch_share(key)) / max(1, at.epochs), 12),
                    f"{at.done}/{at.epochs}",
                    f"{share:.0%}" if (share := self.epoch_share(key)) else "",
                    at.figures or at.about,
                )
                for key, at in at_work
            ]
            parts.append(Line(f"in training; {load()}", "bold"))
            titles = ("", "", "epochs", "of next", "latest epoch")
            parts.append(Grid(rows, frozenset({0, 1, 4}), titles, wrapped=frozenset({4})))
        elif self.doing:
            parts.append(Line(self.doing))
        if self.best:
            parts += [Line("best so far, hold-out", "bold"), self._best()]
        if self.rejected:
            told = ", ".join(f"{rule} {count:,}" for rule, count in self.rejected.most_common())
            count = f"{self.proposals_rejected:,} proposals"
            parts.append(Line(f"rejected before training: {count} ({told})", "dim"))
        return parts

    def _best(self) -> Grid:
        shown = [self.curves.get(entry.trial, []) for entry in self.best]
        heights = [value for curve in shown for value in curve]
        low, high = min(heights, default=0), max(heights, default=1)
        rows = [
            (
                f"  trial {entry.trial}",
                entry.spec_hash[:12],
                f"{100 * (entry.val_acc or 0):.2f}",
                sparkline(curve[-SHOWN_EPOCHS:], low, high),
                f"{entry.params:,}",
                str(axes(entry.receptive_field)),
                f"{entry.macs / 1e6:.1f}",
            )
            for entry, curve in zip(self.best, shown, strict=True)
        ]
        titles = ("", "network", "hold-out %", "by epoch", "params", "RF", "MMACs")
        return Grid(rows, frozenset({0, 1, 3}), titles, optional=(1, 3, 6))


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
        with _regularly(view.pulse):
            yield view
        return
    with Live(
        console=console,
        get_renderable=lambda: rendered(state.page(time.monotonic() - started), console.width),
        refresh_per_second=2,
    ):
        yield view


@contextmanager
def _regularly(call: Callable[[], None], every_s: float = 1.0) -> Iterator[None]:
    """Call a function every second beside what happens inside."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s):
            call()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass
class ProgressView:
    """Shows a search: above a live view only what outlasts it, else every line with its time."""

    state: SearchState
    console: Console
    quiet_s: float = QUIET_S
    _spoke: float = field(default_factory=time.monotonic)

    def event(self, event: events.Event) -> None:
        """Something happened."""
        line = self.state.apply(event)
        drawn = self.console.is_terminal and isinstance(event, events.Started | events.Trained)
        if line and not drawn:
            self._print(line)

    def begin(self, doing: str) -> None:
        """Say what happens before training."""
        self.state.doing = doing
        if not self.console.is_terminal:
            self._print(doing)

    def pulse(self) -> None:
        """Say what is in training, if nothing was printed for a while."""
        if time.monotonic() - self._spoke >= self.quiet_s and (line := self.state.pulse()):
            self._print(line)

    def warn(self, message: str) -> None:
        """Something that the user should know."""
        if self.console.is_terminal:
            self.console.print(Text(message, "yellow"))
        else:
            self._print(message)

    def _print(self, line: str) -> None:
        self._spoke = time.monotonic()
        terminal = self.console.is_terminal
        stamp = "" if terminal else f"{time.strftime('%H:%M:%S')} "
        self.console.print(Text(f"{stamp}{line}"), soft_wrap=not terminal)
        sys.stderr.flush()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
