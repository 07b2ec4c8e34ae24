"""`archsearch import`: modules as people write them, against specs written by hand and torch."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from archsearch.analyze import analyze
from archsearch.build import build
from archsearch.errors import InputError
from archsearch.from_module import folding, import_module
from archsearch.network import walk
from archsearch.parse import from_json
from archsearch.resolve import resolve
from archsearch.spec import Spec
from tests import modules as m
from tests.conftest import ROOT
from tests.strategies import Json

RGB = (3, 12, 12)
GAP_LINEAR: list[Json] = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]


def seed(name: str) -> Spec:
    path = ROOT / "studies" / "seeds" / name / "spec.json"
    return from_json(Spec, path.read_text(), str(path))


def hash_of(spec: Spec) -> str:
    return analyze(spec).spec_hash


def written(layers: list[Json], head: list[Json]) -> Spec:
    """A spec by hand: a stem, `layers` and a head."""
    stem: Json = {"op": "conv", "out_channels": 4, "kernel_size": 1}
    stem |= {"norm": None, "activation": None}
    raw = {
        "name": "written",
        "input": {"channels": RGB[0], "height": RGB[1], "width": RGB[2]},
        "blocks": [{"name": "b", "layers": [stem, *layers]}],
        "output": {"layers": head},
    }
    return Spec.model_validate(raw)


SOURCE = """
import operator
import torch
from torch import nn
from torch.nn import functional as F
from tests.modules import Dense, Gate, PreActivation, Tangled

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        {init}
        self.head = nn.Linear({channels}, 10)

    def forward(self, x):
        x = self.stem(x)
        {forward}
        return {end}
"""


def source(init: str, forward: str, channels: int, end: str) -> str:
    init, forward = (textwrap.indent(part, " " * 8).strip() for part in (init, forward))
    return SOURCE.format(init=init or "pass", forward=forward, channels=channels, end=end)


def net(init: str, forward: str, channels: int = 4, end: str = "self.head(x.mean((2, 3)))") -> Any:
    """A module over 4-channel 12x12 maps, from lines of code."""
    names: dict[str, Any] = {"__name__": "written"}
    exec(source(init, forward, channels, end), names)  # noqa: S102
    return names["Net"]()


def problems_of(module: nn.Module, shape: tuple[int, int, int] = RGB) -> list[Any]:
    with pytest.raises(InputError) as error:
        import_module(module, shape, "net")
    return list(error.value.problems)


# The two public networks


@pytest.mark.parametrize(
    ("make", "name", "blocks"),
    [
        (m.Eva8, "eva8-session6", ["conv1", "conv2", "conv3", "conv4"]),
        (m.Eva8Functional, "eva8-session6", ["a", "b", "c", "d"]),
        (m.EraS9, "era-s9", ["conv1", "conv2", "conv3", "conv4"]),
    ],
)
def test_the_seeds_import_to_themselves(
    make: Callable[[], nn.Module], name: str, blocks: list[str]
) -> None:
    wanted = seed(name)
    got = import_module(make(), (3, 32, 32), name).spec
    assert hash_of(got) == hash_of(wanted)
    assert [block.name for block in got.blocks] == blocks
    assert [
        [layer.op for layer in block.layers] for block in got.blocks
    ] == [[layer.op for layer in block.layers] for block in wanted.blocks]  # fmt: skip
    for section, expected in zip(
        resolve(got).sections[:4], resolve(wanted).sections[:4], strict=True
    ):
        assert [node.op for node in walk(section)] == [node.op for node in walk(expected)]


def test_softmax_at_the_end_is_told_and_left_out() -> None:
    imported = import_module(m.Eva8(), (3, 32, 32), "eva8")
    assert imported.notes == ("the softmax at the end is left out: a spec ends in logits",)
    assert import_module(m.EraS9(), (3, 32, 32), "era").notes == ()


# One function, written in several ways

CONV: Json = {"op": "conv", "norm": None, "activation": None}
BN_RELU: Json = {"op": "conv", "out_channels": 8}

STYLES: dict[str, tuple[str, str, int, list[Json]]] = {
    "functions and methods": (
        "self.c = nn.Conv2d(4, 8, 3, padding=1)",
        "x = F.gelu(F.leaky_relu(F.hardswish(F.silu(F.relu(torch.relu(self.c(x).relu()))))))",
        8,
        [
            {**CONV, "out_channels": 8, "activation": "relu"},
            *[
                {"op": "activation", "kind": kind}
                for kind in ("relu", "relu", "silu", "hardswish", "leaky_relu", "gelu")
            ],
        ],
    ),
    "order act_norm, dropout last": (
        "self.c = nn.Conv2d(4, 8, 3, padding='same')\nself.n = nn.GroupNorm(2, 8)",
        "x = F.dropout(self.n(F.silu(self.c(x))), 0.2, self.training)",
        8,
        [
            {
                **CONV, "out_channels": 8, "norm": "group", "num_groups": 2, "activation": "silu",
                "order": "act_norm", "dropout": 0.2, "bias": True,
            }
        ],
    ),
    "layer norm, valid, dilation, rectangles": (
        "self.c = nn.Conv2d(4, 8, (3, 2), (1, 2), 'valid', (2, 3), bias=False)\n"
        "self.n = nn.GroupNorm(1, 8)",
        "x = self.n(self.c(x))",
        8,
        [
            {
                **CONV, "out_channels": 8, "kernel_size": [3, 2], "stride": [1, 2],
                "padding": "valid", "dilation": [2, 3], "norm": "layer",
            }
        ],
    ),
    "zero padding as same": (
        "self.z = nn.ZeroPad2d((1, 2, 1, 2))\nself.c = nn.Conv2d(4, 8, 4, stride=2)",
        "x = self.c(self.z(x))",
        8,
        [{**CONV, "out_channels": 8, "kernel_size": 4, "stride": 2, "padding": "same"}],
    ),
    "zero padding and its own": (
        "self.c = nn.Conv2d(4, 8, 3, padding=1)",
        "x = self.c(F.pad(x, (2, 2, 1, 1)))",
        8,
        [{**CONV, "out_channels": 8, "padding": [2, 3]}],
    ),
    "pools": (
        "self.p = nn.MaxPool2d(3, 2, 1)",
        "x = F.avg_pool2d(F.max_pool2d(self.p(x), 2, stride=1), (2, 1), count_include_pad=False)",
        4,
        [
            {"op": "max_pool", "kernel_size": 3, "stride": 2, "padding": 1},
            {"op": "max_pool", "kernel_size": 2, "stride": 1},
            {"op": "avg_pool", "kernel_size": [2, 1]},
        ],
    ),
    "adaptive pools": (
        "self.p = nn.AdaptiveAvgPool2d((6, 4))",
        "x = F.adaptive_avg_pool2d(self.p(x), (6, 4))",
        4,
        [{"op": "avg_pool", "kernel_size": [2, 3]}],
    ),
    "left out": (
        "self.i = nn.Identity()\nself.d = nn.Dropout(0)",
        "x = F.dropout(self.d(self.i(x)), 0.3, training=False).contiguous()",
        4,
        [],
    ),
    "silu by hand, and modules made in forward": (
        "",
        "x = nn.ReLU()(nn.MaxPool2d(2)(x))\nx = x * torch.sigmoid(x)",
        4,
        [{"op": "max_pool"}, {"op": "activation"}, {"op": "activation", "kind": "silu"}],
    ),
    "separable": (
        "self.d = nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False)\n"
        "self.n = nn.BatchNorm2d(8)\nself.p = nn.Conv2d(8, 6, 1, bias=False)",
        "x = self.p(F.relu(self.n(self.d(x))))",
        6,
        [
            {
                "op": "depthwise_separable", "out_channels": 6, "depth_multiplier": 2,
                "mid_norm": "batch", "mid_activation": "relu", "norm": None, "activation": None,
                "bias": False,
            }
        ],
    ),
    "not separable: one bias": (
        "self.d = nn.Conv2d(4, 4, 3, padding=1, groups=4)\nself.p = nn.Conv2d(4, 6, 1, bias=False)",
        "x = self.p(self.d(x))",
        6,
        [
            {**CONV, "out_channels": 4, "groups": "depthwise"},
            {**CONV, "out_channels": 6, "kernel_size": 1, "bias": False},
        ],
    ),
    "residual, in four ways": (
        "self.c = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))",
        "x = x + self.c[0](x)\nx = torch.add(self.c[1](x), x)\ny = self.c[2](x)\ny += x\n"
        "x = F.relu(operator.iadd(self.c[3](y), y))",
        4,
        [{"op": "residual", "body": [{**CONV, "out_channels": 4}]}] * 3
        + [{"op": "residual", "body": [{**CONV, "out_channels": 4}], "activation": "relu"}],
    ),
    "residual with a projection": (
        "self.c = nn.Conv2d(4, 8, 3, 2, 1, bias=False)\nself.n = nn.BatchNorm2d(8)\n"
        "self.s = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))",
        "x = self.s(x) + self.n(self.c(x)).relu()",
        8,
        [{"op": "residual", "body": [{**BN_RELU, "stride": 2}]}],
    ),
    "a sum that is no residual": (
        "self.c = nn.Conv2d(4, 8, 3, padding=1)\nself.s = nn.Conv2d(4, 8, 1)",
        "x = sum([self.s(x), self.c(x)])",
        8,
        [
            {
                "op": "parallel", "merge": "add",
                "branches": [
                    [{**CONV, "out_channels": 8, "kernel_size": 1}],
                    [{**CONV, "out_channels": 8}],
                ],
            }
        ],
    ),
    "three addends": (
        "self.c = nn.Conv2d(4, 4, 3, padding=1)\nself.s = nn.Conv2d(4, 4, 1)",
        "x = self.c(x) + x + self.s(x)",
        4,
        [
            {
                "op": "parallel", "merge": "add",
                "branches": [
                    [{**CONV, "out_channels": 4}], [],
                    [{**CONV, "out_channels": 4, "kernel_size": 1}],
                ],
            }
        ],
    ),
    "concatenation": (
        "self.c = nn.Conv2d(4, 4, 3, padding=1)",
        "x = torch.cat([x, F.relu(self.c(x))], dim=1)",
        8,
        [
            {
                "op": "parallel",
                "branches": [[], [{**CONV, "out_channels": 4, "activation": "relu"}]],
            }
        ],
    ),
    "dense": (
        "self.d = Dense(4)",
        "x = self.d(x)",
        10,
        [
            {
                "op": "parallel",
                "branches": [[], [{**CONV, "out_channels": 2, "activation": "relu"}]],
            }
        ]
        * 3,
    ),
    "chunk and slice": (
        "self.c = nn.Conv2d(2, 2, 3, padding=1)\nself.e = nn.Conv2d(2, 2, 3, padding=1)",
        "a, b = x.chunk(2, dim=1)\nx = torch.cat([self.c(a), b], 1)\n"
        "x = self.e(x[:, :2]) + x[:, 2:]",
        2,
        [
            {
                "op": "parallel", "split": True, "branches": [[{**CONV, "out_channels": 2}], []],
            },
            {
                "op": "parallel", "split": True, "merge": "add",
                "branches": [[{**CONV, "out_channels": 2}], []],
            },
        ],
    ),
    "squeeze-excite by linear layers": (
        "self.g = Gate(4, 2)",
        "x = self.g(x)",
        4,
        [{"op": "squeeze_excite", "reduction": 2}],
    ),
    "squeeze-excite by convolutions": (
        "self.a = nn.Conv2d(4, 1, 1)\nself.b = nn.Conv2d(1, 4, 1)",
        "x = torch.sigmoid(self.b(F.relu(self.a(x.mean((2, 3), keepdim=True))))) * x",
        4,
        [{"op": "squeeze_excite", "reduction": 4}],
    ),
    "a ReLU in place changes the shortcut too": (
        "self.p = PreActivation(4)",
        "x = self.p(x)",
        4,
        [
            {"op": "norm"},
            {"op": "activation"},
            {"op": "residual", "body": [{**CONV, "out_channels": 4}]},
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_styles(style: str) -> None:
    init, forward, channels, layers = STYLES[style]
    got = import_module(net(init, forward, channels), RGB, "net").spec
    assert hash_of(got) == hash_of(written(layers, GAP_LINEAR))
    ops = [layer.op for layer in got.blocks[0].layers[1:]]
    if len(got.blocks) == 1 and got.blocks[0].name == "features":
        assert ops == [layer["op"] for layer in layers]


HEADS = {
    "flatten": ("nn.Flatten()(x)", 576, [{"op": "flatten"}]),
    "view": ("x.view(-1, 576)", 576, [{"op": "flatten"}]),
    "reshape": ("torch.reshape(x, (x.shape[0], -1))", 576, [{"op": "flatten"}]),
    "mean": ("x.mean([-1, -2])", 4, [{"op": "global_avg_pool"}]),
    "squeeze": ("F.avg_pool2d(x, 12).squeeze(-1).squeeze(-1)", 4, [{"op": "global_avg_pool"}]),
    "index": ("F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]", 4, [{"op": "global_avg_pool"}]),
}


@pytest.mark.parametrize("head", HEADS)
def test_heads(head: str) -> None:
    code, features, layers = HEADS[head]
    got = import_module(net("", f"x = {code}", features, "self.head(x)"), RGB, "net").spec
    linear = {"op": "linear", "out_features": 10}
    assert hash_of(got) == hash_of(written([], [*layers, linear]))


def test_batch_norms_and_layer_norms_of_vectors() -> None:
    init = "self.b = nn.BatchNorm1d(4)\nself.n = nn.LayerNorm(4)"
    end = "self.head(F.dropout(self.n(self.b(x.mean((2, 3)))).relu(), 0.1, self.training))"
    got = import_module(net(init, "pass", end=end), RGB, "net").spec
    extra: list[Json] = [
        {"op": "norm"}, {"op": "norm", "kind": "layer"}, {"op": "activation"},
        {"op": "dropout", "p": 0.1},
    ]  # fmt: skip
    head = [GAP_LINEAR[0], *extra, GAP_LINEAR[1]]
    assert hash_of(got) == hash_of(written([], head))


# Blocks


def test_containers_are_blocks_and_what_is_between_joins_the_one_before() -> None:
    init = """
self.first = nn.Sequential(nn.Conv2d(4, 4, 3))
self.pool = nn.MaxPool2d(2)
self.second = nn.ModuleDict({"a": nn.Conv2d(4, 4, 3)})
"""
    forward = "x = self.second['a'](F.relu(self.pool(self.first(x))))"
    spec = import_module(net(init, forward), RGB, "net").spec
    assert [(b.name, [x.op for x in b.layers]) for b in spec.blocks] == [
        ("stem", ["conv"]),
        ("first", ["conv", "max_pool", "activation"]),
        ("second", ["conv"]),
    ]
    assert [layer.op for layer in spec.output.layers] == ["global_avg_pool", "linear"]


def test_the_last_container_is_the_output_where_nothing_follows() -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 144, 10), nn.Softmax(dim=1))
    module = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)), head)
    spec = import_module(module, RGB, "net").spec
    assert [block.name for block in spec.blocks] == ["0"]
    assert [layer.op for layer in spec.output.layers] == ["flatten", "linear"]


def test_one_section_is_split_where_the_map_ends() -> None:
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 10, 1)]
    for module in (nn.Sequential(*layers), nn.Sequential(nn.Sequential(*layers))):
        spec = import_module(module, RGB, "net").spec
        assert [layer.op for layer in spec.blocks[0].layers] == ["conv"]
        assert [layer.op for layer in spec.output.layers] == ["global_avg_pool", "conv"]


def test_a_network_of_one_layer() -> None:
    spec = import_module(nn.Conv2d(3, 10, 12), RGB, "net").spec
    assert [layer.op for layer in spec.blocks[0].layers] == ["conv"]


def test_a_container_that_comes_twice_gives_two_blocks() -> None:
    init = "self.a = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(2))\nself.b = nn.Sequential("
    init += "nn.Conv2d(4, 4, 1))"
    spec = import_module(net(init, "x = self.a[1](self.b(self.a[0](x)))"), RGB, "net").spec
    assert [block.name for block in spec.blocks] == ["stem", "a", "b", "a_2"]


# Networks that others wrote


def with_relu(module: nn.Module) -> nn.Module:
    """ReLU for ReLU6, which a spec does not have."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(parent, name, nn.ReLU())
    return module


models = torchvision.models


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (models.resnet18, 64),
        (models.densenet121, 64),
        (models.squeezenet1_1, 63),
        (lambda: with_relu(models.mobilenet_v2()), 64),
        pytest.param(models.resnet50, 64, marks=pytest.mark.slow),
        pytest.param(models.alexnet, 224, marks=pytest.mark.slow),
        pytest.param(models.vgg16, 224, marks=pytest.mark.slow),
    ],
)
def test_torchvision(make: Callable[[], nn.Module], size: int) -> None:
    module = make().eval()
    network = analyze(import_module(module, (3, size, size), "net").spec).network
    net = build(network).eval()
    # These register their layers in the order in which they run: names apart, one state dict.
    assert len(net.state_dict()) == len(module.state_dict())
    stored = zip(net.state_dict(), module.state_dict().values(), strict=True)
    net.load_state_dict(dict(stored))
    assert analyze(network.spec).params == sum(p.numel() for p in module.parameters())
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        expected = module(images)
        torch.testing.assert_close(
            net(images), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
        )


def test_mobilenets_relu6_is_named_each_time() -> None:
    problems = problems_of(models.mobilenet_v2(), (3, 32, 32))
    assert len(problems) == 35
    assert all("ReLU6" in problem.message for problem in problems)


# What a spec cannot express

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
    "shuffled": ("None", "x.view(x.size(0), 2, 2, 12, 12).transpose(1, 2).flatten(1, 2)",
                 "transpose: no counterpart"),
    "swapped halves": ("None", "torch.cat(x.chunk(2, 1)[::-1], 1)", "takes several pieces"),
    "one half": ("nn.Conv2d(2, 4, 1)", "self.odd(x[:, :2])", "takes some of the channels"),
    "cat on height": ("None", "torch.cat([x, x], 2)", "use dim=1"),
    "always dropped": ("None", "F.dropout(x, 0.5)", "self.training"),
    "interpolated": ("None", "F.interpolate(x, scale_factor=2)", "interpolate"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_cannot_be_expressed_is_named_with_its_line(case: str, tmp_path: Any) -> None:
    made, call, words = UNSUPPORTED[case]
    path = tmp_path / "odd.py"
    text = source(f"self.odd = {made}", f"x = {call}", 4, "self.head(x.mean((2, 3)))")
    path.write_text(text)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if f"x = {call}" in row)
    names: dict[str, Any] = {"__name__": "odd"}
    exec(compile(text, str(path), "exec"), names)  # noqa: S102
    problems = problems_of(names["Net"]())
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


@pytest.mark.parametrize("end", ["x, x", "{'out': x}", "None", "x", "self.head(x.mean(0))"])
def test_what_is_returned_must_be_logits(end: str) -> None:
    problems = problems_of(net("", "pass", end=end))
    assert problems


def test_a_forward_that_fails_is_told_with_its_line() -> None:
    (problem,) = problems_of(net("self.c = nn.Conv2d(5, 4, 1)", "x = self.c(x)"))
    assert "forward fails on images of (3, 12, 12): RuntimeError" in problem.message
    assert problem.place == "c"


def test_lazy_layers_are_told() -> None:
    (problem,) = problems_of(nn.Sequential(nn.LazyConv2d(10, 12)))
    assert problem.rule == "lazy"


def test_hooks_are_told() -> None:
    module = nn.Sequential(nn.Conv2d(3, 10, 12))
    module[0].register_forward_hook(lambda *_: None)
    (problem,) = problems_of(module)
    assert (problem.place, problem.rule) == ("0", "hooks")


# Notes, and the module itself


def test_unused_parameters_and_other_settings_are_told() -> None:
    init = "self.n = nn.BatchNorm2d(4, eps=1e-3, momentum=0.5)\nself.idle = nn.Linear(5, 3)"
    notes = import_module(net(init, "x = self.n(x)"), RGB, "net").notes
    assert notes == (
        "momentum 0.5 becomes 0.1: n",
        "eps 0.001 becomes 1e-05: n",
        "forward never uses 18 parameters: idle.weight, idle.bias",
    )


def test_the_module_is_left_as_it_was() -> None:
    module = net("self.n = nn.BatchNorm2d(4)", "x = F.dropout(self.n(x), 0.1, self.training)")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    import_module(module, RGB, "net")
    assert module.training is True
    for name, value in module.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    assert all(p.requires_grad for p in module.parameters())


def test_a_wrong_spec_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a bug: norms and activations in the wrong order."""
    absorbed = folding._absorbed

    def wrong(layer: Any, then: Any) -> Any:
        fields = absorbed(layer, then)
        return fields and fields | ({"order": "norm_act"} if "order" in fields else {})

    module = m.small(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.BatchNorm2d(8))
    import_module(module, RGB, "net")
    monkeypatch.setattr(folding, "_absorbed", wrong)
    (problem,) = problems_of(module)
    assert problem.rule == "import-check"
    assert "a bug in archsearch" in problem.message
