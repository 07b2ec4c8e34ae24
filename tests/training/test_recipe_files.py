"""Recipes by name: on the command line and in study files."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsearch.common.parse import from_toml
from archsearch.errors import ArchsearchError, InputError
from archsearch.study.config import Study, load_study
from archsearch.training.recipe import Recipe
from archsearch.training.recipe_files import RECIPE_NAMES, load_recipe
from tests.conftest import ROOT, Cli

PACKAGED = ROOT / "archsearch" / "training" / "recipes"


def test_every_shipped_recipe_has_its_name_and_every_name_its_recipe() -> None:
    assert {path.stem for path in PACKAGED.iterdir()} == set(RECIPE_NAMES)
    recipes = [load_recipe(name) for name in RECIPE_NAMES]
    assert len(set(recipes)) == len(recipes)
    assert load_recipe("search").epochs < load_recipe("fast").epochs < load_recipe("best").epochs


def test_a_study_takes_a_recipe_by_name() -> None:
    named = from_toml(Study, 'name = "s"\nrecipe = "fast"', "s.toml")
    assert named.recipe == load_recipe("fast")
    with pytest.raises(InputError) as error:
        from_toml(Study, 'name = "s"\nrecipe = "quick"\nfinal_recipe = 3', "s.toml")
    places = {problem.place: problem.message for problem in error.value.problems}
    assert set(places) == {"recipe", "final_recipe"}
    assert "must be a recipe or one of fast, search, best" in places["recipe"]


def test_the_default_study_ranks_by_the_shipped_recipe() -> None:
    assert load_study("cifar10-200k").recipe == load_recipe("search")


def test_a_recipe_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(ArchsearchError, match=r"no shipped recipe of that name \(fast, search,"):
        load_recipe(str(tmp_path / "nothing.json"))
    path = tmp_path / "mine.json"
    path.write_text('{"epochs": 4}')
    assert load_recipe(str(path)) == Recipe(epochs=4)
    done = cli("train", "studies/seeds/era-s9/spec.json", "--recipe", "quick")
    assert done.status == 2
    assert "no such recipe file" in done.err
