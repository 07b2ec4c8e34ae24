"""What must hold after each attack, whatever the command made of it."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fuzz.fork import MEMORY, Command, Outcome
from fuzz.hostile import ESCAPE, MARKUP

STATUSES: Final = (0, 1, 2, 130)
MAX_OUTPUT: Final = 200_000
MAX_LINE: Final = 2_000
MAX_DATA: Final = 10_000_000
_READ_WHOLE: Final = 64 << 20
_COLOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_CONTROL = re.compile("[\0-\b\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LIBRARY = re.compile(r"<script[^>]*>(?:(?!</script>).){500000,}?</script>", re.DOTALL)
"""plotly's own code in a report."""
_WARNING = re.compile(r"\b\w*Warning: ")
_OF_THE_DATABASE = ("-wal", "-shm", "-journal")
_SHOWN: Final = (".csv", ".html", ".txt", ".toml", ".md", ".svg")

State = Mapping[str, str]
"""What is at each path, in a word."""


def state(root: Path) -> State:
    """Return what is in a folder and below; links are not followed."""
    return {str(path.relative_to(root)): _what(path) for path in sorted(root.rglob("*"))}


def _what(path: Path) -> str:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"link to {path.readlink()}"
    if not stat.S_ISREG(found.st_mode):
        return str(stat.S_IFMT(found.st_mode))
    if found.st_size > _READ_WHOLE:
        return f"{found.st_size} {found.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def escaped(before: State, after: State, may: tuple[str, ...]) -> Iterator[str]:
    """Tell what has changed where nothing may change; paths are relative to the root."""
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) == after.get(path):
            continue
        if any(path == f or path.startswith(f"{f}/") or f.startswith(f"{path}/") for f in may):
            continue
        if path.endswith(_OF_THE_DATABASE) and path.rpartition("-")[0] in before:
            continue  # SQLite's own, while it reads
        if f"{path}-wal" in before:
            continue  # whoever reads a database merges the log that a killed search left
        how = "changed" if path in before and path in after else "removed"
        yield f"{path} was {how if path in before else 'made'}"


def ending(outcome: Outcome) -> Iterator[str]:
    """Tell what is wrong with how a command ended."""
    if outcome.stopped:
        yield outcome.stopped
    elif outcome.status < 0:
        yield f"ended by signal {-outcome.status}"
    elif outcome.status not in STATUSES:
        yield f"exit status {outcome.status}"
    if outcome.peak > MEMORY and not outcome.stopped:
        yield "takes too much memory"


def printed(command: Command, data: bool) -> Iterator[str]:
    """Tell what is wrong with the output of a command.

    Args:
        command: that has ended.
        data: whether its standard output is meant for programs.
    """
    colored = "FORCE_COLOR" in command.terminal.environment
    encoding = command.terminal.encoding or "utf-8"
    for path, stream in ((command.out, "output"), (command.err, "error")):
        raw = path.read_bytes() if path.is_file() else b""
        of_data = data and stream == "output"
        if len(raw) > (MAX_DATA if of_data else MAX_OUTPUT):
            yield f"long standard {stream}: {len(raw):,} bytes"
            raw = raw[:MAX_OUTPUT]
        text = raw.decode(encoding, "replace")
        if "Traceback (most recent" in text:
            yield f"traceback on standard {stream}"
        if "a bug in archsearch" in text:
            yield "a bug in archsearch"
        if "out of memory" in text:
            yield "out of memory"
        if stream == "error" and _WARNING.search(text):
            yield "a warning of Python's"
        if not of_data and any(len(line) > MAX_LINE for line in text.split("\n")):
            yield f"a line of over {MAX_LINE:,} characters on standard {stream}"
        if control := _control(text, colored=colored):
            yield f"{control} on standard {stream}"


def written(root: Path, before: State, after: State) -> Iterator[str]:
    """Tell what is wrong in files that a command wrote and somebody opens."""
    for path, what in after.items():
        if before.get(path) == what or not path.endswith(_SHOWN) or not (root / path).is_file():
            continue
        text = (root / path).read_text(encoding="utf-8", errors="replace")
        name = Path(path).name
        text = _LIBRARY.sub("", text) if name.endswith(".html") else text
        if control := _control(text, colored=False):
            yield f"{control} in {name}"
        if name.endswith((".html", ".svg")) and MARKUP in text:
            yield f"markup of an attacker in {name}"


def _control(text: str, *, colored: bool) -> str | None:
    if ESCAPE in text:
        return "an escape sequence"
    found = _CONTROL.search(_COLOR.sub("", text) if colored else text.replace("\r\n", "\n"))
    return f"control character {found[0]!a}" if found else None


def figures(command: Command, truth: Path) -> Iterator[str]:
    """Tell whether an evaluation printed other figures than those of the undamaged run."""
    try:
        told = json.loads(command.out.read_bytes())
    except ValueError:
        return  # it was refused
    wanted = json.loads(truth.read_text())
    if any(told[name] != wanted[name] for name in ("accuracy", "loss")):
        yield "wrong figures from a damaged checkpoint"
