"""A training run's state on disk, read back as data alone (no code is unpickled)."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim
from torch.optim.swa_utils import AveragedModel

from archsearch.common.atomic_files import replacing
from archsearch.common.guarded_files import SpecialFileError, open_regular
from archsearch.errors import CheckpointError
from archsearch.training.records import Epoch

FORMAT = 2


@dataclass(frozen=True, slots=True)
class State:
    """All that changes while a network trains, but for what follows from seed and epoch.

    Attributes:
        model: weights and buffers as they are trained.
        optimizers: one state each.
        average: the averaged weights, as `AveragedModel` names them; None where there are none.
        batch_size: as memory allowed.
    """

    model: dict[str, Any]
    optimizers: list[dict[str, Any]]
    average: dict[str, Any] | None
    batch_size: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        optimizers: Sequence[optim.Optimizer],
        average: AveragedModel | None,
        batch_size: int,
    ) -> State:
        """A copy that training on does not change."""
        return cls(
            copy.deepcopy(model.state_dict()),
            [copy.deepcopy(optimizer.state_dict()) for optimizer in optimizers],
            copy.deepcopy(average.state_dict()) if average else None,
            batch_size,
        )

    def restore(
        self,
        model: nn.Module,
        optimizers: Sequence[optim.Optimizer],
        average: AveragedModel | None,
    ) -> None:
        """Put everything back."""
        model.load_state_dict(self.model)
        for optimizer, state in zip(optimizers, self.optimizers, strict=True):
            optimizer.load_state_dict(copy.deepcopy(state))
        if average and self.average:
            average.load_state_dict(self.average)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after the last epoch of `history`."""

    run: str
    history: tuple[Epoch, ...]
    state: State


def save(path: Path, found: Checkpoint) -> None:
    """Replace the checkpoint at `path` at once or not at all.

    Raises:
        ArchsearchError: it cannot be written; the one before is as it was.
    """
    state = {
        "format": FORMAT,
        "run": found.run,
        "history": [epoch.model_dump() for epoch in found.history],
        "model": trained_weights(found.state),
        "training": {
            "model": found.state.model,
            "optimizers": found.state.optimizers,
            "average": found.state.average,
            "batch_size": found.state.batch_size,
        },
    }
    whole = io.BytesIO()  # torch's own writer does not say that a disk is full
    torch.save(state, whole)
    with replacing(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def load(path: Path, run: str) -> Checkpoint | None:
    """The checkpoint of `run` (its network, recipe, data, seed) at `path`; None if there is none.

    Raises:
        CheckpointError: it is damaged, or another run's.
    """
    if not path.exists():
        return None
    found = read(path)
    if found.run != run:
        raise CheckpointError(
            f"{path}: belongs to another run ({found.run}, this is {run}); "
            "choose another folder, or move it away to train from the beginning"
        )
    return found


def read(path: Path) -> Checkpoint:
    """The checkpoint at `path`, whosever it is.

    Raises:
        CheckpointError: it is not there, damaged, or of another version of archsearch.
    """
    try:
        with open_regular(path) as file:
            raw = torch.load(file, map_location="cpu", weights_only=True)
        version = raw["format"]
        if version == FORMAT:
            training = raw["training"]
            state = State(
                dict(training["model"]),
                [dict(optimizer) for optimizer in training["optimizers"]],
                training["average"] and dict(training["average"]),
                int(training["batch_size"]),
            )
            history = tuple(Epoch(**epoch) for epoch in raw["history"])
            return Checkpoint(str(raw["run"]), history, state)
    except (FileNotFoundError, PermissionError, SpecialFileError) as error:
        # of a cut file, torch's OSError
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise CheckpointError(
            f"{path}: is not a checkpoint that can be read ({type(error).__name__}); "
            "it is left as it is: move it away to train from the beginning"
        ) from error
    raise CheckpointError(
        f"{path}: has the format {version!r}, this version of archsearch reads {FORMAT}; "
        "it is left as it is: move it away to train from the beginning"
    )


def trained_weights(state: State) -> dict[str, Any]:
    """The network's state dict as it is scored: averaged where the recipe averages."""
    if state.average is None:
        return state.model
    prefix = "module."
    return {
        name.removeprefix(prefix): value
        for name, value in state.average.items()
        if name.startswith(prefix)
    }


def load_weights(net: nn.Module, path: Path, spec_hash: str) -> None:
    """Load the trained weights of a `checkpoint.pt` into the network of `spec_hash`.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is another network's.
    """
    found = read(path)
    wanted = f"network {spec_hash[:12]}"
    if not found.run.startswith(f"{wanted} "):
        raise CheckpointError(
            f"{path}: belongs to another network ({found.run}, this is {wanted}); "
            "give the checkpoint beside this spec's own spec.json"
        )
    try:
        net.load_state_dict(trained_weights(found.state))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: its weights do not fit this network: it is damaged, or of another version "
            "of archsearch"
        ) from error
