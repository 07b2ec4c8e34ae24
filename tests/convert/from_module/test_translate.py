"""`archsearch import`: one function written in several ways, against specs written by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor, nn

from archsearch.common.parse import from_json
from archsearch.convert.from_module import import_module
from archsearch.spec.models import Spec
from archsearch.spec.network import walk
from archsearch.spec.resolve import resolve
from tests.conftest import ROOT
from tests.convert.from_module import modules as m
from tests.convert.from_module.importing import CONV, GAP_LINEAR, RGB, hash_of, net, written
from tests.strategies import Json

BN_RELU: Json = {"op": "conv", "out_channels": 8}


def seed(name: str) -> Spec:
    path = ROOT / "studies" / "seeds" / name / "spec.json"
    return from_json(Spec, path.read_text(), str(path))


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


def test_an_activation_whose_result_is_dropped_is_told() -> None:
    imported = import_module(m.EraS9(), (3, 32, 32), "era")
    [note] = imported.notes
    assert note.startswith("forward never uses what ReLU gives, so it has no effect: conv1.0.relu")
    assert note.endswith("and 5 more")
    assert "relu" not in imported.spec.model_dump_json()


def test_what_an_operation_in_place_gives_may_go_unnamed() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 10, 32)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            self.relu(x)
            x.sigmoid()
            return x.flatten(1)

    imported = import_module(InPlace(), (3, 32, 32), "in-place")
    assert imported.notes == (
        "forward never uses what sigmoid gives, so it has no effect: sigmoid",
    )
    assert '"relu"' in imported.spec.model_dump_json()


# One function, written in several ways

POINTWISE: Json = {**CONV, "out_channels": 4, "kernel_size": 1}
HALVES: Json = {
    "op": "parallel", "merge": "add", "split": True,
    "branches": [[POINTWISE], [{**CONV, "out_channels": 4}]],
}  # fmt: skip

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
    "a sum of all parts": ("", "a, b, c, d = x.split(1, 1)\nx = a + b + c + d", 1, [
        {"op": "parallel", "merge": "add", "split": True, "branches": [[]] * 4}
    ]),
    "a split sum in a sum": (
        "self.a = nn.Conv2d(2, 4, 1)\nself.b = nn.Conv2d(2, 4, 3, padding=1)",
        "p, q = x.chunk(2, 1)\nx = x + (self.b(q) + self.a(p))",
        4,
        [{"op": "residual", "body": [HALVES]}],
    ),
    "two split sums in a sum": (
        "self.a = nn.ModuleList(nn.Conv2d(2, 4, 1) for _ in range(2))\n"
        "self.b = nn.ModuleList(nn.Conv2d(2, 4, 3, padding=1) for _ in range(2))",
        "p, q = x.chunk(2, 1)\nx = (self.a[0](p) + self.b[0](q)) + (self.a[1](p) + self.b[1](q))",
        4,
        [{"op": "parallel", "merge": "add", "branches": [[HALVES], [HALVES]]}],
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
