"""A study of the networks near a spec."""

from __future__ import annotations

import re
from collections.abc import Iterator

from archsearch.common.parse import MAX_BYTES
from archsearch.errors import InputError, Problem
from archsearch.space.neighbourhood import MAX_EDITS, Neighbourhood
from archsearch.space.repair import mend
from archsearch.spec.models import Spec
from archsearch.study.config import Study, base_problems, study_toml

_FOR_START = 1 << 14
"""Bytes that the edits to start with, and a longer name, may take in a study file."""
ROOM = 3
"""Edits that are left to a search beside those that bring its spec within the limits."""


def study_near(study: Study, spec: Spec, max_edits: int | None = None) -> Study:
    """`study` with the neighbourhood of `spec` as its space, and where to start in it.

    Unless `max_edits` are given, a network may have as many as bring `spec` within the limits and
    `ROOM` more, or `MAX_EDITS` if that is more.

    Raises:
        InputError: `spec` is none, not for the study's images, or too large for a study file.
        HopelessSpaceError: nothing near it was found within the limits.
    """
    problems = [*base_problems(spec, study.dataset), *_size_problems(study, spec)]
    if problems:
        raise InputError(spec.name, problems)
    start = mend(Neighbourhood(base=spec, max_edits=max_edits or MAX_EDITS), study.constraints)
    space = Neighbourhood(base=spec, max_edits=max_edits or max(MAX_EDITS, len(start) + ROOM))
    update = {"name": f"{_folder_name(spec.name)}-near", "space": space, "start": (start,)}
    return study.model_copy(update=update)


def _size_problems(study: Study, spec: Spec) -> Iterator[Problem]:
    """That the study file would be refused wherever it is read: found out before hours are spent.

    It holds the spec as TOML, which is longer than JSON.
    """
    near = study.model_copy(update={"space": Neighbourhood(base=spec), "start": ()})
    size, most = len(study_toml(near).encode()) + _FOR_START, MAX_BYTES
    if size > most:
        message = (
            f"needs a study file of about {size >> 10:,} KiB, and at most {most >> 10:,} KiB are "
            "read; shorten names, leave out fields that say the default, or take fewer layers"
        )
        yield Problem("", "size", message)


def _folder_name(name: str) -> str:
    """A spec's name as one that a folder may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:80] or "spec"
