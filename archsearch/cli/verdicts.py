"""What `archsearch validate` does. Imports no typer: without options it runs without it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Literal

from archsearch.common.console import show
from archsearch.errors import ArchsearchError

if TYPE_CHECKING:
    from archsearch.analysis.constraints import Constraints

Output = Literal["table", "json", "ndjson"]


def validate_specs(
    specs: list[str],
    *,
    output: Output = "table",
    explain: bool = False,
    constraints: str | None = None,
    max_params: int | None = None,
    min_rf: int | None = None,
    brief: bool = False,
    jobs: int = 1,
) -> int:
    """Print the verdict on every spec of `specs`; 0 all accepted, 1 some rejected, 2 some invalid.

    Raises:
        ArchsearchError: the limits cannot be read, or options do not go together.
    """
    limits = limits_of(constraints, max_params, min_rf)
    if output == "ndjson":
        return _lines(specs, limits, brief=brief, jobs=jobs)
    if explain and output != "table":
        raise ArchsearchError("--explain is for the table; JSON has the figures it is made of")
    for given, option in ((brief, "--brief"), (jobs > 1, "--jobs")):
        if given:
            raise ArchsearchError(f"{option} is for --format ndjson; add that, or leave it out")
    return _whole(specs, limits, as_json=output == "json", explain=explain)


def _whole(paths: list[str], limits: Constraints, *, as_json: bool, explain: bool) -> int:
    """Tables as verdicts come, or one JSON value at the end; the exit status."""
    from archsearch.analysis import verdict_view
    from archsearch.analysis.constraints import verdict_on
    from archsearch.common.parse import read_text, source_name
    from archsearch.spec.load import refuse_other_kinds

    objects, status = [], 0
    for path in paths:
        name = source_name(path)
        try:
            refuse_other_kinds(path)
            verdict = verdict_on(read_text(path), name, limits)
        except ArchsearchError as error:
            sys.stderr.write(f"error: {error}\n")
            objects.append(verdict_view.invalid_data(name, error))
            status = 2
            continue
        if as_json:
            objects.append(verdict_view.verdict_data(name, verdict))
        else:
            show(verdict_view.verdict_page(verdict, explain=explain))
        status = max(status, 0 if verdict.accepted else 1)
    if as_json:
        sys.stdout.write(json.dumps(objects if len(paths) > 1 else objects[0], indent=2) + "\n")
    sys.stdout.flush()
    return status


def _lines(paths: list[str], limits: Constraints, *, brief: bool, jobs: int) -> int:
    """Verdicts line by line as they come; the exit status."""
    from itertools import chain

    from archsearch.analysis.batch import judge_lines, lines_of

    status = 0
    for judged in judge_lines(chain(*map(lines_of, paths)), limits, brief=brief, jobs=jobs):
        sys.stderr.write(judged.error)
        sys.stdout.write(judged.line + "\n")
        status = max(status, judged.status)
    sys.stdout.flush()
    return status


def limits_of(path: str | None, max_params: int | None, min_rf: int | None) -> Constraints:
    """Return the limits of a file, or the coursework's, with those that the options change.

    Raises:
        ArchsearchError: the file cannot be read or is no set of limits.
    """
    from archsearch.analysis.constraints import load_constraints

    limits = load_constraints(path)
    given = {"max_params": max_params, "min_receptive_field": min_rf}
    return limits.model_copy(update={k: v for k, v in given.items() if v is not None})
