"""`archsearch search`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from archsearch.cli.options import DataOption, DeviceOption, PrecisionOption, StorageOption
from archsearch.training.datasets import DatasetName

if TYPE_CHECKING:
    from archsearch.executors.messages import WorkerConfig
    from archsearch.executors.protocol import Executor
    from archsearch.executors.ray.cluster import TrialResources
    from archsearch.search.run import Opener
    from archsearch.study.config import Study

_SOURCE = "the command line"
DRAW_S = 2.0
"""A dry run looks for networks to time for so long before it counts the space."""


def search(
    study: Annotated[
        str, typer.Argument(metavar="[STUDY]", help="A study file, or a shipped study's name.")
    ] = "cifar10-200k",
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SPEC",
            help="Search near this spec (`-`: standard input) instead of the study's space, within "
            "the study's limits even where the spec is not; say what changed and what it gained.",
        ),
    ] = None,
    max_edits: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="With --from: edits that a network may have; 6, or more to meet the limits, "
            "unless given.",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Networks to train in all, over restarts.")
    ] = 50,
    name: Annotated[
        str | None, typer.Option(help="The folder under studies/; the study's name unless given.")
    ] = None,
    dataset: Annotated[DatasetName | None, typer.Option(help="Instead of the study's own.")] = None,
    data: DataOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the study's own.")] = None,
    storage: StorageOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1_024,
            help="Processes that train side by side; one a GPU, or a core and at most 4, unless "
            "given. 0: train in this process.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="Train on a Ray cluster: HEAD:6379, auto (this machine is one of its nodes), or "
            "local (one of this machine alone). --workers: trials at a time, as many as there is "
            "room for unless given.",
        ),
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="With --ray: 0.25 for four trials a GPU; 1 where there are any unless given.",
        ),
    ] = None,
    cpus_per_trial: Annotated[
        float | None, typer.Option(min=0.0, help="With --ray: cores, and threads; 1 unless given.")
    ] = None,
    sampler: Annotated[
        Literal["tpe", "random", "gp", "nsga2"] | None,
        typer.Option(help="Who proposes, instead of the study's own."),
    ] = None,
    objective: Annotated[
        Literal["accuracy", "params", "time"] | None,
        typer.Option(
            help="accuracy, or at the ranking recipe's target accuracy the fewest params, or the "
            "least training time; instead of the study's own."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print how long it will take, the space's share within the limits and the whole "
            "study; train nothing.",
        ),
    ] = False,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Search for networks within the limits; train and test them.

    The best are retrained on all training images and tested once. Results are in studies/NAME;
    `archsearch status` shows how far a search is. Run the same command again to resume after an
    interruption.
    Exit status: 0 a finalist reached the target, 1 none did, 2 bad input, 130 interrupted.
    """
    from archsearch.executors.messages import WorkerConfig
    from archsearch.executors.open import open_executor
    from archsearch.search.storage.url import database_url
    from archsearch.study.config import load_study, with_changes

    config = with_changes(load_study(study), _SOURCE, dataset=dataset)
    if from_ is not None:
        config = _near(config, from_, max_edits)
    elif max_edits is not None:
        raise typer.BadParameter(
            "is about the spec of --from; give that too", param_hint="--max-edits"
        )
    chosen = config.sampler.model_copy(update={"kind": sampler}) if sampler else None
    config = with_changes(
        config, _SOURCE, name=name, seed=seed, objective=objective, sampler=chosen
    )
    place = WorkerConfig(config.dataset, data, device, precision)
    if dry_run and ray is None:
        raise typer.Exit(_dry_run(config, trials, place, workers))
    share = _share(ray, workers, cpus_per_trial, gpus_per_trial, dry_run=dry_run)

    def opener(warn: Callable[[str], None]) -> AbstractContextManager[Executor]:
        if ray is None:
            return open_executor(place, workers, warn)
        from archsearch.executors.ray.executor import RayExecutor

        return RayExecutor(ray, place, workers, share, warn)

    raise typer.Exit(_search(config, trials, database_url(storage), opener))


def _near(config: Study, path: str, max_edits: int | None) -> Study:
    """The study with the neighbourhood of a spec instead of its own space."""
    from archsearch.common.console import stderr_console
    from archsearch.common.parse import source_name
    from archsearch.errors import named_as, one_line
    from archsearch.space.settings import describe_edits
    from archsearch.spec.load import load_spec
    from archsearch.study.near_spec import study_near

    with named_as(source_name(path)):
        spec = load_spec(path)
        near = study_near(config, spec, max_edits)
    if edits := describe_edits(near.space, near.start[0]):
        line = f"{spec.name} is outside the limits; the first trial is within: {'; '.join(edits)}"
        stderr_console().print(one_line(line), markup=False, soft_wrap=True)
    return near


def _share(
    ray: str | None, workers: int | None, cpus: float | None, gpus: float | None, *, dry_run: bool
) -> TrialResources:
    """What a trial has of a Ray cluster; refused are options that do not go together."""
    from archsearch.executors.ray.cluster import TrialResources

    if ray is None:
        if cpus is not None or gpus is not None:
            raise typer.BadParameter(
                "are about a Ray cluster; give --ray too",
                param_hint="--cpus-per-trial, --gpus-per-trial",
            )
        return TrialResources()
    if dry_run:
        raise typer.BadParameter(
            "times networks on this machine; leave out --ray", param_hint="--dry-run"
        )
    if workers == 0:
        raise typer.BadParameter(
            "0 trains in this process; leave it out with --ray", param_hint="--workers"
        )
    for value, option in ((cpus, "--cpus-per-trial"), (gpus, "--gpus-per-trial")):
        # Ray's own rule: more than one is a whole number.
        if value is not None and not (value <= 1 or value.is_integer()):
            raise typer.BadParameter(
                f"must be at most 1 or a whole number, got {value:g}", param_hint=option
            )
    return TrialResources(1.0 if cpus is None else cpus, gpus)


def _search(config: Study, trials: int, storage: str | None, opener: Opener) -> int:
    from archsearch.cli.leaderboard import print_leaderboard
    from archsearch.common import interruption
    from archsearch.common.console import show, stderr_console
    from archsearch.monitor.live_view import SearchState, search_progress
    from archsearch.monitor.status import status
    from archsearch.search.improvement import gain_page
    from archsearch.search.run import run
    from archsearch.space.neighbourhood import Neighbourhood
    from archsearch.study.folder import StudyFolder

    folder = StudyFolder(Path("studies") / config.name)
    console = stderr_console()
    state = SearchState(
        wanted=trials,
        final_runs=min(config.finalists, trials) * config.final_seeds,
        trial_epochs=config.recipe.epochs,
        final_epochs=config.final_recipe.epochs,
    )

    @contextmanager
    def watched(warn: Callable[[str], None]) -> Iterator[Executor]:
        """Open the executor, and let the view ask it how far each epoch is."""
        view.begin(f"loading torch and {config.dataset}, which takes a while")
        with opener(warn) as executor:
            state.epoch_share = executor.epoch_share
            yield executor

    def last_words() -> str:
        done = f"{state.done} of {trials} trials are trained and" if state.opened else "all is"
        return f"interrupted: {done} saved in {folder.path}; run the same command to go on\n"

    try:
        with interruption.saving(last_words), search_progress(state) as view:
            found = run(config, folder, watched, trials, view.event, view.warn, storage)
    except KeyboardInterrupt:
        console.print(last_words(), markup=False, soft_wrap=True, end="")
        return interruption.EXIT_STATUS
    print_leaderboard(folder.path)
    if isinstance(config.space, Neighbourhood) and (gain := status(folder, storage).gain):
        show(gain_page(gain))
    reached = [entry for entry in found.entries if entry.reached_target]
    target = config.final_recipe.target_accuracy
    if target is not None and config.finalists:
        console.print(
            f"{len(reached)} finalists reached {target:.0%} of the test images", markup=False
        )
    if config.dataset == "shapes":
        console.print("shapes is a generated data set: these accuracies say nothing of CIFAR-10")
    return 0 if reached or target is None or not config.finalists else 1


def _dry_run(config: Study, trials: int, place: WorkerConfig, workers: int | None) -> int:
    """Print how long the search will take, then the space, then the study."""
    from archsearch.common.console import show
    from archsearch.errors import one_line
    from archsearch.space.counting.every_network import every_network
    from archsearch.space.counting.near import account_any
    from archsearch.space.counting.view import accounting_page
    from archsearch.study.config import study_toml

    every = every_network(config.space, config.constraints)
    if every and len(every) < trials:
        trials = len(every)
        sys.stdout.write(f"the space has only {trials} networks within the limits\n")
    finals = min(config.finalists, trials) * config.final_seeds
    sys.stdout.write(
        f"{config.name}: {trials} trials of {config.recipe.epochs} epochs on {config.dataset}, "
        f"then {finals} retrainings of {config.final_recipe.epochs} epochs\n"
    )
    sys.stdout.flush()
    timed = _say_time(config, trials, place, workers, within_s=DRAW_S)
    accounting = account_any(config.space, config.constraints, start=config.start, seed=config.seed)
    sys.stdout.write("\n")
    show(accounting_page(config.name, accounting))
    sys.stdout.write("\n")
    lines = study_toml(config).split("\n")  # a spec's names may hold what a terminal would obey
    sys.stdout.write("".join(f"{one_line(line)}\n" for line in lines))
    if accounting.hopeless:
        return 1
    if not timed and not _say_time(config, trials, place, workers):
        sys.stdout.write("time: no network within the limits was found to time\n")
        return 1
    return 0


def _say_time(
    config: Study,
    trials: int,
    place: WorkerConfig,
    workers: int | None,
    within_s: float | None = None,
) -> bool:
    """Print an estimate of the time; false if no network within the limits was found."""
    import torch

    from archsearch.common.machine import threads_each
    from archsearch.executors.processes.pool import default_workers
    from archsearch.monitor.estimate import estimate, networks_within_limits
    from archsearch.training.device import choose
    from archsearch.training.progress import clock

    networks = networks_within_limits(config, within_s)
    if not networks:
        return False
    count = workers or (default_workers() if workers is None else 1)
    torch.set_num_threads(threads_each(count))
    device = choose(place.device, place.precision)
    found = estimate(config, networks, device, trials, count)
    speeds = ", ".join(f"{speed:,.0f}" for speed in found.images_per_second)
    sys.stdout.write(
        f"time: about {clock(found.trials + found.finals)}: {clock(found.trials)} for the trials "
        f"if none is stopped early, {clock(found.finals)} for the retrainings; "
        f"{count} at a time on {device.name} ({device.precision})\n"
        f"      ({len(networks)} random networks within the limits train at {speeds} images/s)\n"
    )
    sys.stdout.flush()
    return True
