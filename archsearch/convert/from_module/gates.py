"""Products that are layers of a spec: SiLU and squeeze-excite."""

from __future__ import annotations

from math import prod

from torch import nn

from archsearch.convert.from_module.folding import Piece
from archsearch.convert.from_module.steps import Plain, Step
from archsearch.spec import models as s


def is_silu(product: Step) -> bool:
    """`x * sigmoid(x)`."""
    return any(
        gate.op is Plain.SIGMOID and gate.inputs == (image,)
        for gate, image in (product.inputs, product.inputs[::-1])
    )


def squeeze_excite(step: Step, start: Step) -> Piece | None:
    """`x * sigmoid(conv1x1(relu(conv1x1(gap(x)))))`, in either order."""
    for gate, image in (step.inputs, step.inputs[::-1]):
        chain: list[Step] = []
        at = gate
        while at is not start and len(at.inputs) == 1:
            chain.insert(0, at)
            at = at.inputs[0]
        if image is start and at is start and len(start.shape) == 3:
            return _gated(step, start, [c for c in chain if not _reshapes(c)])
    return None


def _reshapes(step: Step) -> bool:
    return isinstance(step.op, s.Flatten) or step.op in (Plain.RESHAPE, Plain.EXPAND)


def _gated(step: Step, start: Step, chain: list[Step]) -> Piece | None:
    match [link.op for link in chain]:
        case [
            s.GlobalAvgPool() | s.AvgPool(),
            s.Conv() | s.Linear(),
            s.Activation(kind="relu"),
            s.Conv() | s.Linear(),
            Plain.SIGMOID,
        ]:
            pool, squeeze, _, excite, gate = chain
        case _:
            return None
    channels, squeezed = start.shape[0], squeeze.shape[0]
    # The least width of a gate is 1, whatever the reduction.
    reduction = 4 if max(1, channels // 4) == squeezed else channels // squeezed
    fits = (
        _covers(pool, start)
        and _is_pointwise(squeeze)
        and _is_pointwise(excite)
        and prod(gate.shape) == channels
        and reduction >= 1
        and max(1, channels // reduction) == squeezed
    )
    modules: tuple[nn.Module, ...] = (*squeeze.modules, *excite.modules)
    paths = (squeeze.where.path, step.where.path)
    layer = s.SqueezeExcite.model_construct(op="squeeze_excite", reduction=reduction)
    return Piece(layer, modules, paths, start.shape, step.shape) if fits else None


def _covers(pool: Step, start: Step) -> bool:
    kernel = pool.op.kernel_size if isinstance(pool.op, s.AvgPool) else start.shape[1:]
    return (kernel if isinstance(kernel, tuple) else (kernel, kernel)) == start.shape[1:]


def _is_pointwise(step: Step) -> bool:
    op = step.op
    if isinstance(op, s.Conv):
        alone = op.kernel_size == 1 and op.groups == 1 and prod(step.shape[1:]) == 1
        return alone and op.bias is True
    return isinstance(op, s.Linear) and op.bias
