"""cifar10-200k-0: an image classifier, written out by archsearch.

parameters       128,866
MACs             18,644,064 multiply-accumulates for one image
receptive field  65 pixels before global pooling, 93 with it

    net = load_checkpoint("checkpoint.pt")  # from `archsearch train` on this network
    logits = net(images)  # (N, 3, 32, 32) to (N, 10)
"""

from pathlib import Path

import torch
from torch import Tensor, nn

SPEC_HASH = "5fa9f89058efff75cfdd9b63afc17f122984f96bf69d9f5b46a1a9166a0ba8f9"
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

        # "conv2": 24x32x32 -> 48x16x16, 52,128 parameters
        self.conv2 = nn.Sequential(
            nn.Conv2d(24, 48, 3, stride=2, padding=1, bias=False),  # 48x16x16  10,368  RF 3 + (3 - 1) * 1 = 5
            nn.BatchNorm2d(48),                                     # 48x16x16      96  RF 5
            nn.SiLU(),                                              # 48x16x16       0  RF 5
            Residual(
                nn.Sequential(
                    nn.Conv2d(48, 48, 3, padding=1, bias=False),    # 48x16x16  20,736  RF 5 + (3 - 1) * 2 = 9
                    nn.BatchNorm2d(48),                             # 48x16x16      96  RF 9
                    nn.SiLU(),                                      # 48x16x16       0  RF 9
                    nn.Conv2d(48, 48, 3, padding=1, bias=False),    # 48x16x16  20,736  RF 9 + (3 - 1) * 2 = 13
                    nn.BatchNorm2d(48),                             # 48x16x16      96  RF 13
                    nn.SiLU(),                                      # 48x16x16       0  RF 13
                ),
                shortcut=nn.Identity(),
            ),                                                      # 48x16x16       0  RF 13
        )

        # "conv3": 48x16x16 -> 112x8x8, 33,584 parameters
        self.conv3 = nn.Sequential(
            nn.Conv2d(48, 48, 3, stride=2, padding=1, groups=48, bias=False),   # 48x8x8      432  RF 13 + (3 - 1) * 2 = 17
            nn.Conv2d(48, 112, 1, bias=False),                                  # 112x8x8   5,376  RF 17 + (1 - 1) * 4 = 17
            nn.BatchNorm2d(112),                                                # 112x8x8     224  RF 17
            nn.SiLU(),                                                          # 112x8x8       0  RF 17
            Residual(
                nn.Sequential(
                    nn.Conv2d(112, 112, 3, padding=1, groups=112, bias=False),  # 112x8x8   1,008  RF 17 + (3 - 1) * 4 = 25
                    nn.Conv2d(112, 112, 1, bias=False),                         # 112x8x8  12,544  RF 25 + (1 - 1) * 4 = 25
                    nn.BatchNorm2d(112),                                        # 112x8x8     224  RF 25
                    nn.SiLU(),                                                  # 112x8x8       0  RF 25
                    nn.Conv2d(112, 112, 3, padding=1, groups=112, bias=False),  # 112x8x8   1,008  RF 25 + (3 - 1) * 4 = 33
                    nn.Conv2d(112, 112, 1, bias=False),                         # 112x8x8  12,544  RF 33 + (1 - 1) * 4 = 33
                    nn.BatchNorm2d(112),                                        # 112x8x8     224  RF 33
                    nn.SiLU(),                                                  # 112x8x8       0  RF 33
                ),
                shortcut=nn.Identity(),
            ),                                                                  # 112x8x8       0  RF 33
        )

        # "conv4": 112x8x8 -> 112x8x8, 41,328 parameters
        self.conv4 = nn.Sequential(
            nn.Conv2d(112, 112, 3, padding=1, groups=112, bias=False),                      # 112x8x8   1,008  RF 33 + (3 - 1) * 4 = 41
            nn.Conv2d(112, 112, 1, bias=False),                                             # 112x8x8  12,544  RF 41 + (1 - 1) * 4 = 41
            nn.BatchNorm2d(112),                                                            # 112x8x8     224  RF 41
            nn.SiLU(),                                                                      # 112x8x8       0  RF 41
            Residual(
                nn.Sequential(
                    nn.Conv2d(112, 112, 3, padding=2, dilation=2, groups=112, bias=False),  # 112x8x8   1,008  RF 41 + (5 - 1) * 4 = 57  (3x dilated by 2 spans 5)
                    nn.Conv2d(112, 112, 1, bias=False),                                     # 112x8x8  12,544  RF 57 + (1 - 1) * 4 = 57
                    nn.BatchNorm2d(112),                                                    # 112x8x8     224  RF 57
                    nn.SiLU(),                                                              # 112x8x8       0  RF 57
                    nn.Conv2d(112, 112, 3, padding=1, groups=112, bias=False),              # 112x8x8   1,008  RF 57 + (3 - 1) * 4 = 65
                    nn.Conv2d(112, 112, 1, bias=False),                                     # 112x8x8  12,544  RF 65 + (1 - 1) * 4 = 65
                    nn.BatchNorm2d(112),                                                    # 112x8x8     224  RF 65
                    nn.SiLU(),                                                              # 112x8x8       0  RF 65
                ),
                shortcut=nn.Identity(),
            ),                                                                              # 112x8x8       0  RF 65
        )

        # The output: 112x8x8 -> 10, 1,130 parameters
        self.output = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # 112x1x1      0  RF 65 + (8 - 1) * 4 = 93
            nn.Flatten(),             # 112          0  RF 93
            nn.Linear(112, 10),       # 10       1,130  RF 93
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
