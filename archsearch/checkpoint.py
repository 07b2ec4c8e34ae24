"""A training run's state on disk, read back as data alone (no code is unpickled)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim

from archsearch.errors import ArchsearchError, CheckpointError
from archsearch.files import replacing
from archsearch.results import Epoch

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after the last epoch of `history`.

    What is random later follows from the seed and the epoch alone, so no generator is stored.
    """

    run: str
    history: tuple[Epoch, ...]
    model: dict[str, Any]
    optimizer: dict[str, Any]


def save(
    path: Path, run: str, history: tuple[Epoch, ...], model: nn.Module, optimizer: optim.Optimizer
) -> None:
    """Replace the checkpoint at `path` at once or not at all.

    Raises:
        ArchsearchError: it cannot be written; the one before is as it was.
    """
    state = {
        "format": FORMAT,
        "run": run,
        "history": [asdict(epoch) for epoch in history],
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    try:
        with replacing(path) as temporary:
            torch.save(state, temporary)
    except RuntimeError as error:  # torch's zip writer does not raise OSError on a full disk
        raise ArchsearchError(
            f"{path}: cannot be written: {str(error).splitlines()[0]}; the checkpoint before it "
            "is as it was. Make room, then run the same command again"
        ) from error


def load(path: Path, run: str) -> Checkpoint | None:
    """The checkpoint of `run` at `path`; None where there is none.

    Args:
        path: the file.
        run: what identifies the run (network, recipe, data, seed).

    Raises:
        CheckpointError: it is damaged, or another run's.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = Checkpoint(
            run=str(state["run"]),
            history=tuple(Epoch(**epoch) for epoch in state["history"]),
            model=dict(state["model"]),
            optimizer=dict(state["optimizer"]),
        )
        version = int(state["format"])
    except Exception as error:
        raise CheckpointError(
            f"{path}: is not a checkpoint that can be read ({type(error).__name__}); "
            "it is left as it is: move it away to train from the beginning"
        ) from error
    if version != FORMAT or found.run != run:
        raise CheckpointError(
            f"{path}: belongs to another run ({found.run}, this is {run}); "
            "choose another folder, or move it away to train from the beginning"
        )
    return found
