"""`archsearch import`: what a spec cannot express is told, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, nn

from archsearch.convert.from_module import import_module
from tests.convert.from_module import modules as m
from tests.convert.from_module.importing import (
    CONV,
    GAP_LINEAR,
    RGB,
    hash_of,
    net,
    net_in,
    problems_of,
    written,
)
from tests.strategies import Json

UNSUPPORTED = {
    "transposed": ("nn.ConvTranspose2d(4, 4, 1)", "self.odd(x)", "ConvTranspose2d"),
    "ceil_mode": ("nn.MaxPool2d(5, 2, ceil_mode=True)", "self.odd(x)", "ceil_mode"),
    "pool dilation": ("nn.MaxPool2d(2, dilation=2)", "self.odd(x)", "dilation=2"),
    "padding_mode": ("nn.Conv2d(4, 4, 3, padding=1, padding_mode='reflect')", "self.odd(x)",
                     "padding_mode='reflect'"),
    "affine": ("nn.BatchNorm2d(4, affine=False)", "self.odd(x)", "affine=False"),
    "statistics": ("nn.BatchNorm2d(4, track_running_stats=False)", "self.odd(x)",
                   "track_running_stats=False"),
    "count_include_pad": ("nn.AvgPool2d(3, 2, 1, count_include_pad=False)", "self.odd(x)",
                          "count_include_pad=False"),
    "divisor": ("nn.AvgPool2d(2, divisor_override=3)", "self.odd(x)", "divisor_override"),
    "prelu": ("nn.PReLU()", "self.odd(x)", "PReLU"),
    "gelu": ("nn.GELU(approximate='tanh')", "self.odd(x)", "approximate='tanh'"),
    "slope": ("nn.LeakyReLU(0.2)", "self.odd(x)", "negative_slope=0.2"),
    "functional slope": ("None", "F.leaky_relu(x, 0.3)", "negative_slope=0.3"),
    "asymmetric": ("nn.ZeroPad2d((0, 1, 0, 1))", "F.max_pool2d(self.odd(x), 2)", "pads a map"),
    "asymmetric conv": ("nn.Conv2d(4, 4, 3)", "self.odd(F.pad(x, (0, 1, 0, 1)))", "pads 0 above"),
    "adaptive": ("nn.AdaptiveAvgPool2d(5)", "self.odd(x)", "12x12 to 5x5"),
    "constant": ("None", "x * 2", "multiplies by a constant"),
    "shift": ("None", "x + 1", "adds a constant"),
    "alpha": ("None", "torch.add(x, F.relu(x), alpha=2)", "alpha=2"),
    "subtraction": ("None", "x - F.relu(x)", "sub: no counterpart"),
    "product": ("nn.Conv2d(4, 4, 1)", "x * self.odd(x)", "multiplies maps"),
    "parameter": ("nn.Parameter(torch.ones(4, 1, 1))", "x * self.odd", "of the module's own"),
    "buffer": ("nn.Module()", "x - torch.ones(4, 1, 1).neg()", "of the module's own"),
    "own convolution": (
        "nn.Parameter(torch.ones(4, 4, 1, 1))",
        "F.conv2d(x, self.odd - self.odd.mean())",
        "of the module's own",
    ),
    "broadcast": ("None", "x + x.mean((2, 3), keepdim=True)", "different shapes"),
    "softmax inside": ("None", "F.softmax(x, dim=1)", "over the classes"),
    "sigmoid": ("None", "x.sigmoid()", "squeeze-excite"),
    "part": ("None", "F.pad(x[:, 1:3], (0, 0, 0, 0, 1, 1))", "pads with other than zeros"),
    "cropped": ("None", "x[:, :, 1:]", "takes a part"),
    "left columns": ("None", "x[..., 0:2]", "takes a part"),
    "shuffled": ("None", "x.view(x.size(0), 2, 2, 12, 12).transpose(1, 2).flatten(1, 2)",
                 "transpose: no counterpart"),
    "swapped halves": ("None", "torch.cat(x.chunk(2, 1)[::-1], 1)", "takes several pieces"),
    "one half": ("nn.Conv2d(2, 4, 1)", "self.odd(x[:, :2])", "takes some of the channels"),
    "cat on height": ("None", "torch.cat([x, x], 2)", "use dim=1"),
    "always dropped": ("None", "F.dropout(x, 0.5)", "self.training"),
    "interpolated": ("None", "F.interpolate(x, scale_factor=2)", "interpolate"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_cannot_be_expressed_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    init, call, words = UNSUPPORTED[case]
    path = tmp_path / "odd.py"
    problems = problems_of(net_in(path, f"self.odd = {init}", f"x = {call}"))
    rows = path.read_text().splitlines()
    line = next(i for i, row in enumerate(rows, 1) if f"x = {call}" in row)
    told = [problem for problem in problems if words in problem.message]
    assert told, problems
    assert f"{path}:{line} (x = {call}), node " in told[0].message
    assert told[0].place == ("odd" if call == "self.odd(x)" else told[0].place)


def test_all_that_cannot_be_expressed_is_told_at_once() -> None:
    module = m.small(nn.PReLU(), nn.ConvTranspose2d(4, 8, 2), nn.ELU(), nn.Tanh())
    assert [problem.place for problem in problems_of(module)] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("code", ["if x.sum() > 0:\n    x = F.relu(x)", "y = float(x.max())"])
def test_control_flow_on_values_is_told(code: str) -> None:
    (problem,) = problems_of(net("", code))
    assert "depends on the values" in problem.message


def test_subclasses_are_layers_only_where_they_compute_the_same() -> None:
    spec = import_module(m.small(m.Narrow(4, 8)), RGB, "net").spec
    conv: Json = {**CONV, "out_channels": 8, "kernel_size": 1, "bias": False}
    assert hash_of(spec) == hash_of(written([conv], GAP_LINEAR))
    (problem,) = problems_of(m.small(m.Standardised(4, 8, 1)))
    assert (problem.place, problem.rule) == ("1", "unsupported")


def test_control_flow_on_shapes_and_settings_is_fine() -> None:
    code = "if x.shape[1] == 4 and len(x) and not self.training:\n    x = F.relu(x)"
    spec = import_module(net("", code), RGB, "net").spec
    activated: Json = {"op": "activation"}
    assert hash_of(spec) == hash_of(written([activated], GAP_LINEAR))


def test_shared_weights_are_told() -> None:
    problems = problems_of(net("self.c = nn.Conv2d(4, 4, 1)", "x = self.c(self.c(x))"))
    assert [(p.place, p.rule) for p in problems] == [("c", "shared-weights")]
    tied = net("self.c = nn.Conv2d(4, 4, 1)\nself.d = nn.Conv2d(4, 4, 1)", "x = self.d(self.c(x))")
    tied.d.weight = tied.c.weight
    assert [p.place for p in problems_of(tied)] == ["d"]


def test_a_relu_may_be_called_twice() -> None:
    spec = import_module(net("self.r = nn.ReLU()", "x = self.r(self.r(x))"), RGB, "net").spec
    assert sum("relu" in layer.model_dump_json() for layer in spec.blocks[0].layers) == 2


def test_branches_that_cross_are_told() -> None:
    problems = problems_of(net("self.t = Tangled(4)", "x = self.t(x)", 8))
    assert {problem.rule for problem in problems} == {"branches"}
    assert problems[0].place == "t.a"


def test_a_dropout_that_two_branches_use_is_told() -> None:
    init, forward = "self.d = nn.Dropout(0.1)", "d = self.d(x)\nx = torch.cat([x + d, d], 1)"
    problems = problems_of(net(init, forward, 8))
    assert [(problem.place, problem.rule) for problem in problems] == [("d", "branches")]


def test_a_dropout_before_branches_is_one() -> None:
    init, forward = "self.d = nn.Dropout(0.1)", "d = self.d(x)\nx = torch.cat([F.relu(d), d], 1)"
    spec = import_module(net(init, forward, 8), RGB, "net").spec
    assert spec.model_dump_json().count('"op":"dropout"') == 0  # within the stem's convolution
    assert spec.model_dump_json().count('"dropout":0.1') == 1


@pytest.mark.parametrize("end", ["x, x", "{'out': x}", "None", "x", "self.head(x.mean(0))"])
def test_what_is_returned_must_be_logits(end: str) -> None:
    problems = problems_of(net("", "pass", end=end))
    assert problems


def test_a_forward_that_fails_is_told_with_its_line() -> None:
    (problem,) = problems_of(net("self.c = nn.Conv2d(5, 4, 1)", "x = self.c(x)"))
    assert "forward fails on images of (3, 12, 12): RuntimeError" in problem.message
    assert problem.place == "c"


class StoppedError(BaseException):
    """As asyncio.CancelledError, no Exception."""


class Raising(nn.Module):
    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        raise self.kind


@pytest.mark.parametrize("kind", [StoppedError, SystemExit])
def test_whatever_forward_raises_is_told(kind: type[BaseException]) -> None:
    (problem,) = problems_of(Raising(kind))
    assert "forward fails on images of (3, 12, 12): " in problem.message
    assert kind.__name__ in problem.message


def test_ctrl_c_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        import_module(Raising(KeyboardInterrupt), RGB, "net")


def test_an_image_that_fits_no_memory_is_told() -> None:
    (problem,) = problems_of(nn.Sequential(nn.Conv2d(1, 10, 12)), (1_000_000, 16_384, 16_384))
    assert (problem.place, problem.rule) == ("input", "input-size")
    assert "268,435,456,000,000 values an image" in problem.message


def test_lazy_layers_are_told() -> None:
    (problem,) = problems_of(nn.Sequential(nn.LazyConv2d(10, 12)))
    assert problem.rule == "lazy"


def test_hooks_are_told() -> None:
    module = nn.Sequential(nn.Conv2d(3, 10, 12))
    module[0].register_forward_hook(lambda *_: None)
    (problem,) = problems_of(module)
    assert (problem.place, problem.rule) == ("0", "hooks")
