"""What a checkpoint holds, checked: a file may be damaged, another program's, or hostile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from archsearch.errors import one_line, shown
from archsearch.training.records import Epoch

MAX_EPOCHS = 1_000_000


def _plain(tensor: Tensor) -> Tensor:
    """Check that a tensor is numbers in memory of its own size, as training leaves it."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise ValueError("must be a dense tensor")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError("must have memory for each of its numbers")
    return tensor.detach()


def _in_order(history: tuple[Epoch, ...]) -> tuple[Epoch, ...]:
    if [epoch.epoch for epoch in history] != list(range(1, len(history) + 1)):
        raise ValueError("must have every epoch once, from the first one on")
    return history


PlainTensor = Annotated[Tensor, AfterValidator(_plain)]
Weights = dict[str, PlainTensor]
OfParameter = dict[str, PlainTensor | int | float | None]


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", arbitrary_types_allowed=True
    )


class _OptimizerState(_Strict):
    """Without its settings, which follow from the recipe."""

    state: dict[int, OfParameter]


class _Training(_Strict):
    model: Weights
    optimizers: list[_OptimizerState]
    average: Weights | None
    batch_size: Annotated[int, Field(ge=1, lt=2**31)]


class Stored(_Strict):
    """The content of a checkpoint of this format."""

    run: Annotated[str, Field(max_length=1_000)]
    history: Annotated[
        tuple[Epoch, ...], Field(max_length=MAX_EPOCHS, strict=False), AfterValidator(_in_order)
    ]
    training: _Training

    @classmethod
    def parse(cls, raw: object) -> Stored | str:
        """Return the content, or what is wrong with it."""
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"])[:80]
            why = first["msg"].removeprefix("Value error, ")[:200]
            return one_line(f"{place}: {why[:1].lower()}{why[1:]}")
        except RecursionError:
            return "it is nested too deeply"


def problem_of(
    state: Mapping[int, Mapping[str, Any]],
    shapes: Sequence[tuple[int, ...]],
    keys: frozenset[str],
) -> str | None:
    """Return why an optimizer cannot go on from a state; None if it can.

    Args:
        state: of each parameter, by number.
        shapes: of the parameters.
        keys: what the optimizer needs of a parameter that it has updated.
    """
    for number, kept in state.items():
        if not 0 <= number < len(shapes):
            return f"it has state of parameter {shown(number)} of {len(shapes)}"
        missing = sorted(key for key in keys if not isinstance(kept.get(key), Tensor))
        if kept and missing:
            return f"parameter {number} has no {missing[0]}"
        for name, value in kept.items():
            wanted = () if name == "step" else shapes[number]
            if isinstance(value, Tensor) and tuple(value.shape) != wanted:
                return f"{shown(name)} of parameter {number} is {tuple(value.shape)}, not {wanted}"
            if isinstance(value, Tensor) and not value.is_floating_point():
                return f"{shown(name)} of parameter {number} is {value.dtype}"
    return None
