"""An fx graph as steps: which of torch's calls is translated how, and every node in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from archsearch.convert.from_module import layers, reshaping
from archsearch.convert.from_module.calls import Call, InexpressibleError, Notes
from archsearch.convert.from_module.steps import Plain, Step, Unknown
from archsearch.convert.from_module.traced import BATCH, Traced, Where
from archsearch.errors import InputError, Problem

Rule = tuple[Callable[[Call], Step], Mapping[str, Any]]
"""How to translate a call, and its settings after the input: names in order, with defaults."""

_INPLACE = {"inplace": False}
_LEAKY = {"negative_slope": 0.01, "inplace": False}
_DROP = {"p": 0.5, "training": True, "inplace": False}
_WINDOW = {"kernel_size": None, "stride": None, "padding": 0}
_MAX = {**_WINDOW, "dilation": 1, "ceil_mode": False, "return_indices": False}
_AVG = {**_WINDOW, "ceil_mode": False, "count_include_pad": True, "divisor_override": None}
_SIDES = {"mode": "constant", "value": 0}

_TABLE: tuple[tuple[Callable[[Call], Step], Mapping[str, Any], tuple[str | type, ...]], ...] = (
    (layers.conv, {}, (nn.Conv2d,)),
    (layers.linear, {}, (nn.Linear,)),
    (layers.batch_norm, {}, (nn.BatchNorm1d, nn.BatchNorm2d)),
    (layers.group_norm, {}, (nn.GroupNorm,)),
    (layers.layer_norm, {}, (nn.LayerNorm,)),
    (partial(layers.activation, "relu"), _INPLACE, (nn.ReLU, "relu")),
    (partial(layers.activation, "gelu"), {"approximate": "none"}, (nn.GELU, "gelu")),
    (partial(layers.activation, "silu"), _INPLACE, (nn.SiLU, "silu")),
    (partial(layers.activation, "hardswish"), _INPLACE, (nn.Hardswish, "hardswish")),
    (partial(layers.activation, "leaky_relu"), _LEAKY, (nn.LeakyReLU, "leaky_relu")),
    (layers.dropout, _DROP, (nn.Dropout, nn.Dropout2d, "dropout", "dropout2d")),
    (layers.pool, _MAX, (nn.MaxPool2d, "max_pool2d")),
    (layers.pool, _AVG, (nn.AvgPool2d, "avg_pool2d")),
    (layers.adaptive_pool, {}, (nn.AdaptiveAvgPool2d, "adaptive_avg_pool2d")),
    (layers.adaptive_pool, {}, (nn.AdaptiveMaxPool2d, "adaptive_max_pool2d")),
    (layers.mean, {"dim": None, "keepdim": False}, ("mean",)),
    (reshaping.reshape, {}, (nn.Flatten, nn.Unflatten, "flatten", "unflatten", "view")),
    (reshaping.reshape, {}, ("reshape", "squeeze", "unsqueeze")),
    (reshaping.identity, {}, (nn.Identity, "contiguous", "clone")),
    (reshaping.sigmoid, {}, (nn.Sigmoid, "sigmoid")),
    (reshaping.softmax, {"dim": None}, (nn.Softmax, nn.LogSoftmax, "softmax", "log_softmax")),
    (reshaping.expand, {}, ("expand", "expand_as")),
    (reshaping.pad, {"padding": None, **_SIDES}, (nn.ZeroPad2d,)),
    (reshaping.pad, {"pad": None, **_SIDES}, ("pad",)),
    (reshaping.cut, {"chunks": None, "dim": 0}, ("chunk",)),
    (reshaping.cut, {"split_size": None, "dim": 0}, ("split",)),
    (reshaping.item, {"index": None}, ("getitem",)),
    (reshaping.concat, {"dim": 0}, ("cat", "concat", "concatenate")),
    (reshaping.add, {"other": None, "alpha": None}, ("add", "iadd")),
    (reshaping.product, {"other": None}, ("mul", "imul")),
)
RULES: dict[str | type, Rule] = {key: (how, given) for how, given, keys in _TABLE for key in keys}
"""Torch's modules by type, whose settings are their attributes; functions and methods of tensors
by name, a trailing underscore left out."""

_SEVERAL = (reshaping.add, reshaping.product, reshaping.concat, reshaping.expand)
_ON_MAPS = (layers.conv, layers.pool, layers.adaptive_pool, reshaping.pad)
_NO_LAYER = "no counterpart in a spec; replace it, or write this part of the spec by hand"


def translate(traced: Traced, name: str) -> tuple[Step, Notes]:
    """The step that forward returns, and what was noticed on the way to it.

    Raises:
        InputError: forward returns something else than one tensor.
    """
    translator = _Translator(traced)
    *nodes, output = traced.graph.nodes
    for node in nodes:
        translator.follow(node)
    result = output.args[0]
    value = traced.values[result] if isinstance(result, fx.Node) else result
    if not isinstance(result, fx.Node) or not isinstance(value, Tensor):
        message = f"returns a {type(value).__name__}; return one tensor, the logits (N, classes)"
        raise InputError(name, [Problem("forward", "output", message)])
    return translator.steps[result], translator.notes


class _Translator:
    """Follows a graph in order; `steps` says what each node's value is by now."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.steps: dict[fx.Node, Step] = {}
        self.notes: Notes = {}
        self._concats: dict[tuple[Step, ...], Step] = {}

    def follow(self, node: fx.Node) -> None:
        """Translate one node."""
        if node.op == "get_attr":
            self.steps[node] = Step(Plain.OWN, (), (), Where(node.name, "", ""))
            return
        where, tensors = self.traced.wheres[node], _tensors(self.traced.values[node])
        shapes = tuple(tuple(tensor.shape[1:]) for tensor in tensors) or ((),)
        if node.op == "placeholder":
            self.steps[node] = Step(Plain.IMAGE, (), shapes[0], where)
            return
        call = self._call(node, shapes)
        if call.inputs and all(part.op is Plain.OWN for part in call.inputs):
            self.steps[node] = Step(Plain.OWN, (), (), where)
            return
        try:
            step = _translated(call, tensors)
        except InexpressibleError as error:
            step = call.step(Unknown(f"{call.name}: {error}"))
        except InputError as error:
            why = f"a setting beyond a spec's limits ({error.problems[0].message})"
            step = call.step(Unknown(f"{call.name}: {why}"))
        self.steps[node] = self._regrouped(step) if step.op is Plain.CONCAT else step
        if call.given.get("inplace"):
            self._overwrite(node, call.source)
        elif tensors and not node.users:
            call.note(f"forward never uses what {call.name} gives, so it has no effect")

    def _call(self, node: fx.Node, shapes: tuple[tuple[int, ...], ...]) -> Call:
        inputs: list[Step] = []
        map_arg((node.args, node.kwargs), lambda part: inputs.append(self.steps[part]))
        where, module = self.traced.wheres[node], None
        if node.op == "call_module":
            module = self.traced.root.get_submodule(str(node.target))
            settings = (_rule(module) or (reshaping.identity, {}))[1]
            given = {key: getattr(module, key, default) for key, default in settings.items()}
            name = type(module).__name__
        else:
            full = node.target if isinstance(node.target, str) else _function_name(node.target)
            name = full.rstrip("_")
            given = {"input": None, **RULES.get(name, (reshaping.identity, {}))[1]}
            given |= dict(zip(tuple(given), node.args, strict=False))
            given |= {"dim" if key == "axis" else key: value for key, value in node.kwargs.items()}
            if name != full or name in ("iadd", "imul"):
                given["inplace"] = True
        return Call(name, given, tuple(inputs), shapes, where, module, self.notes)

    def _overwrite(self, node: fx.Node, source: Step) -> None:
        """After an operation in place, what shared its input's memory is its output."""
        memory = self._memory(node)
        for other, step in self.steps.items():
            if step is source and self._memory(other) == memory:
                self.steps[other] = self.steps[node]

    def _memory(self, node: fx.Node) -> int | None:
        value = self.traced.values[node]
        return value.data_ptr() if isinstance(value, Tensor) else None

    def _regrouped(self, step: Step) -> Step:
        """`cat(a, b, c)` as `cat(cat(a, b), c)` where that inner sum is there, as in DenseNet."""
        parts = step.inputs
        for count in range(len(parts) - 1, 1, -1):
            if parts[:count] in self._concats:
                step = replace(step, inputs=(self._concats[parts[:count]], *parts[count:]))
                break
        self._concats.setdefault(parts, step)
        return step


def _translated(call: Call, tensors: tuple[Tensor, ...]) -> Step:
    if any(part.op is Plain.OWN for part in call.inputs):
        raise InexpressibleError("uses a tensor of the module's own; only layers have weights")
    if not tensors or any(tensor.shape[:1] != (BATCH,) for tensor in tensors):
        raise InexpressibleError("mixes the images of a batch, or gives no map")
    rule = _rule(call.module) if call.module else RULES.get(call.name)
    if rule is None or not call.inputs:
        raise InexpressibleError(_NO_LAYER)
    if len(call.inputs) > 1 and rule[0] not in _SEVERAL:
        raise InexpressibleError(f"several tensors as input; {_NO_LAYER}")
    if rule[0] in _ON_MAPS and len(call.source.shape) != 3:
        raise InexpressibleError("an input that is no batch of maps, (N, C, H, W)")
    return rule[0](call)


def _rule(module: nn.Module) -> Rule | None:
    """How to translate a module of torch's, or of a class that only builds one (see traced)."""
    kind = type(module)
    kinds = [kind] if kind.__module__.startswith("torch.") else kind.__mro__
    return next((RULES[base] for base in kinds if base in RULES), None)


def _function_name(function: Any) -> str:
    """A function's name; with its module where it is not torch's."""
    home, name = getattr(function, "__module__", None), getattr(function, "__name__", "function")
    own = home is None or home.partition(".")[0] in ("torch", "_operator")
    return name if own else f"{home}.{name}"


def _tensors(value: object) -> tuple[Tensor, ...]:
    values = value if isinstance(value, tuple | list) else (value,)
    return tuple(part for part in values if isinstance(part, Tensor))
