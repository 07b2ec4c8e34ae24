"""A finalist's page: what it is, where it is wrong, and how it is made again."""

from __future__ import annotations

import base64
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from archsearch.analyze import Analysis
from archsearch.errors import one_line
from archsearch.ops import Conv2d
from archsearch.report.facts import Absent, Facts, Final, Finalist
from archsearch.report.markup import Html, element
from archsearch.report.records import ClassScore, Evaluation, Mistake
from archsearch.report.sections import Cell, Column, absent, prose, scroller, table
from archsearch.report.wording import field, mark, plural, share
from archsearch.rows import Row
from archsearch.to_svg import svg
from archsearch.wording import axes_text, shape_text

MAX_LAYERS = 500
SIDE = 32
"""Of the images of mistakes."""
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
    parts += _answers(facts, finalist)
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
    Column("block", number=False),
    Column("layer", number=False),
    Column("kernel"),
    Column("stride"),
    Column("dilation"),
    Column("groups"),
    Column("output", number=False),
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


def _layer(number: int, row: Row) -> list[Cell]:
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


def _answers(facts: Facts, finalist: Finalist) -> Iterator[Html]:
    """How it did on the test images, by the first seed that was evaluated."""
    if not finalist.finals:
        yield absent(
            "Confusion matrix and mistakes",
            Absent(
                "this network was not trained on all images yet; the search does that once its "
                "trials are done: run it again."
            ),
        )
        return
    evaluated = next(
        (final for final in finalist.finals if isinstance(final.evaluation, Evaluation)), None
    )
    if evaluated is None or isinstance(evaluated.evaluation, Absent):
        why = finalist.finals[0].evaluation
        if isinstance(why, Absent):
            yield absent("Confusion matrix and mistakes", why)
        return
    found = evaluated.evaluation
    yield element("h4", "Where it is right and wrong")
    yield element("p", _accuracies(found))
    if (difference := _difference(finalist, found)) is not None:
        yield element("p", difference, class_="absent")
    yield from (element("p", note, class_="absent") for note in found.notes)
    yield scroller("Confusion matrix", _confusion(found), class_="scroll fitting")
    yield from _mistakes(evaluated, found, facts.study.dataset)


def _accuracies(found: Evaluation) -> str:
    sure = "over" if found.mean_confidence > found.accuracy else "under"
    return (
        f"{share(found.accuracy)} of {found.images:,} test images, single view (95% interval "
        f"{100 * found.accuracy_low:.2f} to {100 * found.accuracy_high:.2f}); "
        f"{share(found.accuracy_with_flip)} averaged with the mirror image. Calibration error "
        f"{share(found.calibration_error)}: it is {sure}confident. Evaluated on {found.device}, "
        f"{found.precision}, torch {found.torch_version}; training seed {found.seed}."
    )


def _difference(finalist: Finalist, found: Evaluation) -> str | None:
    told = finalist.row.test_acc
    if told is None or finalist.row.test_seeds != 1 or abs(told - found.accuracy) < 5e-7:
        return None
    return (
        f"The leaderboard has {share(told)} of the same images: another device or precision, or "
        "files of another run."
    )


def _confusion(found: Evaluation) -> Html:
    names = [score.name for score in found.classes]
    wrong = [
        count
        for true, row in enumerate(found.confusion)
        for predicted, count in enumerate(row)
        if true != predicted
    ]
    most = max([*wrong, 1])
    heads = [element("th", element("span", name), scope="col") for name in names]
    rows = [
        element("tr", element("th", name, scope="row"), *_counts(i, row, most), _right(score))
        for i, (name, row, score) in enumerate(
            zip(names, found.confusion, found.classes, strict=True)
        )
    ]
    return element(
        "table",
        element("caption", "Images by true class (row) and by what they were taken for (column)"),
        element(
            "thead",
            element(
                "tr",
                element("td"),
                *heads,
                element("th", "right (95% interval)", scope="col", class_="share"),
            ),
        ),
        element("tbody", *rows),
        class_="confusion",
    )


def _counts(true: int, row: tuple[int, ...], most: int) -> Iterator[Html]:
    for predicted, count in enumerate(row):
        if predicted == true:
            yield element("td", f"{count:,}", class_="right")
        else:
            heat = f"--heat:{round(100 * count / most)}%"
            yield element("td", f"{count:,}" if count else "", style=heat if count else None)


def _right(score: ClassScore) -> Html:
    told = "" if score.accuracy is None else f"{score.accuracy:.1%}"
    ends = f" ({100 * score.low:.1f} to {100 * score.high:.1f})"
    return element("td", element("strong", told), ends if told else "", class_="share")


def _mistakes(final: Final, found: Evaluation, dataset: str) -> Iterator[Html]:
    yield element("h4", "Most confident mistakes")
    if not found.mistakes:
        yield element("p", "There is none.")
        return
    tiles = _tiles(final.pixels, len(found.mistakes))
    if not tiles:
        yield element(
            "p",
            prose(
                "The images are not kept here: figures alone. `archsearch evaluate "
                f"{one_line(str(final.folder))}` keeps them beside evaluation.json."
            ),
            class_="absent",
        )
    items = [
        element("li", *_mistake(mistake, tiles[i] if tiles else None, dataset))
        for i, mistake in enumerate(found.mistakes)
    ]
    yield element("ol", *items, class_="mistakes")


def _mistake(mistake: Mistake, tile: str | None, dataset: str) -> Iterator[Html]:
    if tile:
        text = f"{dataset} test image {mistake.image}: {mistake.true}"
        yield element("img", src=tile, alt=text, width="64", height="64")
    yield element("strong", f"{mistake.predicted} {mistake.confidence:.0%}")
    yield element("span", f"is: {mistake.true}")
    yield element("span", f"image {mistake.image:,}", class_="made")


def _tiles(strip: Path | None, count: int) -> list[str]:
    """The images side by side in `strip` as addresses of their own; none where it is no such."""
    if strip is None:
        return []
    try:
        with Image.open(strip, formats=("PNG",)) as image:
            if image.size != (SIDE * count, SIDE):
                return []
            return [_address(image.crop((SIDE * i, 0, SIDE * (i + 1), SIDE))) for i in range(count)]
    except (OSError, ValueError, SyntaxError):  # Pillow's, of a file that is no picture
        return []


def _address(image: Image.Image) -> str:
    out = io.BytesIO()
    image.convert("RGB").save(out, format="png")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _again(facts: Facts, finalist: Finalist) -> Iterator[Html]:
    """How to make it again, with what is needed for it."""
    yield element("h4", "How to make it again")
    if not finalist.finals:
        yield element("pre", element("code", _search_command(facts)))
        return
    final = finalist.finals[0]
    where = "where and in which versions is not noted"
    precision = ""
    if not isinstance(final.run, Absent):
        run = final.run
        where = f"{run.device}, {run.precision}, torch {run.torch_version}"
        precision = f" --precision {shlex.quote(run.precision)}"
    yield element(
        "p",
        f"This figure: {plural(finalist.row.test_seeds, 'training')}, seed {final.seed}, {where}. "
        "Another seed, machine or version gives another one, by a few tenths of a point.",
    )
    command = (
        f"archsearch train {_quoted(finalist.folder / 'spec.json')} "
        f"--recipe {_quoted(final.folder / 'recipe.json')} --dataset {facts.study.dataset} --full "
        f"--seed {final.seed}{precision}"
    )
    yield element("pre", element("code", command))
    if isinstance(finalist.analysis, Analysis):
        text = finalist.analysis.spec.model_dump_json(exclude_defaults=True, indent=1)
        yield _file("spec.json", text)
    if isinstance(final.recipe, str):
        yield _file("recipe.json", final.recipe)


def _search_command(facts: Facts) -> str:
    study = _quoted(facts.folder / "study.toml")
    return f"archsearch search {study} --trials {max(1, len(facts.rows))}"


def _quoted(path: Path) -> str:
    return one_line(shlex.quote(str(path)))


def _file(name: str, text: str) -> Html:
    return element(
        "details",
        element("summary", name),
        scroller(name, element("pre", element("code", text)), class_="scroll file"),
    )
