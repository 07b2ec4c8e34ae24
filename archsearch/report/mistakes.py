"""Where a finalist is right and wrong: confusion matrix and most confident mistakes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from archsearch.common.guarded_files import open_regular
from archsearch.errors import one_line
from archsearch.report.components import absent, prose, scroller
from archsearch.report.facts import Absent, Final, Finalist
from archsearch.report.markup import Html, element
from archsearch.report.phrases import share
from archsearch.training.datasets import SIDE
from archsearch.training.evaluation.records import ClassRecord, EvaluationRecord, MistakeRecord


def answers(finalist: Finalist, dataset: str) -> Iterator[Html]:
    """How a finalist did on the test images, by the first seed that was evaluated."""
    read = [
        (f, f.evaluation) for f in finalist.finals if isinstance(f.evaluation, EvaluationRecord)
    ]
    if not read:
        untrained = Absent(
            "this network was not trained on all images yet; the search does that once its trials "
            "are done: run it again."
        )
        unread = (f.evaluation for f in finalist.finals if isinstance(f.evaluation, Absent))
        yield absent("Confusion matrix and mistakes", next(unread, untrained))
        return
    evaluated, found = read[0]
    yield element("h4", "Where it is right and wrong")
    yield element("p", _accuracies(found))
    if (difference := _difference(finalist, found)) is not None:
        yield element("p", difference, class_="absent")
    yield from (element("p", note, class_="absent") for note in found.notes)
    yield scroller("Confusion matrix", _confusion(found), class_="scroll fitting")
    yield from _mistakes(evaluated, found, dataset)


def _accuracies(found: EvaluationRecord) -> str:
    sure = "over" if found.mean_confidence > found.accuracy else "under"
    return (
        f"{share(found.accuracy)} of {found.images:,} test images, single view (95% interval "
        f"{100 * found.accuracy_low:.2f} to {100 * found.accuracy_high:.2f}); "
        f"{share(found.accuracy_with_flip)} averaged with the mirror image. Calibration error "
        f"{share(found.calibration_error)}: it is {sure}confident. Evaluated on {found.device}, "
        f"{found.precision}, torch {found.torch_version}; training seed {found.seed}."
    )


def _difference(finalist: Finalist, found: EvaluationRecord) -> str | None:
    told = finalist.row.test_acc
    if told is None or finalist.row.test_seeds != 1 or abs(told - found.accuracy) < 5e-7:
        return None
    return (
        f"The leaderboard has {share(told)} of the same images: another device or precision, or "
        "files of another run."
    )


def _confusion(found: EvaluationRecord) -> Html:
    wrong = (n for true, row in enumerate(found.confusion) for n in row[:true] + row[true + 1 :])
    most = max(wrong, default=1) or 1
    heads = [element("th", element("span", score.name), scope="col") for score in found.classes]
    right = element("th", "right (95% interval)", scope="col", class_="share")
    rows = [
        element("tr", element("th", score.name, scope="row"), *_counts(i, row, most), _right(score))
        for i, (row, score) in enumerate(zip(found.confusion, found.classes, strict=True))
    ]
    return element(
        "table",
        element("caption", "Images by true class (row) and by what they were taken for (column)"),
        element("thead", element("tr", element("td"), *heads, right)),
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


def _right(score: ClassRecord) -> Html:
    told = "" if score.accuracy is None else f"{score.accuracy:.1%}"
    ends = f" ({100 * score.low:.1f} to {100 * score.high:.1f})"
    return element("td", element("strong", told), ends if told else "", class_="share")


def _mistakes(final: Final, found: EvaluationRecord, dataset: str) -> Iterator[Html]:
    yield element("h4", "Most confident mistakes")
    if not found.mistakes:
        yield element("p", "There is none.")
        return
    tiles = _tiles(final.pixels, len(found.mistakes))
    if not tiles:
        told = (
            "The images are not kept here: figures alone. `archsearch evaluate "
            f"{one_line(str(final.folder))}` keeps them beside evaluation.json."
        )
        yield element("p", prose(told), class_="absent")
    items = [
        element("li", *_mistake(mistake, tiles[i] if tiles else None, dataset))
        for i, mistake in enumerate(found.mistakes)
    ]
    yield element("ol", *items, class_="mistakes")


def _mistake(mistake: MistakeRecord, tile: str | None, dataset: str) -> Iterator[Html]:
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
        with open_regular(strip) as file, Image.open(file, formats=("PNG",)) as image:
            if image.size != (SIDE * count, SIDE):
                return []
            return [_address(image.crop((SIDE * i, 0, SIDE * (i + 1), SIDE))) for i in range(count)]
    except (OSError, ValueError, SyntaxError):  # Pillow's, of a file that is no picture
        return []


def _address(image: Image.Image) -> str:
    out = io.BytesIO()
    image.convert("RGB").save(out, format="png")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
