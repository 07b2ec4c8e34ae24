"""Steps as nested layers: where branches start and end, and what they are together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from torch import nn

from archsearch import spec as s
from archsearch.errors import Problem
from archsearch.from_module.folding import Piece, fold
from archsearch.from_module.steps import (
    Chunks,
    Concat,
    Image,
    Own,
    Pad,
    Part,
    Plain,
    Product,
    Step,
    Sum,
    Unknown,
)

_MISPLACED: dict[type, str] = {
    Chunks: "cuts the channels; name each piece, and join all of them",
    Part: "takes some of the channels; a spec splits them evenly among branches that are joined "
    "again, in their order and each once",
    Pad: "pads a map; a spec pads in its convolutions alone",
    Plain: "has a place in a spec after the logits (softmax, left out) or within squeeze-excite "
    "alone",
    Product: "multiplies maps; the one product in a spec is squeeze-excite, x * sigmoid(conv1x1("
    "relu(conv1x1(global_avg_pool(x))))) with biases in both",
    Own: "gives a tensor that does not depend on the image",
}
_TANGLED = (
    "used in several places that no one sum or concatenation joins; a spec's branches start from "
    "one map, end in one merge, and nothing leaves them on the way"
)


@dataclass(frozen=True, slots=True)
class _Branch:
    """A way from one map to another; `part` says which channels of the first it takes."""

    part: Part | None
    pieces: list[Piece]

    @property
    def layers(self) -> tuple[s.Layer, ...]:
        return tuple(piece.layer for piece in fold(self.pieces))


class Structure:
    """The layers from the image to `end`, and every problem on the way."""

    def __init__(self, end: Step) -> None:
        self.problems: list[Problem] = []
        self.live = _in_order(end)
        self._before = _dominators(self.live)
        self._told: set[Step | nn.Module] = set()
        self._users: dict[Step, int] = dict.fromkeys(self.live, 0)
        for step in self.live:
            for source in step.inputs:
                self._users[source] += 1
            if isinstance(step.op, Unknown):
                self._problem(step, "unsupported", step.op.why)
        branch = self._branch(end, None)
        self.pieces = branch.pieces

    def _problem(self, step: Step, rule: str, message: str) -> None:
        self.problems.append(step.where.problem(rule, message))

    def _branch(self, end: Step, start: Step | None) -> _Branch:
        """The way from `start` (None: from the image on) to `end`."""
        pieces: list[Piece] = []
        at: Step | None = end
        while at is not None and at is not start:
            before = self._before.get(at)
            if isinstance(at.op, Part) and before is start and start is not None:
                return _Branch(at.op, pieces[::-1])
            piece = self._piece(at, before)
            if piece:
                pieces.append(piece)
            at = before
        return _Branch(None, pieces[::-1])

    def _piece(self, step: Step, before: Step | None) -> Piece | None:
        """A step as a layer; none where there is nothing to say, or nothing but a problem."""
        op = step.op
        if isinstance(op, Image | Unknown):
            return None
        if before is not None and isinstance(op, Sum | Concat):
            return None if self._again(step, step) else self._join(step, before)
        if isinstance(op, Product) and _is_silu(step):
            silu = s.Activation(op="activation", kind="silu")
            return Piece(silu, (), (step.where.path,), step.shape, step.shape)
        gate = _squeeze_excite(step, before) if isinstance(op, Product) and before else None
        if gate:
            return None if self._again(step, *gate.modules) else gate
        if isinstance(op, Sum | Concat | Chunks | Part | Pad | Plain | Product | Own):
            self._problem(step, "unsupported", _MISPLACED[type(op)])
            return None
        if self._again(step, *step.modules):
            return None
        return Piece(op, step.modules, (step.where.path,), step.inputs[0].shape, step.shape)

    def _again(self, step: Step, *told: Step | nn.Module) -> bool:
        """Whether a way has come here before, where it must not; says so."""
        again = any(one in self._told for one in told)
        if again:
            self._problem(step, "branches", _TANGLED)
        self._told.update(told)
        return again

    def _join(self, step: Step, start: Step) -> Piece | None:
        ends = self._addends(step) if isinstance(step.op, Sum) else step.inputs
        branches = [self._branch(end, start) for end in ends]
        add = isinstance(step.op, Sum)
        if any(branch.part for branch in branches):
            if add:
                branches.sort(key=lambda branch: branch.part.start if branch.part else 0)
            if not _splits_evenly(branches, start.shape[0]):
                self._problem(step, "split", f"a branch {_MISPLACED[Part]}")
                return None
        layer: s.Layer | None = None
        if add and len(branches) == 2:
            layer, branches = _residual(branches, start.shape, step.shape)
        layer = layer or s.Parallel.model_construct(
            op="parallel",
            branches=tuple(branch.layers for branch in branches),
            merge="add" if add else "concat",
            split=branches[0].part is not None,
        )
        inner = [piece for branch in branches for piece in branch.pieces]
        modules = tuple(module for piece in inner for module in piece.modules)
        paths = tuple(path for piece in inner for path in piece.paths)
        return Piece(layer, modules, (*paths, step.where.path), start.shape, step.shape)

    def _addends(self, step: Step) -> list[Step]:
        """What is summed, through sums of sums over the same branches."""
        addends = []
        for source in step.inputs:
            inner = isinstance(source.op, Sum) and self._users[source] == 1
            if inner and self._before.get(source) is self._before.get(step):
                addends += self._addends(source)
            else:
                addends.append(source)
        return addends


def _in_order(end: Step) -> list[Step]:
    """All that `end` depends on and itself, inputs first."""
    order: dict[Step, None] = {}
    stack = [(end, False)]
    while stack:
        step, inputs_done = stack.pop()
        if inputs_done:
            order.setdefault(step)
        elif step not in order:
            stack.append((step, True))
            stack += [(source, False) for source in reversed(step.inputs)]
    return list(order)


def _dominators(order: Sequence[Step]) -> dict[Step, Step | None]:
    """For each step that sees the image, the last one that all its paths from there run through."""
    depth: dict[Step, int] = {}
    before: dict[Step, Step | None] = {}
    for step in order:
        sources = [source for source in step.inputs if source in before]
        if isinstance(step.op, Image):
            before[step], depth[step] = None, 0
        elif sources:
            at = sources[0]
            for other in sources[1:]:
                at = _meeting(at, other, before, depth)
            before[step], depth[step] = at, depth[at] + 1
    return before


def _meeting(
    one: Step, other: Step, before: dict[Step, Step | None], depth: dict[Step, int]
) -> Step:
    while one is not other:
        deeper, one = (one, other) if depth[one] >= depth[other] else (other, one)
        up = before[deeper]
        assert up is not None  # noqa: S101 - only the image has none, and it is not the deeper
        other = up
    return one


def _splits_evenly(branches: Sequence[_Branch], channels: int) -> bool:
    length = channels // len(branches)
    even = [Part(i * length, length) for i in range(len(branches))]
    return [b.part for b in branches] == even and length * len(branches) == channels


def _residual(
    branches: list[_Branch], start: tuple[int, ...], end: tuple[int, ...]
) -> tuple[s.Residual | None, list[_Branch]]:
    """The residual that two branches are, and those in its order (body, then shortcut)."""
    if any(branch.part for branch in branches):
        return None, branches
    for body, shortcut in (branches, branches[::-1]):
        identity = not shortcut.pieces
        if body.pieces and (identity or (start != end and _is_projection(body, shortcut))):
            layer = s.Residual.model_construct(op="residual", body=body.layers)
            return layer, [body, shortcut]
    return None, branches


def _is_projection(body: _Branch, shortcut: _Branch) -> bool:
    """Whether the shortcut is what `residual` makes where shapes differ."""
    match [piece.layer for piece in shortcut.pieces]:
        case [
            s.Conv(kernel_size=1, groups=1, bias=False, padding="same", stride=stride),
            s.Norm(kind="batch"),
        ]:
            strides = tuple(_stride((p.layer for p in body.pieces), axis) for axis in (0, 1))
            return strides == (stride if isinstance(stride, tuple) else (stride, stride))
        case _:
            return False


def _stride(layers: Iterable[s.Layer], axis: int) -> int:
    """The product of all strides on the main path."""
    total = 1
    for layer in layers:
        match layer:
            case s.Residual():
                total *= _stride(layer.body, axis)
            case s.Parallel():
                total *= _stride(layer.branches[0], axis)
            case s.Conv() | s.DepthwiseSeparable() | s.MaxPool() | s.AvgPool():
                stride = layer.kernel_size if layer.stride is None else layer.stride
                total *= stride if isinstance(stride, int) else stride[axis]
            case _:
                pass
    return total


def _is_silu(product: Step) -> bool:
    """`x * sigmoid(x)`."""
    return any(
        gate.op == Plain("sigmoid") and gate.inputs == (image,)
        for gate, image in (product.inputs, product.inputs[::-1])
    )


def _squeeze_excite(step: Step, start: Step) -> Piece | None:
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
    return isinstance(step.op, s.Flatten) or step.op in (Plain("reshape"), Plain("expand"))


def _gated(step: Step, start: Step, chain: list[Step]) -> Piece | None:
    match [link.op for link in chain]:
        case [
            s.GlobalAvgPool() | s.AvgPool(),
            s.Conv() | s.Linear(),
            s.Activation(kind="relu"),
            s.Conv() | s.Linear(),
            Plain(kind="sigmoid"),
        ]:
            pass
        case _:
            return None
    pool, squeeze, _, excite, gate = chain
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
    if isinstance(pool.op, s.AvgPool):
        size = start.shape[1:]
        kernel = pool.op.kernel_size
        return (kernel if isinstance(kernel, tuple) else (kernel, kernel)) == size
    return True


def _is_pointwise(step: Step) -> bool:
    op = step.op
    if isinstance(op, s.Conv):
        alone = op.kernel_size == 1 and op.groups == 1 and prod(step.shape[1:]) == 1
        return alone and op.bias is True
    return isinstance(op, s.Linear) and op.bias
