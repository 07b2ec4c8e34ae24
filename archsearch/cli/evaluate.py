"""`archsearch evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from archsearch.cli.options import DataOption, DeviceOption, TableOrJson
from archsearch.common.console import note, show
from archsearch.errors import ArchsearchError, one_line

if TYPE_CHECKING:
    from archsearch.training.evaluation.run_folder import RunFolder
    from archsearch.training.evaluation.view import Report
    from archsearch.training.images import Images
    from archsearch.training.trainer import Trainer


Split = Literal["test", "holdout"]


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that train wrote.")],
    data: DataOption = None,
    split: Annotated[
        Split, typer.Option(help="The test images, or the hold-out that was not trained on.")
    ] = "test",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where to; RUN/evaluation (of the hold-out: RUN/evaluation-holdout) else.",
        ),
    ] = None,
    device: DeviceOption = None,
    output: Annotated[
        TableOrJson, typer.Option("--format", help="How the figures are printed.")
    ] = "table",
) -> None:
    """Evaluate a trained network: classes, calibration, mistakes.

    Writes JSON, CSV and (with matplotlib) PNG files. The precision is that of the training.
    Exit status: 0 the target is reached, 1 it is not, 2 bad input, 130 interrupted.
    """
    from archsearch.training.evaluation import view
    from archsearch.training.evaluation.run_folder import read
    from archsearch.training.records import record_json
    from archsearch.training.run_paths import RunPaths
    from archsearch.training.trainer import Trainer

    found = read(run)
    if split == "holdout" and found.made.full:
        raise ArchsearchError(
            f"--split holdout: {one_line(str(found.path))} was trained on all training images, "
            "so it has no hold-out; use --split test"
        )
    paths = RunPaths(run)
    folder = out or (paths.evaluation if split == "test" else paths.holdout_evaluation)
    trainer = Trainer.open(found.made.dataset, data, device, found.made.precision)
    trainer.check(found.analysis.network)
    images = trainer.dataset.test if split == "test" else trainer.held_out
    report = _report(found, trainer, images, split)

    written = (
        *view.write_files(folder, report),
        *view.write_pixels(folder, report, images.pixels.numpy()),
        *_draw(folder, report, images),
    )
    if output == "json":
        sys.stdout.write(record_json(view.record(report)))
    else:
        show(view.page(report, folder, written))
    if split == "test":
        note(
            "to choose between runs by this figure is to choose on the test set; "
            "choose by the hold-out (--split holdout)"
        )
    raise typer.Exit(0 if report.reached else 1)


def _report(run: RunFolder, trainer: Trainer, images: Images, split: Split) -> Report:
    from archsearch.training.augment import statistics
    from archsearch.training.evaluation.evaluate import answers, evaluate, trained
    from archsearch.training.evaluation.view import Report

    fit = trainer.dataset.train if run.made.full else trainer.fit
    logits = answers(trained(run), images, *statistics(fit.pixels), trainer.device)
    return Report(
        run=run,
        split=split,
        classes=tuple(map(one_line, trainer.dataset.classes)),  # an image folder's names
        on=trainer.run_of(run.made.seed),
        evaluation=evaluate(*logits, images.labels),
    )


def _draw(folder: Path, report: Report, images: Images) -> tuple[str, ...]:
    """Draw what can be drawn here; the names of the files."""
    from archsearch.training.evaluation.view import SPLIT_NAMES, caption

    try:
        from archsearch.training.evaluation.plots import Subject, write_charts
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        note("no charts: they need matplotlib: pip install 'archsearch[charts]'")
        return ()
    subject = Subject(
        evaluation=report.evaluation,
        classes=report.classes,
        history=report.run.history,
        target=report.run.recipe.target_accuracy,
        pixels=images.pixels.numpy(),
        split=SPLIT_NAMES[report.split],
        caption=caption(report),
    )
    return write_charts(folder, subject)
