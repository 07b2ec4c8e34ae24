"""`archsearch import`: which layers become which blocks, and torchvision's networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from archsearch.analysis.analyze import analyze
from archsearch.convert.from_module import import_module
from archsearch.convert.to_module import build
from tests.convert.from_module.importing import RGB, net, problems_of

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
