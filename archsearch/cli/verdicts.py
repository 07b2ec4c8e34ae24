"""What `archsearch validate` does. Imports no typer: without options it runs without it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Literal

from archsearch.common.console import show
from archsearch.errors import ArchsearchError

if TYPE_CHECKING:
    from archsearch.analysis.constraints import Constraints, Verdict

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
    limits = _limits(constraints, max_params, min_rf)
    if output == "ndjson":
        return _lines(specs, limits, brief=brief, jobs=jobs)
    if explain and output != "table":
        raise ArchsearchError("--explain is for the table; JSON has the figures it is made of")
    for given, option in ((brief, "--brief"), (jobs > 1, "--jobs")):
        if given:
            raise ArchsearchError(f"{option} is for --format ndjson; add that, or leave it out")
    from archsearch.analysis.constraints import verdict_on
    from archsearch.common.parse import read_text, source_name

    printer = _Printer(output, explain=explain, several=len(specs) > 1)
    status = 0
    for path in specs:
        try:
            verdict = verdict_on(read_text(path), source_name(path), limits)
        except ArchsearchError as error:
            sys.stderr.write(f"error: {error}\n")
            printer.invalid(path, error)
            status = 2
        else:
            printer.verdict(path, verdict)
            status = max(status, 0 if verdict.accepted else 1)
    printer.end()
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


def _limits(path: str | None, max_params: int | None, min_rf: int | None) -> Constraints:
    from archsearch.analysis.constraints import load_constraints

    limits = load_constraints(path)
    given = {"max_params": max_params, "min_receptive_field": min_rf}
    return limits.model_copy(update={k: v for k, v in given.items() if v is not None})


class _Printer:
    """Prints verdicts as they come, or all at once where the format is one JSON value."""

    def __init__(self, output: Output, *, explain: bool, several: bool) -> None:
        self._format, self._explain, self._several = output, explain, several
        self._objects: list[dict[str, Any]] = []

    def verdict(self, path: str, verdict: Verdict) -> None:
        if self._format == "table":
            self._table(verdict)
            return
        from archsearch.analysis.verdict_view import verdict_data
        from archsearch.common.parse import source_name

        self._objects.append(verdict_data(source_name(path), verdict))

    def invalid(self, path: str, error: ArchsearchError) -> None:
        if self._format != "table":
            from archsearch.analysis.verdict_view import invalid_data
            from archsearch.common.parse import source_name

            self._objects.append(invalid_data(source_name(path), error))

    def end(self) -> None:
        if self._format == "json":
            value = self._objects if self._several else self._objects[0]
            sys.stdout.write(json.dumps(value, indent=2) + "\n")
        sys.stdout.flush()

    def _table(self, verdict: Verdict) -> None:
        from archsearch.analysis.verdict_view import verdict_page

        show(verdict_page(verdict, explain=self._explain))
