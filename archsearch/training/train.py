"""Train one network and test it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import nn

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.common import interruption
from archsearch.common.console import note
from archsearch.common.folder_lock import locked
from archsearch.common.parse import Given, source_of
from archsearch.convert.to_module import build
from archsearch.errors import named_as
from archsearch.spec.load import load_spec
from archsearch.spec.models import Spec
from archsearch.training.checkpoint import load_weights
from archsearch.training.datasets import DatasetName
from archsearch.training.device import PrecisionName
from archsearch.training.job import Job
from archsearch.training.recipe import Recipe
from archsearch.training.recipe_files import load_recipe
from archsearch.training.records import Epoch, Result, write_record
from archsearch.training.run_paths import RunPaths
from archsearch.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A trained network and its figures.

    Attributes:
        history: its epochs.
        result: its figures, as `result.json` has them.
    """

    job: Job
    history: tuple[Epoch, ...]
    result: Result

    @property
    def folder(self) -> Path:
        """Where its checkpoint, history, spec and recipe are."""
        return self.job.folder

    @property
    def test_acc(self) -> float:
        """Test accuracy after the last epoch, from 0 to 1, without flip averaging."""
        return self.result.test_acc

    @property
    def val_acc(self) -> float | None:
        """Hold-out accuracy after the last epoch, from 0 to 1; None if there is no hold-out."""
        return self.result.val_acc

    @property
    def reached_target(self) -> bool:
        """Whether the test accuracy reached the recipe's target, if it has one."""
        return self.result.reached_target

    def to_module(self) -> nn.Module:
        """Build the network with its trained weights, on the CPU, ready to evaluate."""
        net = build(self.job.network)
        load_weights(net, RunPaths(self.folder).checkpoint, self.job.spec_hash, note)
        return net.eval()


def train(
    spec: Spec | Given,
    recipe: Recipe | Given | None = None,
    data: DatasetName = "cifar10",
    *,
    data_dir: str | PathLike[str] | None = None,
    full: bool = False,
    seed: int = 0,
    folder: str | PathLike[str] | None = None,
    device: str | None = None,
    precision: PrecisionName | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
    on_note: Callable[[str], None] = note,
) -> TrainedNetwork:
    """Train one network and evaluate it once on the test set, after the last epoch.

    The network is trained on nine tenths of the training images and scored on the rest (the
    hold-out) after every epoch. Every epoch is saved: after an interruption (Ctrl-C raises
    `KeyboardInterrupt`), the same call resumes training.

    Args:
        spec: a `Spec`, a spec file or a dict.
        recipe: a name ("fast", "search", "best"), a file, a dict or a `Recipe`; `Recipe()` by
            default.
        data: name of the data set.
        data_dir: folder of the data set.
        full: also train on the hold-out, so that there is no hold-out accuracy.
        seed: seed of the initial weights, the data order and the augmentation.
        folder: output folder; runs/<network>-<seed> by default.
        device: "cpu", "cuda", "cuda:1"; the best available by default.
        precision: "fp32" or "bf16"; the faster one by default.
        on_epoch: called with each epoch, including those saved by an interrupted run.
        on_note: called with each note for the user; by default notes are printed.

    Raises:
        InputError: the spec or the recipe is invalid, or does not fit the data set.
        DataError: the data set is not available.
        TrainingError: the network cannot be trained with these settings.
        ArchsearchError: any other failure: the folder, the device, a checkpoint.

    Example:
        >>> import archsearch as asr
        >>> spec = asr.load_spec("studies/seeds/eva8-session6/spec.json")
        >>> run = asr.train(spec, recipe="fast", data="cifar10", on_epoch=print)  # doctest: +SKIP
        >>> run.test_acc, run.folder  # doctest: +SKIP
        (0.8612, PosixPath('runs/5fa9f89058ef-0'))
    """
    how = Recipe() if recipe is None else load_recipe(recipe)
    with named_as(source_of(spec)):
        analysis = analyze(load_spec(spec))
        trainer = Trainer.open(data, Path(data_dir) if data_dir else None, device, precision)
        trainer.check(analysis.network)
    job = job_of(analysis, how, seed, full=full, folder=Path(folder) if folder else None)
    return train_and_test(trainer, job, on_epoch, on_note)


def job_of(
    analysis: Analysis, recipe: Recipe, seed: int, *, full: bool, folder: Path | None
) -> Job:
    """The training of one network on its own."""
    own = Path("runs") / f"{analysis.spec_hash[:12]}-{seed}{'-full' if full else ''}"
    return Job(
        key="train",
        spec_hash=analysis.spec_hash,
        network=analysis.network,
        recipe=recipe,
        seed=seed,
        folder=folder or own,
        final=full,
    )


def train_and_test(
    trainer: Trainer,
    job: Job,
    on_epoch: Callable[[Epoch], None],
    on_note: Callable[[str], None],
    on_step: Callable[[], None] = lambda: None,
) -> TrainedNetwork:
    """Train and test a network, or go on with it; `result.json` in its folder says how it went."""
    history: list[Epoch] = []
    test_acc = 0.0
    with locked(job.folder):
        for step in trainer.train(job, test=True, warn=on_note, on_step=_safe_point(on_step)):
            if isinstance(step, Epoch):
                history.append(step)
                on_epoch(step)
            else:
                test_acc = step
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
            **trainer.run_of(job.seed).model_dump(),
        )
        write_record(RunPaths(job.folder).result, result)
    return TrainedNetwork(job, tuple(history), result)


def _safe_point(on_step: Callable[[], None]) -> Callable[[], None]:
    def checked() -> None:
        interruption.check()
        on_step()

    return checked
