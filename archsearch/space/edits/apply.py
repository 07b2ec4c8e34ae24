"""A spec with layers changed: how each kind of edit is carried out, whatever it leads to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from archsearch.common.parse import from_mapping
from archsearch.spec import models as s
from archsearch.spec import ops

Value = int | str
Layers = tuple[s.Layer, ...]
Setting = Mapping[str, Value]
Fields = dict[str, Value | float]
"""Of a layer, those that change."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What becomes of a spec.

    Attributes:
        layers: by place, what is chosen, by kind of edit.
        widths: by place, the new width.
        depthwise: places of convolutions that stay depthwise, whatever the width before them.
        network: by kind of edit, what is chosen for the whole network.
    """

    layers: Mapping[str, Setting]
    widths: Mapping[str, int]
    depthwise: frozenset[str]
    network: Setting


def apply_changes(spec: s.Spec, name: str, changes: Changes) -> s.Spec:
    """Apply `changes` to `spec`, and call it `name`.

    Raises:
        InputError: a record of it cannot be: a block without layers, a width out of range.
    """
    blocks = tuple(
        block.model_copy(update={"layers": _run(block.layers, f"blocks.{i}.layers", changes)})
        for i, block in enumerate(spec.blocks)
    )
    # Of the output only the widths change, or else all of it.
    head = _run(spec.output.layers, "output.layers", replace(changes, network={}))
    if "head" in changes.network:
        logits = s.Linear(op="linear", out_features=spec.classes)
        head = (s.GlobalAvgPool(op="global_avg_pool"), logits)
    output = spec.output.model_copy(update={"layers": head})
    made = spec.model_copy(update={"name": name, "blocks": blocks, "output": output})
    return from_mapping(s.Spec, made.model_dump(exclude_unset=True), name)


def lacks(kind: type[s.Norm | s.Activation], layer: s.Layer, after: Sequence[s.Layer]) -> bool:
    """Whether no norm, or no activation, stands between a convolution and what computes next."""
    if getattr(layer, "norm" if kind is s.Norm else "activation") is not None:
        return False
    for other in after:
        if isinstance(other, kind):
            return False
        if isinstance(other, _COMPUTES):
            break
    return True


def ends_branch(after: Sequence[s.Layer], *, branch: bool) -> bool:
    """Whether a layer is the last of a branch that computes: such a one is often left linear."""
    return branch and not any(isinstance(other, _COMPUTES) for other in after)


def strided_kernel(layer: s.Convolution) -> int:
    """The smallest odd kernel, of 3 or more, that passes over no cell at the layer's stride."""
    return max(3, *(stride | 1 for stride in ops.pair(layer.stride)))


_COMPUTES = s.Convolution | s.Linear | s.Residual | s.Parallel


# Layer by layer


def _run(layers: Layers, place: str, changes: Changes, *, branch: bool = False) -> Layers:
    made: list[s.Layer] = []
    for i, layer in enumerate(layers):
        at, after = f"{place}.{i}", layers[i + 1 :]
        update = _network_wide(layer, after, changes.network, branch=branch)
        update |= _sizes(layer, at, changes)
        new = _inside(layer, at, changes).model_copy(update=update)
        made += _changed(new, changes.layers.get(at, {}))
    return tuple(made)


def _inside(layer: s.Layer, place: str, changes: Changes) -> s.Layer:
    """With the layers inside it changed."""
    if isinstance(layer, s.Residual):
        body = _run(layer.body, f"{place}.body", changes, branch=True)
        return layer.model_copy(update={"body": body})
    if isinstance(layer, s.Parallel):
        branches = tuple(
            _run(branch, f"{place}.branches.{i}", changes, branch=True)
            for i, branch in enumerate(layer.branches)
        )
        return layer.model_copy(update={"branches": branches})
    return layer


def _sizes(layer: s.Layer, place: str, changes: Changes) -> Fields:
    update: Fields = {}
    if place in changes.widths:
        field = "out_features" if isinstance(layer, s.Linear) else "out_channels"
        update[field] = changes.widths[place]
    if place in changes.depthwise:
        update["groups"] = "depthwise"
    return update


def _network_wide(layer: s.Layer, after: Layers, network: Setting, *, branch: bool) -> Fields:
    """What of a layer the network's own knobs change."""
    inner = isinstance(layer, s.Convolution) and not ends_branch(after, branch=branch)
    update: Fields = {}
    if kind := network.get("activation"):
        names = ["kind"] if isinstance(layer, s.Activation) else ["activation", "mid_activation"]
        update |= {name: kind for name in names if getattr(layer, name, None)}
        if inner and lacks(s.Activation, layer, after):
            update["activation"] = kind
    if "norm" in network and inner and lacks(s.Norm, layer, after):
        update["norm"] = network["norm"]
    if "dropout" in network:
        name = "p" if isinstance(layer, s.Dropout) else "dropout"
        update |= {name: 0.0} if getattr(layer, name, 0.0) else {}
    return update


def _changed(layer: s.Layer, setting: Setting) -> Layers:
    """What becomes of one layer: itself changed, repeated, with a pool after it, or nothing."""
    for kind, change in _CONVOLUTION_EDITS.items():
        if kind in setting and isinstance(layer, s.Convolution):
            layer = change(layer, setting[kind])
    pools: Layers = ()
    if "downsampling" in setting and isinstance(layer, s.Convolution):
        layer, pools = _downsampled(layer, str(setting["downsampling"]))
    layers: Layers = (layer,)
    if setting.get("residual") == "residual":
        layers = (s.Residual(op="residual", body=(layer,)),)
    elif setting.get("residual") == "plain" and isinstance(layer, s.Residual):
        layers = layer.body
    times = int(setting.get("depth", 1))
    copies = tuple(map(_resting, layers)) * (times - 1)
    return (*layers, *copies, *pools) if times else ()


def _resting(layer: s.Layer) -> s.Layer:
    """The same layer so that it keeps its map's size: a copy that stands after it."""
    if isinstance(layer, s.Residual):
        return layer.model_copy(update={"body": tuple(map(_resting, layer.body))})
    if isinstance(layer, s.Convolution):
        return _padding(layer.model_copy(update={"stride": 1}), "same")
    return layer


def _op(layer: s.Convolution, op: Value) -> s.Convolution:
    """As the other kind of convolution, as far as they have the same fields."""
    model = s.Conv if op == "conv" else s.DepthwiseSeparable
    fields = layer.model_dump(exclude_unset=True)
    kept = {name: value for name, value in fields.items() if name in model.model_fields}
    # A width that changed may be out of range, as anything here: `apply_changes` judges the whole.
    return model.model_construct(**{**kept, "op": op})


def _set(field: str, **along: Value) -> Callable[[s.Convolution, Value], s.Convolution]:
    """Return the edit that sets a field to what is chosen, and those `along` with it."""
    return lambda layer, value: layer.model_copy(update={field: value, **along})


def _padding(layer: s.Convolution, _same: Value) -> s.Convolution:
    update: dict[str, Value] = {"padding": "same"}
    if isinstance(layer, s.DepthwiseSeparable):
        update["pointwise_padding"] = 0
    return layer.model_copy(update=update)


def _downsampled(layer: s.Convolution, how: str) -> tuple[s.Convolution, Layers]:
    stride = layer.stride if max(ops.pair(layer.stride)) > 1 else 2
    if how == "stride":
        layer = layer.model_copy(update={"stride": stride})
        wide = strided_kernel(layer)
        if min(ops.pair(layer.kernel_size)) < wide:
            layer = layer.model_copy(update={"kernel_size": wide, "padding": "same"})
        return layer, ()
    layer = layer.model_copy(update={"stride": 1})
    pool = s.MaxPool(op="max_pool", kernel_size=stride)
    return layer, (pool,) if how == "max_pool" else ()


_CONVOLUTION_EDITS: dict[str, Callable[[s.Convolution, Value], s.Convolution]] = {
    "op": _op,
    "kernel": _set("kernel_size", padding="same"),
    "dilation": _set("dilation", padding="same"),
    "padding": _padding,
    "norm": _set("norm"),
    "activation": _set("activation"),
}
"""In the order in which they are carried out."""
