"""`archsearch diagnose`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archsearch.cli.options import FormatOption
from archsearch.cli.verdicts import limits_of
from archsearch.common.console import show, tell

if TYPE_CHECKING:
    from archsearch.analysis.constraints import Constraints
    from archsearch.diagnosis import Diagnosis
    from archsearch.diagnosis.fix import Applied
    from archsearch.spec.models import Spec
    from archsearch.training.recipe import Recipe


def diagnose(
    spec: Annotated[str, typer.Argument(help="A spec, or - for standard input.")],
    recipe: Annotated[
        str | None, typer.Option(help="How it is trained: fast, search, best, or a recipe file.")
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Its training log: a CSV or JSON of archsearch, Lightning, Keras, Hugging Face, "
            "fastai or timm.",
        ),
    ] = None,
    constraints: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Limits as JSON; the coursework's unless given."),
    ] = None,
    max_params: Annotated[
        int | None, typer.Option(min=0, help="Parameter limit, inclusive; instead of the file's.")
    ] = None,
    min_rf: Annotated[
        int | None,
        typer.Option(
            min=0, help="Least receptive field before global pooling; instead of the file's."
        ),
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
    output: FormatOption = "table",
) -> None:
    """Explain why a network fails, with evidence and fixes.

    Exit status: 0 no error was found, 1 one was or a limit could not be mended, 2 bad input.
    """
    from archsearch.diagnosis import diagnose as find
    from archsearch.diagnosis.fix import offer_of
    from archsearch.diagnosis.view import diagnosis_data, diagnosis_page
    from archsearch.errors import ArchsearchError

    if epochs is not None and (fix is None or recipe is None):
        raise ArchsearchError("--epochs is of the mended recipe: it needs --fix and --recipe")
    limits = limits_of(constraints, max_params, min_rf)
    diagnosis = find(spec, recipe, history, constraints=limits)
    mended = _mended(diagnosis, limits, epochs) if fix else None
    offer = offer_of(diagnosis, limits)
    if output == "json":
        data = diagnosis_data(diagnosis, offer, mended.edits if mended else ())
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
    else:
        show(diagnosis_page(diagnosis, offer))
    sys.stdout.flush()
    if fix and mended:
        _write(fix, mended)
        _tell(fix, mended)
    raise typer.Exit(1 if diagnosis.failed or (mended and mended.broken) else 0)


@dataclass(frozen=True)
class _Mended:
    """What `--fix` writes and tells.

    Attributes:
        broken: limits that are still broken, in words.
        left: errors and warnings that need a decision of the author, in words.
    """

    spec: Spec
    recipe: Recipe | None
    edits: tuple[Applied, ...]
    broken: tuple[str, ...]
    left: tuple[str, ...]


def _mended(diagnosis: Diagnosis, limits: Constraints, epochs: int | None) -> _Mended:
    from archsearch.diagnosis import diagnose as find
    from archsearch.diagnosis import level_of
    from archsearch.diagnosis.apply_mend import changed, describe_edit
    from archsearch.diagnosis.fix import Applied, fix_network, fix_recipe

    spec, recipe = diagnosis.analysis.spec, diagnosis.recipe
    network = fix_network(spec, limits, diagnosis.overruled)
    edits = network.edits
    if recipe and epochs and epochs != recipe.epochs:
        asked = {"": {"epochs": epochs}}
        edits = (*edits, Applied("epochs", describe_edit(recipe, asked), "asked for by --epochs"))
        recipe = changed(recipe, asked)
    if recipe:
        how = fix_recipe(recipe, diagnosis.overruled)
        recipe, edits = how.result, (*edits, *how.edits)
    fixed = network.result.model_copy(update={"name": f"{spec.name[:190]}-mended"})
    left = [
        each
        for each in find(fixed, recipe, constraints=limits)
        if level_of(each) != "note" and each.code != "over-limit"  # those are told by `broken`
    ]
    return _Mended(
        fixed,
        recipe,
        edits,
        tuple(each.message for each in network.broken),
        tuple(f"{each.code} at {each.place or 'the network'}: {each.mend}" for each in left),
    )


def _write(folder: Path, mended: _Mended) -> None:
    """Write both files, or none.

    Raises:
        ArchsearchError: one is there already.
    """
    from archsearch.common import atomic_files
    from archsearch.errors import ArchsearchError, one_line
    from archsearch.spec.models import spec_text
    from archsearch.training.run_paths import RunPaths

    paths = RunPaths(folder)
    texts = {paths.spec: spec_text(mended.spec)}
    if mended.recipe:
        texts[paths.recipe] = mended.recipe.model_dump_json(indent=2, exclude_defaults=True) + "\n"
    if taken := [path.name for path in texts if os.path.lexists(path)]:
        raise ArchsearchError(
            f"--fix {one_line(str(folder))}: holds {' and '.join(taken)} already; "
            "give another folder"
        )
    for path, text in texts.items():
        atomic_files.write_text(path, text)


def _tell(folder: Path, mended: _Mended) -> None:
    """Each edit with its reason, and what to do next, on standard error."""
    from archsearch.common.page import plain
    from archsearch.diagnosis.view import edits_page
    from archsearch.errors import one_line

    out, count = one_line(str(folder)), len(mended.edits)
    tell(f"{count} edit{'s' if count != 1 else ''}, written to {out}:")
    sys.stderr.write(plain(edits_page(mended.edits)))
    for message in mended.broken:
        tell(f"still over a limit, as no few edits were found: {message}")
    for what in mended.left:
        tell(f"left for you to decide: {what}")
    if not mended.broken:
        recipe = f"{out}/recipe.json" if mended.recipe else "fast"
        tell(
            f"next: archsearch train {out}/spec.json --recipe {recipe}, or search near it: "
            f"archsearch search --from {out}/spec.json"
        )
