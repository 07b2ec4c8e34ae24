"""The same network has the same hash, however it is written; another network has another."""

from __future__ import annotations

import pytest

from archsearch.spec.hash import spec_hash
from archsearch.spec.models import Spec
from archsearch.spec.resolve import resolve
from tests.strategies import HEADS, Json, spec_of


def hash_of(*layers: Json, output: list[Json] | None = None, blocks: int = 1) -> str:
    parts = [list(layers[i::blocks]) for i in range(blocks)] if blocks > 1 else [list(layers)]
    spec = Spec.model_validate(spec_of(parts, output or HEADS[0], 16, 16))
    return spec_hash(resolve(spec))


def conv(**fields: object) -> Json:
    return {"op": "conv", "out_channels": 8, **fields}


BARE = {"norm": None, "activation": None, "bias": False}

BODY = conv(out_channels=4, kernel_size=1)


def concat(*branches: list[Json]) -> Json:
    return {"op": "parallel", "branches": list(branches)}


SAME: list[tuple[list[Json], list[Json]]] = [
    ([conv()], [conv(kernel_size=[3, 3], padding=1, bias=False, dropout_kind="channel")]),
    ([conv(kernel_size=1, dilation=3)], [conv(kernel_size=1)]),
    ([conv(groups=4)], [conv(groups="depthwise")]),
    ([conv(norm="layer")], [conv(norm="group", num_groups=1)]),
    (
        [conv(dropout=0.2)],
        [
            conv(**BARE),
            {"op": "norm"},
            {"op": "activation"},
            {"op": "dropout", "p": 0.2},
        ],
    ),
    (
        [{"op": "depthwise_separable", "out_channels": 8}],
        [conv(out_channels=4, groups=4, **BARE), conv(kernel_size=1)],
    ),
    ([conv(), {"op": "avg_pool", "kernel_size": 16}], [conv(), {"op": "global_avg_pool"}]),
    ([{"op": "parallel", "branches": [[conv()]]}], [conv()]),
    (
        [{"op": "residual", "body": [conv(out_channels=4)]}],
        [{"op": "parallel", "merge": "add", "branches": [[conv(out_channels=4)], []]}],
    ),
    (
        [{"op": "parallel", "merge": "add", "branches": [[], [conv(out_channels=4)]]}],
        [{"op": "parallel", "merge": "add", "branches": [[conv(out_channels=4)], []]}],
    ),
    ([conv(), {"op": "dropout", "p": 0.0}], [conv()]),
    (
        [concat([conv()], [concat([BODY], [])])],
        [concat([conv()], [BODY], [])],
    ),
    # (a + x) + b = a + b + x
    (
        [
            {
                "op": "parallel",
                "merge": "add",
                "branches": [[{"op": "residual", "body": [conv(out_channels=4)]}], [BODY]],
            }
        ],
        [
            {
                "op": "parallel",
                "merge": "add",
                "branches": [[conv(out_channels=4)], [BODY], []],
            }
        ],
    ),
    # A window with one position does not move.
    ([conv(kernel_size=16, padding=0, stride=3)], [conv(kernel_size=16, padding=0)]),
]

OTHER: list[tuple[list[Json], list[Json]]] = [
    ([concat([conv()], [BODY])], [concat([BODY], [conv()])]),
    ([conv()], [conv(bias=True)]),
    ([conv()], [conv(activation="silu")]),
    ([conv()], [conv(order="act_norm")]),
    ([conv()], [conv(dilation=2)]),
    ([conv()], [conv(padding=0)]),
    ([conv(dropout=0.1)], [conv(dropout=0.2)]),
    ([conv(stride=2)], [conv(stride=[2, 1])]),
    ([conv(), {"op": "max_pool"}], [conv(), {"op": "avg_pool"}]),
    ([conv(), {"op": "squeeze_excite"}], [conv(), {"op": "squeeze_excite", "reduction": 2}]),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_the_same_network_written_twice(one: list[Json], two: list[Json]) -> None:
    assert hash_of(*one) == hash_of(*two)


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_different_networks(one: list[Json], two: list[Json]) -> None:
    assert hash_of(*one) != hash_of(*two)


def test_blocks_and_names_do_not_matter() -> None:
    layers = [conv(), conv(out_channels=6)]
    assert hash_of(*layers) == hash_of(*layers, blocks=2)


def test_a_linear_layer_on_a_pooled_map_needs_no_flatten() -> None:
    head: list[Json] = [
        {"op": "global_avg_pool"},
        {"op": "flatten"},
        {"op": "linear", "out_features": 10},
    ]
    assert hash_of(conv(), output=head) == hash_of(conv())
