"""Fixes and the limits: what they keep, where they land, and what they say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints, judge, met_exactly
from archsearch.analysis.constraints import active_rules as rules_of
from archsearch.diagnosis import network_findings
from archsearch.diagnosis.fix import fix_network
from archsearch.errors import HopelessSpaceError
from archsearch.space.edits.knobs import apply
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.repair import mend
from archsearch.spec.models import Spec
from tests.conftest import Cli
from tests.strategies import Json

NO_LIMITS = Constraints.model_validate(dict.fromkeys(Constraints.model_fields))
KINDS = {"no_pooling": True, "strided_dilated": True}


def conv(out: int, **fields: Any) -> Json:
    return {"op": "conv", "out_channels": out, **fields}


def separable(out: int, **fields: Any) -> Json:
    return {"op": "depthwise_separable", "out_channels": out, **fields}


def of(*blocks: list[Json]) -> Spec:
    head = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
    named = [{"name": f"conv{i}", "layers": layers} for i, layers in enumerate(blocks, start=1)]
    return Spec.model_validate({"name": "x", "blocks": named, "output": {"layers": head}})


def limits(**given: Any) -> Constraints:
    return NO_LIMITS.model_copy(update=given)


STRIDED = {"stride": 2, "dilation": 2}
NETWORKS = {
    "just short": of(
        [conv(16), conv(32, **STRIDED)], [separable(48), conv(48, **STRIDED)],
        [separable(64), separable(64)], [separable(96)],
    ),
    "far short": of(
        [conv(16), conv(32, padding=2, **STRIDED)], [separable(32), conv(48, **STRIDED)],
        [separable(64)], [separable(64)],
    ),
    "three of them": of(
        [conv(16), separable(32), conv(32, **STRIDED)],
        [separable(32), separable(32), conv(48, padding=2, **STRIDED)],
        [conv(64, **STRIDED)], [separable(64)],
    ),
    "over the parameters": of(
        [conv(64), conv(96, **STRIDED)], [separable(96), conv(96, **STRIDED)],
        [conv(96), separable(128)], [separable(128)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kinds", [{}, KINDS], ids=["the coursework", "its kinds of layers too"])
def test_strided_dilated_convolutions_stay_what_the_brief_asked_for(
    name: str, kinds: dict[str, bool]
) -> None:
    spec, held = NETWORKS[name], Constraints(**kinds)
    found = {each.code for each in network_findings(analyze(spec), held)}
    assert "skipped-cells" in found
    fixed = fix_network(spec, held)
    analysis = analyze(fixed.result)
    assert judge(analysis, Constraints(**KINDS)).accepted
    assert min(analysis.receptive_field) > 44
    assert "skipped-cells" not in {each.code for each in network_findings(analysis, held)}
    before = [layer.op for block in spec.blocks for layer in block.layers]
    assert [layer.op for block in fixed.result.blocks for layer in block.layers] == before


@pytest.mark.parametrize(
    ("fields", "dilation"),
    [
        ({"stride": 2, "dilation": 2}, 3),
        ({"stride": 3, "dilation": 3}, 4),
        ({"stride": 2, "dilation": [2, 3], "kernel_size": [3, 5]}, 3),
        ({"stride": [2, 1], "dilation": 2}, (3, 2)),
        ({"stride": 2, "dilation": 2, "kernel_size": 1}, 1),
        ({"stride": 2, "dilation": 16}, 1),
    ],
    ids=["2", "3", "per axis", "one axis", "idle", "mostly padding"],
)
def test_a_dilation_under_which_the_stride_skips_nothing(fields: Json, dilation: Any) -> None:
    fixed = fix_network(of([conv(8), conv(8, **fields)]), NO_LIMITS).result
    layer = fixed.blocks[0].layers[1]
    assert layer.op == "conv"
    assert layer.dilation == dilation
    # Of the cells between the borders, all get a gradient.
    module = nn.Conv2d(
        1, 1, layer.kernel_size, stride=layer.stride, dilation=layer.dilation, padding=24
    )
    image = torch.ones(1, 1, 48, 48, requires_grad=True)
    module(image).sum().backward()
    assert image.grad is not None
    assert image.grad[..., 6:42, 6:42].ne(0).all()


def test_no_mend_takes_the_only_strided_dilated_convolution_away() -> None:
    # A stride less would mend the kernels that meet padding.
    spec = of([conv(8, stride=4), conv(8, stride=4, dilation=3, kernel_size=3), conv(8), conv(8)])
    free = fix_network(spec, NO_LIMITS)
    assert not judge(analyze(free.result), limits(strided_dilated=True)).accepted
    held = fix_network(spec, limits(strided_dilated=True))
    assert judge(analyze(held.result), limits(strided_dilated=True)).accepted
    assert held.broken == ()


@pytest.mark.parametrize("wanted", [KINDS, {"no_pooling": True}, {"strided_dilated": True}])
def test_edits_near_a_spec_meet_constraints_on_kinds_of_layers(wanted: dict[str, bool]) -> None:
    # In a search near a spec, too, whose first trial this is.
    spec = of([conv(8), conv(8), conv(8)])
    held = limits(min_receptive_field=15, **wanted)
    edits = mend(Neighbourhood(base=spec), held)
    assert judge(analyze(apply(spec, edits, "x")), held).accepted
    pooled = of([conv(8), {"op": "max_pool"}, conv(8)])
    edits = mend(Neighbourhood(base=pooled), limits(no_pooling=True))
    assert judge(analyze(apply(pooled, edits, "x")), limits(no_pooling=True)).accepted


# Off the limit


@pytest.mark.parametrize("field", [15, 23, 25, 26])
def test_a_fix_lands_beyond_a_limit_where_that_is_possible(field: int) -> None:
    held = limits(min_receptive_field=field)
    spec = of([conv(16), conv(16)], [conv(16), conv(16)])
    fixed = analyze(fix_network(spec, held).result)
    assert min(fixed.receptive_field) > field


def test_what_is_on_a_limit_already_is_left_there() -> None:
    spec = of([conv(16), conv(16)], [conv(16, stride=2), conv(16)])
    held = limits(min_receptive_field=min(analyze(spec).receptive_field))
    assert met_exactly(analyze(spec).totals, rules_of(held))
    assert fix_network(spec, held).edits == ()
    assert mend(Neighbourhood(base=spec), held) == {}


def test_what_mends_put_on_a_limit_is_moved_off_it() -> None:
    # Undilated, the 1x1 kernel's wider one leaves a field of 11.
    spec = of([conv(16), conv(16)], [conv(16, kernel_size=1, stride=2), conv(16)])
    alone = fix_network(spec, NO_LIMITS).result
    field = min(analyze(alone).receptive_field)
    fixed = fix_network(spec, limits(min_receptive_field=field))
    assert fixed.edits[-1].reason.endswith(f"exactly on the limit min_receptive_field {field}")
    assert min(analyze(fixed.result).receptive_field) > field


def test_kinds_of_layers_are_kept_where_sizes_will_do() -> None:
    spec = of([conv(64), conv(128)], [conv(128), conv(128)])
    edits = mend(Neighbourhood(base=spec), limits(max_params=250_000))
    assert not [name for name in edits if name.endswith((".op", ".residual", ".head"))]
    pools = of([conv(8), *[{"op": "max_pool"}] * 4])
    with pytest.raises(HopelessSpaceError, match="no_pooling"):
        mend(Neighbourhood(base=pools, max_edits=2), limits(no_pooling=True))


# What is said where a fix is offered


def asked(cli: Cli, tmp_path: Path, spec: Spec, held: Json, *more: object) -> tuple[str, Json]:
    """Return the page, and the same as JSON."""
    paths = tmp_path / "spec.json", tmp_path / "limits.json"
    paths[0].write_text(spec.model_dump_json(exclude_unset=True))
    paths[1].write_text(json.dumps(dict.fromkeys(Constraints.model_fields) | held))
    given = ("diagnose", paths[0], "--constraints", paths[1], *more)
    data = cli(*given, "--format", "json")
    return cli(*given).out, json.loads(data.out)


def test_edits_that_leave_a_limit_say_so_without_fix(cli: Cli, tmp_path: Path) -> None:
    spec = of([conv(600), conv(600)])
    page, data = asked(cli, tmp_path, spec, {"max_params": 200_000, "conv_blocks": 4})
    told = "1 blocks hold a convolution; 4 and an output are wanted"
    assert f"still over a limit after these edits: {told}" in page
    assert data["left_over_limits"] == [told]
    assert data["edits_within_limits"]
    page, data = asked(cli, tmp_path, spec, {"max_params": 200_000})
    assert "still over a limit" not in page
    assert data["left_over_limits"] == []


@pytest.mark.parametrize(
    ("spec", "held", "code", "told"),
    [
        (
            of([conv(32), conv(32, kernel_size=1, stride=2), conv(32)]),
            {"max_params": 13_000},
            "skipped-cells",
            "over the limit of 13,000",
        ),
        (
            of([conv(8), conv(8, stride=4), conv(8, stride=4), conv(8)]),
            {"min_receptive_field": 44},
            "padding-kernel",
            "short of 44",
        ),
        (
            of([separable(8), conv(8)]),
            {"depthwise_separable": True},
            "depthwise-on-image",
            "no depthwise-separable convolution",
        ),
    ],
)
def test_a_fix_that_alone_breaks_a_limit_says_so(
    spec: Spec, held: Json, code: str, told: str, cli: Cli, tmp_path: Path
) -> None:
    page, data = asked(cli, tmp_path, spec, held)
    [messages] = {tuple(f["breaks"]) for f in data["findings"] if f["code"] == code}
    assert told in messages[0]
    assert f"this fix alone leaves a limit violated: {messages[0]}" in page
    page, data = asked(cli, tmp_path, spec, {})
    assert "this fix alone" not in page
    assert not any(each["breaks"] for each in data["findings"])


def test_with_fix_a_limit_that_is_left_is_reported_too(cli: Cli, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(of([conv(600), conv(600)]).model_dump_json(exclude_unset=True))
    done = cli("diagnose", spec, "--fix", tmp_path / "out")
    assert done.status == 1
    assert "still over a limit" in done.err
