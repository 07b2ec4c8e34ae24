"""Every field of a study file with its default and what it means, as a study file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from textwrap import wrap
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from archsearch.spec.models import Frozen
from archsearch.study.config import Study
from archsearch.study.schemas import field_docs

_COLUMNS = 96


def study_reference() -> str:
    """A study file that says of every key what it is, at its default; made from the models."""
    return "\n".join(_table(Study(name="my-study"), (), set())) + "\n"


def _table(record: Frozen, path: tuple[str, ...], explained: set[type]) -> Iterator[str]:
    """A record as a TOML table; each kind of record is explained once."""
    model = type(record)
    docs = None if model in explained else field_docs(model)
    explained.add(model)
    if path:
        yield f"[{'.'.join(path)}]"
    for name, value in sorted(record, key=lambda item: isinstance(item[1], Frozen)):
        if isinstance(value, Frozen):
            yield ""
        if docs is not None:
            yield from _comment(docs.get(name, ""), model.model_fields[name])
        if isinstance(value, Frozen):
            yield from _table(value, (*path, name), explained)
        else:
            yield _line(name, value)


def _line(name: str, value: object) -> str:
    if value is None:
        return f"# {name} is not set"
    if value == ():
        return f"# {name} is empty"
    return f"{name} = {json.dumps(value)}"  # what JSON has beside null, TOML writes alike


def _comment(doc: str, field: FieldInfo) -> Iterator[str]:
    yield from _wrapped(doc)
    choices = list(dict.fromkeys(_choices(field.annotation)))
    if len(choices) > 1:
        yield from _wrapped(f"One of {', '.join(map(str, choices))}.")


def _wrapped(text: str) -> Iterator[str]:
    yield from (f"# {line}" for line in wrap(" ".join(text.split()), _COLUMNS))


def _choices(annotation: Any) -> Iterator[Any]:
    """The literals that a field, or each of its items, is one of."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif isinstance(annotation, UnionType) or get_origin(annotation) in (Union, tuple, Annotated):
        for part in get_args(annotation):
            if isinstance(part, type) and issubclass(part, Frozen):  # a table of several kinds
                kind = part.model_fields.get("kind")
                yield from _choices(kind.annotation) if kind else ()
            else:
                yield from _choices(part)
