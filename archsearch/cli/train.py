"""`archsearch train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archsearch.cli.options import DataOption, DeviceOption, PrecisionOption
from archsearch.common import interruption
from archsearch.common.console import note, say, tell
from archsearch.errors import one_line
from archsearch.training.datasets import DATASETS, DatasetName

if TYPE_CHECKING:
    from archsearch.training.train import TrainedNetwork


def train(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A spec file; - is standard input.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="fast, search, best, or a recipe as JSON; the default recipe else.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Instead of the recipe's own.")
    ] = None,
    dataset: Annotated[DatasetName, typer.Option(help="Which images.")] = "cifar10",
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
    from archsearch.analysis.validate import validate
    from archsearch.common.parse import source_name
    from archsearch.errors import named_as
    from archsearch.training.recipe import Recipe
    from archsearch.training.recipe_files import load_recipe

    how = load_recipe(recipe) if recipe else Recipe()
    if epochs is not None:
        how = how.model_copy(update={"epochs": epochs})
    with named_as(source_name(spec)):
        verdict = validate(spec)
    for violation in verdict.violations:
        note(f"outside the limits: {violation.message}")
    tell(f"loading torch and {dataset}")
    from archsearch.training.device import unusable_gpu
    from archsearch.training.train import job_of, train_and_test
    from archsearch.training.trainer import Trainer
    from archsearch.training.training_view import TrainingView, train_progress

    trainer = Trainer.open(dataset, data, device, precision)
    with named_as(source_name(spec)):
        trainer.check(verdict.analysis.network)
    if device is None and (why := unusable_gpu()):
        note(f"training on the CPU, because the GPU cannot be used: {why}")
    job = job_of(verdict.analysis, how, seed, full=full, folder=out)
    run = trainer.run_of(seed)
    name = one_line(job.network.spec.name)
    title = f"{name} on {run.dataset}, {run.device} ({run.precision})"
    images = (len(trainer.dataset.train), 0) if full else (len(trainer.fit), len(trainer.held_out))
    view: TrainingView | None = None

    def last_words() -> str:
        if not (view and view.done):
            return "interrupted in the first epoch, before anything was saved\n"
        return (
            f"interrupted after {view.done} epochs, saved in {job.folder}; "
            "run the same command to go on\n"
        )

    try:
        with interruption.saving(last_words), train_progress(title, how, *images) as view:
            trained = train_and_test(trainer, job, view.epoch, note, view.step)
    except KeyboardInterrupt:
        tell(last_words().rstrip())
        raise typer.Exit(interruption.EXIT_STATUS) from None
    for line in _summary(trained):
        say(line)
    raise typer.Exit(0 if trained.reached_target else 1)


def _summary(trained: TrainedNetwork) -> list[str]:
    result = trained.result
    lines = [f"test accuracy {result.test_acc:.2%} (single view, last epoch)"]
    if result.val_acc is not None:
        lines.append(f"hold-out {result.val_acc:.2%}")
    lines.append(f"{result.epochs} epochs, {result.train_seconds} s of training")
    lines.append(f"{result.device}, {result.precision}, seed {result.seed}")
    if DATASETS[result.dataset].generated:
        lines.append("shapes is a generated data set: this says nothing of CIFAR-10")
    return [*lines, f"in {trained.folder}"]
