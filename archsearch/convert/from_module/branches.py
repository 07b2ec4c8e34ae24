"""Steps as nested layers: where branches start and end, and what they are together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from archsearch.convert.from_module.folding import Piece, fold
from archsearch.convert.from_module.gates import is_silu, squeeze_excite
from archsearch.convert.from_module.steps import Chunks, Pad, Part, Plain, Step, Unknown
from archsearch.errors import Problem
from archsearch.spec import models as s

_MISPLACED: dict[object, str] = {
    Chunks: "cuts the channels; name each piece, and join all of them",
    Part: "takes some of the channels; a spec splits them evenly among branches that are joined "
    "again, in their order and each once",
    Pad: "pads a map; a spec pads in its convolutions alone",
    Plain: "has a place in a spec after the logits (softmax, left out) or within squeeze-excite "
    "alone",
    Plain.PRODUCT: "multiplies maps; the one product in a spec is squeeze-excite, x * sigmoid("
    "conv1x1(relu(conv1x1(global_avg_pool(x))))) with biases in both",
    Plain.OWN: "gives a tensor that does not depend on the image",
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
        self.pieces = self._branch(end, None).pieces

    def _problem(self, step: Step, rule: str, message: str) -> None:
        self.problems.append(step.where.problem(rule, message))

    def _branch(self, end: Step, start: Step | None) -> _Branch:
        """The way from `start` (None: from the image on) to `end`."""
        part, steps = self._way(end, start)
        pieces = [piece for step in steps if (piece := self._piece(step))]
        return _Branch(part, pieces[::-1])

    def _way(self, end: Step, start: Step | None) -> tuple[Part | None, list[Step]]:
        """Which channels of `start` the way to `end` takes (None: all), and its steps backwards."""
        steps: list[Step] = []
        at: Step | None = end
        while at is not None and at is not start:
            before = self._before.get(at)
            if isinstance(at.op, Part) and before is start and start is not None:
                return at.op, steps
            steps.append(at)
            at = before
        return None, steps

    def _piece(self, step: Step) -> Piece | None:
        """A step as a layer; none where there is nothing to say, or nothing but a problem."""
        op, before = step.op, self._before.get(step)
        if op is Plain.IMAGE or isinstance(op, Unknown):
            return None
        if before is not None and op in (Plain.SUM, Plain.CONCAT):
            return None if self._again(step, step) else self._join(step, before)
        if op is Plain.PRODUCT and is_silu(step):
            silu = s.Activation(op="activation", kind="silu")
            return Piece(silu, (), (step.where.path,), step.shape, step.shape)
        gate = squeeze_excite(step, before) if op is Plain.PRODUCT and before else None
        if gate:
            return None if self._again(step, *gate.modules) else gate
        if isinstance(op, Plain | Chunks | Part | Pad):
            self._problem(step, "unsupported", _MISPLACED.get(op) or _MISPLACED[type(op)])
            return None
        # Two dropouts would drop each its own; what else holds no weights may be there twice.
        once = (step,) if isinstance(op, s.Dropout) else step.modules
        if self._again(step, *once):
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
        add = step.op is Plain.SUM
        ends = self._addends(step) if add else step.inputs
        branches = [self._branch(end, start) for end in ends]
        if any(branch.part for branch in branches):
            if add:
                branches.sort(key=lambda branch: branch.part.start if branch.part else 0)
            if not _splits_evenly([branch.part for branch in branches], start.shape[0]):
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
        start = self._before[step]
        addends: list[Step] = []
        for source in step.inputs:
            within = [source]
            inner = source.op is Plain.SUM and self._users[source] == 1
            if inner and self._before.get(source) is start:
                within = self._addends(source)
                parts = [part for end in within if (part := self._way(end, start)[0])]
                parts.sort(key=lambda part: part.start)
                if start and len(parts) == len(within) and _splits_evenly(parts, start.shape[0]):
                    within = [source]  # parallel branches of its own
            addends += within
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
        if step.op is Plain.IMAGE:
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


def _splits_evenly(parts: Sequence[Part | None], channels: int) -> bool:
    length = channels // len(parts)
    even = [Part(i * length, length) for i in range(len(parts))]
    return list(parts) == even and length * len(parts) == channels


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
