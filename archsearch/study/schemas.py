"""The files that a user writes, as JSON Schema (draft 2020-12), for editors and other programs."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from typing import Any, cast

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from archsearch.analysis.constraints import Constraints
from archsearch.errors import ArchsearchError, shown
from archsearch.spec.models import Frozen, Spec
from archsearch.study.config import Study
from archsearch.training.recipe import Recipe

_MODELS: dict[str, type[Frozen]] = {
    "spec": Spec, "study": Study, "recipe": Recipe, "constraints": Constraints,
}  # fmt: skip
_BEYOND = {
    "spec": "Whether shapes fit together is not in here: `archsearch validate` tells.",
    "study": "Whether start holds settings of space is not in here: `archsearch search` tells.",
}


def json_schema(name: str) -> dict[str, Any]:
    """The schema of a spec, study, recipe or constraints file, by that name.

    Raises:
        ArchsearchError: there is no such file.
    """
    if name not in _MODELS:
        raise ArchsearchError(f"no schema is called {shown(name)}; choose {', '.join(_MODELS)}")
    model = _MODELS[name]
    schema = model.model_json_schema(schema_generator=_Described)
    description = " ".join(filter(None, (schema["description"], _BEYOND.get(name))))
    properties = {
        "$schema": {"type": "string", "description": "For your editor; archsearch ignores it."},
        **schema["properties"],
    }
    head = {
        "$schema": _Described.schema_dialect,
        "title": f"archsearch {name}",
        "description": description,
    }
    return head | schema | head | {"properties": properties}  # `head` first, and its values


class _Described(GenerateJsonSchema):
    """Pydantic's schemas, with the strings under fields and without titles made from names.

    Pydantic reads those strings too (`use_attribute_docstrings`), but whenever a model is
    imported, which `validate` would wait for.
    """

    def field_title_should_be_set(self, _schema: Any) -> bool:
        """Never: `Out Channels` says nothing that `out_channels` does not."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        """A model's schema."""
        made = super().model_schema(schema)
        made["description"] = made["description"].partition("\n\nExample:")[0]
        for name, text in field_docs(schema["cls"]).items():
            made["properties"][name]["description"] = text
        return made


def field_docs(model: type) -> dict[str, str]:
    """The strings under a model's fields, its own and inherited, by field."""
    docs: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, Frozen):
            continue
        definition = cast(ast.ClassDef, ast.parse(inspect.getsource(cls)).body[0])
        for field, after in pairwise(definition.body):
            match field, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    docs[name] = inspect.cleandoc(text)
                case _:
                    pass
    return docs
