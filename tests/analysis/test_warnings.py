"""Each warning: where it is true it is told, at the right place; where it is not, it is not."""

from __future__ import annotations

import pytest

from archsearch.analysis import pixel_coverage
from archsearch.analysis.analyze import analyze
from archsearch.spec.models import Spec
from tests.strategies import HEADS, Json, spec_of


def conv(out: int = 4, kernel: int = 3, **fields: object) -> Json:
    return {"op": "conv", "out_channels": out, "kernel_size": kernel, **fields}


def branches(*each: list[Json], merge: str = "add") -> Json:
    return {"op": "parallel", "branches": list(each), "merge": merge}


def told(*layers: Json, size: int = 32, code: str = "") -> list[tuple[str, str]]:
    """(code, place after the block) of every warning, or of those with `code`."""
    spec = Spec.model_validate(spec_of([list(layers)], HEADS[1], size, size))
    return [
        (c.code, c.place.removeprefix("blocks.0.layers."))
        for c in analyze(spec).warnings
        if code in ("", c.code)
    ]


GAP: Json = {"op": "global_avg_pool"}
POOL: Json = {"op": "max_pool", "kernel_size": 32}

CASES: list[tuple[str, list[Json], list[str]]] = [
    ("blind-cells", [conv(kernel=1, padding=1)], ["0"]),
    ("blind-cells", [conv(), conv(kernel=1)], []),
    ("blind-cells", [conv(), conv(kernel=3, padding=1)], []),
    # Handed on by a projection, healed by the body: made at 0 alone.
    ("blind-cells", [conv(kernel=1, padding=1), {"op": "residual", "body": [conv(8)]}], ["0"]),
    # Fewer than its neighbour branch has, but of its own making.
    (
        "blind-cells",
        [
            branches(
                [conv(kernel=1, padding=2)],
                [conv(kernel=3, padding=2), conv(kernel=1, padding=1)],
            )
        ],
        ["0.branches.0.0", "0.branches.1.1"],
    ),
    ("dead-weights", [conv(stride=8), conv(dilation=4)], ["1"]),
    ("dead-weights", [conv(stride=8), conv(dilation=3)], []),
    ("gridding", [conv(dilation=2), conv(dilation=2)], ["0"]),
    ("gridding", [conv(dilation=2), conv(dilation=1)], []),
    ("gridding", [conv(dilation=2), conv(dilation=1), conv(dilation=8)], ["2"]),
    ("gridding", [conv(), conv(dilation=2), conv(dilation=3)], []),
    ("gridding", [branches([conv(dilation=4)], [conv(kernel=1)])], ["0.branches.0.0"]),
    ("gridding", [conv(stride=2, kernel=1), conv()], ["1"]),
    ("unproductive-layers", [conv(kernel=31), conv()], []),
    ("unproductive-layers", [conv(kernel=31), conv(), conv()], ["2"]),
    ("unproductive-layers", [conv(kernel=33), conv(kernel=1), conv(), conv()], ["2"]),
    ("single-cell-map", [conv(stride=32), conv()], ["0"]),
    ("single-cell-map", [conv(stride=32), conv(kernel=1)], []),
    ("single-cell-map", [conv(stride=32), {"op": "residual", "body": [conv()]}], ["0"]),
    # The other branch's map is as large as ever.
    ("single-cell-map", [branches([POOL], [conv(), POOL], merge="concat")], []),
    ("misaligned-branches", [branches([conv(kernel=2)], [conv(kernel=1)])], ["0"]),
    ("misaligned-branches", [branches([conv(kernel=5)], [conv(kernel=1)])], []),
    ("off-centre", [conv(kernel=2), conv(kernel=2)], ["output.layers.0"]),
    ("off-centre", [conv(kernel=2), conv()], []),
    ("off-centre", [conv(stride=2), conv(stride=2), conv(stride=2)], []),
]


@pytest.mark.parametrize(("code", "layers", "places"), CASES)
def test_when_and_where(code: str, layers: list[Json], places: list[str]) -> None:
    assert told(*layers, code=code) == [(code, place) for place in places]


def test_an_ordinary_network_has_no_warnings() -> None:
    assert told(conv(), conv(stride=2), {"op": "residual", "body": [conv(), conv()]}) == []


def test_a_network_too_large_to_follow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [conv(dilation=2), conv(dilation=2)]
    monkeypatch.setattr(pixel_coverage, "MAX_WORK", 10)
    assert told(*layers) == [("not-followed", "")]
    spec = Spec.model_validate(spec_of([layers], HEADS[1], 32, 32))
    assert analyze(spec).clipped is None
    assert all(row.seen is None and row.dead_weights == 0 for row in analyze(spec).rows)


def test_too_many_different_fields_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    two = branches([conv(kernel=1, padding=2)], [conv(kernel=3, padding=3)])
    assert ("not-followed", "") not in told(two)
    monkeypatch.setattr(pixel_coverage, "MAX_FIELDS", 1)
    assert ("not-followed", "") in told(two)


@pytest.mark.parametrize("first", [0, 1])
def test_the_clipped_field_is_that_of_the_gate(first: int) -> None:
    wide, narrow = [conv(kernel=7), GAP], [conv(kernel=1), GAP]
    pools = branches(*([wide, narrow], [narrow, wide])[first], merge="concat")
    head: list[Json] = [{"op": "linear", "out_features": 10}]
    analysis = analyze(Spec.model_validate(spec_of([[pools]], head, 32, 32)))
    assert analysis.receptive_field == analysis.clipped == (7, 7)


CELLS = 32 * 32 * 4


@pytest.mark.parametrize(
    ("layer", "channels_alive"),
    [
        # input 8, kept for the shortcut, and the body's 64
        ({"op": "residual", "body": [conv(64, 1), conv(8, 1)]}, 8 + 64 + 8),
        ({"op": "residual", "body": [conv(8, 1)]}, 8 + 8 + 8),
        (branches([conv(64, 1)], [conv(64, 1)], merge="concat"), 64 + 64 + 128),
        (branches([], [conv(64, 1)], merge="concat"), 8 + 64 + 72),
        (branches([conv(64, 1)], [], merge="concat"), 8 + 64 + 72),
        # a norm on an input that the shortcut still needs is a copy
        (
            {"op": "residual", "body": [{"op": "norm"}, conv(20, 1), conv(8, 1)]},
            8 + 8 + 20,
        ),
    ],
)
def test_peak_activations(layer: Json, channels_alive: int) -> None:
    head: list[Json] = [GAP, {"op": "linear", "out_features": 10}]
    narrow = spec_of([[layer]], head, 32, 32) | {"input": {"channels": 8}}
    analysis = analyze(Spec.model_validate(narrow))
    assert analysis.peak_activation_bytes == channels_alive * CELLS


def test_peak_where_the_body_shrinks_its_map_at_once() -> None:
    # The reviewer's case: the input waits for the shortcut and is read by the body, once.
    body = [conv(64, 1), {"op": "max_pool", "kernel_size": 16}]
    spec = spec_of([[conv(8, 1), {"op": "residual", "body": body}]], HEADS[0], 32, 32)
    assert analyze(Spec.model_validate(spec)).peak_activation_bytes == (8 + 64) * CELLS + 64 * 4 * 4
