"""Train one job on a loaded data set, in this process, and write its files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from archsearch.analysis.analyze import Analysis
from archsearch.common import atomic_files
from archsearch.common.machine import physical_memory
from archsearch.convert.to_module import build
from archsearch.convert.to_pytorch import pytorch_source
from archsearch.errors import DeviceLostError, InputError, Problem, TrainingError
from archsearch.spec import params_and_macs
from archsearch.spec.formatting import shape_text
from archsearch.spec.models import spec_text
from archsearch.spec.network import Network
from archsearch.training import checkpoint
from archsearch.training.augment import statistics
from archsearch.training.datasets import DatasetName
from archsearch.training.device import Device, PrecisionName, choose, lost, out_of_memory
from archsearch.training.images import Dataset, Images, holdout, load
from archsearch.training.job import Job
from archsearch.training.loop import batches_per_epoch, evaluate, train
from archsearch.training.recipe import recipe_hash
from archsearch.training.records import Epoch, Run, RunRecord, write_history, write_record
from archsearch.training.run_paths import RunPaths

BYTES_PER_PARAM = 16
"""Weight, gradient, momentum and a copy while a checkpoint is written, fp32."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """A data set, split, on a device; trains one job at a time.

    Attributes:
        fit: what ranking jobs train on.
        held_out: what they are scored on.
    """

    dataset: Dataset
    fit: Images
    held_out: Images
    device: Device

    @classmethod
    def of(cls, dataset: Dataset, device: Device) -> Trainer:
        """With the fixed hold-out."""
        return cls(dataset, *holdout(dataset.train), device)

    @classmethod
    def open(
        cls,
        dataset: DatasetName,
        data_dir: Path | None = None,
        device: str | None = None,
        precision: PrecisionName | None = None,
    ) -> Trainer:
        """Load a data set for training on a device.

        Raises:
            ArchsearchError: either cannot be had.
        """
        chosen = choose(device, precision)
        return cls.of(load(dataset, data_dir), chosen)

    def run_of(self, seed: int) -> Run:
        """What must stand beside this trainer's figures."""
        return Run(
            device=self.device.name,
            precision=self.device.precision,
            seed=seed,
            dataset=self.dataset.name,
            torch_version=torch.__version__,
        )

    def steps_per_epoch(self, job: Job) -> int:
        """Return how many batches an epoch of `job` trains on and scores."""
        if job.final:
            return batches_per_epoch(job.recipe, len(self.dataset.train), 0)
        return batches_per_epoch(job.recipe, len(self.fit), len(self.held_out))

    def check(self, network: Network) -> None:
        """That a network takes these images and tells these classes apart.

        Raises:
            InputError: it does not.
        """
        height, width, channels = self.dataset.train.pixels.shape[1:]
        shape = shape_text((channels, height, width))
        problems = [
            Problem(place, "dataset", f"must be {wanted} for {self.dataset.name}, got {found}")
            for place, wanted, found in (
                ("input", shape, shape_text(network.image.shape)),
                ("classes", len(self.dataset.classes), network.spec.classes),
            )
            if wanted != found
        ]
        if problems:
            raise InputError(network.spec.name, problems)

    def train(
        self,
        job: Job,
        *,
        test: bool,
        warn: Callable[[str], None],
        on_step: Callable[[], None] = lambda: None,
    ) -> Iterator[Epoch | float]:
        """Train `job`: its epochs, then, with `test`, its accuracy on the test images.

        Raises:
            TrainingError: the loss left the numbers, or there is not enough memory.
            CheckpointError: its checkpoint cannot be used.
            DeviceLostError: nothing more will run on the device.
            ArchsearchError: its folder cannot be written.
        """
        params = sum(params_and_macs.params(node.op) for node in job.network.nodes())
        memory = physical_memory()
        if memory is not None and BYTES_PER_PARAM * params > memory:
            raise TrainingError(f"{params:,} parameters do not fit in memory")
        paths = RunPaths(job.folder)
        # Before anything is written: a folder of another run stays as it is.
        found = checkpoint.load(paths.checkpoint, self._run_id(job))
        atomic_files.write_text(paths.spec, spec_text(job.network.spec))
        atomic_files.write_text(paths.recipe, job.recipe.model_dump_json(indent=2) + "\n")
        run = self.run_of(job.seed).model_dump()
        write_record(paths.run, RunRecord(**run, full=job.final, spec_hash=job.spec_hash))
        atomic_files.write_text(paths.model, pytorch_source(Analysis(job.network)))
        known = found.history if found else ()
        if known:  # at once, and not epoch by epoch: a crash may come while they are told again
            write_history(paths.history, known)
        fit = self.dataset.train if job.final else self.fit
        held_out = None if job.final else self.held_out
        torch.manual_seed(job.seed)
        try:
            epochs = train(
                build(job.network),
                job.recipe,
                fit,
                held_out,
                device=self.device,
                seed=job.seed,
                run=self._run_id(job),
                checkpoint_path=paths.checkpoint,
                warn=warn,
                on_step=on_step,
            )
            history: list[Epoch] = []
            while not isinstance(step := _next_epoch(epochs), nn.Module):
                history.append(step)
                if len(history) > len(known):
                    write_history(paths.history, history)
                yield step
            if test:
                mean, std = statistics(fit.pixels)
                score = evaluate(step, self.dataset.test, mean, std, self.device, on_step)
                yield score.accuracy
        except (RuntimeError, ValueError, MemoryError) as error:  # torch's, of this network
            if out_of_memory(error):
                raise TrainingError("out of memory: use a smaller batch_size or network") from error
            why = str(error).splitlines()[0]
            if lost(error):
                raise DeviceLostError(self.device.name, why) from error
            raise TrainingError(f"torch cannot train this: {why}") from error

    def _run_id(self, job: Job) -> str:
        part = "all" if job.final else "fit"
        return (
            f"network {job.spec_hash[:12]} recipe {recipe_hash(job.recipe)[:12]} "
            f"data {self.dataset.name}/{part} seed {job.seed} {self.device.precision}"
        )


def _next_epoch(epochs: Generator[Epoch, None, nn.Module]) -> Epoch | nn.Module:
    """The next epoch, or the trained network where there is none."""
    try:
        return next(epochs)
    except StopIteration as end:
        trained: nn.Module = end.value
        return trained
