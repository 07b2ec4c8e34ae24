"""What a traced module does, step by step: layers of a spec, and what joins or cuts maps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from torch import nn

from archsearch.convert.from_module.traced import Where
from archsearch.spec import models as s
from archsearch.spec.ops import Pair


class Plain(Enum):
    """What a spec has no layer for, and needs no settings.

    Softmaxes may stand after the logits; `SIGMOID`, `RESHAPE` and `EXPAND` in a gate.
    """

    IMAGE = "the input"
    SUM = "maps of one shape, added"
    CONCAT = "maps side by side, over channels"
    PRODUCT = "two maps, multiplied"
    OWN = "a parameter or tensor of the module's own, outside of torch's layers"
    SOFTMAX = "softmax"
    LOG_SOFTMAX = "log_softmax"
    SIGMOID = "sigmoid"
    RESHAPE = "reshape"
    EXPAND = "expand"


@dataclass(frozen=True, slots=True)
class Chunks:
    """A map, cut over its channels."""

    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Channels `start` to `start + length`."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Pad:
    """Zeros around a map: ((top, bottom), (left, right))."""

    padding: tuple[Pair, Pair]


@dataclass(frozen=True, slots=True)
class Unknown:
    """What a spec cannot express, and why."""

    why: str


Op = s.Layer | Plain | Chunks | Part | Pad | Unknown


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operation over the outputs of others.

    Attributes:
        shape: of the output, for one image: (C, H, W) or (C,).
        modules: those whose weights it holds.
    """

    op: Op
    inputs: tuple[Step, ...]
    shape: tuple[int, ...]
    where: Where
    modules: tuple[nn.Module, ...] = ()
