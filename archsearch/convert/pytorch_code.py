"""The pieces of a network written out in PyTorch: each operation's code, classes, a loader."""

from __future__ import annotations

from collections.abc import Callable

from archsearch.spec import ops
from archsearch.spec.models import ActivationKind
from archsearch.spec.ops import Pair

HELPERS = {
    "Residual": '''
class Residual(nn.Module):
    """The body's output plus the shortcut's."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.body(x) + self.shortcut(x)
        return total
''',
    "Concat": '''
class Concat(nn.ModuleList):
    """Branches over one input, concatenated over the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], dim=1)
''',
    "SplitConcat": '''
class SplitConcat(nn.ModuleList):
    """Branches over equal shares of the channels, concatenated over the channels."""

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(len(self), dim=1)
        return torch.cat([branch(parts[i]) for i, branch in enumerate(self)], dim=1)
''',
    "Sum": '''
class Sum(nn.ModuleList):
    """Branches over one input, summed."""

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = [branch(x) for branch in self]
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total
''',
    "SplitSum": '''
class SplitSum(nn.ModuleList):
    """Branches over equal shares of the channels, summed."""

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(len(self), dim=1)
        outputs: list[Tensor] = [branch(parts[i]) for i, branch in enumerate(self)]
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total
''',
    "SqueezeExcite": '''
class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in (0, 1) (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gates = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = x * self.gates(x)
        return scaled
''',
}

LOADER = '''
def load_checkpoint(path: str | Path) -> Net:
    """Net with an archsearch checkpoint's weights, set to inference (`net.eval()`).

    Raises:
        ValueError: the checkpoint is damaged, another network's, or of another format.
    """
    content = Path(path).read_bytes()
    # The file's end; checkpoints of archsearch before 0.2 have none.
    before, _, digest = content.rpartition(b"archsearch sha256 ")
    if before and hashlib.sha256(content[:-64]).hexdigest().encode() != digest:
        raise ValueError(f"{path} is damaged: its checksum does not match")
    stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if stored["format"] != 2:
        raise ValueError(f"{path}: format {stored['format']}, not 2: export it again")
    # Shapes alone do not tell networks apart: a dilation, say, leaves no trace in them.
    if not stored["run"].startswith(f"network {SPEC_HASH[:12]} "):
        raise ValueError(f"{path} belongs to another network ({stored['run']})")
    # Both list their tensors in the order of the layers; only the names differ.
    net = Net()
    names = net.state_dict()
    net.load_state_dict(dict(zip(names, stored["model"].values(), strict=True)))
    return net.eval()
'''


def code_of(op: ops.Op) -> str:
    """The module that does `op`; a padding that is not symmetric is left to nn.ZeroPad2d."""
    return _CODE[type(op)](op)


def symmetric(op: ops.Conv2d) -> bool:
    """Whether both sides of each axis are padded alike, as nn.Conv2d can."""
    return all(before == after for before, after in op.padding)


def _conv(op: ops.Conv2d) -> str:
    padding = (op.padding[0][0], op.padding[1][0]) if symmetric(op) else (0, 0)
    options = {
        "stride": (op.stride, (1, 1)),
        "padding": (padding, (0, 0)),
        "dilation": (op.dilation, (1, 1)),
    }
    arguments = [str(op.in_channels), str(op.out_channels), _pair(op.kernel_size)]
    arguments += [f"{name}={_pair(v)}" for name, (v, default) in options.items() if v != default]
    arguments += [f"groups={op.groups}"] if op.groups != 1 else []
    arguments += [] if op.bias else ["bias=False"]
    return f"nn.Conv2d({', '.join(arguments)})"


def _pool(op: ops.Pool2d) -> str:
    arguments = [_pair(op.kernel_size)]
    arguments += [f"stride={_pair(op.stride)}"] if op.stride != op.kernel_size else []
    arguments += [f"padding={_pair(op.padding)}"] if op.padding != (0, 0) else []
    return f"nn.{'Max' if op.kind == 'max' else 'Avg'}Pool2d({', '.join(arguments)})"


def _linear(op: ops.Linear) -> str:
    return f"nn.Linear({op.in_features}, {op.out_features}{'' if op.bias else ', bias=False'})"


ACTIVATIONS: dict[ActivationKind, str] = {
    "relu": "ReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "hardswish": "Hardswish",
    "leaky_relu": "LeakyReLU",
}
"""Their classes in torch.nn."""
_CODE: dict[type, Callable[..., str]] = {
    ops.Conv2d: _conv,
    ops.Pool2d: _pool,
    ops.GlobalAvgPool: lambda _op: "nn.AdaptiveAvgPool2d(1)",
    ops.Flatten: lambda _op: "nn.Flatten()",
    ops.Linear: _linear,
    ops.BatchNorm: lambda op: f"nn.BatchNorm{1 if op.flat else 2}d({op.channels})",
    ops.GroupNorm: lambda op: f"nn.GroupNorm({op.num_groups}, {op.channels})",
    ops.Activation: lambda op: f"nn.{ACTIVATIONS[op.kind]}()",
    ops.Dropout: lambda op: f"nn.Dropout{'2d' if op.channel else ''}({op.p!r})",
    ops.SqueezeExcite: lambda op: f"SqueezeExcite({op.channels}, {op.squeezed})",
}


def _pair(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else str(pair)
