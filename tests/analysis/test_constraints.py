"""Each limit, just inside and just outside."""

from __future__ import annotations

import pytest

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import LIMIT_RULES, Constraints, judge
from archsearch.spec.models import Spec
from tests.strategies import Json


def spec(*blocks: list[Json], head: list[Json] | None = None) -> Spec:
    return Spec.model_validate(
        {
            "name": "limits",
            "blocks": [{"name": f"b{i}", "layers": layers} for i, layers in enumerate(blocks)],
            "output": {
                "layers": head or [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
            },
        }
    )


def conv(**fields: object) -> Json:
    return {"op": "conv", "out_channels": 8, **fields}


NONE = Constraints(**dict.fromkeys(Constraints.model_fields))


def broken(spec: Spec, **limits: object) -> list[str]:
    constraints = NONE.model_copy(update=limits)
    return [violation.rule for violation in judge(analyze(spec), constraints).violations]


def test_every_limit_has_a_rule() -> None:
    assert LIMIT_RULES.keys() == Constraints.model_fields.keys()


def test_nothing_is_broken_without_limits() -> None:
    assert broken(spec([conv()])) == []


@pytest.mark.parametrize("limit", ["max_params", "max_macs"])
def test_upper_limits_are_inclusive(limit: str) -> None:
    one = spec([conv()])
    analysis = analyze(one)
    actual = analysis.params if limit == "max_params" else analysis.macs
    assert broken(one, **{limit: actual}) == []
    assert broken(one, **{limit: actual - 1}) == [limit]
    assert broken(one, **{limit: 0}) == [limit]


def test_the_receptive_field_holds_for_the_smaller_axis() -> None:
    one = spec([conv(kernel_size=[9, 5])])
    assert broken(one, min_receptive_field=5) == []
    assert broken(one, min_receptive_field=6) == ["min_receptive_field"]


def test_blocks_with_a_convolution_are_counted_and_others_are_not() -> None:
    blocks = [[conv()]] * 3 + [[{"op": "max_pool"}]]
    assert broken(spec(*blocks), conv_blocks=3) == []
    assert broken(spec(*blocks), conv_blocks=4) == ["conv_blocks"]


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ([{"op": "depthwise_separable", "out_channels": 8}], True),
        ([conv(), conv(groups="depthwise"), conv(kernel_size=1)], True),
        ([conv(), conv(groups=8), {"op": "dropout"}, conv(kernel_size=1)], True),
        ([{"op": "residual", "body": [{"op": "depthwise_separable", "out_channels": 3}]}], True),
        ([conv(), conv(groups=4), conv(kernel_size=1)], False),
        ([conv(), conv(groups=8), conv()], False),
        ([conv(), conv(groups=8), {"op": "max_pool"}, conv(kernel_size=1)], False),
        ([conv(), conv(groups=8, kernel_size=1), conv(kernel_size=1)], False),
        ([conv(), conv(groups=8), conv(kernel_size=1, groups=2)], False),
    ],
)
def test_depthwise_separable(layers: list[Json], found: bool) -> None:
    assert broken(spec(layers), depthwise_separable=True) == (
        [] if found else ["depthwise_separable"]
    )


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"dilation": 2}, True),
        ({"kernel_size": [1, 3], "dilation": [1, 2]}, True),
        ({"kernel_size": [1, 3], "dilation": [2, 1]}, False),
        ({"kernel_size": 1, "dilation": 2}, False),
        ({}, False),
    ],
)
def test_dilated(fields: Json, found: bool) -> None:
    assert broken(spec([conv(**fields)]), dilated=True) == ([] if found else ["dilated"])


@pytest.mark.parametrize(
    ("head", "found"),
    [
        ([{"op": "global_avg_pool"}], True),
        ([{"op": "avg_pool", "kernel_size": 32}], True),
        ([{"op": "max_pool", "kernel_size": 32}], False),
        ([{"op": "avg_pool", "kernel_size": 17}], False),
    ],
)
def test_global_average_pooling(head: list[Json], found: bool) -> None:
    full = [*head, {"op": "linear", "out_features": 10}]
    assert broken(spec([conv()], head=full), global_avg_pool=True) == (
        [] if found else ["global_avg_pool"]
    )


@pytest.mark.parametrize(
    ("layers", "head", "kept"),
    [
        ([conv(stride=2), conv()], None, True),
        ([conv()], [{"op": "avg_pool", "kernel_size": 32}], True),
        ([conv(), {"op": "squeeze_excite"}], None, True),
        ([conv(), {"op": "max_pool"}], None, False),
        ([conv(), {"op": "avg_pool"}, conv()], None, False),
        ([{"op": "residual", "body": [conv(), {"op": "max_pool"}]}], None, False),
        ([{"op": "parallel", "branches": [[conv()], [conv()]]}, {"op": "max_pool"}], None, False),
        ([conv()], [{"op": "max_pool", "kernel_size": 32}], False),
    ],
)
def test_no_pooling_allows_global_average_pooling_alone(
    layers: list[Json], head: list[Json] | None, kept: bool
) -> None:
    full = [*head, {"op": "linear", "out_features": 10}] if head else None
    assert broken(spec(layers, head=full), no_pooling=True) == ([] if kept else ["no_pooling"])


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ([conv(stride=2, dilation=2)], True),
        ([conv(stride=[1, 2], dilation=[1, 3])], True),
        (
            [conv(), {"op": "depthwise_separable", "out_channels": 8, "stride": 2, "dilation": 2}],
            True,
        ),
        ([{"op": "residual", "body": [conv(stride=2, dilation=3)]}], True),
        ([conv(stride=2), conv(dilation=2)], False),
        ([conv(stride=[2, 1], dilation=[1, 2])], False),
        ([conv(stride=2, dilation=2, kernel_size=1)], False),
    ],
)
def test_strided_dilated(layers: list[Json], found: bool) -> None:
    assert broken(spec(layers), strided_dilated=True) == ([] if found else ["strided_dilated"])


@pytest.mark.parametrize("name", ["no_pooling", "strided_dilated"])
@pytest.mark.parametrize("off", [None, False])
def test_a_constraint_that_is_off_rejects_nothing(name: str, off: bool | None) -> None:
    worst = spec([conv(), {"op": "max_pool"}])
    assert broken(worst, **{name: off}) == []
    assert getattr(Constraints(), name) is None
