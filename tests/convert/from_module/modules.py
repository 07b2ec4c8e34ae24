"""Networks as people write them, for `archsearch import`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def finished(*convs: nn.Module, channels: int) -> list[nn.Module]:
    """Convolutions, then ReLU, batch norm, dropout of maps."""
    return [*convs, nn.ReLU(inplace=True), nn.BatchNorm2d(channels), nn.Dropout2d(0.01)]


def plain(before: int, after: int, dilation: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, 3, padding=1, dilation=dilation, bias=False)
    return finished(conv, channels=after)


def separable(before: int, after: int) -> list[nn.Module]:
    depth = nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False)
    point = nn.Conv2d(before, after, 1, padding=1, bias=False)
    return finished(depth, point, channels=after)


def halved(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 1, stride=2), nn.ReLU()]


class Eva8(nn.Module):
    """eva8-session6 as four Sequentials, ending in log-probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*plain(3, 32), *plain(32, 64), *halved(64, 32))
        self.conv2 = nn.Sequential(*plain(32, 32), *separable(32, 64), *halved(64, 32))
        self.conv3 = nn.Sequential(*plain(32, 64, 2), *plain(64, 64), *halved(64, 16))
        self.conv4 = nn.Sequential(*plain(16, 32), *separable(32, 10))
        self.gap = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv4(self.conv3(self.conv2(self.conv1(x))))
        return F.log_softmax(self.gap(x).view(-1, 10), dim=-1)


class Unit(nn.Module):
    """A convolution (or a depthwise and a pointwise one), and what follows it as functions."""

    def __init__(self, before: int, after: int, *, dilation: int = 1, depthwise: bool = False):
        super().__init__()
        self.depth: nn.Module = nn.Identity()
        self.conv = nn.Conv2d(before, after, 3, 1, 1, dilation=dilation, bias=False)
        if depthwise:
            self.depth = nn.Conv2d(before, before, 3, 1, "same", groups=before, bias=False)
            self.conv = nn.Conv2d(before, after, 1, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(torch.relu(self.conv(self.depth(x))))
        return F.dropout2d(x, 0.01, training=self.training)


class Stage(nn.Module):
    """Two units and a strided 1x1 convolution."""

    def __init__(self, first: Unit, second: Unit, before: int, after: int) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.down = nn.Conv2d(before, after, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(self.second(self.first(x)))
        return x.relu_()


class Eva8Functional(nn.Module):
    """eva8-session6 as nested classes and functions."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.a = Stage(Unit(3, 32), Unit(32, 64), 64, 32)
        self.b = Stage(Unit(32, 32), Unit(32, 64, depthwise=True), 64, 32)
        self.c = Stage(Unit(32, 64, dilation=2), Unit(64, 64), 64, 16)
        self.d = nn.ModuleList([Unit(16, 32), Unit(32, classes, depthwise=True)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.b(self.a(x)))
        for unit in self.d:
            x = unit(x)
        return F.avg_pool2d(x, kernel_size=x.size()[2:]).view(x.size(0), -1)


class EraUnit(nn.Module):
    """A dw-sep unit as its author's code has it: what the ReLU gives goes to another name."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False),
            nn.Conv2d(before, after, kernel_size=(1, 1), bias=False),
        )
        self.relu = nn.ReLU()
        self.norm = nn.BatchNorm2d(after)
        self.dropout = nn.Dropout(0.1)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.conv(maps)
        rectified = self.relu(maps)  # noqa: F841 - the mistake that this unit is about
        normed: Tensor = self.dropout(self.norm(maps))
        return normed


class EraS9(nn.Module):
    """era-s9: nested Sequentials, a 1x1 convolution and a pool as the head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(EraUnit(3, 32), EraUnit(32, 64))
        self.conv2 = nn.Sequential(
            nn.Conv2d(64, 32, 3, stride=2, dilation=2, bias=False),
            EraUnit(32, 64),
            EraUnit(64, 128),
        )
        self.conv3 = nn.Sequential(
            nn.Conv2d(128, 64, 3, stride=2, padding="valid", bias=False),
            EraUnit(64, 128),
            EraUnit(128, 128),
        )
        self.conv4 = nn.Sequential(
            nn.Conv2d(128, 64, 3, stride=2, bias=False), EraUnit(64, 64), EraUnit(64, 32)
        )
        self.head = nn.Conv2d(32, 10, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x))
        x = self.conv4(self.conv3(x))
        logits: Tensor = self.pool(self.head(x))
        return logits.squeeze()


class PreActivation(nn.Module):
    """norm, ReLU in place, conv: the shortcut then leaves before or after the ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        y: Tensor = self.conv(self.relu(x))
        return x + y


class Dense(nn.Module):
    """Each layer sees all maps before it, in one list."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(channels + 2 * i, 2, 3, padding=1) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.layers:
            maps.append(F.relu(layer(torch.cat(maps, 1))))
        return torch.cat(maps, 1)


class Tangled(nn.Module):
    """Not branches side by side: one branch feeds another one and the merge."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.c = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        return torch.cat([self.b(a) + self.c(x), a], 1)


class Gate(nn.Module):
    """Squeeze-excite with linear layers."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed), nn.ReLU(), nn.Linear(squeezed, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.shape
        gates: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).view(n, c)).view(n, c, 1, 1)
        return x * gates.expand_as(x)


def small(*layers: nn.Module, channels: int = 8) -> nn.Sequential:
    """Layers over a 4-channel stem, and a head over `channels`."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    return nn.Sequential(nn.Conv2d(3, 4, 1), *layers, head)


class Narrow(nn.Conv2d):
    """Only builds a convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 1, bias=False)


class Standardised(nn.Conv2d):
    """Computes something else than a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight - self.weight.mean(), self.bias)
