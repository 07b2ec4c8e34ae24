"""Problems name the place, the key and what was meant, whatever the keys look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from archsearch.analysis.constraints import Constraints
from archsearch.common.parse import from_json, from_mapping, from_toml
from archsearch.errors import MAX_LINE_CHARS, MAX_PROBLEMS_SHOWN, ArchsearchError, InputError
from archsearch.spec.models import Frozen, Spec
from archsearch.study.config import Study
from archsearch.training.recipe import Recipe
from tests.conftest import Cli

CONV = {"op": "conv", "out_channels": 10}


def spec(*layers: Any, **fields: Any) -> dict[str, Any]:
    return {
        "name": "net",
        "blocks": [{"name": "b", "layers": list(layers) or [CONV]}],
        "output": {"layers": [{"op": "global_avg_pool"}]},
        **fields,
    }


def problems(model: type[Frozen], data: dict[str, Any]) -> dict[str, str]:
    """What is wrong, by place; the same from JSON text and from plain data."""
    with pytest.raises(InputError) as of_text:
        from_json(model, json.dumps(data), "given")
    with pytest.raises(InputError) as of_data:
        from_mapping(model, data, "given")
    assert of_text.value.problems == of_data.value.problems
    return {problem.place: problem.message for problem in of_text.value.problems}


def only(model: type[Frozen], data: dict[str, Any]) -> tuple[str, str]:
    (found,) = problems(model, data).items()
    return found


ODD_KEYS = {
    "a.b": "'a.b'",
    "": "''",
    "blocks.0": "'blocks.0'",
    "[0]": "'[0]'",
    "it's": '"it\'s"',
    "a\x1b[2J\n": r"'a\x1b[2J\n'",
    "\u202eright": r"'\u202eright'",
    "\u2028": r"'\u2028'",
    "x" * 10_000: f"'{'x' * 40}...'",
}


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize(
    ("model", "record", "place"),
    [
        (Spec, spec(), ""),
        (Spec, spec(CONV), "blocks.0.layers.0."),
        (Spec, spec({"op": "residual", "body": [CONV]}), "blocks.0.layers.0.body.0."),
        (Constraints, {}, ""),
        (Recipe, {"schedule": {"kind": "cosine"}}, "schedule."),
        (Recipe, {"augment": {"cutout": {"size": 3}}}, "augment.cutout."),
        (Study, {"name": "s", "constraints": {}}, "constraints."),
    ],
)
def test_any_key_is_reported_at_its_place(
    model: type[Frozen], record: dict[str, Any], place: str, key: str
) -> None:
    data = json.loads(json.dumps(record))
    node = data
    for part in place.split(".")[:-1]:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[key] = 1
    assert only(model, data)[0] == place + ODD_KEYS[key]
    with pytest.raises(InputError, match="has 1 problem") as error:
        from_toml(model, tomli_w.dumps(data), "given")
    assert error.value.problems[0].place == place + ODD_KEYS[key]
    assert all(line.isprintable() for line in str(error.value).split("\n"))


def test_a_key_that_looks_like_a_label_of_a_union_is_a_key() -> None:
    assert problems(
        Spec,
        spec(
            {**CONV, "conv": 1},
            {"op": "conv", "conv": {"out_channels": -1}, "out_channels": -2},
            {**CONV, "kernel_size": {"constrained-int": 1}},
        ),
    ) == {
        "blocks.0.layers.0.conv": "unknown key 'conv'; remove or rename it",
        "blocks.0.layers.1.out_channels": "must be >= 1, got -2",
        "blocks.0.layers.1.conv": "unknown key 'conv'; remove or rename it",
        "blocks.0.layers.2.kernel_size": "must be an integer or [height, width], "
        "got {'constrained-int': 1}",
    }


@pytest.mark.parametrize(
    "data", [{1: 2}, {None: 2}, spec({**CONV, 2.5: 1}), {"a": 1, ("b",): 1}, {"\ud800": 1}]
)
def test_keys_that_are_no_strings_are_problems(data: Any) -> None:
    with pytest.raises(InputError):
        from_mapping(Spec, data, "given")


def test_a_duplicate_key_is_reported_where_it_is() -> None:
    with pytest.raises(InputError, match=r"has 1 problem\n  'a\.b' +unknown key"):
        from_json(Constraints, '{"a.b": 1, "a.b": {"c": 2}}', "given")
    for twice in ('"blocks": [{"x": 1}], "blocks": 3', '"blocks": 3, "blocks": [{"x.y": 1}]'):
        with pytest.raises(InputError, match="  blocks"):
            from_json(Spec, f"{{{twice}}}", "given")


def test_thirty_thousand_unknown_keys_are_a_short_message() -> None:
    data = {f"k{i}": 1 for i in range(30_000)}
    with pytest.raises(InputError) as error:
        from_mapping(Constraints, data, "given")
    lines = str(error.value).split("\n")
    assert len(lines) == MAX_PROBLEMS_SHOWN + 2
    assert lines[0] == "given has 30,000 problems"
    assert lines[-1] == "  ... and 29,960 more"


def test_a_message_is_bounded_whatever_is_quoted_in_it() -> None:
    long = "x" * 10**6
    assert len(str(ArchsearchError(f"{long}: cannot be read"))) == MAX_LINE_CHARS
    with pytest.raises(InputError) as error:
        from_mapping(Spec, spec({**CONV, "stride": long, long: 1, "op": long}, name=long), long)
    assert max(map(len, str(error.value).split("\n"))) < 2 * MAX_LINE_CHARS


def test_an_error_has_one_line_whatever_is_quoted_in_it() -> None:
    assert str(ArchsearchError("a\n\x1b[2J\u202eb: bad")) == r"a\n\x1b[2J\u202eb: bad"


@pytest.mark.parametrize(
    ("op", "meant"),
    {
        "gap": "'global_avg_pool'",
        "GlobalAveragePooling2D": "'global_avg_pool'",
        "AdaptiveAvgPool2d": "'global_avg_pool'",
        "MaxPool2d": "'max_pool'",
        "AvgPool2d": "'avg_pool'",
        "Conv2d": "'conv'",
        "torch.nn.Conv2d": "'conv'",
        "dwconv": "'conv' with groups 'depthwise'",
        "SeparableConv2D": "'depthwise_separable'",
        "BatchNorm2d": "'norm' with kind 'batch'",
        "GroupNorm": "'norm' with kind 'group'",
        "relu": "'activation' with kind 'relu'",
        "SiLU": "'activation' with kind 'silu'",
        "LeakyReLU": "'activation' with kind 'leaky_relu'",
        "Linear": "'linear'",
        "Dense": "'linear'",
        "Flatten": "'flatten'",
        "Dropout": "'dropout'",
        "Dropout2d": "'dropout'",
        "convolution": "'conv'",
    }.items(),
)
def test_an_op_by_the_name_of_another_library(op: str, meant: str) -> None:
    place, message = only(Spec, spec({"op": op}))
    assert place == "blocks.0.layers.0.op"
    assert message == f"unknown op {op!r}; did you mean {meant}?"


@pytest.mark.parametrize("op", [1, None, True, [3], {"a.b": 1}, "", "\x1b"])
def test_an_op_that_is_no_name_gets_the_list(op: Any) -> None:
    assert "choose conv, depthwise_separable" in problems(Spec, spec({"op": op})).popitem()[1]


@pytest.mark.parametrize(
    ("model", "data", "told"),
    [
        (Spec, spec(layers=[CONV]), "it belongs in blocks.N or in output"),
        (Spec, {**spec(), "blocks": [{"name": "b", "layers": [CONV], "input": {}}]},
         "it belongs at the top level"),
        (Spec, {**spec(), "output": {"layers": [CONV], "classes": 10}},
         "it belongs at the top level"),
        (Spec, spec({**CONV, "in_channels": 3}), "it follows from the previous layer: remove it"),
        (Spec, spec({"op": "linear", "out_features": 3, "in_features": 3}),
         "it follows from the previous layer: remove it"),
        (Spec, spec({"op": "norm", "num_features": 3}),
         "it follows from the previous layer: remove it"),
        (Spec, spec({"op": "max_pool", "dilation": 2}),
         "max_pool has no dilation; conv and depthwise_separable have"),
        (Spec, spec({"op": "flatten", "p": 0.1}), "flatten has no p; dropout has"),
        (Spec, spec({**CONV, "kernal_size": 3}), "did you mean 'kernel_size'?"),
        (Recipe, {"schedule": {"kind": "cosine", "peak": 0.3}},
         "cosine has no peak; triangular and one_cycle have"),
        (Recipe, {"schedule": {"kind": "plateau", "gamma": 0.3}},
         "plateau has no gamma; step has"),
        (Recipe, {"schedule": {"kind": "constant", "milestone": [1]}}, "remove or rename it"),
        (Recipe, {"flip": 0.5}, "it belongs in augment"),
        (Recipe, {"learning_rate": 0.5}, "did you mean 'lr'?"),
        (Study, {"name": "s", "max_params": 9}, "it belongs in constraints"),
        (Study, {"name": "s", "epochs": 9}, "it belongs in recipe or in final_recipe"),
        (Study, {"name": "s", "space": {"base": spec(), "block1": 1}},
         "it does not go together with 'base'"),
        (Constraints, {"min_rf": 3}, "did you mean 'min_receptive_field'?"),
        (Constraints, {"rf": 3}, "did you mean 'min_receptive_field'?"),
        (Constraints, {"max_parameters": 3}, "did you mean 'max_params'?"),
        (Constraints, {"MAX_FLOPS": 3}, "did you mean 'max_macs'?"),
    ],
)  # fmt: skip
def test_what_an_unknown_key_is_told(model: type[Frozen], data: dict[str, Any], told: str) -> None:
    message = only(model, data)[1]
    assert message.startswith("unknown key ")
    assert message.endswith(told)


@pytest.mark.parametrize(
    ("schedule", "place", "told"),
    [
        ({"kind": "steplr"}, "schedule.kind", "unknown kind 'steplr'; did you mean 'step'?"),
        ({"kind": "OneCycle"}, "schedule.kind", "unknown kind 'OneCycle'; did you mean"
         " 'one_cycle'?"),
        ({"kind": "warm"}, "schedule.kind", "unknown kind 'warm'; choose triangular, one_cycle,"
         " cosine, step, plateau, constant"),
        ({}, "schedule.kind", "is required: which kind is this?"),
        ({"kind": "step", "step": 1, "milestones": [0]}, "schedule.milestones.0",
         "must be >= 1, got 0"),
    ],
)  # fmt: skip
def test_a_union_is_told_apart_by_its_own_key(
    schedule: dict[str, Any], place: str, told: str
) -> None:
    assert problems(Recipe, {"schedule": schedule})[place] == told


def records(of: type[Frozen] = Frozen) -> list[type[Frozen]]:
    return [found for record in of.__subclasses__() for found in (record, *records(record))]


def test_what_is_suggested_for_a_key_is_another_key_that_the_record_has() -> None:
    suggested = [(record, *item) for record in records() for item in record.other_keys.items()]
    assert len(suggested) > 50
    for record, name, meant in suggested:
        if not record.__name__.startswith("_"):
            assert name not in record.model_fields, (record, name)
            assert meant in record.model_fields or " " in meant, (record, meant)


@pytest.mark.parametrize("brief", [(), ("--brief",)])
def test_a_stream_goes_on_whatever_a_line_holds(
    cli: Cli, tmp_path: Path, brief: tuple[str, ...]
) -> None:
    good = json.dumps(spec())
    lines = [
        good,
        *(json.dumps({key: 1}) for key in ODD_KEYS),
        *(json.dumps(spec({**CONV, key: {key: 1}})) for key in ODD_KEYS),
        json.dumps(spec({"op": ["conv"]}, {"a.b": {"c.d": 1}}, {"op": "conv", "conv.x": [1]})),
        '{"a": 1, "a": {"b": 1}, "blocks": [{"x.y": 1}], "blocks": 3}',
        "[" * 500,
        good,
    ]
    path = tmp_path / "many.ndjson"
    path.write_text("\n".join(lines))
    result = cli("validate", path, "--format", "ndjson", *brief)
    verdicts = [json.loads(line)["verdict"] for line in result.out.splitlines()]
    assert verdicts == ["rejected", *["invalid"] * (len(lines) - 2), "rejected"]
    assert "a bug" not in result.err
    assert all(line.isprintable() for line in result.err.split("\n"))
