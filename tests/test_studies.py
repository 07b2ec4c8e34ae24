"""What `studies/` shows is what the code in this tree says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints, judge
from archsearch.common.csv_files import read_csv
from archsearch.common.parse import from_json, from_toml
from archsearch.spec.models import Spec
from archsearch.study.config import Study
from archsearch.training.recipe import Recipe
from archsearch.training.recipe_files import load_recipe
from tests.conftest import ROOT

STUDIES = ROOT / "studies"
# What a user of this checkout searched (`make demo`) lies there too, without a README.
SEARCHES = sorted(
    path.parent
    for path in STUDIES.glob("*/README.md")
    if path.with_name("leaderboard.csv").exists()
)
ROWS = [
    pytest.param(folder, row, id=f"{folder.name}-{row['trial']}")
    for folder in SEARCHES
    for row in read_csv(folder / "leaderboard.csv")
]


@pytest.mark.parametrize(("folder", "row"), ROWS)
def test_every_row_is_its_specs_and_within_the_limits(folder: Path, row: dict[str, str]) -> None:
    study = from_toml(Study, (folder / "study.toml").read_text(), "study.toml")
    spec = from_json(Spec, (folder / row["spec_path"]).read_text(), row["spec_path"])
    for limits in (study.constraints, Constraints()):
        verdict = judge(analyze(spec), limits)
        assert verdict.accepted
    assert verdict.analysis.spec_hash == row["spec_hash"]
    assert verdict.analysis.params == int(row["params"])
    assert verdict.analysis.macs == int(row["macs"])
    assert verdict.analysis.receptive_field == (int(row["receptive_field"]),) * 2
    history = read_csv((folder / row["spec_path"]).with_name("history.csv"))
    assert len(history) == int(row["epochs"])
    assert float(history[-1]["val_acc"]) == pytest.approx(float(row["val_acc"]), abs=1e-6)


def test_the_searches_that_we_stand_behind_are_all_looked_at() -> None:
    assert {folder.name for folder in SEARCHES} >= {
        "first-light",
        "cifar10-200k",
        "random-baseline",
    }


@pytest.mark.parametrize("folder", SEARCHES, ids=lambda folder: folder.name)
def test_a_searchs_readme_tells_its_finalists_as_the_leaderboard_has_them(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    board = read_csv(folder / "leaderboard.csv")
    assert len({row["spec_hash"] for row in board}) == len(board)
    for row in board:
        if row["test_acc"]:
            told = (
                f"| {row['rank']} | {row['trial']} | `{row['spec_hash'][:12]}` "
                f"| {100 * float(row['val_acc']):.2f} | {100 * float(row['test_acc']):.2f} "
                f"| {int(row['params']):,} | {row['receptive_field']} "
            )
            assert told in text


def test_a_finalists_evaluation_is_of_the_network_and_ends_as_the_leaderboard_has_it() -> None:
    told = {
        row["spec_hash"]: float(row["test_acc"])
        for row in read_csv(STUDIES / "cifar10-200k" / "leaderboard.csv")
        if row["test_acc"]
    }
    paths = STUDIES.glob("cifar10-200k/trials/*/final-0/evaluation/evaluation.json")
    found = [json.loads(path.read_text()) for path in paths]
    assert {each["spec_hash"]: each["accuracy"] for each in found} == told
    for each in found:
        right = sum(row[i] for i, row in enumerate(each["confusion"]))
        assert right == round(each["accuracy"] * each["images"])


RECORDS = sorted((ROOT / "studies" / "records").glob("*/seed-*"))


@pytest.mark.parametrize("run", RECORDS, ids=lambda run: f"{run.parent.name}-{run.name}")
def test_every_record_is_of_its_spec_within_the_limits_and_told_as_it_was(run: Path) -> None:
    record = run.parent
    verdict = judge(analyze(from_json(Spec, (record / "spec.json").read_text(), "")), Constraints())
    assert verdict.accepted
    result = json.loads((run / "result.json").read_text())
    assert result["spec_hash"] == verdict.analysis.spec_hash
    assert result["dataset"] == "cifar10"
    assert result["full"] is True
    recipe = from_json(Recipe, (record / "recipe.json").read_text(), "recipe.json")
    history = read_csv(run / "history.csv")
    assert len(history) == result["epochs"] == recipe.epochs
    seconds = sum(float(epoch["train_seconds"]) for epoch in history)
    assert seconds == pytest.approx(result["train_seconds"], abs=0.1)
    seed, accuracy = run.name.removeprefix("seed-"), 100 * result["test_acc"]
    told = f"| {seed} | {accuracy:.2f} | {result['epochs']} | {result['train_seconds']:.1f} |"
    assert told in (record / "README.md").read_text()


@pytest.mark.parametrize(("record", "name"), [("time-to-85", "fast"), ("highest-accuracy", "best")])
def test_a_records_recipe_is_the_shipped_one(record: str, name: str) -> None:
    path = ROOT / "studies" / "records" / record / "recipe.json"
    assert from_json(Recipe, path.read_text(), "recipe.json") == load_recipe(name)


SEEDS = ROOT / "studies" / "seeds"


@pytest.mark.parametrize(("seed", "low", "high"), [("eva8-session6", 85, 100), ("era-s9", 34, 43)])
def test_the_seeds_ran_by_their_own_recipes_and_ended_as_published(
    seed: str, low: float, high: float
) -> None:
    folder = SEEDS / seed
    analysis = analyze(from_json(Spec, (folder / "spec.json").read_text(), ""))
    recipe = from_json(Recipe, (folder / "recipe.json").read_text(), "")
    result = json.loads((folder / "seed-0" / "result.json").read_text())
    history = read_csv(folder / "seed-0" / "history.csv")
    assert result["spec_hash"] == analysis.spec_hash
    assert len(history) == result["epochs"] <= recipe.epochs
    assert float(history[-1]["val_acc"]) == pytest.approx(result["val_acc"])
    assert low <= 100 * result["test_acc"] <= high
    assert f"**{100 * result['test_acc']:.2f} %**" in (folder / "README.md").read_text()
    published = read_csv(folder / "published.csv")
    assert f"{100 * float(published[-1]['test_acc']):.2f} %" in (folder / "README.md").read_text()


def test_era_s9_with_its_relus_differs_in_nothing_else() -> None:
    ran, described = (
        json.loads((SEEDS / "era-s9" / file).read_text())
        for file in ("spec.json", "with-relu.json")
    )
    separable = [
        layer
        for block in described["blocks"]
        for layer in block["layers"]
        if layer["op"] == "depthwise_separable"
    ]
    assert len(separable) == 8
    for layer in separable:
        assert layer["activation"] == "relu"
        layer["activation"] = None
    assert described["blocks"] == ran["blocks"]
    assert described["output"] == ran["output"]
