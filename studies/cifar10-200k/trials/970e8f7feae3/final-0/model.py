"""cifar10-200k-41: an image classifier, written out by archsearch.

parameters       142,434
MACs             17,990,592 multiply-accumulates for one image
receptive field  81 pixels before global pooling, 109 with it

    net = load_checkpoint("checkpoint.pt")  # from `archsearch train` on this network
    logits = net(images)  # (N, 3, 32, 32) to (N, 10)
"""

from pathlib import Path

import torch
from torch import Tensor, nn

SPEC_HASH = "970e8f7feae376d4011d947e3d1d61a3b978ceb7f47ee5a689dcc930ca3ca7b5"
"""Which network this is."""


class Residual(nn.Module):
    """The body's output plus the shortcut's."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.body(x) + self.shortcut(x)
        return total


class Net(nn.Module):
    """Images (N, 3, 32, 32) to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        # fmt: off
        # Beside each layer: the shape that it leaves (channels x height x width), its
        # parameters, and the receptive field (RF) in pixels, r + (k - 1) * j, where j is
        # the pixels from one cell to the next.

        # "conv1": 3x32x32 -> 24x32x32, 696 parameters
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1, bias=False),  # 24x32x32  648  RF 1 + (3 - 1) * 1 = 3
            nn.BatchNorm2d(24),                          # 24x32x32   48  RF 3
            nn.SiLU(),                                   # 24x32x32    0  RF 3
        )

        # "conv2": 24x32x32 -> 32x16x16, 44,096 parameters
        self.conv2 = nn.Sequential(
            nn.Conv2d(24, 32, 3, stride=2, padding=1, bias=False),  # 32x16x16  6,912  RF 3 + (3 - 1) * 1 = 5
            nn.BatchNorm2d(32),                                     # 32x16x16     64  RF 5
            nn.SiLU(),                                              # 32x16x16      0  RF 5
            Residual(
                nn.Sequential(
                    nn.Conv2d(32, 32, 3, padding=1, bias=False),    # 32x16x16  9,216  RF 5 + (3 - 1) * 2 = 9
                    nn.BatchNorm2d(32),                             # 32x16x16     64  RF 9
                    nn.SiLU(),                                      # 32x16x16      0  RF 9
                    nn.Conv2d(32, 32, 3, padding=1, bias=False),    # 32x16x16  9,216  RF 9 + (3 - 1) * 2 = 13
                    nn.BatchNorm2d(32),                             # 32x16x16     64  RF 13
                    nn.SiLU(),                                      # 32x16x16      0  RF 13
                ),
                shortcut=nn.Identity(),
            ),                                                      # 32x16x16      0  RF 13
            Residual(
                nn.Sequential(
                    nn.Conv2d(32, 32, 3, padding=1, bias=False),    # 32x16x16  9,216  RF 13 + (3 - 1) * 2 = 17
                    nn.BatchNorm2d(32),                             # 32x16x16     64  RF 17
                    nn.SiLU(),                                      # 32x16x16      0  RF 17
                    nn.Conv2d(32, 32, 3, padding=1, bias=False),    # 32x16x16  9,216  RF 17 + (3 - 1) * 2 = 21
                    nn.BatchNorm2d(32),                             # 32x16x16     64  RF 21
                    nn.SiLU(),                                      # 32x16x16      0  RF 21
                ),
                shortcut=nn.Identity(),
            ),                                                      # 32x16x16      0  RF 21
        )

        # "conv3": 32x16x16 -> 48x8x8, 13,920 parameters
        self.conv3 = nn.Sequential(
            nn.Conv2d(32, 48, 3, stride=2, padding=1, bias=False),  # 48x8x8  13,824  RF 21 + (3 - 1) * 2 = 25
            nn.BatchNorm2d(48),                                     # 48x8x8      96  RF 25
            nn.SiLU(),                                              # 48x8x8       0  RF 25
        )

        # "conv4": 48x8x8 -> 96x8x8, 82,752 parameters
        self.conv4 = nn.Sequential(
            nn.Conv2d(48, 96, 3, padding=1, bias=False),                                 # 96x8x8  41,472  RF 25 + (3 - 1) * 4 = 33
            nn.BatchNorm2d(96),                                                          # 96x8x8     192  RF 33
            nn.SiLU(),                                                                   # 96x8x8       0  RF 33
            Residual(
                nn.Sequential(
                    nn.Conv2d(96, 96, 3, padding=2, dilation=2, groups=96, bias=False),  # 96x8x8     864  RF 33 + (5 - 1) * 4 = 49  (3x dilated by 2 spans 5)
                    nn.Conv2d(96, 96, 1, bias=False),                                    # 96x8x8   9,216  RF 49 + (1 - 1) * 4 = 49
                    nn.BatchNorm2d(96),                                                  # 96x8x8     192  RF 49
                    nn.SiLU(),                                                           # 96x8x8       0  RF 49
                    nn.Conv2d(96, 96, 3, padding=1, groups=96, bias=False),              # 96x8x8     864  RF 49 + (3 - 1) * 4 = 57
                    nn.Conv2d(96, 96, 1, bias=False),                                    # 96x8x8   9,216  RF 57 + (1 - 1) * 4 = 57
                    nn.BatchNorm2d(96),                                                  # 96x8x8     192  RF 57
                    nn.SiLU(),                                                           # 96x8x8       0  RF 57
                ),
                shortcut=nn.Identity(),
            ),                                                                           # 96x8x8       0  RF 57
            Residual(
                nn.Sequential(
                    nn.Conv2d(96, 96, 3, padding=2, dilation=2, groups=96, bias=False),  # 96x8x8     864  RF 57 + (5 - 1) * 4 = 73  (3x dilated by 2 spans 5)
                    nn.Conv2d(96, 96, 1, bias=False),                                    # 96x8x8   9,216  RF 73 + (1 - 1) * 4 = 73
                    nn.BatchNorm2d(96),                                                  # 96x8x8     192  RF 73
                    nn.SiLU(),                                                           # 96x8x8       0  RF 73
                    nn.Conv2d(96, 96, 3, padding=1, groups=96, bias=False),              # 96x8x8     864  RF 73 + (3 - 1) * 4 = 81
                    nn.Conv2d(96, 96, 1, bias=False),                                    # 96x8x8   9,216  RF 81 + (1 - 1) * 4 = 81
                    nn.BatchNorm2d(96),                                                  # 96x8x8     192  RF 81
                    nn.SiLU(),                                                           # 96x8x8       0  RF 81
                ),
                shortcut=nn.Identity(),
            ),                                                                           # 96x8x8       0  RF 81
        )

        # The output: 96x8x8 -> 10, 970 parameters
        self.output = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # 96x1x1    0  RF 81 + (8 - 1) * 4 = 109
            nn.Flatten(),             # 96        0  RF 109
            nn.Linear(96, 10),        # 10      970  RF 109
        )
        # fmt: on

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.conv2(x)
        x = self.conv3(x)
        x = self.conv4(x)
        x = self.output(x)
        return x


def load_checkpoint(path: str | Path) -> Net:
    """Net with an archsearch checkpoint's weights, set to inference (`net.eval()`).

    Raises:
        ValueError: the checkpoint is another network's.
    """
    stored = torch.load(path, map_location="cpu", weights_only=True)
    # Shapes alone do not tell networks apart: a dilation, say, leaves no trace in them.
    if not stored["run"].startswith(f"network {SPEC_HASH[:12]} "):
        raise ValueError(f"{path} belongs to another network ({stored['run']})")
    # Both list their tensors in the order of the layers; only the names differ.
    net = Net()
    names = net.state_dict()
    net.load_state_dict(dict(zip(names, stored["model"].values(), strict=True)))
    return net.eval()
