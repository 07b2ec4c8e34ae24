"""The analyzer against torch (shapes, parameters, MACs) and dependency sets (receptive field)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn

from archsearch.analysis.analyze import analyze
from archsearch.convert.to_module import Net, SqueezeExcite, build
from archsearch.spec import ops
from archsearch.spec.models import Spec
from archsearch.spec.network import Network
from tests.oracle import extent, seen
from tests.strategies import Json, examples, spec_of, specs

MEASURED = (
    nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm1d,
    nn.BatchNorm2d, nn.GroupNorm, nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU,
    nn.Dropout, nn.Dropout2d, SqueezeExcite,
)  # fmt: skip


def run(net: Net, network: Network) -> tuple[list[tuple[int, ...]], int]:
    """Output shapes of all operations in the order they ran, and the multiply-accumulates."""
    shapes: list[tuple[int, ...]] = []
    macs = 0

    def record(name: str) -> Any:
        def hook(module: nn.Module, _args: Any, out: torch.Tensor) -> None:
            nonlocal macs
            if isinstance(module, nn.Conv2d):
                macs += out[0].numel() * module.weight[0].numel()
            elif isinstance(module, nn.Linear):
                macs += module.weight.numel()
            if not name.endswith((".squeeze", ".excite")):
                shapes.append(tuple(out.shape[1:]))

        return hook

    for name, module in net.named_modules():
        if isinstance(module, MEASURED):
            module.register_forward_hook(record(name))
    net.eval()
    with torch.no_grad():
        logits = net(torch.randn(2, *network.image.shape))
    assert logits.shape == (2, network.spec.classes)
    return shapes, macs


@pytest.mark.property
@examples(250)
@given(specs())
def test_params_shapes_and_macs_are_what_torch_builds_and_runs(spec: Spec) -> None:
    analysis = analyze(spec)
    net = build(analysis.network)
    assert analysis.params == sum(p.numel() for p in net.parameters())
    shapes, macs = run(net, analysis.network)
    expected = [
        node.after.shape
        for node in analysis.network.nodes()
        if not isinstance(node.op, ops.Flatten)
    ]
    assert shapes == expected
    assert analysis.macs == macs
    assert analysis.params == sum(row.params for row in analysis.rows)


@pytest.mark.property
@examples(250)
@given(specs())
def test_receptive_field_is_the_extent_of_what_a_cell_depends_on(spec: Spec) -> None:
    analysis = analyze(spec)
    layers = [layer for block in spec.blocks for layer in plain(block.layers)]
    last = [node for block in analysis.network.sections[:-1] for node in block][-1].after
    for axis in (0, 1):
        assert analysis.receptive_field[axis] == extent(seen(layers, {0}, axis))
        cells = set(range(last.size[axis]))
        assert analysis.receptive_field_with_gap[axis] == extent(seen(layers, cells, axis))
        first = (last.height, last.width)[axis].left
        assert first == min(seen(layers, {0}, axis))


def plain(layers: Any) -> list[Json]:
    """Layers as JSON."""
    return [layer.model_dump(mode="json") for layer in layers]


def chain(*layers: Json, size: int = 64) -> Spec:
    """One block of `layers` and a pooled head."""
    head: list[Json] = [
        {"op": "conv", "out_channels": 10, "kernel_size": 1},
        {"op": "global_avg_pool"},
    ]
    return Spec.model_validate(spec_of([list(layers)], head, size, size))


@pytest.mark.parametrize(
    "layers",
    [
        [{"op": "conv", "out_channels": 4, "stride": 2}, {"op": "conv", "out_channels": 4}],
        [
            {"op": "conv", "out_channels": 4, "kernel_size": [5, 3], "dilation": [1, 3]},
            {"op": "avg_pool"},
            {"op": "depthwise_separable", "out_channels": 6, "dilation": 2},
        ],
        [
            {"op": "residual", "body": [{"op": "conv", "out_channels": 8, "stride": 2}]},
            {"op": "residual", "body": [{"op": "conv", "out_channels": 8, "kernel_size": 5}]},
        ],
    ],
)
def test_receptive_field_is_where_the_gradient_of_a_cell_is_not_zero(layers: list[Json]) -> None:
    network = analyze(chain(*layers)).network
    net = build(network)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)  # positive weights cannot cancel
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    image = torch.rand(1, 4, 64, 64, requires_grad=True)
    block = net.blocks[0].eval()
    y = block(image)
    y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum().backward()
    assert image.grad is not None
    touched = image.grad[0].abs().sum(0)
    rows, columns = touched.sum(1).nonzero().flatten(), touched.sum(0).nonzero().flatten()
    found = (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
    assert found == analyze(chain(*layers)).receptive_field


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_same_padding_is_pytorchs_at_stride_one() -> None:
    for kernel in range(1, 7):
        for dilation in (1, 2, 3):
            ours = build(
                analyze(
                    chain({"op": "conv", "out_channels": 4, "kernel_size": kernel,
                           "dilation": dilation, "norm": None, "activation": None}, size=16)
                ).network
            ).blocks[0]  # fmt: skip
            conv = next(m for m in ours.modules() if isinstance(m, nn.Conv2d))
            x = torch.randn(1, 4, 16, 16)
            theirs = nn.functional.conv2d(
                x, conv.weight, conv.bias, padding="same", dilation=dilation
            )
            torch.testing.assert_close(ours(x), theirs)


def test_the_gate_is_before_the_first_global_pool_whatever_follows() -> None:
    conv = {"op": "conv", "out_channels": 10}
    pool = {"op": "avg_pool", "kernel_size": 16}
    spec = Spec.model_validate(spec_of([[conv, pool, conv]], [{"op": "global_avg_pool"}], 16, 16))
    analysis = analyze(spec)
    assert analysis.receptive_field == (3, 3)
    # A kernel on the one pooled cell adds two jumps of 16 pixels.
    assert analysis.receptive_field_with_gap == (18 + 2 * 16, 18 + 2 * 16)


def test_squeeze_excite_does_not_widen_the_receptive_field() -> None:
    conv = {"op": "conv", "out_channels": 8}
    plain_rf = analyze(chain(conv)).receptive_field
    assert analyze(chain(conv, {"op": "squeeze_excite"})).receptive_field == plain_rf


def test_misaligned_branches_are_warned_of_and_aligned_ones_are_not() -> None:
    def branches(kernel: int) -> Json:
        return {
            "op": "parallel",
            "branches": [
                [{"op": "conv", "out_channels": 4, "kernel_size": 1}],
                [{"op": "conv", "out_channels": 4, "kernel_size": kernel}],
            ],
        }

    assert [w.code for w in analyze(chain(branches(2))).warnings] == ["misaligned-branches"]
    assert not analyze(chain(branches(3))).warnings


def test_a_map_of_one_cell_under_a_larger_kernel_is_warned_of() -> None:
    strided = {"op": "conv", "out_channels": 4, "stride": 4}
    spec = chain(strided, strided, {"op": "conv", "out_channels": 4}, size=16)
    assert "single-cell-map" in [w.code for w in analyze(spec).warnings]


def test_peak_activation_of_a_chain_is_its_widest_neighbouring_pair() -> None:
    wide = {"op": "conv", "out_channels": 20}
    analysis = analyze(chain(wide, {"op": "conv", "out_channels": 2, "stride": 2}, size=8))
    assert analysis.peak_activation_bytes == 4 * (4 + 20) * 64


def test_a_residual_holds_its_input_while_its_body_runs() -> None:
    conv = {"op": "conv", "out_channels": 20}
    analysis = analyze(chain(conv, {"op": "residual", "body": [conv, conv]}, size=8))
    assert analysis.peak_activation_bytes == 4 * (20 + 20 + 20) * 64
