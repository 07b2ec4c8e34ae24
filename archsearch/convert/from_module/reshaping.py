"""Calls that reshape, cut or join maps, or leave them as they are."""

from __future__ import annotations

import math
from dataclasses import replace

from archsearch.convert.from_module.calls import Call, InexpressibleError
from archsearch.convert.from_module.steps import Chunks, Pad, Part, Plain, Step
from archsearch.spec import models as s


def reshape(call: Call) -> Step:
    """Anything that keeps all values in their order."""
    source, shape = call.source, call.shapes[0]
    if isinstance(source.op, s.Flatten) or source.op is Plain.RESHAPE:
        source = source.inputs[0]  # one reshape after another is the last one
    if math.prod(source.shape) != math.prod(shape):
        raise InexpressibleError("takes a part of its input; a spec takes halves by split alone")
    if source.shape == shape:
        return source
    op = s.Flatten(op="flatten") if len(shape) == 1 else Plain.RESHAPE
    return replace(call.step(op), inputs=(source,))


def add(call: Call) -> Step:
    """A sum of two maps."""
    if call.given["alpha"] not in (None, 1):
        raise InexpressibleError(f"alpha={call.given['alpha']}; a spec's sums have no factors")
    if len(call.inputs) == 1:
        numbers = [call.given["input"], call.given["other"]]
        if any(isinstance(n, int | float) and n == 0 for n in numbers):
            return call.source  # as the builtin sum() begins
        raise InexpressibleError("adds a constant; a spec adds maps")
    if any(part.shape != call.shapes[0] for part in call.inputs):
        raise InexpressibleError("adds maps of different shapes; a spec's sums do not broadcast")
    return call.step(Plain.SUM)


def product(call: Call) -> Step:
    """A product of two maps."""
    if len(call.inputs) == 1:
        raise InexpressibleError("multiplies by a constant; a spec has no factors")
    return call.step(Plain.PRODUCT)


def sigmoid(call: Call) -> Step:
    """A sigmoid, as in a gate."""
    return call.step(Plain.SIGMOID)


def identity(call: Call) -> Step:
    """What leaves the map as it is."""
    return call.source


def softmax(call: Call) -> Step:
    """A softmax over the classes."""
    shape, dim = call.shapes[0], call.given["dim"]
    if math.prod(shape[1:]) != 1 or dim not in (1, -len(shape), None):
        raise InexpressibleError(f"dim={dim}; after the logits, it must be over the classes")
    log = call.name.lower().startswith("log")
    return call.step(Plain.LOG_SOFTMAX if log else Plain.SOFTMAX)


def expand(call: Call) -> Step:
    """A gate spread over the map."""
    if call.source.shape == call.shapes[0]:
        return call.source
    return replace(call.step(Plain.EXPAND), inputs=(call.source,))


def pad(call: Call) -> Step:
    """Zeros around a map."""
    sides = call.given["pad" if call.module is None else "padding"]
    zeros = call.given["mode"] in (None, "constant") and not call.given["value"]
    if not zeros or len(sides) > 4 or min(sides) < 0:
        raise InexpressibleError("pads with other than zeros, or crops; a spec's convs pad zeros")
    left, right, top, bottom = (*sides, 0, 0)[:4]
    return call.step(Pad(((top, bottom), (left, right))))


def cut(call: Call) -> Step:
    """A map cut over its channels."""
    if call.given["dim"] not in (1, -len(call.source.shape)):
        raise InexpressibleError("cuts along another axis than the channels; use dim=1")
    return call.step(Chunks(tuple(shape[0] for shape in call.shapes)))


def item(call: Call) -> Step:
    """One of the pieces that a map is cut into, or `x[:, a:b]`."""
    source, index = call.source, call.given["index"]
    if isinstance(source.op, Chunks) and isinstance(index, int):
        sizes = source.op.sizes
        index %= len(sizes)
        part, source = Part(sum(sizes[:index]), sizes[index]), source.inputs[0]
    elif isinstance(source.op, Chunks):
        raise InexpressibleError("takes several pieces of a cut map; name each of them")
    elif math.prod(call.shapes[0]) == math.prod(source.shape):
        return reshape(call)
    elif _cuts_channels(index):
        start, stop, _ = index[1].indices(source.shape[0])
        part = Part(start, stop - start)
    else:
        raise InexpressibleError("takes a part of its input; a spec takes halves by split alone")
    if part.length == source.shape[0]:
        return source
    return replace(call.step(part), inputs=(source,))


def _cuts_channels(index: object) -> bool:
    """`x[:, a:b]`, and nothing else."""
    return (
        isinstance(index, tuple)
        and len(index) > 1
        and isinstance(index[1], slice)
        and index[1].step in (None, 1)
        and index[0] == slice(None)
        and all(part in (slice(None), ...) for part in index[2:])
    )


def concat(call: Call) -> Step:
    """Maps side by side."""
    axes = len(call.shapes[0]) + 1
    if call.given["dim"] % axes != 1:
        raise InexpressibleError("concatenates along another axis than the channels; use dim=1")
    if any(isinstance(part.op, Chunks) for part in call.inputs):
        raise InexpressibleError("takes the pieces of a cut map unseen; name each of them")
    return call.source if len(call.inputs) == 1 else call.step(Plain.CONCAT)
