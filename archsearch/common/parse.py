"""Text to records: bounded reading, and pydantic's complaints in a user's words."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, TypeVar, get_args

import pydantic_core
from pydantic import BaseModel, ValidationError

from archsearch.common.atomic_files import unreadable
from archsearch.common.guarded_files import open_regular
from archsearch.errors import ArchsearchError, InputError, Problem, one_line, shown

MAX_BYTES = 1 << 19
"""A spec, recipe or study is a few kilobytes; what is larger was not meant for us."""

M = TypeVar("M", bound=BaseModel)
Given = Mapping[str, Any] | str | os.PathLike[str]
"""What a record may be given as, beside itself: plain data, or a file ("-": standard input)."""

_TYPE_ERRORS = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "tuple_type": "a list",
    "list_type": "a list",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "finite_number": "a finite number",
}
_BOUND_ERRORS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}


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
                why = "it has a spec a line; validate it with --format ndjson"
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


def problems_in(error: ValidationError, raw: object, model: type[BaseModel]) -> list[Problem]:
    """One problem a place: the branches of a union are told together."""
    by_place: dict[str, list[Any]] = {}
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # long enough, but for its invalid items, which are told themselves
        by_place.setdefault(_place(item["loc"], raw, item["type"]), []).append(item)
    for place, items in list(by_place.items()):
        whole = by_place.get(place.rpartition(".")[0], [])
        if place[-1:] == "1" and items[0]["type"] == "missing" and whole:
            # [2] where [2, 2] could be: told of the pair, not of its second half
            del by_place[place]
            whole.append({"type": "tuple_type", "input": whole[0]["input"]})
    return [
        _unknown_key(place, raw, model)
        if items[0]["type"] == "extra_forbidden"
        else _problem(place, items)
        for place, items in by_place.items()
    ]


def _unknown_key(place: str, raw: object, model: type[BaseModel]) -> Problem:
    *path, name = place.split(".")
    parent: Any = raw
    for part in path:
        parent = parent[int(part)] if isinstance(parent, list | tuple) else parent[part]
    near = _nearest(name, _keys(model, parent.get("op")))
    hint = f"did you mean {near!r}?" if near else "remove or rename it"
    return Problem(place, "unknown-key", f"unknown key {shown(name)}; {hint}")


def _nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that holds it or is held by it, else the most alike."""
    inside = [key for key in known if len(name) > 2 and (name in key or key in name)]
    if inside:
        return min(inside, key=lambda key: abs(len(key) - len(name)))
    return next(iter(difflib.get_close_matches(name.lower(), known, n=1)), None)


def _keys(model: type[BaseModel], op: object) -> list[str]:
    """The keys of the layer that `op` names, or of all records in `model` that are no layers."""
    models = list(_models(model, {}))
    ops = {m: get_args(m.model_fields["op"].annotation) for m in models if "op" in m.model_fields}
    layer = [m for m, names in ops.items() if names == (op,)]
    return [key for m in layer or models for key in m.model_fields if layer or key != "op"]


def _models(annotation: Any, seen: dict[Any, None]) -> Iterable[type[BaseModel]]:
    """Every record type inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in seen:
            seen[annotation] = None
            annotation.model_rebuild()
            for field in annotation.model_fields.values():
                _models(field.annotation, seen)
    else:
        for inner in get_args(annotation):
            _models(inner, seen)
    return seen


def _place(loc: Sequence[int | str], raw: object, kind: str) -> str:
    """The path into the raw data: pydantic's own, without its union and tag labels."""
    parts: list[str] = []
    node: Any = raw
    tag: object = None
    for i, part in enumerate(loc):
        last = i == len(loc) - 1
        if tag is not None and part == tag:
            tag = None
            continue
        mapped = isinstance(node, Mapping) and part in node
        listed = isinstance(node, list | tuple) and isinstance(part, int) and part < len(node)
        if mapped or listed:
            node = node[part]
        elif not (last and kind == "missing"):
            continue
        parts.append(str(part))
        tag = node.get("op") if isinstance(node, Mapping) else None
    return ".".join(parts)


def _problem(place: str, items: list[Any]) -> Problem:
    precise = [item for item in items if item["type"] not in _TYPE_ERRORS]
    told = precise or items
    first = told[0]
    match first["type"]:
        case "missing":
            return Problem(place, "missing", "is required and not there")
        case "union_tag_not_found":
            tag = str(first["ctx"]["discriminator"]).strip("'")
            message = f"is required: which {'layer' if tag == 'op' else tag} is this?"
            return Problem(f"{place}.{tag}", "missing", message)
        case "union_tag_invalid":
            return Problem(f"{place}.op", "unknown-op", _unknown_op(first["ctx"]))
        case _:
            pass
    wants = list(dict.fromkeys(_wanted(item) for item in told))
    if not precise:
        wants = [
            "[height, width]" if want == "a list" and len(wants) > 1 else want for want in wants
        ]
    return Problem(
        place, first["type"], f"must be {' or '.join(wants)}, got {shown(first['input'])}"
    )


def _wanted(item: Any) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind in _TYPE_ERRORS:
        return _TYPE_ERRORS[kind]
    if kind in _BOUND_ERRORS:
        key, sign = _BOUND_ERRORS[kind]
        return f"{sign} {context[key]}"
    if kind == "literal_error":
        return f"one of {context['expected']}"
    if kind in ("too_short", "string_too_short"):
        return f"at least {context['min_length']} long"
    if kind in ("too_long", "string_too_long"):
        return f"at most {context['max_length']} long"
    if kind == "value_error":  # our own validators'
        return str(context["error"])
    message = str(item["msg"])
    return f"valid ({message[:1].lower()}{message[1:]})"


def _unknown_op(context: Mapping[str, Any]) -> str:
    known = [tag.strip("' ") for tag in str(context["expected_tags"]).split(",")]
    name = str(context["tag"])
    near = [tag for tag in known if name and (name.startswith(tag) or tag.startswith(name))]
    near = near or difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose {', '.join(known)}"
    return f"unknown op {shown(name)}; {hint}"
