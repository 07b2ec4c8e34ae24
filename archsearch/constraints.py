"""Limits, and what breaks them. A broken limit is a result, never an exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field

from archsearch import ops
from archsearch.analyze import Analysis, Warned
from archsearch.network import Node, Trunk, is_global_avg_pool, walk
from archsearch.spec import Flag, Frozen

Off = BeforeValidator(lambda value: None if value is False else value)
"""TOML has no null, so there `false` switches a limit off."""
Limit = Annotated[Annotated[int, Field(strict=True, ge=0)] | None, Off]


class Constraints(Frozen):
    """Limits on a network, inclusive; null switches one off. Defaults: `cifar10-200k`."""

    max_params: Limit = 200_000
    """Learnable scalars."""
    min_receptive_field: Limit = 44
    """Image pixels, before global pooling, on the smaller axis."""
    max_macs: Limit = None
    """Multiply-accumulates for one image."""
    conv_blocks: Limit = 4
    """Blocks that hold a convolution, exactly; the output is not one of them."""
    depthwise_separable: Flag | None = True
    """A convolution with groups = in_channels and kernel > 1, then a pointwise one."""
    dilated: Flag | None = True
    """A convolution with dilation > 1 and kernel > 1."""
    global_avg_pool: Flag | None = True
    """An average pool over the whole map."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that a network breaks."""

    rule: str
    limit: int | bool
    actual: int | bool
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """An analysis held against limits."""

    analysis: Analysis
    constraints: Constraints
    violations: tuple[Violation, ...]
    warnings: tuple[Warned, ...]

    @property
    def accepted(self) -> bool:
        """Whether no limit is broken."""
        return not self.violations


def judge(analysis: Analysis, constraints: Constraints) -> Verdict:
    """Hold `analysis` against every limit of `constraints`."""
    violations = tuple(
        violation
        for field, rule in RULES.items()
        if (limit := getattr(constraints, field)) is not None and limit is not False
        for violation in rule(analysis, limit)
    )
    notes = tuple(_on_limit(analysis, constraints))
    return Verdict(analysis, constraints, violations, (*analysis.warnings, *notes))


def _max_params(analysis: Analysis, limit: int) -> Iterator[Violation]:
    if (over := analysis.params - limit) > 0:
        yield Violation(
            "max_params",
            limit,
            analysis.params,
            f"{analysis.params:,} parameters, {over:,} over the limit of {limit:,}",
        )


def _max_macs(analysis: Analysis, limit: int) -> Iterator[Violation]:
    if (over := analysis.macs - limit) > 0:
        yield Violation(
            "max_macs",
            limit,
            analysis.macs,
            f"{analysis.macs:,} multiply-accumulates, {over:,} over the limit of {limit:,}",
        )


def _min_receptive_field(analysis: Analysis, limit: int) -> Iterator[Violation]:
    actual = min(analysis.receptive_field)
    if actual < limit:
        yield Violation(
            "min_receptive_field",
            limit,
            actual,
            f"receptive field {actual} before global pooling, {limit - actual} short of {limit}",
        )


def _conv_blocks(analysis: Analysis, limit: int) -> Iterator[Violation]:
    blocks = analysis.network.sections[:-1]
    actual = sum(any(isinstance(n.op, ops.Conv2d) for n in walk(block)) for block in blocks)
    if actual != limit:
        yield Violation(
            "conv_blocks",
            limit,
            actual,
            f"{actual} blocks hold a convolution; {limit} and an output are wanted",
        )


def _depthwise_separable(analysis: Analysis, _limit: int) -> Iterator[Violation]:
    if not _has_depthwise_separable(analysis.network.trunk):
        yield Violation(
            "depthwise_separable",
            limit=True,
            actual=False,
            message="no depthwise-separable convolution "
            "(groups = in_channels, kernel > 1, then a 1x1 convolution)",
        )


def _has_depthwise_separable(trunk: Trunk) -> bool:
    """Two convolutions in a row, with nothing but norms, activations and dropout between."""
    depthwise = False
    for node in trunk:
        if not isinstance(node, Node):
            depthwise = False
            if any(_has_depthwise_separable(branch) for branch in node.branches):
                return True
            continue
        op = node.op
        if isinstance(op, ops.Conv2d):
            if depthwise and op.kernel_size == (1, 1) and op.groups == 1:
                return True
            depthwise = op.groups == op.in_channels > 1 and max(op.kernel_size) > 1
        elif not isinstance(op, ops.BatchNorm | ops.GroupNorm | ops.Activation | ops.Dropout):
            depthwise = False
    return False


def _dilated(analysis: Analysis, _limit: int) -> Iterator[Violation]:
    found = any(
        dilation > 1 and kernel > 1
        for node in analysis.network.nodes()
        if isinstance(node.op, ops.Conv2d)
        for dilation, kernel in zip(node.op.dilation, node.op.kernel_size, strict=True)
    )
    if not found:
        yield Violation(
            "dilated",
            limit=True,
            actual=False,
            message="no dilated convolution (dilation > 1 with a kernel > 1)",
        )


def _global_avg_pool(analysis: Analysis, _limit: int) -> Iterator[Violation]:
    if not any(is_global_avg_pool(node) for node in analysis.network.nodes()):
        yield Violation(
            "global_avg_pool",
            limit=True,
            actual=False,
            message="no global average pooling (global_avg_pool, "
            "or an avg_pool that covers its whole map)",
        )


RULES: dict[str, Callable[[Analysis, int], Iterator[Violation]]] = {
    "max_params": _max_params,
    "min_receptive_field": _min_receptive_field,
    "max_macs": _max_macs,
    "conv_blocks": _conv_blocks,
    "depthwise_separable": _depthwise_separable,
    "dilated": _dilated,
    "global_avg_pool": _global_avg_pool,
}
"""One rule a field of `Constraints`."""


def _on_limit(analysis: Analysis, constraints: Constraints) -> Iterator[Warned]:
    if analysis.params == constraints.max_params:
        yield Warned(
            "params-on-limit",
            "",
            f"exactly {analysis.params:,} parameters: accepted here, "
            "but not if your brief says fewer than",
        )
    if min(analysis.receptive_field) == constraints.min_receptive_field:
        yield Warned(
            "receptive-field-on-limit",
            "",
            f"receptive field exactly {constraints.min_receptive_field}: accepted here, "
            "but not if your brief says above",
        )
