"""What a traced module does, step by step: layers of a spec, and what joins or cuts maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from archsearch.convert.from_module.traced import Where
from archsearch.spec import models as s
from archsearch.spec.ops import Pair


@dataclass(frozen=True, slots=True)
class Image:
    """The input."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Maps of one shape, added."""


@dataclass(frozen=True, slots=True)
class Concat:
    """Maps side by side, over channels."""


@dataclass(frozen=True, slots=True)
class Product:
    """Two maps, multiplied."""


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
class Plain:
    """What a spec has no layer for, and may still be right where it stands.

    `softmax` and `log_softmax` after the logits; `sigmoid`, `reshape` and `expand` in a gate.
    """

    kind: Literal["softmax", "log_softmax", "sigmoid", "reshape", "expand"]


@dataclass(frozen=True, slots=True)
class Own:
    """A parameter or tensor of the module's own, outside of torch's layers."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """What a spec cannot express, and why."""

    why: str


Op = s.Layer | Image | Sum | Concat | Product | Chunks | Part | Pad | Plain | Own | Unknown


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
