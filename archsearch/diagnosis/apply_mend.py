"""Apply the fix that a finding suggests, and describe it in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any, get_args

from pydantic_core import to_jsonable_python

from archsearch.common.parse import from_mapping
from archsearch.diagnosis.findings import Edit, Fields
from archsearch.spec import models as s
from archsearch.training.recipe import Recipe


def describe_edit(base: object, edit: Edit) -> str:
    """Describe an edit: each field that changes, before and after."""
    parts: dict[str, list[str]] = {}
    for place, fields in edit.items():
        before = base if not place else layer_at(base, place)
        what = "taken out" if fields is None else _fields_told(before, fields)
        if what:
            parts.setdefault(what, []).append(place)
    return "; ".join(
        f"{', '.join(filter(None, places))}: {what}" if any(places) else what
        for what, places in parts.items()
    )


def _fields_told(before: object, fields: Fields) -> str:
    return ", ".join(
        words
        for name, value in fields.items()
        for words in _field_told(name, getattr(before, name, None), value)
    )


def _field_told(name: str, old: object, new: object) -> Iterator[str]:
    """A field's change; of a record that stays of its kind, the change of each of its fields."""
    if isinstance(old, s.Frozen) and type(old) is type(new):
        for inner in type(old).model_fields:
            yield from _field_told(f"{name}.{inner}", getattr(old, inner), getattr(new, inner))
    elif old != new:
        yield f"{name} {_shown(old)} -> {_shown(new)}"


def _shown(value: object) -> str:
    if isinstance(value, s.Frozen):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_shown(each)}" for name, each in value.items()) or "as usual"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def apply_edit(spec: s.Spec, edit: Edit) -> s.Spec:
    """Apply an edit to the layers of a spec.

    Raises:
        InputError: it cannot be written down.
    """
    raw: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True)
    gone: list[tuple[list[object], int]] = []
    for place, fields in edit.items():
        *path, number = place.split(".")
        layers = layer_at(raw, ".".join(path))
        if fields is None:
            gone.append((layers, int(number)))
        else:
            layers[int(number)] = _merged(layers[int(number)], fields)
    for layers, index in sorted(gone, key=itemgetter(1), reverse=True):
        del layers[index]
    return from_mapping(s.Spec, raw, spec.name)


def _merged(layer: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """A layer with other fields; of another kind, it keeps what that kind has, too."""
    kind = fields.get("op", layer["op"])
    known = _FIELDS[str(kind)]
    return {name: value for name, value in {**layer, **fields}.items() if name in known}


_FIELDS = {
    get_args(kind.model_fields["op"].annotation)[0]: kind.model_fields.keys()
    for kind in get_args(get_args(s.Layer)[0])
}
"""By `op`, the fields of a layer."""


def layer_at(root: object, place: str) -> Any:
    """What stands at a place of a spec, or of its JSON (`blocks.0.layers.2`)."""
    at: Any = root
    for part in place.split("."):
        if isinstance(at, list | tuple):
            at = at[int(part)]
        else:
            at = at[part] if isinstance(at, Mapping) else getattr(at, part)
    return at


def changed(recipe: Recipe, edit: Edit) -> Recipe:
    """A recipe with other fields."""
    fields = to_jsonable_python(edit.get("") or {})
    return from_mapping(Recipe, {**recipe.model_dump(mode="json"), **fields}, "recipe")
