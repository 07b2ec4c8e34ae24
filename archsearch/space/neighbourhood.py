"""A search space around a spec: all that a few edits make of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from archsearch.spec.models import Frozen, Spec

MAX_EDITS = 6
"""Unless a study says otherwise."""
MAX_KNOBS = 2_000
"""Of a spec that is searched around: every trial writes each of them to the database."""


class Neighbourhood(Frozen):
    """The networks that differ from a spec in a few edits."""

    base: Spec
    """The spec, as in its own file."""
    max_edits: Annotated[int, Field(strict=True, ge=1, le=100)] = MAX_EDITS
    """How many of its edits a network may have at once."""
