"""A setting held against the limits."""

from __future__ import annotations

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints, Verdict, judge
from archsearch.errors import InputError
from archsearch.space.four_blocks import Knobs
from archsearch.space.settings import AnySpace, spec_of

MISFIT = "shapes"
"""The rule that a proposal breaks when its shapes do not fit together."""


def judge_setting(
    space: AnySpace, knobs: Knobs, constraints: Constraints, name: str
) -> tuple[Verdict | None, list[str]]:
    """What the analyzer says of a setting, and which rules it breaks."""
    try:
        verdict = judge(analyze(spec_of(space, knobs, name)), constraints)
    except InputError:
        return None, [MISFIT]
    return verdict, [violation.rule for violation in verdict.violations]
