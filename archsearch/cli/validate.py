"""`archsearch validate`: its options; what it does is in `verdicts`."""

from __future__ import annotations

from typing import Annotated

import typer

from archsearch.cli.verdicts import Output, validate_specs


def validate(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC...",
            help="Spec files; - is standard input. With ndjson a file may hold one a line.",
        ),
    ],
    output: Annotated[Output, typer.Option("--format", help="How to print.")] = "table",
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
    status = validate_specs(
        specs,
        output=output,
        explain=explain,
        constraints=constraints,
        max_params=max_params,
        min_rf=min_rf,
        brief=brief,
        jobs=jobs,
    )
    raise typer.Exit(status)
