"""Make the fixes of all findings agree: none may undo what another asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from archsearch.diagnosis.findings import Finding, Remedy, with_remedies

PUSHES: Mapping[str, str] = {
    "few-steps": "lr+",
    "long-steps": "lr-",
    "flat-schedule": "decay+",
    "no-weight-decay": "weight decay+",
    "no-augmentation": "augmentation+",
    "heavy-augmentation": "augmentation-",
    "dropout": "dropout-",
}
"""What the fix of a rule about networks or recipes moves, and which way; others oppose none."""


def agreeing(findings: Sequence[Finding]) -> tuple[list[Finding], frozenset[str]]:
    """Leave out each fix that opposes one before it, and each finding that has no fix left.

    Weak fixes come after all others, wherever they are. Also returned are the rules whose fix
    would oppose what is left, but for weak ones: nothing may carry it out.
    """
    kept: set[tuple[int, Remedy]] = set()
    firm: set[str] = set()
    for i, remedy in _remedies(findings):
        if not remedy.weak and _opposite(remedy.push) not in firm:
            kept.add((i, remedy))
            firm |= {remedy.push}
    settled = set(firm)
    for i, remedy in _remedies(findings):
        if remedy.weak and _opposite(remedy.push) not in settled:
            kept.add((i, remedy))
            settled |= {remedy.push}
    left = []
    for i, finding in enumerate(findings):
        remedies = [each for each in finding.remedies if (i, each) in kept]
        if finding.remedies and remedies:
            left.append(with_remedies(*finding[:3], *remedies, edit=finding.edit))
        elif not finding.remedies and (i, _only(finding)) in kept:
            left.append(finding)
    overruled = {code for code, push in PUSHES.items() if _opposite(push) in firm}
    gone = {finding.code for finding in findings} - {finding.code for finding in left}
    return left, frozenset(overruled | gone)


def _remedies(findings: Sequence[Finding]) -> Iterator[tuple[int, Remedy]]:
    for i, finding in enumerate(findings):
        for remedy in finding.remedies or (_only(finding),):
            yield i, remedy


def _only(finding: Finding) -> Remedy:
    return Remedy(finding.mend, PUSHES.get(finding.code, ""))


def _opposite(push: str) -> str:
    """Return "lr-" for "lr+", and for "" what no fix pushes."""
    return push[:-1] + {"+": "-", "-": "+"}.get(push[-1:], "none")
