"""`archsearch diagnose`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archsearch.cli.options import TableOrJson
from archsearch.cli.terminal import show

if TYPE_CHECKING:
    from archsearch.constraints import Constraints
    from archsearch.recipe import Recipe
    from archsearch.spec import Spec


def diagnose(
    spec: Annotated[str, typer.Argument(help="A spec, or - for standard input.")],
    recipe: Annotated[
        str | None, typer.Option(help="How it is trained: fast, search, best, or a recipe file.")
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Its training log: epoch, train_acc, val_acc or test_acc, train_loss, lr.",
        ),
    ] = None,
    constraints: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Limits as JSON; the coursework's unless given."),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="Write a mended spec.json (and recipe.json) into this folder."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of the mended recipe; as before unless given.")
    ] = None,
    output: Annotated[
        TableOrJson, typer.Option("--format", help="How to print.")
    ] = TableOrJson.table,
) -> None:
    """Say why a network fails, rule by rule, with the evidence, and what would mend it.

    Exit status: 0 no error was found, 1 one was, 2 bad input.
    """
    from archsearch.analyze import analyze
    from archsearch.constraints import Constraints
    from archsearch.diagnosis import diagnose as find
    from archsearch.diagnosis.fix import limit_edits
    from archsearch.diagnosis.histories import read_history
    from archsearch.diagnosis_view import diagnosis_data, diagnosis_page
    from archsearch.errors import InputError
    from archsearch.parse import from_json, read_text, source_name
    from archsearch.shipped_recipes import load_recipe
    from archsearch.spec import Spec

    source = source_name(spec)
    network = from_json(Spec, read_text(spec), source)
    limits = (
        from_json(Constraints, read_text(constraints), source_name(constraints))
        if constraints
        else Constraints()
    )
    training = load_recipe(recipe) if recipe else None
    log = read_history(history) if history else ()
    try:
        diagnosis = find(analyze(network), limits, training, log)
    except InputError as error:
        raise error.named(source) from error
    over = any(each.code == "over-limit" for each in diagnosis.findings)
    edits = limit_edits(network, limits) if over else ()
    if output is TableOrJson.json:
        sys.stdout.write(json.dumps(diagnosis_data(diagnosis, edits), indent=2) + "\n")
    else:
        show(diagnosis_page(diagnosis, edits))
    sys.stdout.flush()
    if fix:
        _fix(fix, network, limits, training, epochs)
    raise typer.Exit(1 if diagnosis.failed else 0)


def _fix(
    folder: Path, spec: Spec, limits: Constraints, recipe: Recipe | None, epochs: int | None
) -> None:
    """Write what is mended; tell each edit with its reason on standard error."""
    from archsearch import files
    from archsearch.diagnosis.fix import fix_network, fix_recipe
    from archsearch.diagnosis_view import edits_page
    from archsearch.page import plain

    network = fix_network(spec, limits)
    name = f"{spec.name[:190]}-mended"
    mended = network.result.model_copy(update={"name": name})
    edits = list(network.edits)
    files.write_text(
        folder / "spec.json", mended.model_dump_json(indent=2, exclude_unset=True) + "\n"
    )
    if recipe:
        how = fix_recipe(recipe.model_copy(update={"epochs": epochs}) if epochs else recipe)
        edits += how.edits
        text = how.result.model_dump_json(indent=2, exclude_defaults=True)
        files.write_text(folder / "recipe.json", text + "\n")
    written = "spec.json and recipe.json" if recipe else "spec.json"
    sys.stderr.write(f"{len(edits)} edits, written to {folder} ({written}):\n")
    sys.stderr.write(plain(edits_page(edits)))
