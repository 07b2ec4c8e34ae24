"""`archsearch space`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from archsearch.cli.options import FormatOption
from archsearch.common.console import show


def space(
    study: Annotated[
        str, typer.Argument(help="A shipped study or a study file (TOML).")
    ] = "cifar10-200k",
    output: FormatOption = "table",
) -> None:
    """Count a search space and how much of it meets the limits.

    Prints the share that meets each limit alone, and all of them.
    Exit status: 0, or 1 where nothing keeps the limits.
    """
    from archsearch.space.counting.near import account_any
    from archsearch.space.counting.view import accounting_data, accounting_page
    from archsearch.study.config import load_study

    loaded = load_study(study)
    accounting = account_any(loaded.space, loaded.constraints, start=loaded.start, seed=loaded.seed)
    if output == "json":
        sys.stdout.write(json.dumps(accounting_data(loaded.name, accounting), indent=2) + "\n")
    else:
        show(accounting_page(loaded.name, accounting))
    sys.stdout.flush()
    raise typer.Exit(1 if accounting.hopeless else 0)
