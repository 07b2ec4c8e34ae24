"""`archsearch rules` and `archsearch rule`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from archsearch.cli.options import FormatOption
from archsearch.common.console import show


def rules(output: FormatOption = "table") -> None:
    """List the rules that `diagnose` goes by."""
    from archsearch.diagnosis.view import rules_data, rules_page

    if output == "json":
        sys.stdout.write(json.dumps(rules_data(), indent=2) + "\n")
    else:
        show(rules_page())


def rule(code: Annotated[str, typer.Argument(help="As `archsearch rules` lists it.")]) -> None:
    """Explain one rule, with its source."""
    import difflib

    from archsearch.diagnosis.rules import RULES
    from archsearch.diagnosis.view import rule_page
    from archsearch.errors import ArchsearchError, one_line

    if code not in RULES:
        near = difflib.get_close_matches(code, RULES, n=1)
        hint = f"did you mean {near[0]}?" if near else "archsearch rules lists them"
        raise ArchsearchError(f"{one_line(code)}: no such rule; {hint}")
    show(rule_page(code))
