"""Stop on Ctrl-C, SIGTERM or a closed terminal, but never in the middle of something.

A signal handler that raises does so wherever the program is: also inside a library that turns the
exception into another one, swallows it, or aborts in C++. These handlers never raise. A command
ends at once, with what is on disk whole; while it has something to save (`saving`), it ends at its
next safe point (`check`). A second signal always ends it at once.

Only the command line listens; a program that uses archsearch keeps its own handlers.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

TYPE_CHECKING = False  # type checkers take it for true; loading `typing` takes longer than the rest
if TYPE_CHECKING:
    from typing import NoReturn

EXIT_STATUS = 130
GRACE_S = 3.0
"""How long to wait for a safe point: a command ends within 5 s of a signal."""
SIGNALS: list[signal.Signals] = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
]
"""Of the keyboard, of a scheduler before it kills, of a terminal that is closed."""
_SHOW_CURSOR = "\x1b[?25h"
_POLL_S = 0.05


class _State:
    """What the signals of this process have done; they are one for all of it.

    Attributes:
        owner: the process that listens; a forked one inherits its handlers.
        asked: whether a signal asked to stop.
        reached: whether a safe point was reached since.
        last_words: what to print if none is; None if there is nothing to save.
        held: how many blocks of `held` are being run.
    """

    owner = 0
    asked = False
    reached = False
    last_words: Callable[[], str] | None = None
    held = 0


_state = _State()


def check() -> None:
    """Raise KeyboardInterrupt if a signal asked to stop: call it where nothing is half done."""
    if _state.asked and not _state.reached:
        _state.reached = True
        raise KeyboardInterrupt


def asked() -> bool:
    """Return whether a signal asked to stop."""
    return _state.asked


def sleep(seconds: float) -> None:
    """Sleep in a place where it is safe to stop."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check()
        time.sleep(min(left, _POLL_S))
    check()


def listen() -> None:
    """Handle the signals from now on; one that is ignored stays ignored (`nohup`)."""
    _state.owner = os.getpid()
    for each in SIGNALS:
        if signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, _heed)


@contextmanager
def listening() -> Iterator[None]:
    """Handle the signals in this block; after one of them, for good."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    with suppress(ValueError):  # not the main thread: signals are somebody else's to handle
        listen()
    try:
        yield
    finally:
        if not _state.asked:
            with suppress(ValueError, TypeError):  # TypeError: it was not set from Python
                for each in SIGNALS:
                    signal.signal(each, before[each])


@contextmanager
def saving(last_words: Callable[[], str]) -> Iterator[None]:
    """Let this block run on to its next safe point after a signal, for at most `GRACE_S`.

    Args:
        last_words: returns what to print if the block reached no safe point in time.

    Raises:
        KeyboardInterrupt: a signal asked to stop, whatever else happened since.
    """
    before, _state.last_words = _state.last_words, last_words
    try:
        with _watched():
            yield
            check()
    except Exception as error:
        if not _state.asked:
            raise
        _state.reached = True
        raise KeyboardInterrupt from error  # a worker that the same signal ended, perhaps
    finally:
        _state.last_words = before


@contextmanager
def held() -> Iterator[None]:
    """Let this block, which takes milliseconds, run to its end after a first signal."""
    _state.held += 1
    try:
        yield
    finally:
        _state.held -= 1
        waits = _state.asked and not _state.reached
        if waits and not _state.held and _state.last_words is None:
            end_now("interrupted\n")


def _heed(_signal: int, _frame: FrameType | None) -> None:
    if os.getpid() != _state.owner:
        os._exit(EXIT_STATUS)
    if _state.asked:
        end_now()
    if _state.last_words is None and not _state.held:
        end_now("interrupted\n")
    _state.asked = True


@contextmanager
def _watched() -> Iterator[None]:
    """End this process if a signal leads to no safe point, also while a library does not return.

    Python runs handlers between two instructions of the main thread; a thread of our own learns of
    the signal at once through a pipe.
    """
    import threading  # noqa: PLC0415 (takes long to load)

    reader, writer = os.pipe()
    try:
        if hasattr(os, "set_blocking"):  # Windows needs it no more than it has it
            os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    except ValueError:  # not the main thread: signals are somebody else's to handle
        os.close(reader)
        os.close(writer)
        yield
        return
    threading.Thread(target=_watch, args=(reader,), daemon=True, name="signals").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # ends the thread


def _watch(reader: int) -> None:
    while number := os.read(reader, 1):
        if number[0] not in SIGNALS:
            continue
        until = time.monotonic() + GRACE_S
        while not _state.reached and time.monotonic() < until:
            time.sleep(_POLL_S)
        if not _state.reached and _state.last_words is not None:
            end_now(_state.last_words())
    os.close(reader)


def end_now(words: str = "") -> NoReturn:
    """End this process without saving and without waiting; what is on disk is whole."""
    try:
        with suppress(Exception):
            if "multiprocessing" in sys.modules:
                for child in sys.modules["multiprocessing"].active_children():
                    child.kill()
        cursor = _SHOW_CURSOR if os.isatty(2) else ""  # a live view hides it
        os.write(2, (cursor + words).encode("utf-8", "backslashreplace"))
    finally:
        os._exit(EXIT_STATUS)
