"""A module's forward as an fx graph in which the value of every node is known, on one batch."""

from __future__ import annotations

import inspect
import linecache
import operator
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Never

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate, map_arg

from archsearch.errors import InputError, Problem

BATCH = 2
"""Images in the batch: more than one, so that a squeeze or a view cannot lose them unseen."""
MAX_VALUES = 10**8
"""Of one image: in double precision, the batch is then 1.6 GB."""
MAX_MESSAGE_CHARS = 300

_TORCH = str(Path(torch.__file__).parent) + os.sep
_HERE = str(Path(__file__))
_LEAVES = (
    nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm,
    nn.MaxPool2d, nn.AvgPool2d, nn.ReLU, nn.Dropout,
)  # fmt: skip
_SHAPES = frozenset(
    {"shape", "ndim", "dtype", "device", "is_cuda", "requires_grad", "size", "dim", "ndimension"}
    | {"numel", "nelement", "stride", "is_contiguous", "get_device", "is_floating_point"}
)
"""What is known of a tensor without knowing its values."""


class EvalFlag(int):
    """`self.training` while a module is traced: false, and told apart from a literal False.

    Attributes:
        asked: the lines where forward asks it, as the keys of a dict (in order, each once).
    """

    asked: dict[str, None]

    def __bool__(self) -> bool:
        frame = _users_frame()
        self.asked[_spot(*frame) if frame else "a line of no file"] = None
        return int.__bool__(self)


@dataclass(frozen=True, slots=True)
class Where:
    """A node of the graph: its fx name, the path of its module, its line in the user's file."""

    node: str
    path: str
    line: str

    def problem(self, rule: str, message: str) -> Problem:
        """A problem at this node."""
        return Problem(self.path or "forward", rule, f"{self.line}node {self.node}: {message}")


@dataclass(frozen=True, slots=True)
class Traced:
    """An fx graph over `root` (whose child `net` is the module), and what each node gave.

    Attributes:
        asked: lines where forward asks `self.training`.
    """

    root: nn.Module
    graph: fx.Graph
    values: dict[fx.Node, Any]
    wheres: dict[fx.Node, Where]
    asked: tuple[str, ...]


def trace(module: nn.Module, input_shape: tuple[int, int, int], name: str) -> Traced:
    """Run `module` on a batch of noise, (BATCH, C, H, W), and write down what it does.

    Raises:
        InputError: its forward fails, or cannot be followed.
    """
    if prod(input_shape) > MAX_VALUES:
        message = (
            f"{prod(input_shape):,} values an image, of {' x '.join(map(str, input_shape))}; the "
            f"module runs on at most {MAX_VALUES:,}: give a smaller image"
        )
        raise InputError(name, [Problem("input", "input-size", message)])
    tracer = _Tracer(noise(input_shape))
    inner = [m for m in module.modules() if not tracer.is_leaf_module(m, "")]
    before = [m.training for m in inner]
    asked: dict[str, None] = {}
    try:
        for m in inner:
            flag = EvalFlag(m.training)
            flag.asked = asked
            m.training = flag  # type: ignore[assignment]
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the user's own, told when they train
            root = _Root(module)
            graph = tracer.trace(root)
    except fx.proxy.TraceError as error:
        message = (
            "what it does depends on the values in a tensor, which a spec cannot express; let the "
            f"architecture depend on shapes and settings alone ({brief(error)})"
        )
        raise InputError(name, [_failure(tracer, error, "control-flow", message)]) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        shape = ", ".join(map(str, input_shape))
        message = f"forward fails on images of ({shape}): {brief(error)}"
        raise InputError(name, [_failure(tracer, error, "forward", message)]) from error
    finally:
        for m, training in zip(inner, before, strict=True):
            m.training = training
    return Traced(root, graph, tracer.values, tracer.wheres, tuple(asked))


def noise(shape: tuple[int, ...]) -> Tensor:
    """The same random images each time, (BATCH, C, H, W)."""
    return torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))


def brief(error: BaseException) -> str:
    """An exception on one line, its type first."""
    text = " ".join(traceback.format_exception_only(error)[-1].split())
    return text if len(text) <= MAX_MESSAGE_CHARS else f"{text[: MAX_MESSAGE_CHARS - 3]}..."


def line_in(file: str, error: BaseException) -> int | None:
    """The line of `file` that raised `error` or was running then."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return lines[-1] if lines else None


def _failure(tracer: _Tracer, error: BaseException, rule: str, message: str) -> Problem:
    frames = [(f.filename, f.lineno or 0) for f in traceback.extract_tb(error.__traceback__)]
    users = [frame for frame in frames if _is_users(frame[0])]
    line = _line(users[-1] if users else None)
    return Problem(tracer.path or "forward", rule, f"{line}{message}")


def _is_users(file: str) -> bool:
    return not file.startswith((_TORCH, _HERE, "<"))


def _line(frame: tuple[str, int] | None) -> str:
    """The start of a message: `models.py:31 (x = self.up(x)), `."""
    return f"{_spot(*frame)}, " if frame else ""


def _spot(file: str, number: int) -> str:
    """`models.py:31 (x = self.up(x))`."""
    path = Path(file)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{number} ({linecache.getline(file, number).strip()})"


def _users_frame() -> tuple[str, int] | None:
    """The innermost line of the user's that is running; None where torch alone is."""
    frame = inspect.currentframe()
    while frame and frame.f_code is not trace.__code__:
        if _is_users(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


class _Root(nn.Module):
    """Calls the module with the image alone, so that other parameters keep their defaults."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Any:
        """What the module makes of the image."""
        return self.net(image)


class _Proxy(fx.Proxy):
    """Knows its value, so that shapes and tuples' lengths are plain numbers in forward."""

    def __init__(self, node: fx.Node, tracer: _Tracer) -> None:
        super().__init__(node, tracer)
        self.tracer: _Tracer = tracer

    def __getattr__(self, name: str) -> Any:
        value = self.tracer.values[self.node]
        if name in _SHAPES and isinstance(value, Tensor):
            return getattr(value, name)
        return super().__getattr__(name)

    def __len__(self) -> int:
        return len(self.tracer.values[self.node])

    def __float__(self) -> Never:
        raise fx.proxy.TraceError("a tensor's value is used as a number")

    __int__ = __float__

    def __iter__(self) -> Iterator[Any]:
        return (operator.getitem(self, i) for i in range(len(self)))


class _Tracer(fx.Tracer):
    """Records each operation and runs it, so that the next can ask for shapes."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.values: dict[fx.Node, Any] = {}
        self.wheres: dict[fx.Node, Where] = {}
        self.path = ""
        self._image = image
        self._running = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Torch's own modules, and subclasses that compute nothing else."""
        if super().is_leaf_module(m, module_qualified_name):
            return True
        kind = next((leaf for leaf in _LEAVES if isinstance(m, leaf)), None)
        return kind is not None and all(
            getattr(type(m), method, None) is getattr(kind, method, None)
            for method in ("forward", "_conv_forward")
        )

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """As fx does; a call inside of an operation that runs is no node."""
        if self._running:
            return forward(*args, **kwargs)
        paths = self.submodule_paths
        if paths is not None and m not in paths and not any(True for _ in m.parameters()):
            paths[m] = f"made{len(paths)}"  # in forward, as in nn.Flatten()(x)
            self.root.add_module(paths[m], m)
        outer, self.path = self.path, self.path_of_module(m).partition(".")[2]
        result = super().call_module(m, forward, args, kwargs)
        self.path = outer  # not where it fails: the path then says where
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """As fx does; an operation that runs gets the parameter itself."""
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A proxy whose value is known."""
        if node not in self.values:
            path = self.path
            if node.op == "call_module":
                path = str(node.target).partition(".")[2]
            self.wheres[node] = Where(node.name.removeprefix("net_"), path, _line(_users_frame()))
            self._running = True
            try:
                self.values[node] = self._run(node)
            finally:
                self._running = False
        return _Proxy(node, self)

    def _run(self, node: fx.Node) -> Any:
        args, kwargs = (self._plain(part) for part in (node.args, node.kwargs))
        match node.op:
            case "placeholder":
                return self._image
            case "get_attr":
                return self._attribute(node)
            case "call_module":
                return self.root.get_submodule(str(node.target))(*args, **kwargs)
            case "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            case _:
                assert callable(node.target)  # noqa: S101 - narrows a type
                return node.target(*args, **kwargs)

    def _plain(self, arguments: Any) -> Any:
        """Arguments with values for nodes."""
        known = map_arg(arguments, lambda node: self.values.get(node, self._attribute(node)))
        return map_aggregate(known, lambda a: int.__bool__(a) if isinstance(a, EvalFlag) else a)

    def _attribute(self, node: fx.Node) -> Any:
        if node.op != "get_attr":
            return None
        path, _, name = str(node.target).rpartition(".")
        return getattr(self.root.get_submodule(path), name)
