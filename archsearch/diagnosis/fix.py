"""Fix a spec and a recipe with the fewest edits after which no rule suggests another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import (
    ActiveRules,
    Constraints,
    Violation,
    active_rules,
    met_exactly,
    violations,
)
from archsearch.diagnosis import Diagnosis, level_of, network_findings, recipe_findings
from archsearch.diagnosis.apply_mend import apply_edit, changed, describe_edit
from archsearch.diagnosis.findings import Edit, Fields, Finding
from archsearch.diagnosis.rules import LEVELS, RULES
from archsearch.errors import HopelessSpaceError, InputError, Problem
from archsearch.space.edits.knobs import apply, knobs_of
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.repair import mend
from archsearch.spec.models import Spec
from archsearch.training.recipe import Recipe

T = TypeVar("T", Spec, Recipe)

MAX_EDITS = 40
"""By rules; each mends all that one rule found, but for those that go one by one."""
LIMIT_EDITS = 8
"""For limits, after those."""
_KEPT_KINDS = ("no_pooling", "strided_dilated")
"""Constraints on kinds of layers that no mend may break: edits for limits seldom restore them."""
_ONE_BY_ONE = frozenset({"padding-kernel"})
"""A stride less may mend several findings at once."""


class Applied(NamedTuple):
    """An edit that was carried out.

    Attributes:
        code: of the rule that asked for it.
        told: what changed, field by field.
        reason: the rule's evidence.
    """

    code: str
    told: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fixed(Generic[T]):
    """A mended spec or recipe, and how it came to be.

    Attributes:
        broken: the limits that no few edits were found for.
    """

    result: T
    edits: tuple[Applied, ...]
    broken: tuple[Violation, ...] = ()


def fix_network(
    spec: Spec, constraints: Constraints, leave: frozenset[str] = frozenset()
) -> Fixed[Spec]:
    """The spec after every mend that an error or warning asks for, within the limits.

    Rules whose code is in `leave` are not mended.
    """

    def findings(at: Spec) -> Iterator[Finding]:
        found = network_findings(analyze(at), constraints)
        return (each for each in found if each.code not in leave)

    rules = active_rules(constraints)
    kinds = [rule for rule in rules if rule[0] in _KEPT_KINDS]

    def carry_out(at: Spec, edit: Edit) -> Spec:
        after = apply_edit(at, edit)
        if kinds and set(_broken(after, kinds)) - set(_broken(at, kinds)):
            raise InputError(spec.name, [Problem("", "kinds", "breaks a constraint on layers")])
        return after

    mended = _mended(spec, findings, carry_out)
    was_on_limit = bool(met_exactly(analyze(spec).totals, rules))
    after = "with the mends above, " * bool(mended.edits)
    kept = _within_limits(mended.result, constraints, after, clear=not was_on_limit)
    return Fixed(kept.result, (*mended.edits, *kept.edits), kept.broken)


def fix_recipe(recipe: Recipe, leave: frozenset[str] = frozenset()) -> Fixed[Recipe]:
    """The recipe after every mend that an error or warning asks for.

    Rules whose code is in `leave` are not mended.
    """

    def findings(at: Recipe) -> Iterator[Finding]:
        return (each for each in recipe_findings(at) if each.code not in leave)

    return _mended(recipe, findings, changed)


@dataclass(frozen=True, slots=True)
class Offer:
    """What the fixes that a diagnosis offers do to the limits.

    Attributes:
        limit_edits: the fewest edits that were found to meet the limits, in words.
        left: limits that are broken after those, in words.
        breaks: by rule, the limits that its fix alone breaks, or breaks by more, in words.
    """

    limit_edits: tuple[str, ...]
    left: tuple[str, ...]
    breaks: Mapping[str, tuple[str, ...]]


def offer_of(diagnosis: Diagnosis, constraints: Constraints) -> Offer:
    """Return what the fixes of a diagnosis do to the limits, none of them carried out."""
    spec, rules = diagnosis.analysis.spec, active_rules(constraints)
    before = {each.rule: each for each in _broken(spec, rules)}
    within = _within_limits(spec, constraints) if before else Fixed(spec, ())
    breaks: dict[str, tuple[str, ...]] = {}
    for code, found in _by_rule(diagnosis.findings).items():
        try:
            after = _broken(apply_edit(spec, _merged(found).edit or {}), rules)
        except (InputError, LookupError):
            continue  # of a recipe, or its shapes would not fit
        worse = (each for each in after if _is_worse(each, before.get(each.rule)))
        if messages := tuple(each.message for each in worse):
            breaks[code] = messages
    told = tuple(each.told for each in within.edits)
    return Offer(told, tuple(each.message for each in within.broken), breaks)


def _broken(spec: Spec, rules: ActiveRules) -> list[Violation]:
    return violations(analyze(spec).totals, rules)


def _is_worse(after: Violation, before: Violation | None) -> bool:
    if before is None:
        return True
    return abs(after.actual - after.limit) > abs(before.actual - before.limit)


def _by_rule(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Return the findings about a network that can be carried out, by rule."""
    found: dict[str, list[Finding]] = {}
    for each in findings:
        if each.edit is not None and RULES[each.code].subject == "network":
            found.setdefault(each.code, []).append(each)
    return found


def limit_edits(spec: Spec, constraints: Constraints) -> tuple[str, ...]:
    """The fewest edits that bring a spec within limits, in words; none where none were found."""
    return tuple(each.told for each in _within_limits(spec, constraints).edits)


def _within_limits(
    spec: Spec, constraints: Constraints, after: str = "", *, clear: bool = False
) -> Fixed[Spec]:
    rules = active_rules(constraints)
    totals = analyze(spec).totals
    broken = violations(totals, rules)
    # No edit makes or joins blocks.
    reachable = constraints.model_copy(update={"conv_blocks": None})
    exactly = met_exactly(totals, rules) if clear else []
    if all(each.rule == "conv_blocks" for each in broken) and not exactly:
        return Fixed(spec, (), tuple(broken))

    def faults(at: Spec) -> set[str]:
        return {each.code for each in _graver(network_findings(analyze(at), constraints))}

    before = faults(spec)

    try:
        setting = mend(
            Neighbourhood(base=spec, max_edits=LIMIT_EDITS),
            reachable,
            lambda other: faults(other) <= before,
            clear=clear,
        )
    except HopelessSpaceError:
        return Fixed(spec, (), tuple(broken))
    reasons = [each.message for each in broken if each.rule != "conv_blocks"]
    reasons += [f"exactly on the limit {each.rule} {each.limit:,}" for each in exactly]
    reason = after + "; ".join(reasons)
    knobs = knobs_of(spec)
    edits = []
    for name, value in setting.items():
        knob = knobs[name]
        words = f"{knob.choices[knob.as_is]} -> {knob.choices[value]}"
        edits.append(Applied("over-limit", f"{knob.place or 'network'}: {words}", reason))
    result = apply(spec, setting, spec.name)
    left = violations(analyze(result).totals, active_rules(constraints))
    return Fixed(result, tuple(edits), tuple(left))


def _mended(
    base: T, findings: Callable[[T], Iterator[Finding]], carry_out: Callable[[T, Edit], T]
) -> Fixed[T]:
    """Carry out one mend after the other, then drop those that turn out not to be needed."""
    at, kept, tried = base, list[Finding](), set[tuple[object, ...]]()
    while len(kept) < MAX_EDITS:
        wanted = (each for each in _to_mend(findings(at)) if _key(each) not in tried)
        finding = next(wanted, None)
        if finding is None:
            break
        tried.add(_key(finding))
        try:
            after = carry_out(at, finding.edit or {})
            if finding[:2] not in _faults(findings(after)):
                at = after
                kept.append(finding)
        except InputError:
            continue  # its shapes would not fit
    left = _faults(findings(at))
    for finding in list(kept):
        fewer = [each for each in kept if each is not finding]
        try:
            without = _faults(findings(_carried_out(base, fewer, carry_out).result))
        except (InputError, LookupError):
            continue
        if without <= left:
            kept = fewer
    return _carried_out(base, kept, carry_out)


def _key(finding: Finding) -> tuple[object, ...]:
    return finding.code, tuple(finding.edit or {})


def _graver(findings: Iterable[Finding]) -> Iterator[Finding]:
    return (each for each in findings if level_of(each) != "note")


def _faults(findings: Iterable[Finding]) -> set[tuple[str, str]]:
    """The codes and places of errors and warnings."""
    return {each[:2] for each in _graver(findings)}


def _to_mend(findings: Iterable[Finding]) -> list[Finding]:
    """What asks for an edit, a rule at a time: errors, then warnings, then what takes layers out.

    After layers are taken out, places are others.
    """
    by_rule: dict[object, list[Finding]] = {}
    for each in _graver(findings):
        if each.edit is not None:
            by_rule.setdefault(each[:2] if each.code in _ONE_BY_ONE else each.code, []).append(each)
    return sorted(map(_merged, by_rule.values()), key=_order)


def _order(finding: Finding) -> tuple[bool, int]:
    takes_out = None in (finding.edit or {}).values()
    return takes_out, LEVELS.index(level_of(finding))


def _merged(found: Sequence[Finding]) -> Finding:
    """All that a rule found, as one."""
    fields: dict[str, Fields | None] = {}
    for each in found:
        for place, changes in (each.edit or {}).items():
            before = fields.get(place)
            fields[place] = None if changes is None else {**(before or {}), **changes}
    others = f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
    return found[0]._replace(evidence=found[0].evidence + others, edit=fields)


def _carried_out(
    base: T, findings: Sequence[Finding], carry_out: Callable[[T, Edit], T]
) -> Fixed[T]:
    applied = []
    for finding in findings:
        edit = finding.edit or {}
        after = carry_out(base, edit)
        applied.append(Applied(finding.code, describe_edit(base, edit), finding.evidence))
        base = after
    return Fixed(base, tuple(applied))
