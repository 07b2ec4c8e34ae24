"""Limits, and what breaks them. A broken limit is a result, never an exception."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.analysis.totals import Totals
from archsearch.analysis.warnings import SpecWarning
from archsearch.common.parse import Given, from_given, from_json, is_name
from archsearch.errors import named_as
from archsearch.spec.models import Flag, Frozen, Spec, null_if_false

Whole = Annotated[int, Field(strict=True, ge=0)]
Off = BeforeValidator(null_if_false, json_schema_input_type=Whole | Literal[False] | None)
Limit = Annotated[Whole | None, Off]


class Constraints(Frozen):
    """Limits on a network, inclusive; null switches one off. Defaults: `cifar10-200k`.

    Example:
        >>> import archsearch as asr
        >>> limits = asr.Constraints(max_params=50_000, conv_blocks=None)
        >>> limits.max_params, limits.min_receptive_field
        (50000, 44)
    """

    other_keys: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("min_rf", "rf", "receptive_field"), "min_receptive_field"),
        **dict.fromkeys(("max_parameters", "parameters", "max_weights"), "max_params"),
        **dict.fromkeys(("flops", "max_flops", "max_madds", "max_mults"), "max_macs"),
        **dict.fromkeys(("depthwise", "dw_separable"), "depthwise_separable"),
        **dict.fromkeys(("gap", "global_pool"), "global_avg_pool"),
        "dilation": "dilated",
        "max_rf": "no limit bounds the receptive field from above: remove it",
    }
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
    no_pooling: Flag | None = None
    """No pool but a global average pool: the map shrinks by strides alone."""
    strided_dilated: Flag | None = None
    """A convolution with stride > 1, dilation > 1 and kernel > 1, all on one axis."""


DEFAULT_CONSTRAINTS = "cifar10-200k"
"""The coursework's limits, by name."""


def load_constraints(given: Constraints | Given | None) -> Constraints:
    """Limits by name, as plain data or from a JSON file; the coursework's for None.

    Raises:
        ArchsearchError: there is no such file.
        InputError: it has problems.
    """
    if given is None or is_name(given, [DEFAULT_CONSTRAINTS], "constraints"):
        return Constraints()
    return from_given(Constraints, given)


class Violation(NamedTuple):
    """A limit that a network breaks."""

    rule: str
    limit: int
    actual: int

    @property
    def message(self) -> str:
        """In a sentence."""
        return LIMIT_RULES[self.rule].message(self.actual, self.limit)

    def data(self) -> dict[str, object]:
        """As plain data, the message with it."""
        return {**self._asdict(), "message": self.message}


@dataclass(frozen=True, slots=True)
class Verdict:
    """An analysis held against limits."""

    analysis: Analysis
    constraints: Constraints
    violations: tuple[Violation, ...]

    @property
    def accepted(self) -> bool:
        """Whether no limit is broken."""
        return not self.violations

    @property
    def warnings(self) -> tuple[SpecWarning, ...]:
        """What no limit forbids and the author should know."""
        return (*self.analysis.warnings, *_on_limit(self.analysis.totals, self.constraints))


def judge(analysis: Analysis, constraints: Constraints) -> Verdict:
    """Hold `analysis` against every limit of `constraints`."""
    rules = active_rules(constraints)
    return Verdict(analysis, constraints, tuple(violations(analysis.totals, rules)))


def verdict_on(text: str, source: str, constraints: Constraints) -> Verdict:
    """The verdict on a spec's JSON.

    Raises:
        InputError: with every problem in it, told of `source`.
    """
    with named_as(source):
        return judge(analyze(from_json(Spec, text, source)), constraints)


class LimitRule(NamedTuple):
    """How a limit is held against the field of `Totals` that it is about.

    Attributes:
        field: that field.
        actual: what of it is held against the limit: of a (height, width) the smaller.
        breaks: whether (actual, limit) breaks it, for numbers and for arrays of them.
        message: (actual, limit) in a sentence.
    """

    field: str
    actual: Callable[[Totals], Any]
    breaks: Callable[[Any, Any], Any]
    message: Callable[[int, int], str]


ActiveRules = Sequence[tuple[str, int, LimitRule]]


def active_rules(constraints: Constraints) -> ActiveRules:
    """The limits that are not switched off, each with its rule."""
    given = ((name, getattr(constraints, name), rule) for name, rule in LIMIT_RULES.items())
    return [
        (name, limit, rule)
        for name, limit, rule in given
        if limit is not None and limit is not False
    ]


def violations(totals: Totals, rules: ActiveRules) -> list[Violation]:
    """The limits that `totals` breaks."""
    return [
        Violation(name, limit, actual)
        for name, limit, (_, actual_of, breaks, _) in rules
        if breaks(actual := actual_of(totals), limit)
    ]


def met_exactly(totals: Totals, rules: ActiveRules) -> list[Violation]:
    """Return the limits on a size that `totals` lies on, which a brief may mean exclusively."""
    return [
        Violation(name, limit, limit)
        for name, limit, rule in rules
        if rule.breaks is not operator.ne and rule.actual(totals) == limit
    ]


def _rule(
    field: str, breaks: Callable[[Any, Any], Any], message: Callable[[int, int], str]
) -> LimitRule:
    return LimitRule(field, operator.attrgetter(field), breaks, message)


LIMIT_RULES: dict[str, LimitRule] = {
    "max_params": _rule(
        "params",
        operator.gt,
        lambda n, limit: f"{n:,} parameters, {n - limit:,} over the limit of {limit:,}",
    ),
    "min_receptive_field": LimitRule(
        "receptive_field",
        lambda totals: min(totals.receptive_field),
        operator.lt,
        lambda n, limit: f"receptive field {n} before global pooling, {limit - n} short of {limit}",
    ),
    "max_macs": _rule(
        "macs",
        operator.gt,
        lambda n, limit: f"{n:,} multiply-accumulates, {n - limit:,} over the limit of {limit:,}",
    ),
    "conv_blocks": _rule(
        "conv_blocks",
        operator.ne,
        lambda n, limit: f"{n} blocks hold a convolution; {limit} and an output are wanted",
    ),
    "depthwise_separable": _rule(
        "depthwise_separable",
        operator.ne,
        lambda *_: (
            "no depthwise-separable convolution "
            "(groups = in_channels, kernel > 1, then a 1x1 convolution)"
        ),
    ),
    "dilated": _rule(
        "dilated",
        operator.ne,
        lambda *_: "no dilated convolution (dilation > 1 with a kernel > 1)",
    ),
    "global_avg_pool": _rule(
        "global_avg_pool",
        operator.ne,
        lambda *_: (
            "no global average pooling (global_avg_pool, or an avg_pool that covers its whole map)"
        ),
    ),
    "no_pooling": _rule(
        "no_pooling",
        operator.ne,
        lambda *_: "a pool other than global average pooling; use a strided convolution",
    ),
    "strided_dilated": _rule(
        "strided_dilated",
        operator.ne,
        lambda *_: "no strided dilated convolution (stride > 1 and dilation > 1, kernel > 1)",
    ),
}
"""One rule a field of `Constraints`."""


def _on_limit(totals: Totals, constraints: Constraints) -> Iterator[SpecWarning]:
    if totals.params == constraints.max_params:
        yield SpecWarning(
            "params-on-limit",
            "",
            f"exactly {totals.params:,} parameters: accepted here, "
            "but not if your brief says fewer than",
        )
    if min(totals.receptive_field) == constraints.min_receptive_field:
        yield SpecWarning(
            "receptive-field-on-limit",
            "",
            f"receptive field exactly {constraints.min_receptive_field}: accepted here, "
            "but not if your brief says above",
        )
