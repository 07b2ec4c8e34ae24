"""What a network costs and sees, layer by layer and in total, by integer arithmetic alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from archsearch import ops
from archsearch.network import FeatureMap, Join, Network, Node, Trunk, is_global_avg_pool, walk
from archsearch.ops import Pair
from archsearch.resolve import resolve
from archsearch.spec import Spec
from archsearch.spec_hash import spec_hash

BYTES_PER_ACTIVATION = 4
"""fp32."""

_STARTS_ROW = (ops.Conv2d, ops.Pool2d, ops.GlobalAvgPool, ops.Linear, ops.SqueezeExcite)


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that a limit does not forbid and that its author should know."""

    code: str
    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """A convolution, pool, linear layer or merge, with the norm, activation, dropout after it.

    Attributes:
        op: what it is (`conv`, `depthwise`, `pointwise`, `pool`, `shortcut`, `add`, ...).
        params: learnable scalars.
        macs: multiply-accumulates of convolutions and linear layers, for one image.
        activation_bytes: of the output, fp32, one image.
        window: the operation that moved a window over the map, where there is one.
    """

    block: str
    place: str
    op: str
    window: ops.Conv2d | ops.Pool2d | None
    before: FeatureMap
    after: FeatureMap
    params: int
    macs: int

    @property
    def activation_bytes(self) -> int:
        """Bytes of the output, fp32, one image."""
        return _bytes(self.after)


@dataclass(frozen=True)
class Analysis:
    """All that can be said of a network without running it; each figure is worked out once."""

    network: Network

    @property
    def spec(self) -> Spec:
        """What was analyzed."""
        return self.network.spec

    @cached_property
    def spec_hash(self) -> str:
        """Which network this is: see `spec_hash.spec_hash`."""
        return spec_hash(self.network)

    @cached_property
    def params(self) -> int:
        """Learnable scalars."""
        return sum(ops.params(node.op) for node in self.network.nodes())

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers, for one image."""
        return sum(ops.macs(node.op, node.after.cells) for node in self.network.nodes())

    @property
    def receptive_field(self) -> Pair:
        """(height, width) in pixels, of one cell of the last map before global pooling."""
        return self.network.logits.gate or self.network.logits.rf

    @property
    def receptive_field_with_gap(self) -> Pair:
        """(height, width) in pixels, of the logits."""
        return self.network.logits.rf

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The layers, block by block."""
        names = [block.name for block in self.spec.blocks] + ["output"]
        return tuple(
            row
            for name, section in zip(names, self.network.sections, strict=True)
            for row in _rows(name, section)
        )

    @cached_property
    def peak_activation_bytes(self) -> int:
        """The most alive at once: fp32, one image, norms and activations in place."""
        return _peak_bytes(self.network.trunk, self.network.image, 0)

    @cached_property
    def warnings(self) -> tuple[Warned, ...]:
        """What no limit forbids and its author should know."""
        return (*_misaligned(self.network.trunk), *_single_cell(self.network))


def analyze(spec: Spec) -> Analysis:
    """Count and measure `spec`.

    Raises:
        InputError: its shapes do not fit together.
    """
    return Analysis(resolve(spec))


def _rows(block: str, trunk: Trunk) -> Iterator[Row]:
    """Group a trunk's operations: each row starts where an operation could change the map."""
    group: list[Node] = []
    for node in trunk:
        joins = isinstance(node, Join)
        if group and (joins or _starts_row(group, node)):
            yield _row(block, group)
            group = []
        if isinstance(node, Join):
            for branch in node.branches:
                yield from _rows(block, branch)
            yield Row(block, node.place, node.merge, None, node.before, node.after, 0, 0)
        else:
            group.append(node)
    if group:
        yield _row(block, group)


def _starts_row(group: list[Node], node: Node | Join) -> bool:
    return isinstance(node, Node) and (
        isinstance(node.op, _STARTS_ROW) or node.place != group[0].place
    )


def _row(block: str, group: list[Node]) -> Row:
    first = group[0]
    window = first.op if isinstance(first.op, ops.Conv2d | ops.Pool2d) else None
    return Row(
        block,
        first.place,
        _label(first),
        window,
        first.before,
        group[-1].after,
        params=sum(ops.params(node.op) for node in group),
        macs=sum(ops.macs(node.op, node.after.cells) for node in group),
    )


def _label(node: Node) -> str:
    match node.op:
        case ops.Pool2d(kind=kind):
            return f"{kind}_pool"
        case ops.GlobalAvgPool():
            return "global_avg_pool"
        case _:
            return node.role


def _peak_bytes(trunk: Trunk, image: FeatureMap, held: int) -> int:
    """The most alive at once: an operation's input and output, and what branches hold back."""
    peak = held + _bytes(image)
    for node in trunk:
        if isinstance(node, Join):
            waiting = held
            for i, branch in enumerate(node.branches):
                # The input stays for the branches to come; a finished branch waits for the merge.
                keeps_input = _bytes(node.before) if i + 1 < len(node.branches) else 0
                peak = max(peak, _peak_bytes(branch, node.before, waiting + keeps_input))
                waiting += _bytes(branch[-1].after if branch else node.before)
            peak = max(peak, waiting + _bytes(node.after))
        elif isinstance(node.op, _STARTS_ROW):
            peak = max(peak, held + _bytes(node.before) + _bytes(node.after))
    return peak


def _bytes(at: FeatureMap) -> int:
    return at.channels * at.cells * BYTES_PER_ACTIVATION


def _misaligned(trunk: Trunk) -> Iterator[Warned]:
    for node in trunk:
        if not isinstance(node, Join):
            continue
        for branch in node.branches:
            yield from _misaligned(branch)
        ends = [branch[-1].after if branch else node.before for branch in node.branches]
        centres = {(end.height.start, end.width.start) for end in ends}
        if len(centres) > 1 and node.before.cells > 1:
            yield Warned(
                "misaligned-branches",
                node.place,
                f"the branches' cells are centred on different pixels ({_listed(centres)}): the "
                f"{node.merge} mixes neighbours; odd kernels and equal paddings align them",
            )


def _listed(centres: set[tuple[float, float]]) -> str:
    return ", ".join(f"{y:g},{x:g}" for y, x in sorted(centres))


def _single_cell(network: Network) -> Iterator[Warned]:
    """A map that strides shrink to one cell while kernels larger than one still follow."""
    collapsed: Node | None = None
    for node in walk(network.trunk):
        op = node.op
        if collapsed and isinstance(op, ops.Conv2d) and max(op.kernel_size) > 1:
            yield Warned(
                "single-cell-map",
                collapsed.place,
                f"the map is down to one cell here, and the {op.kernel_size[0]}x"
                f"{op.kernel_size[1]} kernel at {node.place} meets padding alone around it; "
                "use fewer strides or a smaller kernel",
            )
            return
        shrinks = node.before.cells > 1 and node.after.cells == 1
        if shrinks and isinstance(op, ops.Conv2d | ops.Pool2d) and not is_global_avg_pool(node):
            collapsed = node
