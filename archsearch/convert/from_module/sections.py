"""Layers as a spec: which of them are which block, and which the output."""

from __future__ import annotations

from math import prod

from torch import nn

from archsearch.common.parse import from_mapping
from archsearch.convert.from_module.folding import Piece, fold, without_idle_flattens
from archsearch.convert.to_pytorch import numbered
from archsearch.spec.models import AvgPool, Flatten, GlobalAvgPool, MaxPool, Spec


def spec_of(
    pieces: list[Piece], module: nn.Module, name: str, shape: tuple[int, int, int], classes: int
) -> Spec:
    """The spec of these layers, on images of `shape` (C, H, W); its blocks are `module`'s parts."""
    blocks, output = _sections(without_idle_flattens(pieces, logits=True), module)
    channels, height, width = shape
    raw = {
        "name": name,
        "input": {"channels": channels, "height": height, "width": width},
        "classes": classes,
        "blocks": [{"name": block, "layers": _plain(inner)} for block, inner in blocks],
        "output": {"layers": _plain(output)},
    }
    return from_mapping(Spec, raw, name)


def _plain(pieces: list[Piece]) -> list[dict[str, object]]:
    return [piece.layer.model_dump() for piece in fold(pieces)]


def _sections(
    pieces: list[Piece], module: nn.Module
) -> tuple[list[tuple[str, list[Piece]]], list[Piece]]:
    """Blocks by name, and the output: containers of the module's are blocks."""
    containers = {path for path, child in module.named_children() if any(child.children())}
    owners = [_owner(piece, containers) for piece in pieces]
    last = max((i for i, owner in enumerate(owners) if owner), default=-1) + 1
    blocks: list[tuple[str, list[Piece]]] = []
    for piece, owner in zip(pieces[:last], owners, strict=False):
        if not blocks or owner not in (None, blocks[-1][0]):
            blocks.append((owner or "stem", []))
        blocks[-1][1].append(piece)
    output = pieces[last:]
    if not output and len(blocks) > 1:
        output = blocks.pop()[1]
    if not blocks or not output:
        title = blocks[0][0] if blocks else "features"
        cut = next((i for i, piece in enumerate(pieces) if _ends_map(piece)), len(pieces) - 1)
        blocks, output = [(title, pieces[: max(1, cut)])], pieces[max(1, cut) :]
    if not output:  # a spec has one; on a single cell, a flatten is none
        shape = pieces[-1].after
        output = [Piece(Flatten(op="flatten"), (), (), shape, shape[:1])]
    titles = numbered(name for name, _ in blocks)
    return [(title, inner) for title, (_, inner) in zip(titles, blocks, strict=True)], output


def _owner(piece: Piece, containers: set[str]) -> str | None:
    """The first container that has a part in a layer."""
    tops = (path.partition(".")[0] for path in piece.paths)
    return next((top for top in tops if top in containers), None)


def _ends_map(piece: Piece) -> bool:
    pools = isinstance(piece.layer, AvgPool | MaxPool) and prod(piece.after[1:]) == 1
    return pools or isinstance(piece.layer, GlobalAvgPool | Flatten)
