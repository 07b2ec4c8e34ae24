"""Settings of a search space, whichever of the two kinds it is."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from pydantic import Discriminator, Tag

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints, Verdict, judge
from archsearch.analysis.totals import Totals
from archsearch.errors import InputError, Problem, shown
from archsearch.space import four_blocks
from archsearch.space.edits.knobs import apply, edits_of, knobs_of
from archsearch.space.four_blocks import Knobs, Space, Value
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.spec.models import Spec


def _kind(value: object) -> str:
    near = isinstance(value, Neighbourhood) or (
        isinstance(value, dict) and bool(value.keys() & Neighbourhood.model_fields.keys())
    )
    return "neighbourhood" if near else "four_blocks"


AnySpace = Annotated[
    Annotated[Space, Tag("four_blocks")] | Annotated[Neighbourhood, Tag("neighbourhood")],
    Discriminator(_kind),
]
"""Four blocks of choices, or with `base` the neighbourhood of a spec."""

MISFIT = "shapes"
"""The rule that a setting breaks when its shapes do not fit together."""


def knob_choices(of: AnySpace) -> dict[str, tuple[Value, ...]]:
    """Every knob's choices, in order, by name."""
    if isinstance(of, Space):
        return four_blocks.knob_choices(of)
    return {name: tuple(knob.choices) for name, knob in knobs_of(of.base).items()}


def complete(of: AnySpace, knobs: Knobs) -> dict[str, Value]:
    """Complete a setting with the knobs that it leaves out: the only choice, or the spec's."""
    if isinstance(of, Space):
        return {
            name: choices[0] if len(choices) == 1 else knobs[name]
            for name, choices in four_blocks.knob_choices(of).items()
        }
    return {name: knobs.get(name, knob.as_is) for name, knob in knobs_of(of.base).items()}


def spec_of(of: AnySpace, knobs: Knobs, name: str) -> Spec:
    """The spec that a setting stands for.

    Raises:
        InputError: it stands for none.
    """
    if isinstance(of, Space):
        return four_blocks.spec_of(knobs, name)
    return apply(of.base, knobs, name)


def judge_setting(
    space: AnySpace, knobs: Knobs, constraints: Constraints, name: str
) -> tuple[Verdict | None, list[str]]:
    """Analyze one setting; return the verdict, and the rules that it breaks."""
    try:
        verdict = judge(analyze(spec_of(space, knobs, name)), constraints)
    except InputError:
        return None, [MISFIT]
    return verdict, [violation.rule for violation in verdict.violations]


def describe_edits(of: AnySpace, knobs: Knobs) -> list[str]:
    """Describe the edits of a setting; none if the space is not a spec's neighbourhood."""
    if isinstance(of, Space):
        return []
    every = knobs_of(of.base)
    return [every[name].told(value) for name, value in edits_of(of.base, knobs).items()]


def written(of: AnySpace, knobs: Knobs) -> Knobs:
    """Return what a table shows of a setting: every knob; near a spec its edits alone."""
    return knobs if isinstance(of, Space) else edits_of(of.base, knobs)


def cell(of: AnySpace, knobs: Knobs) -> str:
    """Return a setting as one cell of a table: `name=value` by spaces."""
    return " ".join(f"{name}={value}" for name, value in written(of, knobs).items())


def minimal_edits(near: Neighbourhood, knobs: Knobs) -> dict[str, Value]:
    """Return the edits of a setting without those that change nothing.

    What they are held against is the network, and what limits look at, which knows of blocks.

    Raises:
        InputError: the shapes of the setting do not fit together.
    """

    def made(setting: Knobs) -> tuple[str, Totals]:
        analysis = analyze(apply(near.base, setting, near.base.name))
        return analysis.spec_hash, analysis.totals

    kept = edits_of(near.base, knobs)
    whole = made(kept)
    for name in list(kept):
        fewer = {other: value for other, value in kept.items() if other != name}
        with suppress(InputError):  # then it is needed for the others to fit
            if made(fewer) == whole:
                kept = fewer
    return kept


def setting_problems(of: AnySpace, knobs: Knobs, place: str) -> list[Problem]:
    """Why `knobs` is not a setting of a space."""
    choices = knob_choices(of)
    problems = [
        Problem(f"{place}.{name}", "unknown-knob", f"no such knob; choose {', '.join(choices)}")
        for name in knobs
        if name not in choices
    ]
    for name, values in choices.items():
        if name not in knobs:
            if isinstance(of, Space):
                problems.append(Problem(f"{place}.{name}", "missing", "is required and not there"))
        elif knobs[name] not in values:
            told = ", ".join(map(str, values))
            message = f"must be one of the space's choices ({told}), got {shown(knobs[name])}"
            problems.append(Problem(f"{place}.{name}", "choice", message))
    if isinstance(of, Neighbourhood) and not problems:
        count = len(edits_of(of.base, knobs))
        if count > of.max_edits:
            message = f"has {count} edits, more than space.max_edits ({of.max_edits})"
            problems.append(Problem(place, "max-edits", message))
    return problems
