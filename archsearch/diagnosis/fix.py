"""Fix a spec and a recipe with the fewest edits after which no rule suggests another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints, Violation, active_rules, violations
from archsearch.diagnosis import level_of, network_findings, recipe_findings
from archsearch.diagnosis.apply_mend import apply_edit, changed, describe_edit
from archsearch.diagnosis.findings import Edit, Fields, Finding
from archsearch.diagnosis.rules import LEVELS
from archsearch.errors import HopelessSpaceError, InputError
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

    mended = _mended(spec, findings, apply_edit)
    kept = _within_limits(mended.result, constraints, "with the mends above, " * bool(mended.edits))
    return Fixed(kept.result, (*mended.edits, *kept.edits), kept.broken)


def fix_recipe(recipe: Recipe) -> Fixed[Recipe]:
    """The recipe after every mend that an error or warning asks for."""
    return _mended(recipe, recipe_findings, changed)


def limit_edits(spec: Spec, constraints: Constraints) -> tuple[str, ...]:
    """The fewest edits that bring a spec within limits, in words; none where none were found."""
    return tuple(each.told for each in _within_limits(spec, constraints).edits)


def _within_limits(spec: Spec, constraints: Constraints, after: str = "") -> Fixed[Spec]:
    broken = violations(analyze(spec).totals, active_rules(constraints))
    # No edit makes or joins blocks.
    reachable = constraints.model_copy(update={"conv_blocks": None})
    if all(each.rule == "conv_blocks" for each in broken):
        return Fixed(spec, (), tuple(broken))

    def faults(at: Spec) -> set[str]:
        return {each.code for each in _graver(network_findings(analyze(at), constraints))}

    before = faults(spec)

    try:
        setting = mend(
            Neighbourhood(base=spec, max_edits=LIMIT_EDITS),
            reachable,
            lambda other: faults(other) <= before,
        )
    except HopelessSpaceError:
        return Fixed(spec, (), tuple(broken))
    reason = after + "; ".join(each.message for each in broken if each.rule != "conv_blocks")
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
