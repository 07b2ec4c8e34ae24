"""Edits of a spec: one knob a change, and the networks that settings stand for."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.analysis.constraints import Constraints, judge
from archsearch.common import csv_files
from archsearch.common.parse import from_json, from_toml
from archsearch.errors import HopelessSpaceError, InputError
from archsearch.space.edits.knobs import apply, edits_of, knobs_of
from archsearch.space.four_blocks import Knobs, Value
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.repair import mend
from archsearch.space.sampling import draw_setting, trim_edits
from archsearch.space.settings import describe_edits, minimal_edits
from archsearch.spec.models import Conv, DepthwiseSeparable, Residual, Spec
from archsearch.spec.network import Join
from archsearch.spec.ops import Conv2d
from archsearch.study.config import Study, load_study, sound, study_toml
from archsearch.study.near_spec import study_near
from archsearch.study.schemas import json_schema
from tests.conftest import ROOT
from tests.strategies import HEADS, Json, examples, spec_of, specs

SCHEMA = Draft202012Validator(json_schema("study"))
SEEDS = ROOT / "studies" / "seeds"


def seed(name: str) -> Spec:
    return from_json(Spec, (SEEDS / name / "spec.json").read_text(), name)


def of(*layers: Json, head: list[Json] | None = None, size: int = 32) -> Spec:
    raw = spec_of([[layer] for layer in layers], head or HEADS[0], size, size)
    return Spec.model_validate(raw | {"input": {"channels": 3, "height": size, "width": size}})


def plain(*widths: int, **fields: Any) -> Spec:
    """A stack of convolutions, one a block: b0, b1, ..."""
    return of(*({"op": "conv", "out_channels": width, **fields} for width in widths))


def changed(spec: Spec, **setting: Value) -> Analysis:
    """After the edits `b1_0_kernel=5`."""
    names = {name.replace(".", "_"): name for name in knobs_of(spec)}
    return analyze(apply(spec, {names[key]: value for key, value in setting.items()}, "x"))


def convolutions(analysis: Analysis) -> list[Conv2d]:
    return [node.op for node in analysis.network.nodes() if isinstance(node.op, Conv2d)]


@st.composite
def settings_of(draw: st.DrawFn) -> tuple[Spec, dict[str, Value]]:
    """A spec, and a setting of up to all of its knobs."""
    spec = draw(specs())
    knobs = knobs_of(spec)
    count = draw(st.integers(0, len(knobs)))
    chosen = draw(st.permutations(sorted(knobs)))[:count]
    return spec, {name: draw(st.sampled_from(list(knobs[name].choices))) for name in chosen}


# Of any spec


@pytest.mark.property
@examples(60)
@given(specs())
def test_every_knob_as_it_is_is_the_same_network(spec: Spec) -> None:
    knobs = knobs_of(spec)
    assert knobs
    assert all(knob.as_is in knob.choices and knob.name == name for name, knob in knobs.items())
    as_is = apply(spec, {name: knob.as_is for name, knob in knobs.items()}, "same")
    assert as_is.name == "same"
    assert analyze(as_is).spec_hash == analyze(spec).spec_hash


@pytest.mark.property
@examples(150)
@given(settings_of())
def test_any_setting_is_a_network_or_input_that_is_refused(drawn: tuple[Spec, Any]) -> None:
    spec, setting = drawn
    try:
        analysis = analyze(apply(spec, setting, "any"))
    except InputError:
        return
    assert analysis.spec.input == spec.input
    assert analysis.network.logits.channels == spec.classes
    assert [block.name for block in analysis.spec.blocks] == [block.name for block in spec.blocks]


@pytest.mark.property
@examples(150)
@given(settings_of())
def test_what_is_told_is_what_differs(drawn: tuple[Spec, Any]) -> None:
    spec, setting = drawn
    knobs = knobs_of(spec)
    lines = describe_edits(Neighbourhood(base=spec), setting)
    differ = {name for name, value in setting.items() if value != knobs[name].as_is}
    assert len(lines) == len(differ)
    for line in lines:
        where, _, change = line.partition(": ")
        before, _, after = change.partition(" -> ")
        [knob] = [
            knob
            for knob in (knobs[name] for name in differ)
            if knob.where == where
            and knob.choices[knob.as_is] == before
            and knob.choices[setting[knob.name]] == after
        ]
        assert before != after, knob


@pytest.mark.property
@examples(60)
@given(specs(), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_near_settings_have_no_more_edits_than_allowed(spec: Spec, most: int, seed: int) -> None:
    space, rng = Neighbourhood(base=spec, max_edits=most), np.random.default_rng(seed)
    start = edits_of(spec, draw_setting(space, (), rng))
    assert 1 <= len(start) <= most
    for _ in range(5):
        near = draw_setting(space, (start,), rng)
        assert near.keys() == knobs_of(spec).keys()
        assert len(edits_of(spec, near)) <= most
        assert edits_of(spec, near) != start or len(start) == most
    knobs = knobs_of(spec)
    far = {name: next(v for v in k.choices if v != k.as_is) for name, k in knobs.items()}
    edits = edits_of(spec, trim_edits(space, far, rng, {}))
    assert len(edits) == min(most, len(knobs))
    assert edits.items() <= far.items()


def test_edits_that_are_kept_go_last() -> None:
    spec = seed("era-s9")
    knobs = knobs_of(spec)
    far = {name: next(v for v in k.choices if v != k.as_is) for name, k in knobs.items()}
    keep = {name: far[name] for name in ("conv4.0.width", "conv1.0.kernel")}
    for number in range(20):
        rng = np.random.default_rng(number)
        left = edits_of(spec, trim_edits(Neighbourhood(base=spec, max_edits=4), far, rng, keep))
        assert len(left) == 4
        assert keep.items() <= left.items()


@pytest.mark.property
@examples(60)
@given(specs())
def test_a_width_alone_never_breaks_a_sum_or_a_group(spec: Spec) -> None:
    """What is added, or convolved in groups, changes with it."""
    if '"split":true' in spec.model_dump_json():
        return  # a half may be cut into groups in turn; that is not followed, and may be refused
    before = analyze(spec)
    joins = [type(node).__name__ for node in before.network.trunk]
    for name, knob in knobs_of(spec).items():
        if knob.kind != "width" or not knob.place:
            continue
        for width in knob.choices:
            after = analyze(apply(spec, {name: width}, "x"))
            # An identity that became a projection would show as more convolutions.
            assert len(convolutions(after)) <= len(convolutions(before))
            assert [type(node).__name__ for node in after.network.trunk] == joins


# One kind at a time


def test_widths() -> None:
    spec = plain(32, 64)
    assert list(knobs_of(spec)["b0.0.width"].choices) == [16, 24, 32, 40, 48]
    assert [op.out_channels for op in convolutions(changed(spec, b0_0_width=24))] == [24, 64]
    both = changed(spec, network_width=50, b0_0_width=48)
    assert [op.out_channels for op in convolutions(both)] == [48, 32]


def test_the_logits_have_no_width() -> None:
    spec = of(
        {"op": "conv", "out_channels": 8},
        head=[{"op": "conv", "out_channels": 10, "kernel_size": 1}, {"op": "global_avg_pool"}],
    )
    assert [name for name in knobs_of(spec) if name.endswith("width")] == [
        "network.width", "b0.0.width",
    ]  # fmt: skip


def test_what_is_summed_and_what_is_depthwise_follows() -> None:
    spec = of(
        {"op": "conv", "out_channels": 16},
        {"op": "residual", "body": [
            {"op": "conv", "out_channels": 32, "kernel_size": 1},
            {"op": "conv", "out_channels": 32, "groups": 32},
            {"op": "conv", "out_channels": 16, "kernel_size": 1},
        ]},
    )  # fmt: skip
    widths = [name for name in knobs_of(spec) if name.endswith("width")]
    assert widths == ["network.width", "b0.0.width", "b1.0.body.0.width"]
    assert "b1.0.body.2" in knobs_of(spec)["b0.0.width"].told(8)
    assert [
        (op.out_channels, op.groups)
        for op in convolutions(changed(spec, b0_0_width=24, b1_0_body_0_width=48))
    ] == [(24, 1), (48, 1), (48, 48), (24, 1)]


def test_kernels_dilations_and_paddings() -> None:
    spec = plain(8, 8, padding=0)
    wide = changed(spec, b0_0_kernel=5, b1_0_dilation=2)
    assert [(op.kernel_size[0], op.dilation[0], op.padding[0]) for op in convolutions(wide)] == [
        (5, 1, (2, 2)), (3, 2, (2, 2)),
    ]  # fmt: skip
    same = changed(spec, b0_0_padding="same")
    assert same.network.sections[0][-1].after.size == (32, 32)


def test_a_padded_pointwise_convolution_can_be_mended() -> None:
    before = analyze(seed("eva8-session6"))
    assert sum(warning.code == "blind-cells" for warning in before.warnings) == 2
    after = analyze(
        apply(before.spec, {"conv2.1.padding": "same", "conv4.1.padding": "same"}, "mended")
    )
    assert not [warning for warning in after.warnings if warning.code == "blind-cells"]


@pytest.mark.parametrize(
    ("how", "first", "pools"),
    [
        ("none", (1, 1), 0),
        ("stride", (3, 2), 0),
        ("max_pool", (1, 1), 1),
        ("skip", (1, 2), 0),
    ],
)
def test_downsampling_that_skips_pixels(how: str, first: tuple[int, int], pools: int) -> None:
    spec = plain(8, kernel_size=1, stride=2)
    after = changed(spec, b0_0_downsampling=how)
    [op] = convolutions(after)
    assert (op.kernel_size[0], op.stride[0]) == first
    layers = after.spec.blocks[0].layers
    assert sum(layer.op == "max_pool" for layer in layers) == pools
    if how == "stride":
        told = knobs_of(spec)["b0.0.downsampling"].told("stride")
        assert told == "b0.0: 1x1 stride 2 -> 3x3 stride 2"


def test_depth_repeats_what_follows_at_rest() -> None:
    spec = of({"op": "depthwise_separable", "out_channels": 8, "stride": 2, "padding": 1})
    layers = changed(spec, b0_0_depth=3).spec.blocks[0].layers
    assert [layer.stride for layer in layers if isinstance(layer, DepthwiseSeparable)] == [2, 1, 1]
    with pytest.raises(InputError, match="at least 1 long"):
        changed(spec, b0_0_depth=0)


def test_a_layer_goes_into_a_residual_and_out_of_it() -> None:
    into = changed(plain(8, 8), b1_0_residual="residual")
    assert isinstance(into.network.sections[1][0], Join)
    out = changed(into.spec, b1_0_residual="plain")
    assert out.spec_hash == analyze(plain(8, 8)).spec_hash
    twice = changed(plain(8, 8), b1_0_residual="residual", b1_0_depth=2)
    assert [type(layer) for layer in twice.spec.blocks[1].layers] == [Residual, Residual]


def test_convolutions_of_the_other_kind() -> None:
    separable = changed(plain(8, 8), b1_0_op="depthwise_separable")
    assert separable.totals.depthwise_separable
    assert changed(separable.spec, b1_0_op="conv").spec_hash == analyze(plain(8, 8)).spec_hash


@pytest.mark.parametrize("op", ["depthwise_separable", "conv"])
def test_a_width_out_of_range_is_input_that_is_refused(op: str) -> None:
    """Also where another edit makes another layer of it."""
    other = "conv" if op == "depthwise_separable" else "depthwise_separable"
    layers: list[Json] = [{"op": other, "out_channels": 800_000, "kernel_size": 1}]
    spec = of(*layers, size=1)
    assert apply(spec, {"network.width": 50, "b0.0.op": op}, "x").blocks[0].layers[0].op == op
    with pytest.raises(InputError, match="must be <= 1000000, got 1200000"):
        apply(spec, {"network.width": 150, "b0.0.op": op}, "x")


def test_linear_convolutions_in_a_row_get_activations() -> None:
    spec = plain(8, 8, norm=None, activation=None)
    blocks = changed(spec, b0_0_activation="relu", b0_0_norm="batch").spec.blocks
    one = [layer for block in blocks for layer in block.layers if isinstance(layer, Conv)]
    assert [(layer.norm, layer.activation) for layer in one] == [
        ("batch", "relu"), (None, None),
    ]  # fmt: skip
    every = changed(spec, network_activation="silu", network_norm="batch")
    assert every.spec_hash == analyze(plain(8, 8, activation="silu")).spec_hash


def test_what_ends_a_branch_or_is_followed_by_them_stays_linear() -> None:
    linear = {"op": "conv", "out_channels": 8, "norm": None, "activation": None}
    spec = of(
        {"op": "conv", "out_channels": 8},
        {"op": "residual", "body": [linear, {"op": "norm"}, {"op": "activation"}, linear]},
    )
    after = changed(spec, network_activation="relu", network_norm="batch")
    assert after.spec_hash == analyze(spec).spec_hash
    assert not [n for n in knobs_of(spec) if n.endswith((".norm", ".activation")) and n[0] == "b"]


def test_a_head_of_its_own_becomes_global_average_pooling() -> None:
    spec = of({"op": "conv", "out_channels": 8}, head=HEADS[2])
    assert not analyze(spec).totals.global_avg_pool
    assert changed(spec, network_head="global_avg_pool").totals.global_avg_pool


def test_a_block_may_be_called_as_the_output_is() -> None:
    spec = of({"op": "conv", "out_channels": 8}, head=HEADS[2])
    block = spec.blocks[0].model_copy(update={"name": "output"})
    named = spec.model_copy(update={"blocks": (block,)})
    assert {"output.0.width", "output_.1.width"} <= knobs_of(named).keys()


def test_layers_of_blocks_whose_names_run_together_are_told_apart() -> None:
    conv, first = {"op": "conv", "out_channels": 8}, {"op": "conv", "out_channels": 16}
    residual = {"op": "residual", "body": [conv, conv]}
    names = {"a": [first, first, residual], "a.2.body": [conv, conv], "a_2_body": [conv]}
    raw = spec_of([[conv]], HEADS[0], 32, 32)
    blocks = [{"name": name, "layers": layers} for name, layers in names.items()]
    spec = Spec.model_validate(raw | {"blocks": blocks})
    kernels = {knob.place: knob.name for knob in knobs_of(spec).values() if knob.kind == "kernel"}
    assert kernels == {
        "blocks.0.layers.0": "a.0.kernel",
        "blocks.0.layers.1": "a.1.kernel",
        "blocks.0.layers.2.body.0": "a.2.body.0.kernel",
        "blocks.0.layers.2.body.1": "a.2.body.1.kernel",
        "blocks.1.layers.0": "a_2_body.0.kernel",
        "blocks.1.layers.1": "a_2_body.1.kernel",
        "blocks.2.layers.0": "a_2_body_.0.kernel",
    }
    widths = [name for name in knobs_of(spec) if name.endswith(".0.width")]
    assert widths == ["a.0.width", "a.2.body.0.width", "a_2_body.0.width", "a_2_body_.0.width"]
    for place, name in kernels.items():
        [widened] = [
            node.place
            for node in analyze(apply(spec, {name: 5}, "x")).network.nodes()
            if isinstance(node.op, Conv2d) and node.op.kernel_size == (5, 5)
        ]
        assert widened == place


@pytest.mark.parametrize(
    "name", ["a\nb", "\x1b[31m", "x; y", "\u2028", "a=b c", "\ufffd", " ", "\0"]
)
def test_labels_are_inert_wherever_they_go(tmp_path: Path, name: str) -> None:
    """Written as rows, split as lists: all comes back, whatever blocks are called."""
    spec = plain(8, 8)
    named = spec.model_copy(
        update={"blocks": (spec.blocks[0].model_copy(update={"name": name}), spec.blocks[1])}
    )
    space = Neighbourhood(base=named)
    setting: dict[str, Value] = {
        knob.name: next(value for value in knob.choices if value != knob.as_is)
        for knob in knobs_of(named).values()
        if knob.place
    }
    lines = describe_edits(space, setting)
    row = {
        "edits": "; ".join(lines),
        "knobs": " ".join(f"{name}={value}" for name, value in setting.items()),
    }
    path = tmp_path / "rows.csv"
    csv_files.append_csv(path, tuple(row), row)
    assert csv_files.mended_csv(path, tuple(row)) == 0
    [back] = csv_files.read_csv(path)
    assert back == row
    assert back["edits"].isprintable()
    assert back["edits"].split("; ") == lines
    pairs = dict(pair.split("=") for pair in back["knobs"].split(" "))
    assert pairs == {name: str(value) for name, value in setting.items()}


# Within limits


def test_the_seed_that_is_over_its_limit_is_mended_by_one_edit() -> None:
    spec = seed("era-s9")
    space = Neighbourhood(base=spec)
    for constraints in (Constraints(), load_study("cifar10-200k").constraints):
        assert [v.rule for v in judge(analyze(spec), constraints).violations] == ["max_params"]
        edits = mend(space, constraints)
        assert len(edits) == 1
        assert judge(analyze(apply(spec, edits, "mended")), constraints).accepted
        assert mend(space, constraints) == edits


@pytest.mark.parametrize(
    "spec",
    [
        plain(32, 48, 64, 64),  # sees 9 pixels, has no depthwise-separable and no dilated layer
        plain(32, 48, 64, 64, kernel_size=1),
        plain(64, 128, 256, 512),  # and is eight times too large
    ],
)
def test_a_receptive_field_that_is_far_too_small_is_mended(spec: Spec) -> None:
    broken = judge(analyze(spec), Constraints()).violations
    assert len(broken) >= 3
    edits = mend(Neighbourhood(base=spec, max_edits=6), Constraints())
    assert len(edits) <= 6
    assert judge(analyze(apply(spec, edits, "mended")), Constraints()).accepted


def test_no_single_edit_does_what_two_are_needed_for() -> None:
    """Second direction: every single edit, one by one."""
    spec, limits = seed("era-s9"), Constraints(max_params=60_000, min_receptive_field=90)
    edits = mend(Neighbourhood(base=spec), limits)
    assert len(edits) == 2
    for name, knob in knobs_of(spec).items():
        for value in knob.choices:
            try:
                verdict = judge(analyze(apply(spec, {name: value}, "x")), limits)
            except InputError:
                continue
            assert not verdict.accepted
    assert judge(analyze(apply(spec, edits, "x")), limits).accepted


def test_what_nothing_mends_names_the_limits() -> None:
    told = r"3 blocks hold a convolution; 4.*--max-edits"
    with pytest.raises(HopelessSpaceError, match=told) as error:
        mend(Neighbourhood(base=plain(8, 8, 8), max_edits=2), Constraints())
    assert "conv_blocks" in str(error.value)


def test_a_spec_within_the_limits_needs_no_edit() -> None:
    spec = from_json(
        Spec, (ROOT / "studies" / "records" / "time-to-85" / "spec.json").read_text(), "x"
    )
    assert mend(Neighbourhood(base=spec), Constraints()) == {}


def test_settings_that_fit_no_network_are_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []

    def fits_not(_base: Spec, edits: Any) -> None:
        tried.append(edits)

    spec = plain(8, 8, 8)
    layers = sum(1 for _ in analyze(spec).network.nodes())
    monkeypatch.setattr("archsearch.space.repair._totals", fits_not)
    monkeypatch.setattr("archsearch.space.repair._MOST_LAYERS", 20 * layers)
    with pytest.raises(HopelessSpaceError):
        mend(Neighbourhood(base=spec), Constraints())
    assert len(tried) == 20


# Edits that change nothing


@pytest.mark.property
@examples(40)
@given(settings_of())
def test_what_is_needed_is_the_same_network_and_no_edit_of_it_is_idle(
    drawn: tuple[Spec, Any],
) -> None:
    spec, setting = drawn
    space = Neighbourhood(base=spec, max_edits=100)
    try:
        whole = analyze(apply(spec, setting, "x"))
    except InputError:
        return
    edits = minimal_edits(space, setting)
    assert edits.items() <= edits_of(spec, setting).items()
    made = analyze(apply(spec, edits, "x"))
    assert (made.spec_hash, made.totals) == (whole.spec_hash, whole.totals)
    assert minimal_edits(space, edits) == edits


def test_edits_that_change_nothing_are_not_needed() -> None:
    spec = plain(8, 16, 32)
    space = Neighbourhood(base=spec)
    does: dict[str, Value] = {"b0.0.kernel": 1, "b1.0.width": 24, "b2.0.kernel": 5}
    idle: dict[str, Value] = {"b0.0.dilation": 2, "network.activation": "relu"}
    assert minimal_edits(space, does) == does
    assert minimal_edits(space, does | idle) == does
    assert minimal_edits(space, idle) == {"b0.0.dilation": 2}
    two = spec.model_copy(update={"blocks": (*spec.blocks[:2], seed("era-s9").blocks[3])})
    gone: dict[str, Value] = {"conv4.1.depth": 0, "conv4.1.kernel": 5, "conv4.1.dilation": 2}
    assert knobs_of(two).keys() >= gone.keys()
    assert minimal_edits(Neighbourhood(base=two), gone) == {"conv4.1.depth": 0}


def test_an_edit_that_others_need_to_fit_stays() -> None:
    spec = of({"op": "conv", "out_channels": 8, "kernel_size": 3, "padding": 0}, size=3)
    grown: dict[str, Value] = {"b0.0.padding": "same", "b0.0.depth": 2}
    assert minimal_edits(Neighbourhood(base=spec), grown) == grown


# Its study


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*/*/spec.json")), ids=str)
def test_the_study_holds_the_spec_and_survives_being_written_out(path: Path) -> None:
    spec = from_json(Spec, path.read_text(), str(path))
    study = study_near(load_study("cifar10-200k"), spec)
    assert study.name == f"{spec.name}-near"
    again = from_toml(Study, study_toml(study), "again")
    assert again == study
    assert study_toml(again) == study_toml(study)
    assert isinstance(again.space, Neighbourhood)
    assert analyze(again.space.base).spec_hash == analyze(spec).spec_hash
    assert len(study.start[0]) + 3 <= again.space.max_edits
    assert SCHEMA.is_valid(tomllib.loads(study_toml(study)))
    sound(again, "again")


@pytest.mark.property
@examples(40)
@given(specs())
def test_any_spec_survives_being_written_out(spec: Spec) -> None:
    study = Study(name="x", space=Neighbourhood(base=spec, max_edits=3))
    again = from_toml(Study, study_toml(study), "again")
    assert again == study
    assert isinstance(again.space, Neighbourhood)
    assert analyze(again.space.base).spec_hash == analyze(spec).spec_hash


def test_a_spec_too_large_for_a_study_file_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Second direction: the study file of one that is not refused is read again."""
    spec, study = seed("era-s9"), load_study("cifar10-200k")
    written = len(study_toml(study_near(study, spec)).encode())
    monkeypatch.setattr("archsearch.study.near_spec.MAX_BYTES", written + (1 << 14))
    assert len(study_toml(study_near(study, spec))) <= written
    monkeypatch.setattr("archsearch.study.near_spec.MAX_BYTES", written)
    monkeypatch.delattr("archsearch.study.near_spec.mend")  # half a minute, of a large one
    with pytest.raises(InputError, match=r"of about \d+ KiB, and at most \d+ KiB.*shorten"):
        study_near(study, spec)


def test_a_spec_of_too_many_knobs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is searched around by command or by a study file."""
    study, spec = load_study("cifar10-200k"), seed("era-s9")
    near = study_near(study, spec)
    count = len(knobs_of(spec))
    monkeypatch.setattr("archsearch.study.config.MAX_KNOBS", count)
    assert sound(near, "study.toml") == near
    monkeypatch.setattr("archsearch.study.config.MAX_KNOBS", count - 1)
    words = f"offer {count} knobs, more than {count - 1}; take"
    with pytest.raises(InputError, match=words):
        study_near(study, spec)
    with pytest.raises(InputError, match=words):
        sound(near, "study.toml")
    monkeypatch.undo()
    conv = {"op": "conv", "out_channels": 8}
    with pytest.raises(InputError, match=r"offer 2,\d+ knobs, more than 2,000"):
        study_near(study, Spec.model_validate(spec_of([[conv] * 400], HEADS[0], 32, 32)))


@pytest.mark.parametrize(
    ("name", "folder"),
    [("a/b c", "a-b-c-near"), ("../..", "spec-near"), ("Netz ü", "Netz-near"), ("x" * 200, None)],
)
def test_a_specs_name_becomes_a_folders(name: str, folder: str | None) -> None:
    spec = seed("era-s9").model_copy(update={"name": name})
    study = study_near(load_study("cifar10-200k"), spec)
    assert study.name == folder or folder is None
    assert from_toml(Study, study_toml(study), "again").name == study.name


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("[space]\nmax_edits = 3", "space.base", "is required"),
        ("[space]\nbase = 3", "space.base", "must be an object"),
        (
            '[space]\nbase.name = "y"\nbase.blocks = [{name = "a", layers = '
            '[{op = "conv", out_channels = 0}]}]\nbase.output.layers = [{op = "flatten"}]',
            "space.base.blocks.0.layers.0.out_channels",
            "must be >= 1, got 0",
        ),
        (
            '[space]\nmax_edits = 0\nbase.name = "y"\nbase.blocks = [{name = "a", layers = '
            '[{op = "conv", out_channels = 8, norm = false}]}]\n'
            'base.output.layers = [{op = "global_avg_pool"}, {op = "linear", out_features = 10}]',
            "space.max_edits",
            "must be >= 1, got 0",
        ),
        ("space = 3", "space", "must be an object"),
        ("[space.block2]\nwidths = [3]", "space.block2.widths", "did you mean 'width'?"),
    ],
)
def test_errors_in_a_study_file_name_their_field(text: str, place: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        from_toml(Study, f'name = "x"\n{text}', "study.toml")
    found = {problem.place: problem.message for problem in error.value.problems}
    assert words in found[place], found


def test_a_base_that_does_not_fit_is_told_in_its_place() -> None:
    small = of({"op": "conv", "out_channels": 8, "groups": 2}, size=16)
    with pytest.raises(InputError) as error:
        sound(Study(name="x", space=Neighbourhood(base=small)), "study.toml")
    assert [problem.place for problem in error.value.problems] == [
        "space.base.blocks.0.layers.0.groups", "space.base.input",
    ]  # fmt: skip


def test_a_start_must_be_a_setting_near_the_base() -> None:
    space = Neighbourhood(base=plain(8, 8), max_edits=1)
    start: tuple[Knobs, ...] = (
        {"b0.0.kernel": 4},
        {"b9.0.kernel": 3},
        {"b0.0.kernel": 5, "b1.0.kernel": 5},
        {},
    )
    with pytest.raises(InputError) as error:
        sound(Study(name="x", space=space, start=tuple(map(dict, start))), "study.toml")
    assert [(problem.place, problem.rule) for problem in error.value.problems] == [
        ("start.0.b0.0.kernel", "choice"),
        ("start.1.b9.0.kernel", "unknown-knob"),
        ("start.2", "max-edits"),
    ]
