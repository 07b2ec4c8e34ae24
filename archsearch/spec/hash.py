"""Which network a spec is, whatever it is called and however it is written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from archsearch.spec import ops
from archsearch.spec.network import Join, Network, Node, Trunk, is_global_avg_pool
from archsearch.spec.ops import Pair


def spec_hash(network: Network) -> str:
    """The sha256 of what `network` computes: equal for two specs that build the same network.

    Names, blocks, and settings that change nothing are left out.
    """
    content = {"input": network.image.shape, "layers": _canonical(network.trunk)}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(trunk: Trunk) -> list[dict[str, Any]]:
    out = []
    for node in trunk:
        if isinstance(node, Join):
            branches = [_canonical(branch) for branch in node.branches]
            if len(branches) == 1:
                out += branches[0]
            else:
                if not node.split:  # neither sums nor lists need brackets
                    branches = [part for branch in branches for part in _parts(branch, node.merge)]
                    if node.merge == "add":  # ... and a sum has no order
                        branches.sort(key=json.dumps, reverse=True)
                out.append({"op": node.merge, "split": node.split, "branches": branches})
        elif not _changes_nothing(node):
            out.append(_canonical_op(node))
    return out


def _parts(branch: list[dict[str, Any]], merge: str) -> list[list[dict[str, Any]]]:
    """What a branch adds to a merge: more than one part where it is such a merge itself."""
    if len(branch) == 1 and branch[0]["op"] == merge and not branch[0]["split"]:
        parts: list[list[dict[str, Any]]] = branch[0]["branches"]
        return parts
    return [branch]


def _changes_nothing(node: Node) -> bool:
    op = node.op
    single = node.before.cells == 1
    if isinstance(op, ops.Flatten | ops.GlobalAvgPool):
        return single
    if isinstance(op, ops.Pool2d):
        return op.kernel_size == (1, 1) and op.padding == (0, 0) and (single or op.stride == (1, 1))
    return False


def _canonical_op(node: Node) -> dict[str, Any]:
    op = node.op
    fields = op._asdict()
    if isinstance(op, ops.Pool2d) and is_global_avg_pool(node) and op.padding == (0, 0):
        return {"op": "GlobalAvgPool"}
    if isinstance(op, ops.Conv2d):
        fields["dilation"] = _where(op.kernel_size, 1, op.dilation, 1)
    if isinstance(op, ops.Conv2d | ops.Pool2d):
        fields["stride"] = _where(node.after.size, 1, op.stride, 0)
    if isinstance(op, ops.Dropout) and node.before.cells == 1:
        fields["channel"] = False
    if isinstance(op, ops.BatchNorm):
        del fields["flat"]
    return {"op": type(op).__name__, **fields}


def _where(axes: Pair, equal: int, values: Pair, inert: int) -> list[int]:
    """`values`, but `inert` on the axes whose entry is `equal`."""
    return [inert if axis == equal else value for axis, value in zip(axes, values, strict=True)]
