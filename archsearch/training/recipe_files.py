"""The recipes inside the package, by name, and recipe files."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator

from archsearch.common.parse import Given, from_given, from_json, is_name
from archsearch.training.recipe import Recipe

RecipeName = Literal["fast", "search", "best"]
"""fast: fewest seconds to 85%; search: short, for ranking; best: long, for the highest accuracy."""
RECIPE_NAMES: tuple[RecipeName, ...] = get_args(RecipeName)


def shipped(name: str) -> Recipe:
    """The shipped recipe of that name (one of `RECIPE_NAMES`)."""
    file = resources.files("archsearch.training") / "recipes" / f"{name}.json"
    return from_json(Recipe, file.read_text(encoding="utf-8"), name)


def load_recipe(given: Recipe | Given) -> Recipe:
    """A shipped recipe by name, a recipe as plain data, or a recipe file.

    Raises:
        InputError: it has problems.
        ArchsearchError: there is no such recipe.
    """
    if is_name(given, RECIPE_NAMES, "recipe"):
        return shipped(given)
    return from_given(Recipe, given)


def _by_name(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value in RECIPE_NAMES:
        return shipped(value)
    raise ValueError(f"must be a recipe or one of {', '.join(RECIPE_NAMES)}")


NamedRecipe = Annotated[
    Recipe, BeforeValidator(_by_name, json_schema_input_type=Recipe | RecipeName)
]
"""A recipe written out, or the name of a shipped one."""
