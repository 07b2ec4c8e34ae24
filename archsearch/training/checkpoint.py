"""A training run's state on disk, read back as data alone (no code is unpickled)."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim
from torch.optim.swa_utils import AveragedModel

from archsearch.common.atomic_files import replacing
from archsearch.errors import CheckpointError, one_line, shown
from archsearch.training.checkpoint_file import REMEDY, read_archive, sealed, unreadable
from archsearch.training.optimizers import STATE_KEYS
from archsearch.training.records import Epoch
from archsearch.training.stored_state import Stored, problem_of

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
            # Its settings follow from the recipe.
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict(
                {"state": copy.deepcopy(state["state"]), "param_groups": groups}
            )
        if average is not None and self.average is not None:
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
    archive = io.BytesIO()  # torch's own writer does not say that a disk is full
    torch.save(state, archive)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(sealed(archive.getbuffer()))


def load(
    path: Path, run: str, warn: Callable[[str], None] = lambda _message: None
) -> Checkpoint | None:
    """The checkpoint of `run` (its network, recipe, data, seed) at `path`; None if there is none.

    Raises:
        CheckpointError: it is damaged, or another run's.
    """
    if not path.exists():
        return None
    found = read(path, warn)
    if found.run != run:
        raise CheckpointError(
            f"{one_line(str(path))}: belongs to another run ({one_line(found.run)}, this is "
            f"{run}); choose another folder, or move it away to train from the beginning"
        )
    return found


def read(path: Path, warn: Callable[[str], None] = lambda _message: None) -> Checkpoint:
    """Read the checkpoint at `path`, of any run, and check every byte and value of it.

    Args:
        path: the file.
        warn: called if the file has no checksum.

    Raises:
        CheckpointError: it is not there, damaged, or of another version of archsearch.
    """
    archive = read_archive(path)
    name = one_line(str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about what other programs wrote
            raw = torch.load(io.BytesIO(archive.content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise unreadable(name, f"torch cannot: {type(error).__name__}") from error
    _check_format(name, raw)
    stored = Stored.parse(raw)
    if isinstance(stored, str):
        raise unreadable(name, stored)
    if not archive.has_checksum:
        warn(
            f"{name}: has no checksum (an older archsearch wrote it): damage to it may go unnoticed"
        )
    training = stored.training
    optimizers: list[dict[str, Any]] = [{"state": each.state} for each in training.optimizers]
    state = State(training.model, optimizers, training.average, training.batch_size)
    return Checkpoint(stored.run, stored.history, state)


def _check_format(name: str, raw: object) -> None:
    version = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(version, int):
        raise unreadable(name, "archsearch did not write it; give the checkpoint.pt of a run")
    if version > FORMAT:
        raise CheckpointError(
            f"{name}: was written by a newer archsearch (format {shown(version)}; this one reads "
            f"{FORMAT}): upgrade archsearch"
        )
    if version < FORMAT:
        raise CheckpointError(
            f"{name}: has the format {shown(version)}, this version of archsearch reads {FORMAT}; "
            "it is left as it is: move it away to train from the beginning"
        )


def resume(
    path: Path,
    state: State,
    model: nn.Module,
    optimizers: Sequence[optim.Optimizer],
    average: AveragedModel | None,
) -> None:
    """Put the state that was read from `path` into a network and its optimizers.

    Raises:
        CheckpointError: it is of another network or recipe.
    """
    why = _why_no_fit(state, model, optimizers, average)
    if why:
        raise CheckpointError(
            f"{one_line(str(path))}: does not fit this network and recipe ({why}): it is damaged, "
            f"or of another version of archsearch; {REMEDY}"
        )
    state.restore(model, optimizers, average)


def _why_no_fit(
    state: State,
    model: nn.Module,
    optimizers: Sequence[optim.Optimizer],
    average: AveragedModel | None,
) -> str | None:
    if len(optimizers) != len(state.optimizers):
        return f"it has {len(state.optimizers)} optimizers, the recipe {len(optimizers)}"
    if (average is None) != (state.average is None):
        return f"it has {'no' if average else 'an'} average of the weights"
    if why := difference(state.model, model.state_dict()):
        return why
    if (
        average is not None
        and state.average is not None
        and (why := difference(state.average, average.state_dict()))
    ):
        return why
    for optimizer, saved in zip(optimizers, state.optimizers, strict=True):
        params = [p for group in optimizer.param_groups for p in group["params"]]
        shapes = [tuple(p.shape) for p in params]
        if why := problem_of(saved["state"], shapes, STATE_KEYS[type(optimizer)]):
            return f"{type(optimizer).__name__}: {why}"
    return None


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


def difference(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> str | None:
    """Return the first difference between two state dicts' names, shapes and types, if any."""
    if odd := sorted(found.keys() ^ wanted.keys()):
        whose = "has no" if odd[0] in wanted else "has a"
        return f"it {whose} tensor {shown(odd[0])}"
    for name, tensor in wanted.items():
        told, needed = (f"{each.dtype} {tuple(each.shape)}" for each in (found[name], tensor))
        if told != needed:
            return f"{name} is {told}, the network has {needed}"
    return None


def load_weights(
    net: nn.Module, path: Path, spec_hash: str, warn: Callable[[str], None] = lambda _message: None
) -> None:
    """Load the trained weights of a `checkpoint.pt` into the network of `spec_hash`.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is another network's.
    """
    found = read(path, warn)
    name = one_line(str(path))
    wanted = f"network {spec_hash[:12]}"
    if not found.run.startswith(f"{wanted} "):
        raise CheckpointError(
            f"{name}: belongs to another network ({one_line(found.run)}, this is {wanted}); "
            "give the checkpoint beside this spec's own spec.json"
        )
    weights = trained_weights(found.state)
    if why := difference(weights, net.state_dict()):
        raise CheckpointError(
            f"{name}: its weights do not fit this network ({why}): it is damaged, or of another "
            f"version of archsearch; {REMEDY}"
        )
    net.load_state_dict(weights)
