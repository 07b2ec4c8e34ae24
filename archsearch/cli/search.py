"""`archsearch search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsearch.cli.options import (
    DataOption,
    Dataset,
    DeviceOption,
    Precision,
    PrecisionOption,
    open_trainer,
)

if TYPE_CHECKING:
    from archsearch.study import Study


def search(
    study: Annotated[
        str, typer.Argument(metavar="[STUDY]", help="A study file, or a shipped study's name.")
    ] = "cifar10-200k",
    trials: Annotated[
        int, typer.Option(min=1, help="Networks to train in all, over restarts.")
    ] = 50,
    name: Annotated[
        str | None, typer.Option(help="The folder under studies/; the study's name unless given.")
    ] = None,
    dataset: Annotated[Dataset | None, typer.Option(help="Instead of the study's own.")] = None,
    data: DataOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the study's own.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An Optuna database instead of the folder's SQLite."),
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Search for networks within the limits, train them, retrain and test the best.

    Results are in studies/NAME. Run the same command again to go on after an interruption.
    Exit status: 0 a finalist reached the target, 1 none did, 2 bad input, 130 interrupted.
    """
    from archsearch.study import load_study

    given = {"name": name, "dataset": dataset.value if dataset else None, "seed": seed}
    config = _with(load_study(study), {k: v for k, v in given.items() if v is not None})
    raise typer.Exit(_search(config, trials, data, storage, device, precision))


def _with(config: Study, changes: dict[str, Any]) -> Study:
    from archsearch.parse import from_mapping
    from archsearch.study import Study

    if not changes:
        return config
    fields = {field: getattr(config, field) for field in Study.model_fields}
    return from_mapping(Study, fields | changes, "the command line")


def _search(
    config: Study,
    trials: int,
    data: Path | None,
    storage: str | None,
    device: str | None,
    precision: Precision | None,
) -> int:
    from archsearch import search as driver
    from archsearch.cli.leaderboard import print_leaderboard
    from archsearch.local import InProcess
    from archsearch.progress import SearchState, search_progress, stderr_console
    from archsearch.study import StudyFolder

    folder = StudyFolder(Path("studies") / config.name)
    trainer = open_trainer(config.dataset, data, device, precision)
    console = stderr_console()
    console.print(
        f"study {config.name} in {folder.path}, {config.dataset} on {trainer.device.name} "
        f"({trainer.device.precision})",
        markup=False,
        soft_wrap=True,
    )
    state = SearchState(
        wanted=trials,
        final_runs=config.finalists * config.final_seeds,
        trial_epochs=config.recipe.epochs,
        final_epochs=config.final_recipe.epochs,
    )
    try:
        with search_progress(state) as view:
            executor = InProcess(trainer, view.warn)
            entries = driver.search(config, folder, executor, trials, view.event, storage)
    except KeyboardInterrupt:
        console.print(
            f"interrupted: {state.done} of {trials} trials are trained and saved in "
            f"{folder.path}; run the same command to go on",
            markup=False,
            soft_wrap=True,
        )
        return 130
    print_leaderboard(folder.leaderboard)
    reached = [entry for entry in entries if entry.reached_target]
    target = config.final_recipe.target_accuracy
    if target is not None and config.finalists:
        console.print(
            f"{len(reached)} finalists reached {target:.0%} of the test images", markup=False
        )
    if config.dataset == "shapes":
        console.print("shapes is a generated data set: these accuracies say nothing of CIFAR-10")
    return 0 if reached or target is None or not config.finalists else 1
