"""A finding: its rule, its place, its evidence and the fix that it suggests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Fields = Mapping[str, object]
"""Of a layer or a recipe, those that change."""

Edit = Mapping[str, Fields | None]
"""A mend that can be carried out. Of a network: by the layer's place its new fields, or None to
take it out. Of a recipe: by "" its new fields."""


class Remedy(NamedTuple):
    """One of the fixes that a finding suggests.

    Attributes:
        text: what to do, in words.
        push: what it moves and which way, such as "lr+"; "" if it opposes no other fix.
        weak: whether it is a guess, which gives way to any other fix that opposes it.
    """

    text: str
    push: str = ""
    weak: bool = False


class Finding(NamedTuple):
    """Something that costs accuracy, breaks a limit or is worth knowing.

    Attributes:
        code: of its rule.
        place: of the layer, as in the spec; of a recipe, its field; "" for all of it.
        evidence: what is so, in numbers.
        mend: what to do, in words.
        edit: the same, to be carried out.
        remedies: what `mend` lists, if there are several.
    """

    code: str
    place: str
    evidence: str
    mend: str
    edit: Edit | None = None
    remedies: tuple[Remedy, ...] = ()


def with_remedies(
    code: str, place: str, evidence: str, *remedies: Remedy, edit: Edit | None = None
) -> Finding:
    """Return a finding with fixes to choose from; `edit` carries out the first."""
    *first, last = [remedy.text for remedy in remedies]
    mend = f"{', '.join(first)}, or {last}" if first else last
    return Finding(code, place, evidence, mend, edit, remedies)
