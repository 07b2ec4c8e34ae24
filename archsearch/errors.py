"""The exceptions, each with a message that says what is wrong and how to fix it.

ArchsearchError           one message; the command line prints it and exits with 2
├── InputError            what a user wrote is wrong: every problem in it, at once
├── DataError             a data set cannot be had or cannot be trusted
├── CheckpointError       a checkpoint cannot be read, or belongs to another run
├── TrainingError         this network cannot be trained this way; others may
│   └── DivergedError     the loss became NaN or infinite
├── DeviceLostError       the device failed, and nothing more will run on it in this process
├── StudyError            a study folder cannot be used as asked
└── HopelessSpaceError    the search space holds (almost) nothing within the limits
    └── ExhaustedSpaceError   no network of the space within the limits is left
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

MAX_PROBLEMS_SHOWN = 40
MAX_VALUE_CHARS = 80
MAX_LINE_CHARS = 1_000
"""Of one message: room for a path and a list of columns, but not for a file's contents."""


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        place: where, as a dotted path into the input (`blocks.2.layers.0.kernel_size`).
        rule: which rule it breaks, a short code.
        message: the rule in words, the value that broke it, and what to do.

    Example:
        >>> import archsearch as asr
        >>> asr.Problem("blocks.0", "channels", "must be divisible by 4, got 10").place
        'blocks.0'
    """

    place: str
    rule: str
    message: str


def shown(value: object) -> str:
    """Return a value as an error message quotes it: on one line, cut if it is long."""
    return cut(repr(value), MAX_VALUE_CHARS)


def printable(text: str) -> str:
    r"""Return text that a terminal only prints: what it would obey or hide is written as `\x1b`.

    Line breaks and tabs stay; a backslash of the text itself does too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escape(c) for c in text)


def one_line(name: str) -> str:
    """Return a name on one line, with every character visible; the backslash stays as it is."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else _escape(c) for c in name)


def message_line(text: str) -> str:
    """Return text as one line of a message: every character visible, cut if it is long."""
    return cut(one_line(text[: MAX_LINE_CHARS + 1]), MAX_LINE_CHARS)


def _escape(c: str) -> str:
    return c.encode("unicode_escape").decode()


def cut(text: str, most: int) -> str:
    """Return text, or its beginning and dots if it has more than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


class ArchsearchError(Exception):
    """Report anything that archsearch can explain to its user; the base of all its errors.

    Example:
        >>> import archsearch as asr
        >>> try:
        ...     asr.load_study("no-such-study")
        ... except asr.ArchsearchError as error:
        ...     print(str(error)[:33])
        no-such-study: no such study file
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message_line(message))


class InputError(ArchsearchError):
    """Report that a file (or a value) is not what it must be, with every problem found.

    Attributes:
        source: the file, or what the value is called.
        problems: everything that is wrong with it.

    Example:
        >>> import archsearch as asr
        >>> try:
        ...     asr.load_spec({"name": "net"})
        ... except asr.InputError as error:
        ...     print([problem.place for problem in error.problems])
        ['blocks', 'output']
    """

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = message_line(source)
        self.problems = tuple(
            Problem(message_line(place), rule, message_line(message))
            for place, rule, message in problems
        )
        Exception.__init__(self, self._text())  # the only message of several lines

    def __reduce__(self) -> tuple[type[InputError], tuple[str, tuple[Problem, ...]]]:
        return InputError, (self.source, self.problems)  # to come back from another process

    def named(self, source: str) -> InputError:
        """The same problems, told of `source`."""
        return InputError(source, self.problems)

    def _text(self) -> str:
        count = len(self.problems)
        lines = [f"{self.source} has {count:,} problem{'s' if count != 1 else ''}"]
        listed = self.problems[:MAX_PROBLEMS_SHOWN]
        width = min(max((len(p.place) for p in listed), default=0), 44)
        lines += [f"  {p.place:<{width}}  {p.message}" for p in listed]
        if count > len(listed):
            lines.append(f"  ... and {count - len(listed):,} more")
        return "\n".join(lines)


@contextmanager
def named_as(source: str) -> Iterator[None]:
    """Report the problems that are found inside as those of `source`."""
    try:
        yield
    except InputError as error:
        raise error.named(source) from error


class DataError(ArchsearchError):
    """A data set is missing, incomplete or not to be trusted."""


class CheckpointError(ArchsearchError):
    """A checkpoint cannot be read, or was written by another run."""


class TrainingError(ArchsearchError):
    """This network cannot be trained this way, here; another may."""


class DivergedError(TrainingError):
    """Training left the numbers (NaN or infinite loss)."""


class DeviceLostError(ArchsearchError):
    """The device itself failed; another process may get it back."""

    def __init__(self, device: str, why: str) -> None:
        self.device = device
        self.why = why
        super().__init__(
            f"{device} failed: {why}; what was trained is saved: run the same command again once "
            "it is back, or with another --device"
        )

    def __reduce__(self) -> tuple[type[DeviceLostError], tuple[str, str]]:
        return DeviceLostError, (self.device, self.why)  # a worker sends it to its driver


class StudyError(ArchsearchError):
    """A study folder cannot be used as asked."""


class HopelessSpaceError(ArchsearchError):
    """Sampling found (almost) no spec within the limits."""


class ExhaustedSpaceError(HopelessSpaceError):
    """Report that no network of the space within the limits is left.

    Attributes:
        networks: how many there are.
    """

    def __init__(self, networks: int) -> None:
        self.networks = networks
        super().__init__(f"all {networks:,} networks of the space are trained")

    def __reduce__(self) -> tuple[type[ExhaustedSpaceError], tuple[int]]:
        return ExhaustedSpaceError, (self.networks,)
