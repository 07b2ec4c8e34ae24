"""pydantic's complaints in a user's words: where, what is wrong, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from archsearch.errors import MAX_PROBLEMS_SHOWN, Problem, shown

Key = int | str
Path = tuple[Key, ...]
"""The keys and indices that lead to a value, as in the data; never joined before it is printed."""

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
_MAX_KEY = 40
"""Characters of a key that a place shows."""
_MAX_PLACES = 3
_BARE_KEY = re.compile(rf"[A-Za-z0-9_-]{{1,{_MAX_KEY}}}")


def problems_in(error: ValidationError, raw: object, model: type[BaseModel]) -> list[Problem]:
    """Return one problem per place; the branches of a union are reported together."""
    by_path: dict[Path, list[Any]] = {}
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # long enough, but for its invalid items, which are reported themselves
        by_path.setdefault(_path(item, raw), []).append(item)
    for path, items in list(by_path.items()):
        whole = by_path.get(path[:-1], [])
        if path[-1:] == (1,) and items[0]["type"] == "missing" and whole:
            # [2] where [2, 2] could be: a problem of the pair, not of its second half
            del by_path[path]
            whole.append({"type": "tuple_type", "input": whole[0]["input"]})
    return [
        _problem(path, items, raw, model, suggest=number < MAX_PROBLEMS_SHOWN)
        for number, (path, items) in enumerate(by_path.items())
    ]


def _path(item: Any, raw: object) -> Path:
    """Return the path to what an item of pydantic's is about.

    Its location also holds labels (the branch of a union, a tag), and a key may look like one: the
    right reading ends at the value that the item quotes.
    """
    loc, end = item["loc"], ()
    if item["type"] in ("missing", "invalid_key"):  # about the object that holds the last part
        loc, end = loc[:-1], loc[-1:] if item["type"] == "missing" else ()
    first = None
    for path, value in _readings(loc, raw):
        if value is item["input"] or value == item["input"]:
            return (*path, *end)
        first = path if first is None else first
    return (*(loc if first is None else first), *end)


def _readings(loc: Sequence[Key], node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield each way to read a location: its path, and the value that is there."""
    while loc:
        part, *loc = loc
        mapped = isinstance(node, Mapping) and part in node
        listed = isinstance(node, list | tuple) and isinstance(part, int) and part < len(node)
        if mapped or listed:
            yield from _readings(loc, node[part], (*path, part))
        if isinstance(part, int):
            return  # no label
    yield path, node


def _dotted(path: Path) -> str:
    """Return a path as messages write it: `blocks.0."a.b"`."""
    return ".".join(_key(part) for part in path)


def _key(part: Key) -> str:
    text = str(part)
    if _BARE_KEY.fullmatch(text):
        return text
    return shown(text if len(text) <= _MAX_KEY else f"{text[:_MAX_KEY]}...")


def _problem(
    path: Path, items: list[Any], raw: object, model: type[BaseModel], *, suggest: bool
) -> Problem:
    precise = [item for item in items if item["type"] not in _TYPE_ERRORS]
    told = precise or items
    first = told[0]
    match first["type"]:
        case "extra_forbidden":
            hint = _key_hint(path, raw, model) if suggest else "remove or rename it"
            message = f"unknown key {shown(path[-1])}; {hint}"
            return Problem(_dotted(path), "unknown-key", message)
        case "invalid_key":
            message = f"must have strings as keys, got {shown(first['input'])}"
            return Problem(_dotted(path), "key", message)
        case "missing":
            return Problem(_dotted(path), "missing", "is required and not there")
        case "union_tag_not_found":
            tag = _discriminator(first)
            message = f"is required: which {'layer' if tag == 'op' else tag} is this?"
            return Problem(_dotted((*path, tag)), "missing", message)
        case "union_tag_invalid":
            tag, name = _discriminator(first), first["ctx"]["tag"]
            hint = _tag_hint(name, _records_at(model, path, raw), tag) if suggest else "choose one"
            message = f"unknown {tag} {shown(name)}; {hint}"
            return Problem(_dotted((*path, tag)), f"unknown-{tag}", message)
        case _:
            pass
    wants = list(dict.fromkeys(_wanted(item) for item in told))
    if not precise:
        wants = [
            "[height, width]" if want == "a list" and len(wants) > 1 else want for want in wants
        ]
    message = f"must be {' or '.join(wants)}, got {shown(first['input'])}"
    return Problem(_dotted(path), first["type"], message)


def _discriminator(item: Any) -> str:
    return str(item["ctx"]["discriminator"]).strip("'")


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


def _tag_hint(name: str, records: Sequence[type[BaseModel]], key: str) -> str:
    """Say which record was probably meant by an unknown tag."""
    by_tag = {tag: record for record in records if (tag := _tags(record).get(key))}
    plain = _plain(name.rpartition(".")[2])  # torch.nn.Conv2d is Conv2d
    for tag, record in by_tag.items():
        other_tags: Mapping[str, str] = getattr(record, "other_tags", {})
        if meant := repr(tag) if plain == _plain(tag) else other_tags.get(plain):
            return f"did you mean {meant}?"
    near = [tag for tag in by_tag if name and (name.startswith(tag) or tag.startswith(name))]
    near = near or difflib.get_close_matches(name[:_MAX_KEY], by_tag, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose {', '.join(by_tag)}"


def _plain(name: str) -> str:
    """Return a name without case, separators and dimension, which max_pool and MaxPool2d share."""
    letters = re.sub(r"[\W_]", "", name[:_MAX_KEY].lower())
    return re.sub(r"[123]d$", "", letters)


def _key_hint(path: Path, raw: object, model: type[BaseModel]) -> str:
    """Say which key was probably meant by an unknown one, or where it belongs."""
    name, place = str(path[-1]), path[:-1]
    node = _value(raw, place)
    union = _records_at(model, place, raw)
    here = [record for record in _chosen(union, node) if name not in record.model_fields] or union
    keys = [key for record in here for key in record.model_fields]
    for record in here:
        other_keys: Mapping[str, str] = getattr(record, "other_keys", {})
        if meant := other_keys.get(name.lower()):
            return f"did you mean {meant!r}?" if meant in keys else meant
    if said := _sibling_hint(name, here, union, node):
        return said
    inside = [key for key in keys if len(name) > 2 and (name in key or key in name)]
    if inside:
        return f"did you mean {min(inside, key=lambda key: abs(len(key) - len(name)))!r}?"
    if homes := _homes(model, name):
        return f"it belongs {_listed(homes)}"
    near = difflib.get_close_matches(name[:_MAX_KEY].lower(), keys, n=1)
    return f"did you mean {near[0]!r}?" if near else "remove or rename it"


def _sibling_hint(
    name: str, here: Sequence[type[BaseModel]], union: Sequence[type[BaseModel]], node: object
) -> str:
    """Say which other records of the union have the key; an empty string if none has."""
    siblings = [record for record in union if name in record.model_fields]
    tag = next((tag for record in here for tag in _tags(record).values()), None)
    have = [tag for record in siblings for tag in _tags(record).values()]
    if tag is not None and have:
        return f"{tag} has no {name}; {_and(have)} {'has' if len(have) == 1 else 'have'}"
    others = {key for record in siblings for key in record.model_fields}
    own = {key for record in here for key in record.model_fields} - others
    beside = [shown(key) for key in node if key in own] if isinstance(node, Mapping) else []
    return f"it does not go together with {_and(beside)}" if siblings and beside else ""


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _listed(homes: Sequence[str]) -> str:
    places = [f"in {home}" if home else "at the top level" for home in homes[:_MAX_PLACES]]
    return " or ".join(places) + (" and elsewhere" if len(homes) > _MAX_PLACES else "")


def _homes(model: type[BaseModel], name: str) -> list[str]:
    """Return the nearest places of the whole record that have a key (`blocks.N`)."""
    level: dict[type[BaseModel], list[str]] = {model: [""]}
    seen: set[type[BaseModel]] = set()
    while level:
        if found := [
            at for record, places in level.items() if name in record.model_fields for at in places
        ]:
            return list(dict.fromkeys(found))
        seen |= level.keys()
        below: dict[type[BaseModel], list[str]] = {}
        for record, places in level.items():
            for key, field in record.model_fields.items():
                item = ".N" if get_origin(field.annotation) in (tuple, list) else ""
                for inner in _records_in(field.annotation):
                    if inner not in seen:
                        at = [f"{place}.{key}{item}".lstrip(".") for place in places]
                        below.setdefault(inner, []).extend(at)
        level = below
    return []


def _value(raw: Any, path: Path) -> Any:
    """Return what a path leads to; None if it leads nowhere, as with a key that is there twice."""
    try:
        return reduce(getitem, path, raw)
    except (LookupError, TypeError):
        return None


def _records_at(model: type[BaseModel], path: Path, raw: Any) -> list[type[BaseModel]]:
    """Return the records that may stand at a path: all that a union there allows."""
    records = [model]
    for depth, part in enumerate(path):
        if isinstance(part, str):
            chosen = _chosen(records, _value(raw, path[:depth]))
            fields = [record.model_fields[part] for record in chosen if part in record.model_fields]
            records = [record for field in fields for record in _records_in(field.annotation)]
    return list(dict.fromkeys(records))


def _chosen(records: Sequence[type[BaseModel]], node: object) -> Sequence[type[BaseModel]]:
    """Return the records whose tag an object has; all of them if it has none."""
    if not isinstance(node, Mapping):
        return records
    tagged = [
        record
        for record in records
        if any(node.get(key) == tag for key, tag in _tags(record).items())
    ]
    return tagged or records


def _tags(record: type[BaseModel]) -> dict[str, str]:
    """Return the fields of a record that tell it apart in a union, with their only value."""
    return {
        key: get_args(field.annotation)[0]
        for key, field in record.model_fields.items()
        if field.is_required() and get_origin(field.annotation) is Literal
    }


def _records_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the records that an annotation names, but not those of their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        annotation.model_rebuild()
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from _records_in(inner)
