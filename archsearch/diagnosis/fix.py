"""A mended spec and recipe: the fewest edits after which no rule has more to mend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from archsearch.analyze import analyze
from archsearch.constraints import Constraints, active_rules, violations
from archsearch.diagnosis import level_of, network_findings, recipe_findings
from archsearch.diagnosis.carry_out import changed, edited, told
from archsearch.diagnosis.findings import Edit, Finding
from archsearch.edits import apply, knobs_of
from archsearch.errors import HopelessSpaceError, InputError
from archsearch.mend import mend
from archsearch.neighbourhood import Neighbourhood
from archsearch.recipe import Recipe
from archsearch.spec import Spec

T = TypeVar("T", Spec, Recipe)

MAX_EDITS = 100
"""Of a network by rules; one with more to mend is better begun anew."""
LIMIT_EDITS = 8
"""For limits, after those."""


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
    """A mended spec or recipe, and how it came to be."""

    result: T
    edits: tuple[Applied, ...]


def fix_network(spec: Spec, constraints: Constraints) -> Fixed[Spec]:
    """The spec after every mend that an error or warning asks for, within the limits.

    Raises:
        HopelessSpaceError: no few edits bring it within them.
    """

    def findings(at: Spec) -> Iterator[Finding]:
        return network_findings(analyze(at), constraints)

    found = _mended(spec, findings, edited)
    kept = _within_limits(found.result, constraints)
    return Fixed(kept.result, (*found.edits, *kept.edits))


def fix_recipe(recipe: Recipe) -> Fixed[Recipe]:
    """The recipe after every mend that an error or warning asks for."""
    return _mended(recipe, recipe_findings, changed)


def limit_edits(spec: Spec, constraints: Constraints) -> tuple[str, ...]:
    """The fewest edits that bring a spec within limits, in words; none where none were found."""
    try:
        return tuple(each.told for each in _within_limits(spec, constraints).edits)
    except HopelessSpaceError:
        return ()


def _within_limits(spec: Spec, constraints: Constraints) -> Fixed[Spec]:
    broken = violations(analyze(spec).totals, active_rules(constraints))
    if not broken:
        return Fixed(spec, ())
    faults = {each.code for each in _to_mend(network_findings(analyze(spec), constraints))}

    def sound(other: Spec) -> bool:
        found = _to_mend(network_findings(analyze(other), constraints))
        return {each.code for each in found} <= faults

    setting = mend(Neighbourhood(base=spec, max_edits=LIMIT_EDITS), constraints, sound)
    reason = "; ".join(each.message for each in broken)
    knobs = knobs_of(spec)
    told = [knobs[name].told(value) for name, value in setting.items()]
    edits = tuple(Applied("over-limit", each, reason) for each in told)
    return Fixed(apply(spec, setting, spec.name), edits)


def _mended(
    base: T, findings: Callable[[T], Iterator[Finding]], carry_out: Callable[[T, Edit], T]
) -> Fixed[T]:
    """Carry out one mend after the other, then drop those that turn out not to be needed."""
    at, kept, given_up = base, list[Finding](), set[tuple[str, str]]()
    while len(kept) < MAX_EDITS:
        wanted = (each for each in _to_mend(findings(at)) if each[:2] not in given_up)
        finding = next(wanted, None)
        if finding is None or finding.edit is None:
            break
        try:
            at = carry_out(at, finding.edit)
            list(findings(at))  # whether its shapes still fit
        except InputError:
            given_up.add(finding[:2])
            at = _all(base, kept, carry_out)
            continue
        given_up.add(finding[:2])  # once is enough, whether it helped or not
        kept.append(finding)
    left = {each[:2] for each in _to_mend(findings(at))}
    for finding in list(kept):
        fewer = [each for each in kept if each is not finding]
        try:
            without = {each[:2] for each in _to_mend(findings(_all(base, fewer, carry_out)))}
        except (InputError, LookupError):
            continue
        if without <= left:
            kept = fewer
    return Fixed(_all(base, kept, carry_out), tuple(_told(base, kept, carry_out)))


def _to_mend(findings: Iterable[Finding]) -> Iterator[Finding]:
    """What asks for an edit: errors, then warnings."""
    mendable = [each for each in findings if each.edit is not None and level_of(each) != "note"]
    return iter(sorted(mendable, key=level_of))


def _all(base: T, findings: Sequence[Finding], carry_out: Callable[[T, Edit], T]) -> T:
    for finding in findings:
        base = carry_out(base, finding.edit or {})
    return base


def _told(
    base: T, findings: Sequence[Finding], carry_out: Callable[[T, Edit], T]
) -> Iterator[Applied]:
    for finding in findings:
        edit = finding.edit or {}
        yield Applied(finding.code, told(base, edit), finding.evidence)
        base = carry_out(base, edit)
