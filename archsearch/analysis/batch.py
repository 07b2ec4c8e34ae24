"""Many specs, one JSON a line: verdicts as they come, in order, on as many cores as asked for."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import BinaryIO

from archsearch.analysis.cached_totals import Screen
from archsearch.analysis.constraints import Constraints, verdict_on
from archsearch.analysis.verdict_view import invalid_data, totals_data, verdict_data
from archsearch.common.parse import MAX_BYTES, decoded, open_input, source_name
from archsearch.errors import ArchsearchError
from archsearch.spec.load import refuse_other_kinds

LINES_A_TASK = 64
TASKS_AHEAD = 4
"""A worker's; what is read ahead stays bounded, so that a stream may be endless."""
_SUFFIXES = (".ndjson", ".jsonl")

Line = tuple[str, bytes | ArchsearchError]
"""Where it stands (`specs.ndjson:17`) and what it says, or why it cannot be read."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A line's outcome.

    Attributes:
        status: 0 accepted, 1 rejected, 2 not a spec.
        line: its verdict as JSON, on one line.
        error: what is wrong with it, where it is no spec.
    """

    status: int
    line: str
    error: str = ""


def lines_of(path: str) -> Iterator[Line]:
    """The lines of `path` ("-": standard input) that are not blank; at least one.

    A file that is one spec over several lines counts as one line.
    """
    try:
        refuse_other_kinds(path)
        with open_input(path) as file:
            yield from _lines(file, path)
    except ArchsearchError as error:
        yield source_name(path), error


def _lines(file: BinaryIO, path: str) -> Iterator[Line]:
    source = source_name(path)
    numbered = _numbered(file)
    start = list(islice(numbered, 2))
    if not path.endswith(_SUFFIXES) and _one_spec([line for _, line in start]):
        text = b"".join(line for _, line in start)
        yield source, text + file.read(MAX_BYTES + 1 - len(text))
        return
    for number, line in chain(start, numbered):
        yield f"{source}:{number}", line
    if not start:
        yield source, b""


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers; one too long is cut."""
    number = 0
    while line := file.readline(MAX_BYTES + 1):
        number += 1
        if line.strip():
            yield number, line
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_BYTES)


def _one_spec(start: list[bytes]) -> bool:
    """Whether two lines begin one JSON object that goes over several lines.

    Then the first opens it without closing it, and the second, inside it, opens no other.
    """
    first, *second = (line.strip() for line in start) if start else (b"",)
    opened = first.startswith(b"{") and not first.endswith(b"}")
    return opened and not (second and second[0].startswith(b"{"))


def judge_lines(
    lines: Iterable[Line], constraints: Constraints, *, brief: bool, jobs: int
) -> Iterator[Judged]:
    """Verdicts in the order of the lines; `brief`: totals alone, many times faster.

    Raises:
        ArchsearchError: a worker died.
    """
    limits = constraints.model_dump_json()
    if jobs == 1:
        for line in lines:
            yield from _judge_task(limits, brief, [line])
        return
    stream = iter(lines)
    tasks = iter(lambda: list(islice(stream, LINES_A_TASK)), list[Line]())
    with ProcessPoolExecutor(jobs, initializer=_start_worker) as pool:
        waiting: deque[Future[list[Judged]]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(_judge_task, limits, brief, task))
                if len(waiting) >= jobs * TASKS_AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool as error:
            raise ArchsearchError(
                "a worker process died (out of memory?); run it again with fewer --jobs"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells
    if parent := parent_process():
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Nobody else would wake a worker whose parent was killed."""
    wait([parent.sentinel])
    os._exit(1)


def _judge_task(limits: str, brief: bool, task: list[Line]) -> list[Judged]:
    judge_one = _judge_of(limits, brief)
    judged = []
    for source, raw in task:
        try:
            text = decoded(_readable(raw), source)
            judged.append(judge_one(text, source))
        except ArchsearchError as error:
            judged.append(_invalid(source, error))
        except Exception as error:  # noqa: BLE001 - the other lines still get their verdicts
            what = f"{source}: a bug in archsearch: {type(error).__name__}: {error}"
            judged.append(_invalid(source, ArchsearchError(what)))
    return judged


def _readable(raw: bytes | ArchsearchError) -> bytes:
    if isinstance(raw, ArchsearchError):
        raise raw
    return raw


def _invalid(source: str, error: ArchsearchError) -> Judged:
    return Judged(2, json.dumps(invalid_data(source, error)), f"error: {error}\n")


@cache
def _judge_of(limits: str, brief: bool) -> Callable[[str, str], Judged]:
    """One a process, so that what was screened is remembered from task to task."""
    constraints = Constraints.model_validate_json(limits)
    screen = Screen(constraints)

    def totals(text: str, source: str) -> Judged:
        found = screen(text, source)
        data = totals_data(source, found.name, found.totals, found.violations)
        return Judged(0 if found.accepted else 1, json.dumps(data))

    def everything(text: str, source: str) -> Judged:
        verdict = verdict_on(text, source, constraints)
        return Judged(0 if verdict.accepted else 1, json.dumps(verdict_data(source, verdict)))

    return totals if brief else everything
