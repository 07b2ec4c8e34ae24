"""A diagnosis as a page and as plain data; the rules as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from archsearch.common.page import Grid, Line, Page
from archsearch.diagnosis import Diagnosis, level_of
from archsearch.diagnosis.findings import Finding
from archsearch.diagnosis.fix import Applied, Offer
from archsearch.diagnosis.rules import LEVELS, RULES, Level
from archsearch.errors import one_line
from archsearch.spec.formatting import axes_data, axes_text

_STYLES: dict[Level, str] = {"error": "bold red", "warning": "bold yellow", "note": "bold"}
_INDENT = "    "


def diagnosis_page(diagnosis: Diagnosis, offer: Offer) -> Page:
    """What was found, rule by rule, the gravest first."""
    analysis = diagnosis.analysis
    head = (
        f"{one_line(analysis.spec.name)}  {analysis.spec_hash[:12]}  {analysis.params:,} "
        f"parameters, receptive field {axes_text(analysis.receptive_field)}, "
        f"{analysis.macs / 1e6:,.1f}M MACs"
    )
    lines = [Line(head, "bold")]
    for code, found in groupby(diagnosis.findings, key=lambda each: each.code):
        lines += _rule_lines(code, list(found), offer)
    counts = {
        level: sum(level_of(each) == level for each in diagnosis.findings) for level in LEVELS
    }
    told = ", ".join(f"{n} {level}{'s' if n != 1 else ''}" for level, n in counts.items())
    return [*lines, Line(""), Line(told, "bold red" if diagnosis.failed else "bold green")]


def _rule_lines(code: str, found: list[Finding], offer: Offer) -> Iterator[Line]:
    rule = RULES[code]
    yield Line("")
    yield Line(f"{rule.level} {code}: {rule.what}", _STYLES[rule.level])
    for each in found:
        place = f"{one_line(each.place)}: " if each.place else ""
        yield Line(f"  {place}{one_line(each.evidence)}")
    at = rule.measured
    measured = f" Measured: {at.points:+.2f} points ({at.csv}, {at.variant!r})." if at else ""
    yield Line(f"{_INDENT}why: {rule.why}{measured}")
    for mend in dict.fromkeys(each.mend for each in found if code != "over-limit" and each.mend):
        yield Line(f"{_INDENT}mend: {one_line(mend)}")
    if code == "over-limit":
        edits = "; ".join(map(one_line, offer.limit_edits))
        yield Line(f"{_INDENT}mend: {edits or 'no few edits were found that keep all limits'}")
        for message in offer.left if offer.limit_edits else ():
            yield Line(f"{_INDENT}still over a limit after these edits: {message}")
    for message in offer.breaks.get(code, ()):
        yield Line(f"{_INDENT}this fix alone leaves a limit violated: {message}")


def diagnosis_data(
    diagnosis: Diagnosis, offer: Offer, applied: Sequence[Applied]
) -> dict[str, Any]:
    """For `--format json`; `applied` is what a fix changed."""
    analysis = diagnosis.analysis
    return {
        "name": analysis.spec.name,
        "spec_hash": analysis.spec_hash,
        "params": analysis.params,
        "macs": analysis.macs,
        "receptive_field": axes_data(analysis.receptive_field),
        "failed": diagnosis.failed,
        "findings": [
            {
                "code": each.code,
                "level": level_of(each),
                "subject": RULES[each.code].subject,
                "place": each.place,
                "evidence": each.evidence,
                "why": RULES[each.code].why,
                "mend": each.mend,
                "breaks": list(offer.breaks.get(each.code, ())),
            }
            for each in diagnosis.findings
        ],
        "edits_within_limits": list(offer.limit_edits),
        "left_over_limits": list(offer.left),
        "edits": [each._asdict() for each in applied],
    }


def edits_page(edits: Sequence[Applied]) -> Page:
    """What a fix changed, each edit with its reason."""
    lines = []
    for each in edits:
        lines.append(Line(f"{each.code}: {one_line(each.told)}", "bold"))
        lines.append(Line(f"{_INDENT}{one_line(each.reason)}"))
    return lines


def rules_page() -> Page:
    """Every rule in a line."""
    rows = []
    for code, rule in RULES.items():
        points = f"{rule.measured.points:+.2f}" if rule.measured else ""
        rows.append((code, rule.subject, rule.level, points, rule.what))
    titles = ("code", "about", "level", "points", "looks for")
    return [
        Grid(rows, frozenset({0, 1, 2, 4}), titles, wrapped=frozenset({4})),
        Line("points: of hold-out accuracy on CIFAR-10, measured with it and without"),
    ]


def rule_page(code: str) -> Page:
    """One rule, explained."""
    rule = RULES[code]
    lines = [
        Line(f"{code}  {rule.level}, about the {rule.subject}", _STYLES[rule.level]),
        Line(f"looks for: {rule.what}"),
        Line(f"why: {rule.why}"),
        Line(f"source: {rule.source}"),
    ]
    if at := rule.measured:
        told = f"measured: {at.points:+.2f} points of hold-out accuracy, {at.csv}: {at.variant}"
        lines.append(Line(told))
    return lines


def rules_data() -> list[dict[str, Any]]:
    """Every rule as plain data."""
    return [
        {
            "code": code,
            **rule._asdict(),
            "measured": at._asdict() if (at := rule.measured) else None,
        }
        for code, rule in RULES.items()
    ]
