"""Diagnoses: each rule where it holds and where not, its figures against torch, its mends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn import functional as F

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.analysis.constraints import Constraints, judge
from archsearch.common.parse import from_json
from archsearch.convert.to_module import build
from archsearch.diagnosis import Diagnosis, diagnosis_of, level_of, network_findings
from archsearch.diagnosis.apply_mend import apply_edit
from archsearch.diagnosis.fix import fix_network, fix_recipe, limit_edits
from archsearch.diagnosis.log_file import Logged
from archsearch.diagnosis.rules import RULES
from archsearch.diagnosis.windows import inside_share
from archsearch.errors import InputError
from archsearch.spec import ops
from archsearch.spec.models import Spec
from archsearch.training.recipe import Recipe
from archsearch.training.recipe_files import load_recipe
from tests.conftest import ROOT
from tests.strategies import Json, examples, specs

SEEDS, STUDIES = ROOT / "studies" / "seeds", ROOT / "studies"
NO_LIMITS = Constraints.model_validate(dict.fromkeys(Constraints.model_fields))


def read(path: Path) -> Spec:
    return from_json(Spec, path.read_text(), str(path))


def seed(name: str) -> Diagnosis:
    recipe = load_recipe(str(SEEDS / name / "recipe.json"))
    return diagnosis_of(analyze(read(SEEDS / name / "spec.json")), Constraints(), recipe)


def conv(out: int, **fields: Any) -> Json:
    return {"op": "conv", "out_channels": out, **fields}


def separable(out: int, **fields: Any) -> Json:
    return {"op": "depthwise_separable", "out_channels": out, **fields}


GAP, LINEAR = {"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}


def of(*layers: Json, head: tuple[Json, ...] = (GAP, LINEAR)) -> Spec:
    return Spec.model_validate(
        {"name": "x", "blocks": [{"name": "b", "layers": layers}], "output": {"layers": head}}
    )


def codes(spec: Spec) -> dict[str, list[str]]:
    """The places of what is found, by code; no limit is held."""
    found: dict[str, list[str]] = {}
    for each in network_findings(analyze(spec), NO_LIMITS):
        found.setdefault(each.code, []).append(each.place)
    return found


WITH_AND_WITHOUT = {
    "linear-network": (
        of(conv(8, activation=None), conv(8, activation=None)),
        of(conv(8, activation=None), {"op": "max_pool"}),
    ),
    "no-activation": (of(conv(8, activation=None), conv(8)), of(conv(8), conv(8))),
    "no-norm": (
        of(conv(8), conv(8, norm=None), conv(8)),
        of(conv(8, norm=None), conv(8, norm=None), {"op": "norm"}, conv(8)),
    ),
    "skipped-cells": (of(conv(8), conv(8, kernel_size=1, stride=2)), of(conv(8, stride=2))),
    "padded-pointwise": (of(conv(8, kernel_size=1, padding=1)), of(conv(8, padding=1))),
    "padding-kernel": (of(conv(8, stride=4), conv(8, stride=4), conv(8)), of(conv(8), conv(8))),
    "depthwise-on-image": (of(separable(8)), of(conv(8), separable(8))),
    "bottleneck": (of(conv(32), conv(8), conv(32)), of(conv(32), conv(24), conv(32))),
    "activation-on-logits": (
        of(conv(8), head=(GAP, {**LINEAR, "activation": "relu"})),
        of(conv(8, activation="relu")),
    ),
    "norm-on-logits": (of(conv(8), conv(10), head=(GAP,)), of(conv(8))),
    "dropout-on-logits": (
        of(conv(8), head=(GAP, LINEAR, {"op": "dropout"})),
        of(conv(8), head=(GAP, {"op": "dropout"}, LINEAR)),
    ),
    "max-pool-head": (
        of(conv(8), head=({"op": "max_pool", "kernel_size": 32}, LINEAR)),
        of(conv(8), head=({"op": "avg_pool", "kernel_size": 32}, LINEAR)),
    ),
    "flatten-head": (of(conv(8), head=({"op": "flatten"}, LINEAR)), of(conv(8))),
    "dropout": (of(conv(8, dropout=0.1), conv(8)), of(conv(8, dropout=0.01), conv(8))),
    "idle-dilation": (of(conv(8, kernel_size=1, dilation=2)), of(conv(8, dilation=2))),
    "early-downsampling": (
        of(conv(8, stride=2), conv(8, stride=2), conv(8), conv(8)),
        of(conv(8), conv(8, stride=2), conv(8, stride=2)),
    ),
    "late-downsampling": (of(conv(8), conv(8)), of(conv(8), conv(8, stride=2), conv(8))),
    "gridding": (
        of(*(conv(8, dilation=2) for _ in range(3))),
        of(conv(8), conv(8, dilation=2), conv(8)),
    ),
    "dead-weights": (
        of(conv(8, kernel_size=32, padding="valid"), conv(8)),
        of(conv(8), conv(8)),
    ),
}


@pytest.mark.parametrize("code", WITH_AND_WITHOUT)
def test_a_rule_finds_what_it_is_about_and_no_other(code: str) -> None:
    with_it, without = WITH_AND_WITHOUT[code]
    assert code in codes(with_it)
    assert code not in codes(without)


def inverted(out: int, wide: int, stride: int = 1) -> list[Json]:
    """An inverted residual's body (MobileNetV2): its last convolution is linear."""
    return [
        conv(wide, kernel_size=1),
        conv(wide, groups="depthwise", stride=stride),
        conv(out, kernel_size=1, activation=None),
    ]


PRE: list[Json] = [
    {"op": "norm"},
    {"op": "activation"},
    conv(16, norm=None, activation=None),
    {"op": "norm"},
    {"op": "activation"},
    conv(16, norm=None, activation=None),
]


WIDER = [PRE[0], PRE[1], conv(32, stride=2, norm=None, activation=None), *PRE[3:5], conv(
    32, norm=None, activation=None
)]  # fmt: skip
PROJECTED: Json = {
    "op": "parallel",
    "merge": "add",
    "branches": [
        [conv(32, stride=2), conv(32, activation=None)],
        [conv(32, kernel_size=1, stride=2, activation=None)],
    ],
}


@pytest.mark.parametrize(
    "layers",
    [
        [conv(16), *inverted(16, 64, 2), {"op": "residual", "body": inverted(16, 64)}, conv(32)],
        [conv(16), *inverted(8, 64, 2), *inverted(8, 64)],
        [conv(16, norm=None, activation=None), *({"op": "residual", "body": PRE} for _ in "ab")],
        [conv(16), {"op": "residual", "body": [conv(32, stride=2), conv(32, activation=None)]}],
        [conv(16), {"op": "squeeze_excite"}, conv(16, norm="group")],
        [conv(16), {"op": "parallel", "branches": [[conv(8)], [conv(8)]]}, conv(16)],
        [conv(16, norm=None, activation=None), {"op": "residual", "body": WIDER}],
        [conv(16), PROJECTED, conv(32)],
    ],
    ids=[
        "mobilenet-v2", "linear bottlenecks", "pre-activation", "resnet", "gates", "branches",
        "pre-activation with a projection", "a projection written out",
    ],
)  # fmt: skip
def test_good_ways_to_build_are_not_warned_of(layers: list[Json]) -> None:
    head = ({"op": "norm"}, {"op": "activation"}, GAP, LINEAR)
    found = codes(of(*layers, head=head))
    assert not {"no-activation", "no-norm", "skipped-cells", "linear-network"} & found.keys()


def residual(*body: Json) -> Json:
    return {"op": "residual", "body": list(body)}


def branches(*layers: Json) -> Json:
    return {"op": "parallel", "branches": [[layer] for layer in layers]}


def test_what_joins_carry_is_followed() -> None:
    linear = conv(8, activation=None)
    found = codes(of(branches(linear, linear), branches(linear, linear)))
    assert "linear-network" in found
    # Residuals of one linear convolution each: linear all the way, whatever the stem does.
    stem = of(conv(8), residual(linear), residual(linear), conv(8))
    assert codes(stem)["no-activation"] == [
        "blocks.0.layers.1.body.0", "blocks.0.layers.2.body.0"
    ]  # fmt: skip
    # A linear branch of several, before a convolution.
    inception = of(conv(8), branches(conv(8), linear), conv(8))
    assert codes(inception)["no-activation"] == ["blocks.0.layers.1.branches.1.0"]
    unnormed = of(conv(8), residual(conv(8, norm=None)), conv(8))
    assert codes(unnormed)["no-norm"] == ["blocks.0.layers.1.body.0"]


@pytest.mark.parametrize("code", WITH_AND_WITHOUT)
def test_a_mend_mends(code: str) -> None:
    spec, _ = WITH_AND_WITHOUT[code]
    found = [each for each in network_findings(analyze(spec), NO_LIMITS) if each.code == code]
    for each in found:
        if each.edit is not None:
            assert each.place not in codes(apply_edit(spec, each.edit)).get(code, [])


def test_rules_of_networks_have_an_example_or_are_the_analyzers() -> None:
    warnings = {
        "blind-cells", "unproductive-layers", "single-cell-map", "off-centre",
        "misaligned-branches", "not-followed",
    }  # fmt: skip
    known = {code for code, rule in RULES.items() if rule.subject == "network"}
    assert known == {"over-limit"} | WITH_AND_WITHOUT.keys() | warnings


# Figures, a second way


def weighted(analysis: Analysis) -> Iterator[tuple[str, ops.Conv2d, ops.Pair, ops.Pair]]:
    for node in analysis.network.nodes():
        if isinstance(node.op, ops.Conv2d):
            yield node.place, node.op, node.before.size, node.after.size


@pytest.mark.property
@examples(60)
@given(specs())
def test_the_share_of_taps_inside_is_that_of_an_unfolded_map_of_ones(spec: Spec) -> None:
    for _, op, before, after in weighted(analyze(spec)):
        (top, bottom), (left, right) = op.padding
        ones = F.pad(torch.ones(1, 1, *before), (left, right, top, bottom))
        taps = F.unfold(ones, op.kernel_size, dilation=op.dilation, stride=op.stride)
        assert inside_share(op, before, after) == pytest.approx(taps.mean().item())


@pytest.mark.parametrize(
    "fields",
    [
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 3, "stride": 2, "dilation": 2},
        {"kernel_size": 2, "stride": 3},
        {"kernel_size": (1, 3), "stride": (2, 1)},
        {"kernel_size": 3, "stride": 3, "dilation": 2},
    ],
)
def test_skipped_cells_are_those_that_get_no_gradient(fields: Json) -> None:
    spec = of(conv(4), conv(4, padding=0, norm=None, activation=None, **fields))
    told = [f for f in network_findings(analyze(spec), NO_LIMITS) if f.code == "skipped-cells"]
    image = torch.ones(1, 1, 24, 24, requires_grad=True)
    pairs = {name: ops.pair(fields.get(name, 1)) for name in ("kernel_size", "stride", "dilation")}
    module = nn.Conv2d(
        1, 1, pairs["kernel_size"], stride=pairs["stride"], dilation=pairs["dilation"]
    )
    module(image).sum().backward()
    assert image.grad is not None
    # Of a map that the windows tile but for its border.
    read = image.grad[0, 0, 6:18, 6:18].ne(0).double().mean().item()
    if read == 1:
        assert not told
    else:
        assert f"reads {read:.0%} of" in told[0].evidence


def test_a_network_is_called_linear_where_torch_says_so() -> None:
    for spec in WITH_AND_WITHOUT["linear-network"]:
        model = build(analyze(spec).network).double().eval()
        a, b = torch.randn(2, 1, 3, 32, 32, dtype=torch.float64)
        with torch.no_grad():
            zero = model(torch.zeros_like(a))
            gap = (model(a + b) - model(a) - model(b) + zero).abs().max().item()
        assert (gap < 1e-9) == ("linear-network" in codes(spec))


# The two seeds, and networks that are good


def test_era_s9_is_told_what_is_wrong_with_it() -> None:
    diagnosis = seed("era-s9")
    found = {(each.code, each.place): each.evidence for each in diagnosis.findings}
    assert "14,651 over the limit" in found["over-limit", ""]
    assert "momentum 0" in found["few-steps", "lr"]
    strided = [f"blocks.{block}.layers.0" for block in (1, 2, 3)]
    for place in strided:
        assert "stride 2" in found["no-activation", place]
        assert ("no-norm", place) in found
    assert ("depthwise-on-image", "blocks.0.layers.0") in found
    assert "3x3 kernel that spans 3x3 on a 2x2 map" in found["padding-kernel", "blocks.3.layers.1"]
    assert ("linear-network", "") in found
    assert diagnosis.failed
    assert limit_edits(diagnosis.analysis.spec, Constraints())


def test_eva8_session6_is_told_what_is_wrong_with_it() -> None:
    found = {(each.code, each.place): each.evidence for each in seed("eva8-session6").findings}
    for block in (0, 1, 2):
        assert "1x1 stride 2 reads 25%" in found["skipped-cells", f"blocks.{block}.layers.2"]
    assert "20 of the 36 cells" in found["padded-pointwise", "blocks.3.layers.1"]
    for what in ("activation", "norm", "dropout"):
        assert (f"{what}-on-logits", "blocks.3.layers.1") in found
    # What a rule says with a mend is not said again without one.
    assert not [place for code, place in found if code == "blind-cells"]


def test_finalists_and_records_have_no_error() -> None:
    good = [
        *STUDIES.glob("*/trials/*/final-0/spec.json"),
        *STUDIES.glob("records/*/spec.json"),
    ]
    assert len(good) > 4
    for path in good:
        assert not diagnosis_of(analyze(read(path)), Constraints(), load_recipe("fast")).failed, (
            path
        )


@pytest.mark.parametrize("name", ["fast", "search", "best"])
def test_shipped_recipes_have_nothing_to_mend(name: str) -> None:
    assert not fix_recipe(load_recipe(name)).edits


# Mended


@pytest.mark.parametrize("name", ["era-s9", "eva8-session6"])
def test_a_seed_is_mended_within_all_limits_by_edits_each_of_which_is_needed(name: str) -> None:
    spec = read(SEEDS / name / "spec.json")
    fixed = fix_network(spec, Constraints())
    assert judge(analyze(fixed.result), Constraints()).accepted
    assert not [
        each
        for each in network_findings(analyze(fixed.result), Constraints())
        if each.edit is not None and level_of(each) != "note"
    ]
    assert all(each.told and each.reason for each in fixed.edits)
    assert fix_network(fixed.result, Constraints()).edits == ()
    model = build(analyze(fixed.result).network)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.property
@examples(25)
@given(specs())
def test_any_network_is_diagnosed_and_mended_to_a_network(spec: Spec) -> None:
    diagnosis = diagnosis_of(analyze(spec), NO_LIMITS)
    for each in diagnosis.findings:
        assert each.code in RULES
        assert each.evidence
    fixed = fix_network(spec, NO_LIMITS)
    assert analyze(fixed.result).params
    before = {each[:2] for each in diagnosis.findings if level_of(each) != "note"}
    if not fixed.edits:
        assert fixed.result == spec
    for edit in fixed.edits:
        assert edit.code in RULES
        assert edit.told
    # Every edit answers to something that was found, here or after an edit before it.
    assert bool(fixed.edits) <= bool(before)


def test_limits_that_no_few_edits_reach_are_told_beside_what_is_mended() -> None:
    hopeless = Constraints(max_params=10, conv_blocks=None)
    spec = of(conv(64, dropout=0.1), conv(64))
    fixed = fix_network(spec, hopeless)
    assert [each.code for each in fixed.edits] == ["dropout"]
    assert "max_params" in {each.rule for each in fixed.broken}
    assert limit_edits(spec, hopeless) == ()


def test_the_number_of_blocks_is_told_and_the_rest_mended() -> None:
    fixed = fix_network(of(conv(600), conv(600)), Constraints())
    assert [each.rule for each in fixed.broken] == ["conv_blocks"]
    assert analyze(fixed.result).params <= 200_000


def test_a_deep_network_is_brought_within_limits_too() -> None:
    deep = of(*(conv(32) for _ in range(40)))
    fixed = fix_network(deep, Constraints(max_params=200_000, conv_blocks=None))
    assert fixed.broken == ()


def test_every_standalone_layer_on_the_logits_is_taken_out() -> None:
    tail = ({"op": "activation"}, {"op": "activation"}, {"op": "dropout", "p": 0.2})
    spec = of(conv(8), conv(10, norm=None, activation=None), *tail, {"op": "dropout"}, head=(GAP,))
    fixed = fix_network(spec, NO_LIMITS)
    assert [layer.op for layer in fixed.result.blocks[0].layers] == ["conv", "conv"]
    assert not {"activation-on-logits", "dropout-on-logits"} & codes(fixed.result).keys()


def test_an_edit_that_cures_nothing_is_not_made() -> None:
    # A stride less leaves the kernel as wide as the map.
    spec = of(conv(8), conv(8, stride=2), conv(8, kernel_size=61, padding=30))
    for each in fix_network(spec, NO_LIMITS).edits:
        assert each.code != "padding-kernel"


def test_mends_do_not_depend_on_the_order_of_sets() -> None:
    spec = of(conv(8), conv(8, activation="silu"), conv(8, activation=None), conv(8, norm="group"))
    assert len({fix_network(spec, NO_LIMITS).edits for _ in range(3)}) == 1


def test_dropout_is_left_where_the_log_says_that_it_overfits() -> None:
    spec = of(conv(8, dropout=0.3), conv(8))
    overfits = [Logged(1, 0.99, 0.7, None, None)]
    found = {each.code for each in diagnosis_of(analyze(spec), NO_LIMITS, None, overfits).findings}
    assert "overfits" in found
    assert "dropout" not in found
    assert not fix_network(spec, NO_LIMITS, frozenset({"dropout"})).edits


def test_an_edit_that_cannot_be_written_down_is_refused() -> None:
    spec = of(conv(8), conv(8))
    with pytest.raises(InputError, match="out_channels"):
        apply_edit(spec, {"blocks.0.layers.0": {"out_channels": 0}})


def test_a_layer_that_is_taken_out_is_gone() -> None:
    spec = of(conv(8), head=(GAP, LINEAR, {"op": "dropout"}))
    fixed = fix_network(spec, NO_LIMITS)
    assert [layer.op for layer in fixed.result.output.layers] == ["global_avg_pool", "linear"]
    assert "taken out" in fixed.edits[0].told


# Recipes


OLD: Json = {
    "optimizer": "sgd", "lr": 0.01, "momentum": 0.0, "epochs": 25, "batch_size": 512,
    "schedule": {"kind": "step", "milestones": [30]}, "weight_decay": 1e-4,
    "decay_norms_and_biases": True, "augment": {"flip": 0.0, "translate": 0},
    "stop_at_target": True,
}  # fmt: skip
HEAVY: Json = {"augment": {"affine": {}, "color_jitter": {}, "grayscale": 0.1}}
RECIPES: dict[str, tuple[Json, Json]] = {
    "few-steps": (OLD, OLD | {"momentum": 0.9, "lr": 0.1}),
    "long-steps": ({"lr": 10.0}, {"lr": 0.2}),
    "sgd-alone": ({"optimizer": "adam"}, {"optimizer": "muon"}),
    "default-start": ({}, {"init": {"whiten": True, "dirac": True}}),
    "flat-schedule": (OLD, OLD | {"epochs": 31}),
    "large-batch": (OLD, OLD | {"batch_size": 256}),
    "decayed-norms": (OLD, OLD | {"weight_decay": 0.0}),
    "no-weight-decay": ({"weight_decay": 0.0}, {}),
    "no-augmentation": (OLD, {}),
    "heavy-augmentation": (HEAVY, HEAVY | {"epochs": 300}),
    "stops-at-target": (OLD, {}),
}


def recipe_codes(raw: Json) -> set[str]:
    diagnosis = diagnosis_of(analyze(of(conv(8))), NO_LIMITS, Recipe.model_validate(raw))
    return {each.code for each in diagnosis.findings if RULES[each.code].subject == "recipe"}


@pytest.mark.parametrize("code", RECIPES)
def test_a_rule_of_recipes_finds_what_it_is_about_and_no_other(code: str) -> None:
    with_it, without = RECIPES[code]
    assert code in recipe_codes(with_it)
    assert code not in recipe_codes(without)


def test_every_rule_of_recipes_has_an_example() -> None:
    assert RECIPES.keys() == {code for code, rule in RULES.items() if rule.subject == "recipe"}


@pytest.mark.parametrize("code", RECIPES)
def test_a_mended_recipe_has_nothing_more_to_mend(code: str) -> None:
    fixed = fix_recipe(Recipe.model_validate(RECIPES[code][0]))
    assert not fix_recipe(fixed.result).edits
    left = recipe_codes(json.loads(fixed.result.model_dump_json()))
    assert {RULES[each].level for each in left} <= {"note"}


def test_a_mended_recipe_keeps_what_is_sound() -> None:
    raw = {"epochs": 7, "label_smoothing": 0.2, "clip_norm": 1.0}
    fixed = fix_recipe(Recipe.model_validate(raw)).result
    assert (fixed.epochs, fixed.label_smoothing, fixed.clip_norm) == (7, 0.2, 1.0)
