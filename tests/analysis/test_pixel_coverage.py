"""Which pixels the cells of a map see: `Row.seen` against `tests.oracle2d`, cell by cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from archsearch.analysis.analyze import analyze
from archsearch.convert.to_module import build
from archsearch.errors import InputError
from archsearch.spec.models import Spec
from archsearch.spec.receptive_field import Axis
from tests.oracle2d import Step, follow
from tests.strategies import HEADS, Json, examples, sizes, spec_of, specs

FOLLOWED = {
    "conv", "depthwise", "pointwise", "shortcut", "max_pool", "avg_pool", "global_avg_pool",
    "add", "concat", "flatten", "linear", "squeeze_excite",
}  # fmt: skip
LARGEST = 44
"""Cells a side: padding grows maps, and the oracle holds an image for every cell."""


@st.composite
def windows(draw: st.DrawFn, *, strides: bool = True) -> Json:
    """A convolution whose padding and dilation are out of proportion to its kernel."""
    op = draw(st.sampled_from(["conv", "conv", "depthwise_separable"]))
    layer: Json = {
        "op": op,
        "out_channels": 2 * draw(st.integers(1, 2)),
        "kernel_size": draw(st.one_of(st.just(1), sizes(1, 5))),
        "dilation": draw(st.one_of(st.just(1), sizes(1, 8))),
        "padding": draw(st.one_of(st.sampled_from(["same", "valid"]), sizes(0, 4))),
        "norm": None,
        "activation": None,
    }
    if strides:
        layer["stride"] = draw(st.one_of(st.just(1), sizes(1, 3)))
    if op == "depthwise_separable":
        layer["pointwise_padding"] = draw(sizes(0, 4))
    elif draw(st.booleans()):
        layer["groups"] = 2
    return layer


@st.composite
def size_keeping(draw: st.DrawFn, out: int | None = None) -> list[Json]:
    """Layers that give back the size they got, by "same" or by padding first and cutting later."""
    plain: Json = {"op": "conv", "norm": None, "activation": None}
    plain["out_channels"] = out or 2 * draw(st.integers(1, 2))
    match draw(st.sampled_from(["same", "padded pointwise", "displaced"])):
        case "same":
            same = {"kernel_size": draw(sizes(1, 5)), "dilation": draw(sizes(1, 8))}
            return [plain | same]
        case "padded pointwise":
            pad = draw(st.integers(1, 2))
            separable = {
                "op": "depthwise_separable",
                "kernel_size": 2 * pad + 1,
                "padding": "valid",
                "pointwise_padding": pad,
            }
            return [plain | separable]
        case _:
            pad = draw(st.integers(1, 4))
            wide = plain | {"kernel_size": 1, "padding": pad}
            return [wide, plain | {"kernel_size": 2, "dilation": 2 * pad, "padding": 0}]


@st.composite
def branching(draw: st.DrawFn) -> Json:
    """A residual or parallel branches that stride alike and see unlike."""
    stride = draw(st.one_of(st.just(1), sizes(1, 3)))
    merge = draw(st.sampled_from(["residual", "concat", "add"]))
    out = 4 if merge == "add" else None
    bodies = draw(st.lists(size_keeping(out), min_size=1, max_size=3))
    for body in bodies:
        if stride != 1:
            entry = {"op": "conv", "out_channels": 4, "norm": None, "activation": None}
            body.insert(0, entry | {"kernel_size": draw(st.integers(1, 3)), "stride": stride})
    if merge == "residual":
        return {"op": "residual", "body": bodies[0]}
    if merge == "concat" and stride == 1 and draw(st.booleans()):
        bodies.append([])
    split = draw(st.booleans())
    return {"op": "parallel", "branches": bodies, "merge": merge, "split": split}


@st.composite
def pools(draw: st.DrawFn, kinds: tuple[str, ...]) -> Json:
    """A pool, padded or not, whose windows overlap, touch or leave gaps."""
    kernel = draw(st.integers(1, 4))
    return {
        "op": draw(st.sampled_from(kinds)),
        "kernel_size": kernel,
        "stride": draw(st.one_of(st.none(), sizes(1, 3))),
        "padding": draw(sizes(0, kernel // 2)),
    }


@st.composite
def awkward_specs(
    draw: st.DrawFn, *, largest: int = 24, kinds: tuple[str, ...] = ("max_pool", "avg_pool")
) -> Json:
    """A valid spec's JSON, with blind cells, gaps and dead weights more often than not."""
    height, width = draw(st.integers(9, largest)), draw(st.integers(9, largest))
    head = draw(st.sampled_from(HEADS))
    layer = st.one_of(windows(), windows(strides=False), branching(), pools(kinds))
    layers: list[Json] = [{"op": "conv", "out_channels": 4, "kernel_size": 1}]
    for drawn in draw(st.lists(layer, min_size=1, max_size=5)):
        if fits(spec_of([[*layers, drawn]], head, height, width)):
            layers.append(drawn)
    return spec_of([layers], head, height, width)


def fits(spec: Json) -> bool:
    """Whether a spec is valid and its maps are small enough for the oracle."""
    try:
        nodes = analyze(Spec.model_validate(spec)).network.nodes()
    except InputError:
        return False
    return all(max(node.after.size) <= LARGEST for node in nodes)


def in_blocks(spec: Json) -> Step:
    """The oracle's last step before the head."""
    return [step for step in follow(spec) if step.place.startswith("blocks")][-1]


def hold(spec: Json) -> None:
    """Hold every row to the oracle: what it sees, its dead weights, and its receptive field."""
    rows = [row for row in analyze(Spec.model_validate(spec)).rows if row.op in FOLLOWED]
    steps = follow(spec)
    assert [(row.place, row.op) for row in rows] == [(step.place, step.op) for step in steps]
    for row, step in zip(rows, steps, strict=True):
        where = (row.place, row.op)
        assert row.seen is not None, where
        assert (where, row.seen.blind_cells) == (where, step.blind)
        assert (where, row.seen.clipped) == (where, step.clipped)
        assert (where, row.seen.skipped) == (where, step.skipped)
        assert (where, row.dead_weights) == (where, step.dead)
        reach = step.clipped
        assert reach[0] <= row.after.rf[0], where
        assert reach[1] <= row.after.rf[1], where
        height, width = step.after.seen.shape[2:]
        if some_inside(row.after.height, height) and some_inside(row.after.width, width):
            assert (where, reach) == (where, row.after.rf)


def some_inside(axis: Axis, pixels: int) -> bool:
    """Whether the receptive field of some cell lies inside the image."""
    lefts = [axis.left + cell * axis.jump for cell in range(axis.size)]
    return any(left >= 0 and left + axis.rf <= pixels for left in lefts)


@pytest.mark.property
@examples(150)
@given(specs())
def test_what_cells_see_in_ordinary_networks(spec: Spec) -> None:
    hold(spec.model_dump(mode="json"))


@pytest.mark.property
@examples(250)
@given(awkward_specs())
def test_what_cells_see_in_awkward_networks(spec: Json) -> None:
    hold(spec)


@settings(max_examples=40)
@given(awkward_specs(largest=10, kinds=("avg_pool",)), st.data())
def test_the_oracle_is_where_torchs_gradient_is_not_zero(spec: Json, data: st.DataObject) -> None:
    seen = in_blocks(spec).after.seen
    net = build(analyze(Spec.model_validate(spec)).network)
    block = with_positive_weights(net.blocks[0])
    image = torch.rand(1, 4, *seen.shape[2:], requires_grad=True)
    maps = block(image).sum(dim=(0, 1))
    assert maps.shape == seen.shape[:2]
    rows, columns = (st.integers(0, size - 1) for size in maps.shape)
    drawn = data.draw(st.lists(st.tuples(rows, columns), max_size=4))
    for cell in [(0, 0), (-1, -1), (maps.shape[0] // 2, maps.shape[1] // 2), *drawn]:
        (gradient,) = torch.autograd.grad(maps[cell], image, retain_graph=True)
        touched = (gradient[0].sum(0) != 0).numpy()
        np.testing.assert_array_equal(touched, seen[cell])


def with_positive_weights(block: nn.Module) -> nn.Module:
    """Ones for weights, no biases: what a cell sees cannot cancel, and every ReLU lets it pass."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return block.eval()


# Worked by hand. A conv without norm and activation, 4 channels in and out unless told otherwise.


def conv(kernel_size: Any, **fields: Any) -> Json:
    return {
        "op": "conv", "out_channels": 4, "kernel_size": kernel_size,
        "norm": None, "activation": None, **fields,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "size", "blind", "clipped", "skipped", "dead"),
    [
        # 10x10 cells, of which the inner 8x8 lie on the image.
        ([conv(1, padding=1)], 8, 36, 1, 0, 0),
        # Taps at -8, 0, +8 of 8 cells: only the middle one of nine ever meets a cell.
        ([conv(3, dilation=8)], 8, 0, 1, 0, 8 * 16),
        # At -7, 0, +7 the outer taps meet cell 0 or 7: a corner cell sees pixels 0 and 7.
        ([conv(3, dilation=7)], 8, 0, 8, 6, 0),
        # Dilated twice by 2: -4, -2, 0, 2, 4.
        ([conv(3, dilation=2), conv(3, dilation=2)], 16, 0, 9, 4, 0),
        # Dilated by 2, then by 1: -3, -2, -1, ..., 3; nothing is left out.
        ([conv(3, dilation=2), conv(3)], 16, 0, 7, 0, 0),
        # A 1x1 with stride 2 keeps every other pixel; a 3x3 sees three of them.
        ([conv(1, stride=2), conv(3)], 16, 0, 5, 2, 0),
        # The field is 13; the image ends it at 8.
        ([conv(5), conv(5), conv(5)], 8, 0, 8, 0, 0),
        # 2 rings of blind cells around 4x4: a 3x3 window always reaches past them.
        ([conv(1, padding=2), conv(3, padding=0)], 4, 0, 3, 0, 0),
        # 4 rings around 1x1; a 3x3 kernel slides over 9x9, and 7x7 - 3x3 of its places are blind.
        ([conv(9, padding=0), conv(1, padding=4), conv(3, padding=0)], 9, 40, 9, 0, 0),
        # One cell and a 3x3 kernel: eight taps of nine meet padding alone.
        ([conv(8, padding=0), conv(3)], 8, 0, 8, 0, 8 * 16),
        # 8x8 cells with 2 blind rings; the four taps, 7 apart, fit once: on the blind corners.
        ([conv(1, padding=2), conv(2, dilation=7, padding=0)], 4, 1, 0, 0, 4 * 16),
        # Depthwise: 2 outputs a channel, one input channel each.
        ([conv(3, dilation=8, groups=4, out_channels=8)], 8, 0, 1, 0, 8 * 8),
    ],
)
def test_by_hand(
    layers: list[Json], size: int, blind: int, clipped: int, skipped: int, dead: int
) -> None:
    spec = spec_of([layers], [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}],
                   size, size)  # fmt: skip
    row = analyze(Spec.model_validate(spec)).rows[len(layers) - 1]
    assert row.seen is not None
    assert row.seen.blind_cells == blind
    assert row.seen.clipped == (clipped, clipped)
    assert row.seen.skipped == (skipped, skipped)
    assert row.dead_weights == dead
    hold(spec)


def test_axes_are_followed_apart() -> None:
    layers = [conv([3, 1], dilation=[2, 1]), conv([1, 5])]
    spec = spec_of([layers], HEADS[0], 12, 20)
    step = in_blocks(spec)
    assert (step.clipped, step.skipped) == ((5, 5), (2, 0))
    hold(spec)


def test_a_join_sees_what_any_branch_saw() -> None:
    # -1, 0, 1 and -8, 0, 8: within 17 pixels, 12 are between and unseen.
    branches = [[conv(3)], [conv(3, dilation=8)]]
    layers: list[Json] = [{"op": "parallel", "branches": branches}]
    spec = Spec.model_validate(spec_of([layers], HEADS[0], 24, 24))
    row = next(row for row in analyze(spec).rows if row.op == "concat")
    assert row.seen is not None
    assert (row.seen.clipped, row.seen.skipped) == ((17, 17), (12, 12))


def test_a_pooled_map_is_one_cell_that_sees_the_union() -> None:
    # Stride 3 over 10 pixels: 0, 3, 6, 9.
    layers = [conv(1, stride=3)]
    rows = analyze(Spec.model_validate(spec_of([layers], HEADS[0], 10, 10))).rows
    pooled = next(row for row in rows if row.op == "global_avg_pool")
    assert pooled.seen is not None
    assert (pooled.seen.clipped, pooled.seen.skipped) == ((10, 10), (6, 6))


def test_gates_widen_nothing() -> None:
    layers = [conv(3), {"op": "squeeze_excite", "reduction": 2}]
    spec = Spec.model_validate(spec_of([layers], HEADS[0], 16, 16))
    row = next(row for row in analyze(spec).rows if row.op == "squeeze_excite")
    assert row.seen is not None
    assert row.seen.clipped == (3, 3)


def test_images_of_128_pixels_are_followed() -> None:
    layers = [conv(19, dilation=3), conv(19, stride=2), conv(1, padding=1)]
    rows = analyze(Spec.model_validate(spec_of([layers], HEADS[0], 128, 128))).rows
    assert all(row.seen is not None for row in rows)
