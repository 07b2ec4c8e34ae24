"""Which image pixels the cells of every map see, exactly.

A cell's field is a product of image rows and columns as long as there is one path; where paths
join it is a union of such products (a `_Field` each). Rows and columns are bit masks, bit i for
pixel i. A tap that falls into padding sees nothing, and so does a cell all of whose taps do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache, reduce
from operator import or_
from typing import NamedTuple

from archsearch.spec import ops
from archsearch.spec.network import FeatureMap, Join, Network, Node, Trunk, walk
from archsearch.spec.ops import Pair

MAX_WORK = 4_000_000
"""Machine words of masks that are read before a network counts as too large to follow."""
MAX_FIELDS = 16
_WORD_BITS = 64

Masks = tuple[int, ...]
"""One a cell: the pixels that it sees along an axis."""


class Seen(NamedTuple):
    """What the cells of one map see of the image.

    Attributes:
        blind_cells: cells that see no image pixel.
        clipped: (height, width) the most pixels, first to last, that one cell sees; 0 if blind.
        skipped: (height, width) the most pixels between a cell's first and last that it does
            not see.
    """

    blind_cells: int
    clipped: Pair
    skipped: Pair


class Sight(NamedTuple):
    """What an operation or join meets and leaves.

    Attributes:
        dead_weights: kernel weights of a convolution that at no position meet a cell that sees
            a pixel.
    """

    before: Seen
    after: Seen
    dead_weights: int


class Sights(NamedTuple):
    """What a network's maps see.

    Attributes:
        nodes: by the `id` of a network's operation or join.
        gate: the last map before global pooling; over branches that pool, the most of any.
    """

    nodes: Mapping[int, Sight]
    gate: Seen


class _Field(NamedTuple):
    """Cell (i, j) sees rows[i] x columns[j]."""

    rows: Masks
    columns: Masks

    @property
    def whole(self) -> bool:
        """Whether every cell sees something."""
        return all(self.rows) and all(self.columns)


_Fields = tuple[_Field, ...]


class _TooLargeError(Exception):
    """The fields are too many to follow."""


def follow(network: Network) -> Sights | None:
    """What every map sees; None where the network is too large to follow (`MAX_WORK`).

    Squeeze-excite's gate is left out, as it is from the receptive field.
    """
    if _work(network) > MAX_WORK:
        return None
    image = network.image
    fields = (_Field(_pixels(image.height.size), _pixels(image.width.size)),)
    nodes: dict[int, Sight] = {}
    try:
        end = _follow(network.trunk, _At(fields, _measure(fields), None), nodes)
    except _TooLargeError:
        return None
    return Sights(nodes, end.gate or end.seen)


class _At(NamedTuple):
    """Where `_follow` is: a map's fields, what they see, and what the gate saw once it is past."""

    fields: _Fields
    seen: Seen
    gate: Seen | None


def _pixels(size: int) -> Masks:
    return tuple(1 << i for i in range(size))


def _work(network: Network) -> int:
    words = 1 + max(network.image.size) // _WORD_BITS
    cells = sum(network.image.size)
    for node in walk(network.trunk):
        cells += sum(node.after.size)
        if isinstance(node.op, ops.Conv2d | ops.Pool2d):
            cells += sum(k * n for k, n in zip(node.op.kernel_size, node.after.size, strict=True))
    return cells * words


def _follow(trunk: Trunk, at: _At, nodes: dict[int, Sight]) -> _At:
    for node in trunk:
        dead = 0
        if isinstance(node, Join):
            after = _join([_follow(branch, at, nodes) for branch in node.branches], at.gate)
        else:
            if isinstance(node.op, ops.Conv2d):
                dead = _dead_weights(node.op, node.after, at.fields)
            fields = _moved(node, at.fields)
            seen = at.seen if fields is at.fields else _measure(fields)
            pools = at.gate is None and node.after.gate is not None
            after = _At(fields, seen, at.seen if pools else at.gate)
        nodes[id(node)] = Sight(at.seen, after.seen, dead)
        at = after
    return at


def _moved(node: Node, fields: _Fields) -> _Fields:
    op = node.op
    if isinstance(op, ops.Conv2d | ops.Pool2d):
        return tuple(_slide(op, node.after, field) for field in fields)
    if isinstance(op, ops.GlobalAvgPool | ops.Flatten):
        return tuple(
            _Field((reduce(or_, field.rows),), (reduce(or_, field.columns),)) for field in fields
        )
    return fields


def _join(ends: list[_At], gate: Seen | None) -> _At:
    fields = _union([end.fields for end in ends])
    if gate is None and any(end.gate for end in ends):
        gates = [end.gate or end.seen for end in ends]
        gate = Seen(
            max(seen.blind_cells for seen in gates),
            _most([seen.clipped for seen in gates]),
            _most([seen.skipped for seen in gates]),
        )
    return _At(fields, _measure(fields), gate)


def _most(pairs: list[Pair]) -> Pair:
    return max(height for height, _ in pairs), max(width for _, width in pairs)


def _union(branches: list[_Fields]) -> _Fields:
    """The fields of a join; those without blind cells are one, cell by cell.

    Merged or apart, the rows that a cell sees are the same, and so are its columns; with blind
    cells they would not be, so those stay apart.
    """
    fields = list(dict.fromkeys(field for branch in branches for field in branch))
    whole = [field for field in fields if field.whole]
    apart = [field for field in fields if not field.whole]
    if whole:
        rows = tuple(reduce(or_, masks) for masks in zip(*(f.rows for f in whole), strict=True))
        columns = tuple(
            reduce(or_, masks) for masks in zip(*(f.columns for f in whole), strict=True)
        )
        apart.append(_Field(rows, columns))
    if len(apart) > MAX_FIELDS:
        raise _TooLargeError
    return tuple(apart)


def _slide(op: ops.Conv2d | ops.Pool2d, after: FeatureMap, field: _Field) -> _Field:
    (rows, columns), (h, w) = _windows(op), after.size
    return _Field(_slide_axis(field.rows, h, rows), _slide_axis(field.columns, w, columns))


class _Window(NamedTuple):
    """A window's taps along one axis."""

    taps: int
    dilation: int
    stride: int
    padding_before: int


def _windows(op: ops.Conv2d | ops.Pool2d) -> tuple[_Window, _Window]:
    if isinstance(op, ops.Conv2d):
        dilation, padding = op.dilation, (op.padding[0][0], op.padding[1][0])
    else:
        dilation, padding = (1, 1), op.padding
    axes = zip(op.kernel_size, dilation, op.stride, padding, strict=True)
    height, width = (_Window(*axis) for axis in axes)
    return height, width


@lru_cache(maxsize=256)  # rows and columns are mostly alike, and so are candidates
def _slide_axis(masks: Masks, size: int, window: _Window) -> Masks:
    out = []
    for cell in range(size):
        first = cell * window.stride - window.padding_before
        last = first + (window.taps - 1) * window.dilation
        if first < 0:
            first %= window.dilation
        out.append(reduce(or_, masks[first : last + 1 : window.dilation], 0) if last >= 0 else 0)
    return tuple(out)


@lru_cache(maxsize=256)
def _live_taps(masks: Masks, size: int, window: _Window) -> int:
    """The taps, as bits, that meet a cell that sees something."""
    live = 0
    for tap in range(window.taps):
        first = tap * window.dilation - window.padding_before
        last = first + (size - 1) * window.stride
        if first < 0:
            first %= window.stride
        if last >= 0 and any(masks[first : last + 1 : window.stride]):
            live |= 1 << tap
    return live


def _dead_weights(op: ops.Conv2d, after: FeatureMap, fields: _Fields) -> int:
    rows, columns = _windows(op)
    h, w = after.size
    live = [(_live_taps(f.rows, h, rows), _live_taps(f.columns, w, columns)) for f in fields]
    met = sum(
        reduce(or_, (across for along, across in live if along >> row & 1), 0).bit_count()
        for row in range(rows.taps)
    )
    dead_taps = rows.taps * columns.taps - met
    return dead_taps * op.out_channels * (op.in_channels // op.groups)


def _measure(fields: _Fields) -> Seen:
    if len(fields) == 1:
        return _measure_one(fields[0])
    height = [field.rows for field in fields]
    width = [field.columns for field in fields]
    rows, columns = list(_per_cell(height, width)), list(_per_cell(width, height))
    return Seen(
        blind_cells=_blind_cells(fields),
        clipped=(max(map(_extent, rows), default=0), max(map(_extent, columns), default=0)),
        skipped=(max(map(_skipped, rows), default=0), max(map(_skipped, columns), default=0)),
    )


def _measure_one(field: _Field) -> Seen:
    rows, columns = _along(field.rows), _along(field.columns)
    sighted = rows.sighted * columns.sighted
    blind = len(field.rows) * len(field.columns) - sighted
    if not sighted:
        return Seen(blind, (0, 0), (0, 0))
    return Seen(blind, (rows.clipped, columns.clipped), (rows.skipped, columns.skipped))


class _Along(NamedTuple):
    sighted: int
    clipped: int
    skipped: int


@lru_cache(maxsize=256)
def _along(masks: Masks) -> _Along:
    """How many cells of an axis see something, and the most that one sees and skips."""
    seeing = [mask for mask in masks if mask]
    clipped, skipped = map(_extent, seeing), map(_skipped, seeing)
    return _Along(len(seeing), max(clipped, default=0), max(skipped, default=0))


def _per_cell(along: list[Masks], across: list[Masks]) -> Iterator[int]:
    """What cells see along an axis: each kind of cell once, blind ones left out."""
    # A field counts for a cell only if the cell sees something along the other axis as well.
    kinds = {tuple(map(bool, cells)) for cells in zip(*across, strict=True)}
    for kind in kinds:
        for cells in zip(*along, strict=True):
            mask = reduce(or_, (m for m, live in zip(cells, kind, strict=True) if live), 0)
            if mask:
                yield mask


def _blind_cells(fields: _Fields) -> int:
    sighted = 0
    columns = [sum(1 << j for j, mask in enumerate(field.columns) if mask) for field in fields]
    for cells in zip(*(field.rows for field in fields), strict=True):
        live = [cols for mask, cols in zip(cells, columns, strict=True) if mask]
        sighted += reduce(or_, live, 0).bit_count()
    return len(fields[0].rows) * len(fields[0].columns) - sighted


def _extent(mask: int) -> int:
    return mask.bit_length() - ((mask & -mask).bit_length() - 1)


def _skipped(mask: int) -> int:
    return _extent(mask) - mask.bit_count()
