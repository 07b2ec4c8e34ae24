"""Training in this process: one network, and the executor that runs the search's jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import nn

from archsearch.analysis.analyze import analyze
from archsearch.common import atomic_files
from archsearch.common.machine import physical_memory
from archsearch.convert.to_module import build
from archsearch.convert.to_pytorch import pytorch_source
from archsearch.errors import DeviceLostError, InputError, Problem, TrainingError
from archsearch.spec import params_and_macs
from archsearch.spec.network import Network
from archsearch.training import checkpoint
from archsearch.training.augment import statistics
from archsearch.training.device import Device, lost, out_of_memory
from archsearch.training.images import Dataset, Images, holdout
from archsearch.training.job import Job
from archsearch.training.loop import evaluate, train
from archsearch.training.recipe import recipe_hash
from archsearch.training.records import Epoch, Run, write_history

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

    def run_of(self, seed: int) -> Run:
        """What must stand beside this trainer's figures."""
        return Run(
            device=self.device.name,
            precision=self.device.precision,
            seed=seed,
            dataset=self.dataset.name,
            torch_version=torch.__version__,
        )

    def check(self, network: Network) -> None:
        """That a network takes these images and tells these classes apart.

        Raises:
            InputError: it does not.
        """
        height, width, channels = self.dataset.train.pixels.shape[1:]
        wanted = {"input": (channels, height, width), "classes": len(self.dataset.classes)}
        found = {"input": network.image.shape, "classes": network.spec.classes}
        problems = [
            Problem(
                place,
                "dataset",
                f"must be {_told(wanted[place])} for {self.dataset.name}, "
                f"got {_told(found[place])}",
            )
            for place in wanted
            if wanted[place] != found[place]
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
        # Before anything is written: a folder of another run stays as it is.
        found = checkpoint.load(job.folder / "checkpoint.pt", self._run_id(job))
        atomic_files.write_text(job.folder / "spec.json", spec_text(job))
        atomic_files.write_text(
            job.folder / "recipe.json", job.recipe.model_dump_json(indent=2) + "\n"
        )
        atomic_files.write_text(job.folder / "run.json", self._run_json(job))
        source = pytorch_source(analyze(job.network.spec))
        atomic_files.write_text(job.folder / "model.py", source)
        known = found.history if found else ()
        if known:  # at once, and not epoch by epoch: a crash may come while they are told again
            write_history(job.folder / "history.csv", known)
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
                checkpoint_path=job.folder / "checkpoint.pt",
                warn=warn,
                on_step=on_step,
            )
            history: list[Epoch] = []
            while not isinstance(step := _next_epoch(epochs), nn.Module):
                history.append(step)
                if len(history) > len(known):
                    write_history(job.folder / "history.csv", history)
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

    def _run_json(self, job: Job) -> str:
        made = {**asdict(self.run_of(job.seed)), "full": job.final, "spec_hash": job.spec_hash}
        return json.dumps(made, indent=2) + "\n"

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


def _told(size: object) -> str:
    return "x".join(map(str, size)) if isinstance(size, tuple) else str(size)


def spec_text(job: Job) -> str:
    """A job's spec as its author (or the search) wrote it."""
    return job.network.spec.model_dump_json(indent=2, exclude_unset=True) + "\n"
