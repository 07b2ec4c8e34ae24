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
    return "\n".join(_Writer().table(Study(name="my-study"), ())) + "\n"


class _Writer:
    """Writes records as TOML tables, and explains each kind of record once."""

    def __init__(self) -> None:
        self._explained: set[type] = set()

    def table(self, record: Frozen, path: tuple[str, ...]) -> Iterator[str]:
        model = type(record)
        docs = {} if model in self._explained else field_docs(model)
        explain = model not in self._explained
        self._explained.add(model)
        if path:
            yield f"[{'.'.join(path)}]"
        below = []
        for name, field in model.model_fields.items():
            value = getattr(record, name)
            if isinstance(value, Frozen):
                below.append((name, value))
                continue
            if explain:
                yield from _comment(docs.get(name, ""), field)
            yield _line(name, value)
        for name, value in below:
            yield ""
            if explain:
                yield from _comment(docs.get(name, ""), model.model_fields[name])
            yield from self.table(value, (*path, name))


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
