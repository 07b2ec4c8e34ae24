"""A network as boxes and branches to draw, and as a Mermaid flowchart of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from archsearch.analysis.analyze import Analysis
from archsearch.analysis.layer_table import Group, groups_of
from archsearch.errors import one_line
from archsearch.spec import ops
from archsearch.spec.formatting import axes_text, receptive_field_step, shape_text
from archsearch.spec.network import FeatureMap, Join, Network, Node, Trunk


@dataclass(frozen=True, slots=True)
class Box:
    """A layer to draw: an operation (or a merge), with the norm, activation and dropout after it.

    Attributes:
        kind: what it is drawn like (`conv`, `depthwise`, `pool`, `linear`, `merge`, `other`).
        title: the operation and its settings.
        extras: what follows it.
        shape: the output's.
        rf: receptive field of one cell of the output, in pixels.
        step: how that comes about.
        branches: side by side before a merge; an empty one is the identity.
        split: whether each takes a share of the channels.
    """

    kind: str
    title: str
    extras: str
    shape: str
    rf: str
    step: str
    params: int
    macs: int
    branches: tuple[Flow, ...] = ()
    split: bool = False


Flow = tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A block, or the output."""

    name: str
    before: FeatureMap
    after: FeatureMap
    flow: Flow

    @property
    def params(self) -> int:
        """Learnable scalars."""
        return sum(box.params for box in boxes(self.flow))


def sections(network: Network) -> Iterator[Section]:
    """What there is to draw, from the image to the logits."""
    before = network.image
    names = [*(one_line(block.name) for block in network.spec.blocks), "output"]
    for name, trunk in zip(names, network.sections, strict=True):
        after = trunk[-1].after if trunk else before
        yield Section(name, before, after, flow_of(trunk))
        before = after


def boxes(flow: Flow) -> Iterator[Box]:
    """Every box, branches in order, then their merge."""
    for box in flow:
        for branch in box.branches:
            yield from boxes(branch)
        yield box


def flow_of(trunk: Trunk) -> Flow:
    """A trunk's boxes, one a group of operations."""
    return tuple(map(_box, groups_of(trunk)))


def _box(group: Group) -> Box:
    first = group.first
    op = first.op if isinstance(first, Node) else None
    window = op if isinstance(op, ops.Conv2d | ops.Pool2d) else None
    pools_all = isinstance(op, ops.GlobalAvgPool)
    box = Box(
        _kind(op),
        _worded(first) if isinstance(first, Node) else first.merge,
        ", ".join(map(_worded, group.rest)),
        shape_text(first.after.shape),
        axes_text(first.after.rf),
        receptive_field_step(window, first.before, first.after, pools_all=pools_all),
        group.params,
        group.macs,
    )
    if isinstance(first, Join):
        return replace(box, branches=tuple(map(flow_of, first.branches)), split=first.split)
    return box


def _kind(op: ops.Op | None) -> str:
    match op:
        case None:
            return "merge"
        case ops.Conv2d():
            return "depthwise" if _is_depthwise(op) else "conv"
        case ops.Pool2d() | ops.GlobalAvgPool():
            return "pool"
        case ops.Linear():
            return "linear"
        case _:
            return "other"


def _is_depthwise(op: ops.Conv2d) -> bool:
    return op.groups == op.in_channels > 1


def _worded(node: Node) -> str:
    """An operation as a diagram names it."""
    op = node.op
    match op:
        case ops.Conv2d():
            return f"{'shortcut ' if node.role == 'shortcut' else ''}{_conv(op)}"
        case ops.Pool2d():
            return _pool(op)
        case ops.Linear():
            return f"linear {op.in_features} to {op.out_features}"
        case ops.SqueezeExcite():
            return f"squeeze-excite {op.channels} to {op.squeezed}"
        case ops.Dropout():
            return f"{'channel ' if op.channel else ''}dropout {op.p:g}"
        case ops.GlobalAvgPool():
            return "global avg pool"
        case ops.BatchNorm():
            return "batch norm"
        case ops.GroupNorm():
            return "layer norm" if op.num_groups == 1 else f"group norm {op.num_groups}"
        case ops.Activation():
            return op.kind.replace("_", " ")
        case _:
            return type(op).__name__.lower()


def _conv(op: ops.Conv2d) -> str:
    words = [f"{'depthwise ' if _is_depthwise(op) else ''}conv {shape_text(op.kernel_size)}"]
    words += [f"stride {axes_text(op.stride)}"] if op.stride != (1, 1) else []
    spans = [ops.extent(k, d) for k, d in zip(op.kernel_size, op.dilation, strict=True)]
    if op.padding != tuple(map(ops.same_padding, spans)):
        words.append(f"padding {axes_text((op.padding[0][0], op.padding[1][0]))}")
    words += [f"dilation {axes_text(op.dilation)}"] if op.dilation != (1, 1) else []
    words += [f"{op.groups} groups"] if op.groups > 1 and not _is_depthwise(op) else []
    return ", ".join(words)


def _pool(op: ops.Pool2d) -> str:
    words = [f"{op.kind} pool {shape_text(op.kernel_size)}"]
    words += [f"stride {axes_text(op.stride)}"] if op.stride != op.kernel_size else []
    words += [f"padding {axes_text(op.padding)}"] if op.padding != (0, 0) else []
    return ", ".join(words)


# Mermaid


def mermaid(analysis: Analysis) -> str:
    """A flowchart, one subgraph a block; all text is escaped."""
    network = analysis.network
    drawn = _Flowchart()
    name = one_line(analysis.spec.name)
    drawn.lines.append(f"image([{_label(name, f'image {shape_text(network.image.shape)}')}])")
    at = "image"
    for i, section in enumerate(sections(network)):
        drawn.lines.append(f"subgraph block{i} [{_label(section.name)}]")
        at, _ = drawn.flow(section.flow, at, "")
        drawn.lines.append("end")
    totals = (
        f"{analysis.spec.classes} logits",
        f"{analysis.params:,} params, {analysis.macs:,} MACs",
        f"RF {axes_text(analysis.receptive_field)} before global pooling",
        f"{axes_text(analysis.receptive_field_with_gap)} with it",
    )
    drawn.lines.append(f"logits([{_label(*totals)}])")
    drawn.edge(at, "logits", "")
    return "\n".join(["flowchart TB", *(f"  {line}" for line in drawn.lines + drawn.edges), ""])


class _Flowchart:
    """Lines of a flowchart; the edges wait, so that no block claims its neighbour's boxes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.edges: list[str] = []
        self._count = 0

    def flow(self, flow: Flow, source: str, label: str) -> tuple[str, str]:
        """Draw `flow` after `source`; where it ends, and the label of the edge from there."""
        for box in flow:
            ends = [
                self.flow(branch, source, _branch_label(box, i))
                for i, branch in enumerate(box.branches)
            ]
            source, label = self._box(box, ends or [(source, label)]), ""
        return source, label

    def _box(self, box: Box, sources: Sequence[tuple[str, str]]) -> str:
        name = f"layer{self._count}"
        self._count += 1
        lines = (box.title, box.extras, f"{box.shape}, RF {box.rf}", f"{box.params:,} params")
        label = _label(*filter(None, lines))
        self.lines.append(f"  {name}" + (f"([{label}])" if box.kind == "merge" else f"[{label}]"))
        for source, text in sources:
            self.edge(source, name, text)
        return name

    def edge(self, source: str, target: str, text: str) -> None:
        """An arrow."""
        self.edges.append(f"{source} -->" + (f"|{_label(text)}| " if text else " ") + target)


def _branch_label(merge: Box, i: int) -> str:
    if merge.split:
        return f"share {i + 1} of {len(merge.branches)}"
    return "" if merge.branches[i] else "identity"


def _label(*lines: str) -> str:
    return f'"{"<br/>".join(map(_escaped, lines))}"'


def _escaped(text: str) -> str:
    """Text with all that could mean something to Mermaid or HTML as character codes."""
    return "".join(c if c.isalnum() or c in " .,-" else f"#{ord(c)};" for c in text)
