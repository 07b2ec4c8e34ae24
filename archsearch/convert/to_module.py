"""A network as a torch module: `blocks.<block>.<layer>.<role>` names its parts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archsearch.common.parse import Given, source_of
from archsearch.convert.pytorch_code import ACTIVATIONS, symmetric
from archsearch.errors import named_as
from archsearch.spec import ops, params_and_macs
from archsearch.spec.load import load_spec
from archsearch.spec.models import Spec
from archsearch.spec.network import Join, Network, Trunk
from archsearch.spec.resolve import resolve

# N batch, C channels, H W pixels, K classes

_STEPS = 2**16
"""Values of 16 random bits."""


class Net(nn.Module):
    """(N, C, H, W) images to (N, K) logits."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        *blocks, output = network.sections
        self.blocks = nn.ModuleList(_trunk(block) for block in blocks)
        self.output = _trunk(output)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits (N, K)."""
        for block in self.blocks:
            x_NCHW = block(x_NCHW)
        logits: Tensor = self.output(x_NCHW)
        return logits.flatten(1)


def to_module(spec: Spec | Given) -> Net:
    """Build a freshly initialized torch module that maps (N, C, H, W) images to (N, K) logits.

    Args:
        spec: a `Spec`, a spec file or a dict.

    Raises:
        InputError: the spec is invalid or its shapes do not match; the error lists all problems.

    Example:
        >>> import archsearch as asr
        >>> net = asr.to_module("studies/seeds/eva8-session6/spec.json")
        >>> sum(p.numel() for p in net.parameters())
        97284
    """
    with named_as(source_of(spec)):
        return build(resolve(load_spec(spec)))


def build(network: Network) -> Net:
    """The torch module of `network`, freshly initialised.

    Raises:
        AssertionError: torch counts other parameters than the analyzer; a bug in one of them.
    """
    net = Net(network)
    built = sum(p.numel() for p in net.parameters())
    counted = sum(params_and_macs.params(node.op) for node in network.nodes())
    if built != counted:
        raise AssertionError(f"torch built {built} parameters, the analyzer counted {counted}")
    return net


def _trunk(trunk: Trunk) -> nn.Sequential:
    """One child a layer of the spec, numbered as there; each names its parts by role."""
    layers = []
    for _, nodes in groupby(trunk, key=lambda node: node.place):
        layer = nn.Sequential()
        for node in nodes:
            if isinstance(node, Join):
                layer.add_module(node.role, Merge(node))
                continue
            module = _MODULES[type(node.op)](node.op)
            if isinstance(module, nn.ReLU):
                # The first module's input may be wanted elsewhere (a shortcut); later ones' is not.
                module.inplace = len(layer) > 0
            layer.add_module(node.role, module)
        layers.append(layer)
    return nn.Sequential(*layers)


class Merge(nn.Module):
    """Branches over one input, summed or concatenated."""

    def __init__(self, join: Join) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_trunk(branch) for branch in join.branches)
        self.split = join.split
        self.merge = join.merge
        self.residual = join.role == "residual"

    def forward(self, x: Tensor) -> Tensor:
        """The sum of the branches' outputs, or their concatenation over channels."""
        inputs = x.chunk(len(self.branches), dim=1) if self.split else [x] * len(self.branches)
        outputs = [branch(part) for branch, part in zip(self.branches, inputs, strict=True)]
        if self.merge == "concat":
            return torch.cat(outputs, dim=1)
        total: Tensor = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total


class SqueezeExcite(nn.Module):
    """Gates channels by two 1x1 convolutions on the pooled map (Hu et al. 2018, 1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The map, each channel scaled by its gate."""
        pooled_NC11 = F.adaptive_avg_pool2d(x_NCHW, 1)
        return x_NCHW * torch.sigmoid(self.excite(F.relu(self.squeeze(pooled_NC11))))


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that avoids oneDNN's slow paths on a CPU; elsewhere nn.Conv2d.

    Strided in bf16 is about 25 times slower than in fp32, so it runs in fp32; dilated runs as
    space-to-batch, plain depthwise, batch-to-space: the same sums, several times faster.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Like nn.Conv2d."""
        if x_NCHW.device.type != "cpu":
            return super().forward(x_NCHW)
        if self.stride != (1, 1):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x_NCHW.to(self.weight.dtype)).to(x_NCHW.dtype)
        if self.dilation != (1, 1):
            return self._space_to_batch(x_NCHW)
        return super().forward(x_NCHW)

    def _space_to_batch(self, x_NCHW: Tensor) -> Tensor:
        (d_h, d_w), (k_h, k_w) = self.dilation, self.kernel_size
        (p_h, p_w) = (int(p) for p in self.padding)
        n, c, h, w = x_NCHW.shape
        # Pad as the convolution would, and on to a multiple of the dilation.
        extra_h, extra_w = -(h + 2 * p_h) % d_h, -(w + 2 * p_w) % d_w
        x_NCHW = F.pad(x_NCHW, (p_w, p_w + extra_w, p_h, p_h + extra_h))
        rows, cols = x_NCHW.shape[2] // d_h, x_NCHW.shape[3] // d_w
        x = x_NCHW.permute(0, 2, 3, 1).reshape(n, rows, d_h, cols, d_w, c)
        x = x.permute(0, 2, 4, 1, 3, 5).reshape(n * d_h * d_w, rows, cols, c)
        y = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, groups=self.groups)
        rows, cols, c = rows - k_h + 1, cols - k_w + 1, y.shape[1]
        y = y.permute(0, 2, 3, 1).reshape(n, d_h, d_w, rows, cols, c).permute(0, 3, 1, 4, 2, 5)
        y = y.reshape(n, rows * d_h, cols * d_w, c).permute(0, 3, 1, 2)
        return y[:, :, : h + 2 * p_h - d_h * (k_h - 1), : w + 2 * p_w - d_w * (k_w - 1)]


def _conv(op: ops.Conv2d) -> nn.Module:
    (top, bottom), (left, right) = op.padding
    depthwise = op.groups == op.in_channels > 1
    conv = (DepthwiseConv2d if depthwise else nn.Conv2d)(
        op.in_channels,
        op.out_channels,
        op.kernel_size,
        stride=op.stride,
        padding=(top, left) if symmetric(op) else 0,
        dilation=op.dilation,
        groups=op.groups,
        bias=op.bias,
    )
    return conv if symmetric(op) else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv)


class ElementDropout(nn.Dropout):
    """Dropout whose random bits are drawn in bulk on a CPU; elsewhere nn.Dropout.

    torch draws one number an element on one thread, which takes longer than the convolution
    before it. Here 64 bits make four elements' choices, so `p` is rounded to 1 / 65,536.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Like nn.Dropout."""
        dropped = round(self.p * _STEPS)
        if x.device.type != "cpu" or not self.training or not 0 < dropped < _STEPS:
            return super().forward(x)
        scale = torch.empty_like(x)  # dense, as x is: its order in memory does not matter
        seed = int(torch.randint(2**62, ()))
        bits = np.random.SFC64(seed).random_raw(-(-x.numel() // 4)).view(np.int16)
        draws = torch.from_numpy(bits)[: x.numel()]
        torch.ge(draws, dropped - _STEPS // 2, out=scale.as_strided((x.numel(),), (1,)))
        return x * scale.mul_(_STEPS / (_STEPS - dropped))


_MODULES: dict[type, Callable[..., nn.Module]] = {
    ops.Conv2d: _conv,
    ops.Pool2d: lambda op: (nn.MaxPool2d if op.kind == "max" else nn.AvgPool2d)(
        op.kernel_size, op.stride, op.padding
    ),
    ops.GlobalAvgPool: lambda _op: nn.AdaptiveAvgPool2d(1),
    ops.Flatten: lambda _op: nn.Flatten(),
    # A linear layer takes a vector, or the 1x1 map that global pooling leaves.
    ops.Linear: lambda op: nn.Sequential(
        nn.Flatten(), nn.Linear(op.in_features, op.out_features, bias=op.bias)
    ),
    ops.BatchNorm: lambda op: (nn.BatchNorm1d if op.flat else nn.BatchNorm2d)(op.channels),
    ops.GroupNorm: lambda op: nn.GroupNorm(op.num_groups, op.channels),
    ops.Activation: lambda op: getattr(nn, ACTIVATIONS[op.kind])(),
    ops.Dropout: lambda op: (nn.Dropout2d if op.channel else ElementDropout)(op.p),
    ops.SqueezeExcite: lambda op: SqueezeExcite(op.channels, op.squeezed),
}
