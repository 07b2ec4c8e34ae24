"""What is particular about the built modules; that they count and run right is in test_analyze."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from archsearch.analysis.analyze import analyze
from archsearch.common.parse import from_json
from archsearch.convert.to_module import _MODULES, DepthwiseConv2d, ElementDropout, build
from archsearch.spec import ops
from archsearch.spec.models import Spec
from archsearch.spec.params_and_macs import MACS, PARAMS
from tests.conftest import ROOT
from tests.strategies import HEADS, Json, spec_of


def test_every_operation_is_counted_and_built() -> None:
    kinds = set(ops.Op.__args__)
    assert PARAMS.keys() == MACS.keys() == _MODULES.keys() == kinds


@given(
    size=st.integers(3, 20),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilation=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    stride=st.sampled_from([1, 2]),
    multiplier=st.integers(1, 2),
)
def test_depthwise_takes_another_way_to_the_same_sums(
    size: int,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    stride: int,
    multiplier: int,
) -> None:
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if any(span > size + 2 * p for span, p in zip(spans, padding, strict=True)):
        return
    ours = DepthwiseConv2d(
        3, 3 * multiplier, kernel, stride=stride, padding=padding, dilation=dilation, groups=3
    ).double()
    x = torch.randn(2, 3, size, size + 1, dtype=torch.double, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    if stride > 1:  # the strided way is fp32 by design
        ours, x, y = (
            ours.float(),
            x.detach().float().requires_grad_(),
            y.detach().float().requires_grad_(),
        )
    found = ours(x)
    wanted = nn.functional.conv2d(
        y, ours.weight, ours.bias, stride=stride, padding=padding, dilation=dilation, groups=3
    )
    torch.testing.assert_close(found, wanted)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
    torch.testing.assert_close(x.grad, y.grad)


def test_parts_are_named_by_their_place_in_the_spec() -> None:
    path = ROOT / "studies" / "seeds" / "eva8-session6" / "spec.json"
    net = build(analyze(from_json(Spec, path.read_text(), "seed")).network)
    names = dict(net.named_parameters())
    assert names["blocks.1.1.depthwise.weight"].shape == (32, 1, 3, 3)
    assert names["blocks.1.1.pointwise.weight"].shape == (64, 32, 1, 1)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "hardswish", "leaky_relu"])
def test_a_shortcut_is_not_overwritten_by_its_body(activation: str) -> None:
    body = [{"op": "activation", "kind": activation}, {"op": "norm"}]
    layers: list[Json] = [
        {"op": "conv", "out_channels": 10, "norm": None, "activation": None},
        {"op": "residual", "body": body},
    ]
    spec = Spec.model_validate(spec_of([layers], [HEADS[1][1]], 8, 8))
    net = build(analyze(spec).network).eval()
    conv, residual = net.blocks[0][0], net.blocks[0][1]  # type: ignore[index] # Sequential
    x = torch.randn(1, 4, 8, 8)
    h = conv(x)
    act = nn.ModuleDict(
        {"relu": nn.ReLU(), "gelu": nn.GELU(), "silu": nn.SiLU(), "hardswish": nn.Hardswish(),
         "leaky_relu": nn.LeakyReLU()}
    )[activation]  # fmt: skip
    torch.testing.assert_close(residual(h.clone()), h + act(h) / (1 + 1e-5) ** 0.5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_dropout_drops_its_share_and_scales_the_rest(
    p: float, memory_format: torch.memory_format
) -> None:
    x = torch.rand(50, 7, 31, 29).add(1).contiguous(memory_format=memory_format).requires_grad_()
    torch.manual_seed(0)
    y = ElementDropout(p)(x)
    assert y.is_contiguous(memory_format=memory_format)
    dropped = (y == 0).float()
    spread = 5 * (p * (1 - p) / x.numel()) ** 0.5
    assert dropped.mean() == pytest.approx(p, abs=spread + 2**-16)
    torch.testing.assert_close(y, x * (1 - dropped) / (1 - p), rtol=1e-3, atol=0)
    # Neither images, channels, rows nor neighbours share their fate.
    for dims in ((1, 2, 3), (0, 2, 3), (0, 1, 3)):
        count = x.numel() / dropped.mean(dims).numel()
        assert (dropped.mean(dims) - p).abs().max() < 5 * (p * (1 - p) / count) ** 0.5
    flat = dropped.permute(0, 2, 3, 1).flatten() - p
    for shift in (1, 2, 3, 4):
        assert (flat[shift:] * flat[:-shift]).mean().abs() < 5 * p * (1 - p) / len(flat) ** 0.5
    y.sum().backward()
    torch.testing.assert_close(x.grad, (1 - dropped) / (1 - p), rtol=1e-3, atol=0)
    torch.manual_seed(0)
    assert torch.equal(ElementDropout(p)(x), y)
    assert not torch.equal(ElementDropout(p)(x), y)


def test_dropout_at_its_ends_and_in_evaluation() -> None:
    x = torch.rand(4, 5)
    assert torch.equal(ElementDropout(0.0)(x), x)
    assert torch.equal(ElementDropout(1.0)(x), torch.zeros_like(x))
    assert torch.equal(ElementDropout(0.5).eval()(x), x)
