"""`archsearch validate`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsearch.cli.options import console
from archsearch.errors import ArchsearchError

if TYPE_CHECKING:
    from archsearch.constraints import Constraints, Verdict


class Format(StrEnum):
    """How verdicts are printed."""

    table = "table"
    json = "json"
    ndjson = "ndjson"


def validate(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC...",
            help="Spec files; - is standard input. With ndjson a file may hold one a line.",
        ),
    ],
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
    explain: Annotated[
        bool, typer.Option("--explain", help="Add each layer's receptive-field step.")
    ] = False,
    constraints: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Limits as JSON; null switches one off."),
    ] = None,
    max_params: Annotated[
        int | None, typer.Option(min=0, help="Parameter limit, inclusive.")
    ] = None,
    min_rf: Annotated[
        int | None, typer.Option(min=0, help="Least receptive field before global pooling.")
    ] = None,
    brief: Annotated[
        bool,
        typer.Option("--brief", help="With ndjson: totals and verdict alone, far faster."),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="With ndjson: processes.")] = 1,
) -> None:
    """Count parameters, MACs and receptive field, and check the limits.

    Exit status: 0 all accepted, 1 some rejected, 2 some cannot be read.
    """
    limits = _limits(constraints, max_params, min_rf)
    if output == Format.ndjson:
        raise typer.Exit(_lines(specs, limits, brief=brief, jobs=jobs))
    for given, option in ((brief, "--brief"), (jobs > 1, "--jobs")):
        if given:
            raise ArchsearchError(f"{option} is for --format ndjson; add that, or leave it out")
    from archsearch.constraints import verdict_on
    from archsearch.parse import read_text, source_name

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
            printer.verdict(verdict)
            status = max(status, 0 if verdict.accepted else 1)
    printer.end()
    raise typer.Exit(status)


def _lines(paths: list[str], limits: Constraints, *, brief: bool, jobs: int) -> int:
    """Verdicts line by line as they come; the exit status."""
    from itertools import chain

    from archsearch.batch import judge_lines, lines_of

    status = 0
    for judged in judge_lines(chain(*map(lines_of, paths)), limits, brief=brief, jobs=jobs):
        sys.stderr.write(judged.error)
        sys.stdout.write(judged.line + "\n")
        status = max(status, judged.status)
    sys.stdout.flush()
    return status


def _limits(path: str | None, max_params: int | None, min_rf: int | None) -> Constraints:
    from archsearch.constraints import Constraints
    from archsearch.parse import from_json, read_text, source_name

    limits = Constraints()
    if path is not None:
        limits = from_json(Constraints, read_text(path), source_name(path))
    given = {"max_params": max_params, "min_receptive_field": min_rf}
    return limits.model_copy(update={k: v for k, v in given.items() if v is not None})


class _Printer:
    """Prints verdicts as they come, or all at once where the format is one JSON value."""

    def __init__(self, output: Format, *, explain: bool, several: bool) -> None:
        self._format, self._explain, self._several = output, explain, several
        self._objects: list[dict[str, Any]] = []

    def verdict(self, verdict: Verdict) -> None:
        if self._format == Format.table:
            self._table(verdict)
            return
        from archsearch.verdict_json import verdict_data

        self._objects.append(verdict_data(verdict))

    def invalid(self, path: str, error: ArchsearchError) -> None:
        if self._format != Format.table:
            from archsearch.parse import source_name
            from archsearch.verdict_json import invalid_data

            self._objects.append(invalid_data(source_name(path), error))

    def end(self) -> None:
        if self._format == Format.json:
            value = self._objects if self._several else self._objects[0]
            sys.stdout.write(json.dumps(value, indent=2) + "\n")
        sys.stdout.flush()

    def _table(self, verdict: Verdict) -> None:
        from archsearch.tables import verdict_view

        out = console()
        out.print(verdict_view(verdict, explain=self._explain))
        out.print()
