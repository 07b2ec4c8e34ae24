"""What reaches the terminal: pages, messages, and no character that a terminal would obey."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from archsearch.common.page import Grid, Line, Page, grid_lines, plain
from archsearch.errors import MAX_LINE_CHARS, message_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType
    from rich.text import Text


class _Printable:
    r"""A text stream that writes control characters as `\x1b`; the rest is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text."""
        return self.stream.write("\n".join(map(printable, text.split("\n"))))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several pieces of text."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def print_only_printable() -> None:
    """Let standard output and error take any text, from here to the end of this process.

    Control characters of names, paths and messages are escaped, and so are characters that the
    encoding lacks. Only a `console` reaches the terminal itself, for colors and live views.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, _Printable):
            continue
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
        setattr(sys, name, _Printable(stream))


def show(page: Page) -> None:
    """Print a page, with colors if standard output is a terminal."""
    if not sys.stdout.isatty() and not os.environ.get("FORCE_COLOR"):
        sys.stdout.write(plain(page))  # rich takes longer to load than a verdict to make
        return
    out = console(sys.stdout)
    out.print(rendered(page, out.width))


def rendered(page: Page, width: int) -> RenderableType:
    """Return a page as rich draws it on a terminal of this width."""
    from rich.console import Group

    from archsearch.common.fit_width import fitted

    return Group(*(text for part in fitted(page, width) for text in _texts(part)))


def _texts(part: Line | Grid) -> Iterator[Text]:
    from rich.text import Text

    # Text from specs goes in as Text, never as markup.
    if isinstance(part, Line):
        yield Text(message_line(part.text), part.style)
        return
    first = 0 if not part.titles else -1
    for number, line in enumerate(grid_lines(part), start=first):
        yield Text(line, "bold" if number == -1 or number in part.bold else "")


def console(stream: TextIO) -> Console:
    """Return a console that prints on a standard stream; what it is given cannot print escapes."""
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment
    from rich.text import Text

    class Printable(Console):
        """Escape control characters in text, and cut it; rich's own escapes stay."""

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            if isinstance(renderable, Text) and len(renderable) > MAX_LINE_CHARS:
                renderable = renderable[:MAX_LINE_CHARS] + "..."
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    raw = stream.stream if isinstance(stream, _Printable) else stream
    return Printable(file=raw, highlight=False)


def stderr_console() -> Console:
    """Everything but data goes to standard error."""
    return console(sys.stderr)


def say(line: str) -> None:
    """Print one line of text on standard output."""
    sys.stdout.write(f"{message_line(line)}\n")


def note(message: str) -> None:
    """Tell the user something that is worth knowing, on standard error."""
    tell(f"note: {message}")


def tell(line: str) -> None:
    """Print one line of text on standard error."""
    sys.stderr.write(f"{message_line(line)}\n")
