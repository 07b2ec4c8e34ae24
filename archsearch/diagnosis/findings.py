"""A finding: its rule, its place, its evidence and the fix that it suggests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Fields = Mapping[str, object]
"""Of a layer or a recipe, those that change."""

Edit = Mapping[str, Fields | None]
"""A mend that can be carried out. Of a network: by the layer's place its new fields, or None to
take it out. Of a recipe: by "" its new fields."""


class Finding(NamedTuple):
    """Something that costs accuracy, breaks a limit or is worth knowing.

    Attributes:
        code: of its rule.
        place: of the layer, as in the spec; of a recipe, its field; "" for all of it.
        evidence: what is so, in numbers.
        mend: what to do, in words.
        edit: the same, to be carried out.
    """

    code: str
    place: str
    evidence: str
    mend: str
    edit: Edit | None = None
