"""Stop cleanly on Ctrl-C, SIGTERM or a closed terminal; on a second signal, stop immediately."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from archsearch.cli import EXIT_INTERRUPTED

_SIGNALS: list[signal.Signals] = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
]
"""Of the keyboard, of a scheduler before it kills, of a terminal that is closed."""
_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def cleanly_then_at_once() -> Iterator[None]:
    """The first of these signals raises KeyboardInterrupt, the next one ends this process.

    What is ignored stays so (`nohup`). After a first signal the rule outlasts the block: there is
    still something to tell, and processes to wait for.
    """
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    heeded = [each for each, handler in before.items() if handler != signal.SIG_IGN]
    interrupted = False

    def heed(_signal: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            _stop_at_once()
        interrupted = True
        raise KeyboardInterrupt

    for each in heeded:
        signal.signal(each, heed)
    try:
        yield
    finally:
        if not interrupted:
            for each in heeded:
                signal.signal(each, before[each])


def _stop_at_once() -> None:
    """Without saving, without waiting; what is on disk is whole at any moment."""
    try:
        for child in multiprocessing.active_children():
            child.kill()
        if sys.stderr.isatty():
            sys.stderr.write(_SHOW_CURSOR)  # a live view hides it
            sys.stderr.flush()
    finally:
        os._exit(EXIT_INTERRUPTED)
