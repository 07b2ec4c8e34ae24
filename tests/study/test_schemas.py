"""`archsearch schema`: what it prints agrees with what archsearch reads."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints
from archsearch.common.parse import from_json, from_mapping, from_toml
from archsearch.errors import InputError
from archsearch.spec.models import Frozen, Spec
from archsearch.study.config import Study, load_study, shipped_studies, study_toml
from archsearch.study.schemas import json_schema
from archsearch.training.recipe import Recipe
from tests.conftest import ROOT, Cli
from tests.strategies import Json, spec_of, specs

MODELS: dict[str, type[Frozen]] = {
    "spec": Spec, "study": Study, "recipe": Recipe, "constraints": Constraints,
}  # fmt: skip
NAMES = list(MODELS)
VALIDATORS = {name: Draft202012Validator(json_schema(name)) for name in NAMES}
SEEDS = sorted((ROOT / "studies" / "seeds").glob("*/spec.json"))


def reads(name: str, document: Any) -> bool:
    """Whether archsearch reads `document`, shapes aside."""
    try:
        from_mapping(MODELS[name], document, name)
    except InputError:
        return False
    return True


def allows(name: str, document: Any) -> bool:
    """Whether the schema does."""
    return VALIDATORS[name].is_valid(document)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_prints_a_schema_of_this_draft(name: str, cli: Cli) -> None:
    result = cli("schema", name)
    assert result.status == 0
    schema = json.loads(result.out)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == f"archsearch {name}"
    assert list(schema)[:3] == ["$schema", "title", "description"]


def test_an_unknown_name_is_a_sentence(cli: Cli) -> None:
    result = cli("schema", "specs")
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        "error: no schema is called 'specs'; choose spec, study, recipe, constraints\n"
    )


def test_what_a_schema_cannot_say_is_said() -> None:
    assert "`archsearch validate` tells" in json_schema("spec")["description"]


def test_the_strings_under_fields_are_their_descriptions() -> None:
    models = json_schema("spec")["$defs"]
    for owner in ("Conv", "DepthwiseSeparable"):  # inherited by both
        bias = models[owner]["properties"]["bias"]
        assert bias["description"] == "null: a bias only where no norm follows."
    assert "description" not in models["Conv"]["properties"]["stride"]
    assert models["Residual"]["properties"]["activation"]["description"] == "After the sum."
    assert models["Flatten"]["description"] == "(C, H, W) to (C * H * W,)."


def test_every_field_is_in_the_schema() -> None:
    for name, model in MODELS.items():
        assert set(json_schema(name)["properties"]) == {*model.model_fields, "$schema"}


# What is read is allowed


@settings(max_examples=60)
@given(specs())
def test_drawn_specs(spec: Spec) -> None:
    assert allows("spec", spec.model_dump(mode="json"))
    assert allows("spec", spec.model_dump(mode="json", exclude_unset=True))


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.parent.name)
def test_the_seeds(path: Path) -> None:
    assert allows("spec", json.loads(path.read_text()))


@pytest.mark.parametrize("name", shipped_studies())
def test_shipped_studies_as_written_and_as_written_out(name: str) -> None:
    file = resources.files("archsearch.study") / "shipped" / f"{name}.toml"
    assert allows("study", tomllib.loads(file.read_text()))
    assert allows("study", tomllib.loads(study_toml(load_study(name))))


CONV: Json = {"op": "conv", "out_channels": 8, "kernel_size": [3, 5], "padding": 1, "groups": 2}
SPEC: Json = spec_of(
    [
        [
            CONV,
            {"op": "depthwise_separable", "out_channels": 8, "mid_norm": "layer"},
            {"op": "residual", "body": [CONV], "activation": "relu"},
            {"op": "parallel", "branches": [[CONV], []], "merge": "concat", "split": True},
            {"op": "max_pool", "kernel_size": 2, "stride": None, "padding": [0, 1]},
        ]
    ],
    [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10, "dropout": 0.1}],
    32,
    32,
)
RECIPE: Json = {
    "optimizer": "adamw",
    "lr": 0.25,
    "schedule": {"kind": "step", "milestones": [3, 5], "gamma": 0.5},
    "augment": {"flip": 0.5, "translate": 4, "cutout": {"size": 8}, "affine": {"scale": 0.25}},
    "clip_norm": None,
    "target_accuracy": False,
}
CONSTRAINTS: Json = {
    "max_params": None,
    "max_macs": False,
    "conv_blocks": 3,
    "dilated": True,
    "no_pooling": True,
    "strided_dilated": None,
}
STUDY: Json = {
    "name": "mine",
    "constraints": CONSTRAINTS,
    "space": {"block1": {"width": [8, 16], "body": ["conv"]}, "activation": ["relu", "silu"]},
    "start": [{"block1.width": 8, "block1.body": "conv"}],
    "recipe": RECIPE,
    "final_recipe": {"schedule": {"kind": "cosine"}, "epochs": 2},
    "sampler": {"kind": "random"},
}
DOCUMENTS = {"spec": SPEC, "study": STUDY, "recipe": RECIPE, "constraints": CONSTRAINTS}

STRANGE = st.sampled_from(
    [
        None, True, False, 0, 1, 2, -1, 3, 17, 2_000_000, 0.5, -0.5, 1.5, "", "1", "0.5", "same",
        "conv", "depthwise", "relu", "batch", "cosine", "a/b", "x" * 300, [], [1], [1, 2],
        [1, 2, 3], [[1, 2]], ["conv"], {}, {"op": "conv"}, {"op": "flatten"}, {"kind": "cosine"},
        {"kind": "triangular", "peak": 0.5},
    ]
).map(copy.deepcopy)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside `value`."""
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    below = [found for key, item in inside for found in places(item, (*path, key))]
    return [path, *below] if path else below


@st.composite
def nearly(draw: st.DrawFn, document: Json) -> Json:
    """`document` with a few values replaced, removed or added."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        found = places(changed)
        if not found:
            break
        *way, key = draw(st.sampled_from(found))
        owner = changed
        for step in way:
            owner = owner[step]
        match draw(st.sampled_from(["replace", "replace", "remove", "add"])):
            case "replace":
                owner[key] = draw(STRANGE)
            case "remove":
                del owner[key]
            case "add" if isinstance(owner, dict):
                owner[draw(st.sampled_from(["kernal_size", "$schema", "op", "bias"]))] = draw(
                    STRANGE
                )
            case _:
                pass
    return changed


@pytest.mark.parametrize("name", NAMES)
def test_the_documents_that_are_broken_below_are_whole(name: str) -> None:
    assert reads(name, DOCUMENTS[name])
    assert allows(name, DOCUMENTS[name])


@settings(max_examples=600)
@given(st.sampled_from(NAMES).flatmap(lambda n: st.tuples(st.just(n), nearly(DOCUMENTS[n]))))
def test_broken_or_not_both_say_the_same(named: tuple[str, Json]) -> None:
    name, document = named
    if document.get("format") is True:
        return  # pydantic takes true for 1
    assert reads(name, document) == allows(name, document)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("spec", {"name": ""}),
        ("spec", {"name": 3}),
        ("spec", {"format": 2}),
        ("spec", {"classes": 1}),
        ("spec", {"classes": 1.5}),
        ("spec", {"blocks": []}),
        ("spec", {"blocks": [{"name": "b", "layers": []}]}),
        ("spec", {"blocks": [{"name": "b", "layers": [{"op": "convolution"}]}]}),
        ("spec", {"blocks": [{"name": "b", "layers": [{"out_channels": 8}]}]}),
        ("spec", {"blocks": [{"name": "b", "layers": [CONV | {"kernal_size": 3}]}]}),
        ("spec", {"blocks": [{"name": "b", "layers": [CONV | {"kernel_size": [3]}]}]}),
        ("spec", {"blocks": [{"name": "b", "layers": [CONV | {"kernel_size": 0}]}]}),
        ("spec", {"blocks": [{"name": "b", "layers": [CONV | {"padding": "full"}]}]}),
        ("spec", {"blocks": [{"name": "b", "layers": [CONV | {"groups": "all"}]}]}),
        ("spec", {"blocks": [{"name": "b", "layers": [CONV | {"dropout": 1}]}]}),
        ("spec", {"blocks": [{"name": "b", "layers": [CONV | {"bias": 1}]}]}),
        ("spec", {"blocks": [{"name": "b", "layers": [CONV | {"$schema": "x"}]}]}),
        ("spec", {"$schema": 3}),
        ("recipe", {"lr": 0}),
        ("recipe", {"lr": "0.1"}),
        ("recipe", {"momentum": True}),
        ("recipe", {"schedule": {"peak": 0.2}}),
        ("recipe", {"schedule": {"kind": "step"}}),
        ("recipe", {"target_accuracy": True}),
        ("recipe", {"augment": {"flip": 2}}),
        ("constraints", {"max_params": True}),
        ("constraints", {"max_params": -1}),
        ("constraints", {"max_rf": 3}),
        ("constraints", {"no_pooling": 1}),
        ("constraints", {"strided_dilated": "yes"}),
        ("study", {"name": "../out"}),
        ("study", {"start": [{"block1.depth": True}]}),
        ("study", {"space": {"block1": {"width": []}}}),
        ("study", {"recipe": {"$schema": "x"}}),
    ],
)
def test_broken_documents_are_refused_by_both(name: str, change: Json) -> None:
    document = DOCUMENTS[name] | change
    assert not reads(name, document)
    assert not allows(name, document)


# `$schema` in a user's file


@pytest.mark.parametrize("name", ["spec", "recipe", "constraints"])
def test_a_json_file_may_name_its_schema(name: str) -> None:
    model, document = MODELS[name], DOCUMENTS[name]
    plain = from_json(model, json.dumps(document), "plain")
    named = from_json(model, json.dumps({"$schema": "./x.json"} | document), "named")
    assert named == plain
    assert named.model_dump_json() == plain.model_dump_json()
    assert named.model_fields_set == plain.model_fields_set


def test_a_study_file_may_name_its_schema() -> None:
    text = study_toml(load_study("demo"))
    named = from_toml(Study, f'"$schema" = "./study.schema.json"\n{text}', "named")
    assert study_toml(named) == text


def test_a_spec_that_names_its_schema_is_the_same_network() -> None:
    text = SEEDS[0].read_text()
    hashes = [
        analyze(from_json(Spec, json.dumps(extra | json.loads(text)), "spec")).spec_hash
        for extra in ({}, {"$schema": "https://example.org/spec.schema.json"})
    ]
    assert hashes[0] == hashes[1]


def test_problems_beside_it_are_told_as_ever() -> None:
    with pytest.raises(InputError) as caught:
        from_json(Spec, json.dumps({"$schema": "x", "name": "", "blok": 1}), "spec.json")
    places_told = [problem.place for problem in caught.value.problems]
    assert places_told == ["name", "blocks", "output", "blok"]


@pytest.mark.parametrize("value", [None, 3, ["a"], {"a": 1}])
def test_a_schema_that_is_no_text_is_an_unknown_key(value: Any) -> None:
    with pytest.raises(InputError, match=r"unknown key '\$schema'"):
        from_json(Constraints, json.dumps({"$schema": value}), "limits.json")


def test_the_study_reference_is_the_default_study_and_names_every_key(cli: Cli) -> None:
    text = cli("schema", "study", "--toml").out
    assert from_toml(Study, text, "reference") == Study(name="my-study")
    schema = json_schema("study")
    models = [schema, *schema["$defs"].values()]
    shown = {"BlockSpace", "Constraints", "Recipe", "Sampler", "Pruner", "Space", "Augment", "Init"}
    for model in models:
        if model["title"] not in shown | {"archsearch study"}:
            continue
        for name, field in model["properties"].items():
            if name == "$schema":
                continue
            assert re.search(rf"^(# )?\[?([a-z0-9_]+\.)*{name}\b", text, re.MULTILINE), name
            if description := field.get("description"):
                flat = " ".join(line.removeprefix("# ") for line in text.splitlines())
                assert " ".join(description.split()) in flat, name


def test_only_study_files_are_toml(cli: Cli) -> None:
    result = cli("schema", "spec", "--toml")
    assert result.status == 2
    assert "archsearch schema study --toml" in result.err
