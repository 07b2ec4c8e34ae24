"""Text to records: bounded reading, with every problem reported."""

from __future__ import annotations

import contextlib
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from archsearch.common.atomic_files import unreadable
from archsearch.common.guarded_files import open_regular
from archsearch.common.problems import problems_in
from archsearch.errors import ArchsearchError, InputError, Problem, one_line

MAX_BYTES = 1 << 19
"""A spec, recipe or study is a few kilobytes; what is larger was not meant for us."""

M = TypeVar("M", bound=BaseModel)
Given = Mapping[str, Any] | str | os.PathLike[str]
"""What a record may be given as, beside itself: plain data, or a file ("-": standard input)."""


def read_text(path: str) -> str:
    """Read the text of a regular file, or of standard input ("-"), at most `MAX_BYTES`.

    Raises:
        ArchsearchError: it cannot be read, is not UTF-8 or is too large.
    """
    with open_input(path) as file:
        return decoded(file.read(MAX_BYTES + 1), source_name(path))


@contextlib.contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open what a user named for reading: a regular file, or standard input ("-").

    Standard input may be any kind of file, and may also be named by its path (/dev/stdin).

    Raises:
        ArchsearchError: it cannot be read, or is a pipe, a device, a socket or a folder.
    """
    try:
        if path == "-" or _is_standard_input(path):
            yield sys.stdin.buffer
            return
        with open_regular(Path(path)) as file:
            yield file
    except OSError as error:
        raise unreadable(source_name(path), error) from error


def _is_standard_input(path: str) -> bool:
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(0))
    except OSError:
        return False


def decoded(data: bytes, source: str) -> str:
    """Bytes as text.

    Raises:
        ArchsearchError: they are not UTF-8, or more than `MAX_BYTES`.
    """
    if len(data) > MAX_BYTES:
        raise ArchsearchError(
            f"{source}: larger than {MAX_BYTES >> 10} KiB; "
            "this is not a file that archsearch writes or reads"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArchsearchError(f"{source}: not UTF-8 text (byte {error.start})") from error


def source_name(path: str) -> str:
    """What messages call an input."""
    return "standard input" if path == "-" else one_line(path)


def from_json(model: type[M], text: str, source: str) -> M:
    """A record from JSON text.

    Raises:
        InputError: with every problem in it.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        try:
            raw = pydantic_core.from_json(text)
        except ValueError as bad:
            why = str(bad)
            if "recursion limit" in why:
                why = f"nested too deeply ({why})"
            if "trailing characters" in why and source.endswith((".ndjson", ".jsonl")):
                why = "it has a spec a line: archsearch validate --format ndjson"
            raise InputError(source, [Problem("", "json", f"is not valid JSON: {why}")]) from error
        if isinstance(raw, dict) and "$schema" in raw:
            return from_mapping(model, raw, source)
        raise InputError(source, problems_in(error, raw, model)) from error


def from_mapping(model: type[M], raw: Mapping[str, Any], source: str) -> M:
    """A record from plain data; `$schema`, which tells an editor what this is, is passed over.

    Raises:
        InputError: with every problem in it.
    """
    if isinstance(raw.get("$schema"), str):
        raw = {key: value for key, value in raw.items() if key != "$schema"}
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise InputError(source, problems_in(error, raw, model)) from error


def from_given(model: type[M], given: M | Given) -> M:
    """A record itself, from plain data or from a JSON file.

    Raises:
        InputError: with every problem in it.
        ArchsearchError: the file cannot be read.
    """
    if isinstance(given, model):
        return given
    source = source_of(given)
    if isinstance(given, Mapping):
        return from_mapping(model, given, source)
    path: str | os.PathLike[str] = given  # type: ignore[assignment] # not M
    return from_json(model, read_text(os.fspath(path)), source)


def source_of(given: BaseModel | Given) -> str:
    """What messages call a record that was given."""
    if isinstance(given, BaseModel | Mapping):
        raw = given if isinstance(given, Mapping) else vars(given)
        return one_line(str(raw.get("name", "what was given")))
    return source_name(os.fspath(given))


def is_name(given: object, names: Iterable[str], what: str) -> TypeGuard[str]:
    """Whether a shipped record is given by its name, rather than as itself, data or a file.

    `names` are the shipped ones', and `what` says what these are ("recipe").

    Raises:
        ArchsearchError: it is neither a name nor a file.
    """
    if not isinstance(given, str | os.PathLike):
        return False
    path, known = os.fspath(given), list(names)
    if path in known:
        return True
    if path != "-" and not Path(path).exists():
        raise ArchsearchError(
            f"{source_name(path)}: no such {what} file, and no shipped {what} of that name "
            f"({', '.join(known)})"
        )
    return False


def from_toml(model: type[M], text: str, source: str) -> M:
    """A record from TOML text.

    Raises:
        InputError: with every problem in it.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problem = Problem("", "toml", f"is not valid TOML: {error}")
        raise InputError(source, [problem]) from error
    return from_mapping(model, raw, source)
