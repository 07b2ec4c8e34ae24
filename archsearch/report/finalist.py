"""A finalist's section of the report: its network, its mistakes and how to reproduce it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from archsearch.analysis.analyze import Analysis
from archsearch.analysis.layer_table import LayerRow
from archsearch.convert.to_svg import svg
from archsearch.errors import one_line
from archsearch.report.components import Cell, Column, absent, scroller, table
from archsearch.report.facts import Absent, Facts, Finalist
from archsearch.report.markup import Html, element
from archsearch.report.mistakes import answers
from archsearch.report.phrases import field, mark, plural, share
from archsearch.spec.formatting import axes_text, shape_text
from archsearch.spec.ops import Conv2d
from archsearch.study.folder import StudyFolder
from archsearch.training.run_paths import RunPaths

MAX_LAYERS = 500
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)


def network(facts: Facts, finalist: Finalist, number: int) -> Html:
    """The section of one finalist."""
    row, name = finalist.row, mark(finalist.row)
    tested = f", test {share(row.test_acc)}" if row.test_acc is not None else ""
    parts: list[str] = [
        element("h3", f"Finalist {number}: ", element("code", name)),
        element(
            "p",
            f"Trial {row.trial}, rank {row.rank}. Hold-out {share(row.val_acc)}{tested}; "
            f"{row.params:,} parameters, receptive field {field(row)} px, "
            f"{row.macs / 1e6:.1f} million MACs.",
            class_="lead",
        ),
    ]
    if isinstance(finalist.analysis, Analysis):
        parts += [_diagram(facts, finalist.analysis), _layers(finalist.analysis, name)]
    else:
        parts.append(absent("Diagram and layers", finalist.analysis))
    parts += answers(finalist, facts.study.dataset)
    parts += _again(facts, finalist)
    return element("section", *parts, class_="network", id=f"network-{name}")


def _diagram(facts: Facts, analysis: Analysis) -> Html:
    # The page has its own style for it, so that it follows the page's theme.
    drawing = Html(_STYLE.sub("", svg(analysis, facts.study.constraints)))
    return element(
        "details",
        element("summary", "Diagram"),
        scroller("Diagram", drawing, class_="scroll diagram"),
        open="",
    )


_LAYER_COLUMNS = (
    Column("#"),
    Column("block", kind="name"),
    Column("layer", kind="name"),
    Column("kernel"),
    Column("stride"),
    Column("dilation"),
    Column("groups"),
    Column("output", kind="name"),
    Column("params"),
    Column("MACs"),
    Column("RF"),
)


def _layers(analysis: Analysis, name: str) -> Html:
    rows = analysis.rows[:MAX_LAYERS]
    cut = f" The first {MAX_LAYERS}." if len(rows) < len(analysis.rows) else ""
    caption = (
        f"{one_line(analysis.spec.name)}: {len(analysis.rows)} layers, "
        f"{analysis.params:,} parameters.{cut}"
    )
    cells = [_layer(number, row) for number, row in enumerate(rows, start=1)]
    return element(
        "details",
        element("summary", "Layers"),
        scroller(f"Layers of {name}", table(caption, _LAYER_COLUMNS, cells, sortable=False)),
    )


def _layer(number: int, row: LayerRow) -> list[Cell]:
    op = row.window
    return [
        Cell(str(number)),
        Cell(one_line(row.block)),
        Cell(row.op),
        Cell(axes_text(op.kernel_size) if op else ""),
        Cell(axes_text(op.stride) if op else ""),
        Cell(axes_text(op.dilation) if isinstance(op, Conv2d) else ""),
        Cell(str(op.groups) if isinstance(op, Conv2d) else ""),
        Cell(shape_text(row.after.shape)),
        Cell(f"{row.params:,}"),
        Cell(f"{row.macs:,}"),
        Cell(axes_text(row.after.rf)),
    ]


def _again(facts: Facts, finalist: Finalist) -> Iterator[Html]:
    """How to make it again, with what is needed for it."""
    yield element("h4", "How to make it again")
    if not finalist.finals:
        study = _quoted(StudyFolder(facts.folder).study)
        search = f"archsearch search {study} --trials {max(1, len(facts.rows))}"
        yield element("pre", element("code", search))
        return
    final = finalist.finals[0]
    where = "where and in which versions is not noted"
    precision = ""
    if not isinstance(run := final.run, Absent):
        where = f"{run.device}, {run.precision}, torch {run.torch_version}"
        precision = f" --precision {shlex.quote(run.precision)}"
    yield element(
        "p",
        f"This figure: {plural(finalist.row.test_seeds, 'training')}, seed {final.seed}, {where}. "
        "Another seed, machine or version gives another one, by a few tenths of a point.",
    )
    command = (
        f"archsearch train {_quoted(RunPaths(finalist.folder).spec)} "
        f"--recipe {_quoted(RunPaths(final.folder).recipe)} --dataset {facts.study.dataset} --full "
        f"--seed {final.seed}{precision}"
    )
    yield element("pre", element("code", command))
    if isinstance(finalist.analysis, Analysis):
        text = finalist.analysis.spec.model_dump_json(exclude_defaults=True, indent=1)
        yield _file("spec.json", text)
    if isinstance(final.recipe, str):
        yield _file("recipe.json", final.recipe)


def _quoted(path: Path) -> str:
    return one_line(shlex.quote(str(path)))


def _file(name: str, text: str) -> Html:
    return element(
        "details",
        element("summary", name),
        scroller(name, element("pre", element("code", text)), class_="scroll file"),
    )
