"""The two public networks that must come out right, through the command line."""

from __future__ import annotations

import json

import pytest

from archsearch.common.parse import from_json
from archsearch.training.recipe import Recipe
from tests.conftest import ROOT, Cli

SEEDS = ROOT / "studies" / "seeds"


def test_eva8_session6_is_accepted(cli: Cli) -> None:
    result = cli("validate", SEEDS / "eva8-session6" / "spec.json", "--format", "json")
    verdict = json.loads(result.out)
    assert result.status == 0
    assert verdict["verdict"] == "accepted"
    assert verdict["violations"] == []
    assert verdict["params"] == 97_284
    assert verdict["receptive_field"] == 69
    assert verdict["receptive_field_with_gap"] == 109
    # The public count of the same architecture's multiply-accumulates, in millions.
    assert round(verdict["macs"] / 1e6, 1) == 26.4


def test_era_s9_is_rejected_by_its_parameters_alone(cli: Cli) -> None:
    result = cli("validate", SEEDS / "era-s9" / "spec.json", "--format", "json")
    verdict = json.loads(result.out)
    assert result.status == 1
    assert verdict["verdict"] == "rejected"
    assert verdict["params"] == 214_651
    assert verdict["receptive_field"] == 77
    assert verdict["receptive_field_with_gap"] == 85
    assert [(v["rule"], v["limit"], v["actual"]) for v in verdict["violations"]] == [
        ("max_params", 200_000, 214_651)
    ]


@pytest.mark.parametrize("seed", ["eva8-session6", "era-s9"])
def test_recipes_parse(seed: str) -> None:
    path = SEEDS / seed / "recipe.json"
    from_json(Recipe, path.read_text(), str(path))
