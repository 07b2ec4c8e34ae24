"""An evaluation as a page, as plain data, and as the rows of its CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archsearch.common import atomic_files, csv_files
from archsearch.common.csv_records import Cells
from archsearch.common.page import Grid, Line, Page
from archsearch.errors import one_line
from archsearch.training.datasets import DATASETS
from archsearch.training.evaluation import records
from archsearch.training.evaluation.evaluate import Evaluation
from archsearch.training.evaluation.run_folder import RunFolder
from archsearch.training.progress import epoch_figures
from archsearch.training.records import Run, write_record
from archsearch.training.run_paths import EvaluationPaths

SPLIT_NAMES: Mapping[records.Split, str] = {"test": "test", "holdout": "hold-out"}
MISTAKES_TOLD = 25
"""In `evaluation.json`; `mistakes.csv` has all."""
CONFUSIONS_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An evaluation, and what must stand beside its figures.

    Attributes:
        on: where it was evaluated; its seed is the training's.
    """

    run: RunFolder
    split: records.Split
    classes: tuple[str, ...]
    on: Run
    evaluation: Evaluation

    @property
    def reached(self) -> bool:
        """Whether the recipe's target is reached; so where it has none."""
        target = self.run.recipe.target_accuracy
        return target is None or self.evaluation.accuracy >= target

    @property
    def name(self) -> str:
        """Of the network, on one line."""
        return one_line(self.run.analysis.spec.name)

    @property
    def images(self) -> str:
        """Which images, in words."""
        return f"{self.on.dataset} {SPLIT_NAMES[self.split]}, {self.evaluation.images:,} images"


def caption(report: Report) -> str:
    """What stands below a picture: network and images; where it was evaluated, and the seed."""
    name = report.name if len(report.name) <= 50 else f"{report.name[:47]}..."
    return f"{name}; {report.images}\n{_machine(report.on)}, seed {report.on.seed}"


def notes(report: Report) -> tuple[str, ...]:
    """What a reader must know before the figures are used."""
    run, found = report.run, []
    if not run.finished:
        found.append(
            f"unfinished: {len(run.history)} of {run.recipe.epochs} epochs were trained; "
            "this is the network as it was then"
        )
    if before := _difference(report):
        found.append(before)
    if DATASETS[report.on.dataset].generated:
        found.append("shapes is a generated data set: this says nothing of CIFAR-10")
    return tuple(found)


def _difference(report: Report) -> str | None:
    """How the accuracy differs from what training noted; None where it does not."""
    run, now = report.run, report.evaluation.accuracy
    if report.split == "test":
        noted, then = run.result.test_acc if run.result else None, run.result or run.made
    else:
        noted, then = run.history[-1].val_acc, run.made
    if noted is None or f"{noted:.6g}" == f"{now:.6g}":  # as history.csv rounds
        return None
    told = f"training noted {noted:.2%} of the same images, this is {now:.2%}"
    if (then.device, then.precision) == (report.on.device, report.on.precision):
        return (
            f"{told}, on the same device in the same precision: "
            "a file of the run, the data or torch is another than then"
        )
    return f"{told}: it was on {one_line(then.device)}, {then.precision}"


def page(report: Report, folder: Path, written: Sequence[str]) -> Page:
    """The figures, the classes, the commonest confusions, and where the files are."""
    run = report.run
    confusions = [
        Line(f"{c.images:,} x {report.classes[c.true]} taken for {report.classes[c.predicted]}")
        for c in report.evaluation.confusions[:CONFUSIONS_SHOWN]
    ]
    trained = f"trained on {one_line(run.made.device)}, {run.made.precision}"
    trained += f", torch {one_line(run.made.torch_version)}, seed {run.made.seed}; "
    trained += "all training images" if run.made.full else "nine tenths of the training images"
    return [
        Line(f"{report.name}  {run.analysis.spec_hash[:12]}", "bold"),
        _headline(report),
        Line(""),
        _class_grid(report),
        Line(""),
        *([Line("most frequent confusions:"), *confusions, Line("")] if confusions else []),
        Line(f"{report.images}; {_machine(report.on)}", "dim"),
        Line(trained, "dim"),
        *(Line(f"note: {note}", "yellow") for note in notes(report)),
        Line(f"in {one_line(str(folder))}: {', '.join(written)}"),
    ]


def _headline(report: Report) -> Grid:
    run, e = report.run, report.evaluation
    target, last = run.recipe.target_accuracy, run.history[-1].val_acc
    sure = "overconfident" if e.mean_confidence > e.accuracy else "underconfident"
    rows = [
        (
            f"{SPLIT_NAMES[report.split]} accuracy",
            f"{e.accuracy:.2%}",
            f"95% interval {e.interval.low:.2%} to {e.interval.high:.2%}; single view",
        ),
        ("with flip averaging", f"{e.accuracy_with_flip:.2%}", "image and mirror image; apart"),
    ]
    if report.split == "test" and last is not None:
        rows.append(("hold-out", f"{last:.2%}", f"epoch {run.history[-1].epoch}"))
    if target is not None:
        rows.append(("target", f"{target:.2%}", "reached" if report.reached else "not reached"))
    rows += [
        ("cross entropy", f"{e.loss:.4f}", "nats, single view"),
        (
            "calibration error",
            f"{e.calibration_error:.2%}",
            f"mean confidence {e.mean_confidence:.2%}: {sure}",
        ),
    ]
    return Grid(rows, left=frozenset({0, 2}), bold=frozenset({0}), wrapped=frozenset({2}))


_CLASS_TITLES = ("class", "images", "right %", "95% interval", "most often taken for")


def _class_grid(report: Report) -> Grid:
    rows = []
    for label, score in enumerate(report.evaluation.per_class):
        taken = next((c for c in report.evaluation.confusions if c.true == label), None)
        rows.append(
            (
                report.classes[label],
                f"{score.images:,}",
                "" if score.accuracy is None else f"{100 * score.accuracy:.1f}",
                f"{100 * score.interval.low:.1f} to {100 * score.interval.high:.1f}",
                f"{report.classes[taken.predicted]} ({taken.images:,})" if taken else "",
            )
        )
    names = frozenset({0, 4})
    return Grid(rows, left=names, titles=_CLASS_TITLES, wrapped=names)


def record(report: Report) -> records.EvaluationRecord:
    """Return what `evaluation.json` says."""
    run, e = report.run, report.evaluation
    return records.EvaluationRecord(
        name=run.analysis.spec.name,
        spec_hash=run.analysis.spec_hash,
        split=report.split,
        images=e.images,
        accuracy=e.accuracy,
        accuracy_low=e.interval.low,
        accuracy_high=e.interval.high,
        accuracy_with_flip=e.accuracy_with_flip,
        loss=e.loss,
        val_acc=run.history[-1].val_acc,
        target_accuracy=run.recipe.target_accuracy,
        reached_target=report.reached,
        finished=run.finished,
        epochs=len(run.history),
        **report.on.model_dump(),
        trained=run.made,
        test_acc_after_training=run.result.test_acc if run.result else None,
        mean_confidence=e.mean_confidence,
        calibration_error=e.calibration_error,
        calibration=e.calibration,
        classes=_class_records(report),
        confusion=e.confusion,
        mistakes=_mistake_records(report)[:MISTAKES_TOLD],
        notes=notes(report),
    )


def write_files(folder: Path, report: Report) -> tuple[str, ...]:
    """Write everything that is no picture into `folder`; the names of the files.

    Raises:
        ArchsearchError: a file cannot be written.
    """
    paths = EvaluationPaths(folder)
    write_record(paths.record, record(report))
    total = report.run.recipe.epochs
    log = (f"epoch {e.epoch}/{total} lr {e.lr:.3g} {epoch_figures(e)}" for e in report.run.history)
    atomic_files.write_text(paths.log, "".join(f"{line}\n" for line in log))
    tables: dict[str, tuple[Sequence[str], Sequence[Mapping[str, Any]]]] = {
        "per_class.csv": _table(records.ClassRecord, _class_records(report)),
        "confusion.csv": (("true", *report.classes), _confusion_rows(report)),
        "calibration.csv": _table(records.Bin, report.evaluation.calibration),
        "mistakes.csv": _table(records.MistakeRecord, _mistake_records(report)),
    }
    for name, (columns, rows) in tables.items():
        csv_files.write_csv(folder / name, columns, rows)
    return (paths.record.name, paths.log.name, *tables)


def write_pixels(folder: Path, report: Report, pixels: NDArray[np.uint8]) -> tuple[str, ...]:
    """Write the images of the mistakes that `evaluation.json` tells; the name of the file, if any.

    `pixels` are those of all evaluated images, (N, H, W, C).

    Raises:
        ArchsearchError: the file cannot be written.
    """
    told = report.evaluation.mistakes[:MISTAKES_TOLD]
    if not told:
        return ()
    strip = np.concatenate([pixels[mistake.image] for mistake in told], axis=1)
    path = EvaluationPaths(folder).mistakes_pixels
    with atomic_files.replacing(path) as temporary:
        Image.fromarray(strip).save(temporary, format="png")
    return (path.name,)


def _table(model: type[Cells], rows: Sequence[Cells]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and rows of a CSV of records."""
    columns = [field.alias or name for name, field in model.model_fields.items()]
    return columns, [each.model_dump(by_alias=True) for each in rows]


def _class_records(report: Report) -> tuple[records.ClassRecord, ...]:
    return tuple(
        records.ClassRecord.model_validate({
            "class": name, "images": score.images, "right": score.right,
            "accuracy": score.accuracy, **score.interval._asdict(),
        })
        for name, score in zip(report.classes, report.evaluation.per_class, strict=True)
    )  # fmt: skip


def _confusion_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {"true": name, **dict(zip(report.classes, row, strict=True))}
        for name, row in zip(report.classes, report.evaluation.confusion, strict=True)
    ]


def _mistake_records(report: Report) -> tuple[records.MistakeRecord, ...]:
    return tuple(
        records.MistakeRecord(
            image=mistake.image,
            true=report.classes[mistake.true],
            predicted=report.classes[mistake.predicted],
            confidence=mistake.confidence,
        )
        for mistake in report.evaluation.mistakes
    )


def _machine(on: Run) -> str:
    return f"{one_line(on.device)}, {on.precision}, torch {on.torch_version}"
