"""`archsearch schema`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer


def schema(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="spec, study, recipe or constraints.")
    ],
) -> None:
    """Print the JSON Schema of a file that you write, for your editor to complete and check it."""
    from archsearch.schemas import json_schema

    sys.stdout.write(json.dumps(json_schema(name), indent=2) + "\n")
