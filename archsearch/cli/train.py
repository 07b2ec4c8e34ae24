"""`archsearch train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archsearch.cli.options import DataOption, Dataset, DeviceOption, PrecisionOption, open_trainer
from archsearch.errors import one_line
from archsearch.training.datasets import DATASETS

if TYPE_CHECKING:
    from archsearch.training.job import Job
    from archsearch.training.records import Epoch, Result
    from archsearch.training.trainer import Trainer


def train(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A spec file; - is standard input.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="fast, search, best, or a recipe as JSON; the default recipe else.",
        ),
    ] = None,
    dataset: Annotated[Dataset, typer.Option(help="Which images.")] = Dataset.cifar10,
    data: DataOption = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Train on the hold-out too: no score until the test at the end."
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Of weights, data order, augmentation.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to; runs/<network>-<seed> else.")
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Train one network and test it once, at its last epoch.

    Nine tenths of the training images are trained on, one tenth is scored every epoch. Run the
    same command again to go on after an interruption.
    Exit status: 0 the target is reached, 1 it is not, 2 bad input, 130 interrupted.
    """
    from archsearch.analysis.analyze import analyze
    from archsearch.analysis.constraints import Constraints, judge
    from archsearch.common.folder_lock import locked
    from archsearch.common.parse import from_json, read_text, source_name
    from archsearch.errors import InputError
    from archsearch.spec.models import Spec
    from archsearch.training.job import Job
    from archsearch.training.recipe import Recipe
    from archsearch.training.recipe_files import load_recipe

    parsed = from_json(Spec, read_text(spec), source_name(spec))
    how = load_recipe(recipe) if recipe else Recipe()
    try:
        verdict = judge(analyze(parsed), Constraints())
    except InputError as error:
        raise error.named(source_name(spec)) from error
    analysis = verdict.analysis
    for violation in verdict.violations:
        sys.stderr.write(f"note: outside the limits: {violation.message}\n")
    folder = out or Path("runs") / f"{analysis.spec_hash[:12]}-{seed}{'-full' if full else ''}"
    job = Job(
        key="train",
        spec_hash=analysis.spec_hash,
        network=analysis.network,
        recipe=how,
        seed=seed,
        folder=folder,
        final=full,
    )
    trainer = open_trainer(dataset.value, data, device, precision)
    try:
        trainer.check(analysis.network)
    except InputError as error:
        raise error.named(source_name(spec)) from error
    with locked(folder):
        raise typer.Exit(_train(trainer, job))


def _train(trainer: Trainer, job: Job) -> int:
    from archsearch.training.progress import train_progress
    from archsearch.training.records import Epoch, Result, write_record
    from archsearch.training.run_paths import RunPaths

    run = trainer.run_of(job.seed)
    history: list[Epoch] = []
    test_acc = 0.0

    def warn(message: str) -> None:
        sys.stderr.write(f"note: {message}\n")

    title = f"{one_line(job.network.spec.name)} on {run.dataset}, {run.device} ({run.precision})"
    try:
        with train_progress(title, job.recipe.epochs) as show:
            for step in trainer.train(job, test=True, warn=warn):
                if isinstance(step, Epoch):
                    history.append(step)
                    show(step)
                else:
                    test_acc = step
    except KeyboardInterrupt:
        sys.stderr.write(
            f"interrupted after {len(history)} epochs, saved in {job.folder}; "
            "run the same command to go on\n"
        )
        return 130
    target = job.recipe.target_accuracy
    result = Result(
        test_acc=test_acc,
        val_acc=history[-1].val_acc,
        epochs=len(history),
        train_seconds=round(sum(epoch.train_seconds for epoch in history), 2),
        target_accuracy=target,
        reached_target=target is None or test_acc >= target,
        full=job.final,
        spec_hash=job.spec_hash,
        **run.model_dump(),
    )
    write_record(RunPaths(job.folder).result, result)
    sys.stdout.write(_summary(result, job.folder))
    return 0 if result.reached_target else 1


def _summary(result: Result, folder: Path) -> str:
    lines = [f"test accuracy {result.test_acc:.2%} (single view, last epoch)"]
    if result.val_acc is not None:
        lines.append(f"hold-out {result.val_acc:.2%}")
    lines.append(f"{result.epochs} epochs, {result.train_seconds} s of training")
    lines.append(f"{result.device}, {result.precision}, seed {result.seed}")
    if DATASETS[result.dataset].generated:
        lines.append("shapes is a generated data set: this says nothing of CIFAR-10")
    return "\n".join(lines) + f"\nin {folder}\n"
