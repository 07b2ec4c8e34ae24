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
            help="Spec files; - is standard input. With --format ndjson, one per line.",
        ),
    ],
    output: Annotated[Output, typer.Option("--format", help="Output format.")] = "table",
    explain: Annotated[
        bool, typer.Option("--explain", help="Add each layer's receptive-field step.")
    ] = False,
    constraints: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Limits as JSON; null switches one off. Default: the coursework's."
        ),
    ] = None,
    max_params: Annotated[
        int | None, typer.Option(min=0, help="Most parameters, inclusive.")
    ] = None,
    min_rf: Annotated[
        int | None, typer.Option(min=0, help="Least receptive field before global pooling.")
    ] = None,
    brief: Annotated[
        bool,
        typer.Option("--brief", help="With --format ndjson: only totals and verdict, much faster."),
    ] = False,
    jobs: Annotated[
        int, typer.Option(min=1, max=256, help="With --format ndjson: number of processes.")
    ] = 1,
) -> None:
    """Count parameters, MACs and receptive field; check the limits.

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
