"""`archsearch schema`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from archsearch.errors import ArchsearchError


def schema(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="spec, study, recipe or constraints.")
    ],
    toml: Annotated[
        bool,
        typer.Option("--toml", help="Of study: a study file that explains every key instead."),
    ] = False,
) -> None:
    """Print the JSON Schema of a file, for your editor to check it."""
    from archsearch.study.schemas import json_schema

    if toml:
        if name != "study":
            raise ArchsearchError("--toml is of study files alone: archsearch schema study --toml")
        from archsearch.study.reference import study_reference

        sys.stdout.write(study_reference())
        return
    sys.stdout.write(json.dumps(json_schema(name), indent=2) + "\n")
