"""Networks whose figures the literature knows, as specs: 3x224x224 images, 1,000 classes."""

from __future__ import annotations

from collections.abc import Callable

from tests.strategies import Json

POOLED_HEAD: list[Json] = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 1000}]


def spec(name: str, layers: list[Json], head: list[Json]) -> Json:
    """A spec of one block and a head."""
    return {
        "name": name,
        "input": {"channels": 3, "height": 224, "width": 224},
        "classes": 1000,
        "blocks": [{"name": "features", "layers": layers}],
        "output": {"layers": head},
    }


def plain_conv(out_channels: int, kernel_size: int, stride: int = 1, padding: int = 1) -> Json:
    """A convolution with a bias and a ReLU, as before batch norm."""
    return {
        "op": "conv",
        "out_channels": out_channels,
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "norm": None,
    }


def max_pool(kernel_size: int, stride: int, padding: int = 0) -> Json:
    return {"op": "max_pool", "kernel_size": kernel_size, "stride": stride, "padding": padding}


def dense_head() -> list[Json]:
    """Two hidden layers of 4,096, and the logits."""
    hidden: Json = {"op": "linear", "out_features": 4096, "activation": "relu", "dropout": 0.5}
    return [{"op": "flatten"}, hidden, hidden, {"op": "linear", "out_features": 1000}]


def alexnet() -> Json:
    """torchvision's: Krizhevsky 2014, arXiv:1404.5997, one tower."""
    layers = [
        plain_conv(64, 11, stride=4, padding=2),
        max_pool(3, 2),
        plain_conv(192, 5, padding=2),
        max_pool(3, 2),
        plain_conv(384, 3),
        plain_conv(256, 3),
        plain_conv(256, 3),
        max_pool(3, 2),
    ]
    return spec("alexnet", layers, dense_head())


def vgg16() -> Json:
    """Configuration D of Simonyan and Zisserman 2014, arXiv:1409.1556."""
    layers: list[Json] = []
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [plain_conv(width, 3)] * depth + [max_pool(2, 2)]
    return spec("vgg16", layers, dense_head())


def normed_conv(
    out_channels: int, kernel_size: int, stride: int = 1, activation: str | None = "relu"
) -> Json:
    """A convolution that keeps ceil(size / stride) cells, with batch norm."""
    return {
        "op": "conv",
        "out_channels": out_channels,
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": kernel_size // 2,
        "activation": activation,
    }


def basic(width: int, stride: int) -> list[Json]:
    """The body of ResNet's block of two 3x3 convolutions."""
    return [normed_conv(width, 3, stride), normed_conv(width, 3, activation=None)]


def bottleneck(width: int, stride: int) -> list[Json]:
    """1x1, 3x3, 1x1; the 3x3 strides, as torchvision has it."""
    return [
        normed_conv(width, 1),
        normed_conv(width, 3, stride),
        normed_conv(4 * width, 1, activation=None),
    ]


def bottleneck_of_the_paper(width: int, stride: int) -> list[Json]:
    """1x1, 3x3, 1x1; the first strides."""
    return [
        normed_conv(width, 1, stride),
        normed_conv(width, 3),
        normed_conv(4 * width, 1, activation=None),
    ]


def resnet(name: str, body: Callable[[int, int], list[Json]], *depths: int) -> Json:
    """He et al. 2015, arXiv:1512.03385: `depths` blocks of `body` in each stage."""
    layers = [normed_conv(64, 7, 2), max_pool(3, 2, padding=1)]
    for stage, depth in enumerate(depths):
        for i in range(depth):
            stride = 2 if stage > 0 and i == 0 else 1
            inside = body(64 << stage, stride)
            layers.append({"op": "residual", "body": inside, "activation": "relu"})
    return spec(name, layers, POOLED_HEAD)


MOBILENET_WIDTHS_AND_STRIDES = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


def mobilenet() -> Json:
    """MobileNet v1: Howard et al. 2017, arXiv:1704.04861, table 1.

    The table has the last depthwise layer stride by 2 and keep its 7x7 map; like the usual
    implementations this one keeps the map.
    """
    layers = [normed_conv(32, 3, 2)]
    layers += [
        {
            "op": "depthwise_separable",
            "out_channels": width,
            "stride": stride,
            "padding": 1,
            "mid_norm": "batch",
            "mid_activation": "relu",
        }
        for width, stride in MOBILENET_WIDTHS_AND_STRIDES
    ]
    return spec("mobilenet", layers, POOLED_HEAD)
