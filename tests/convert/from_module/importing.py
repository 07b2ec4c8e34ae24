"""Modules from lines of code and specs by hand, for the tests of `archsearch import`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from archsearch.analysis.analyze import analyze
from archsearch.convert.from_module import import_module
from archsearch.errors import InputError, Problem
from archsearch.spec.models import Spec
from tests.strategies import Json

RGB = (3, 12, 12)
GAP_LINEAR: list[Json] = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
CONV: Json = {"op": "conv", "norm": None, "activation": None}


def hash_of(spec: Spec) -> str:
    return analyze(spec).spec_hash


def written(layers: list[Json], head: list[Json]) -> Spec:
    """A spec by hand: a stem, `layers` and a head."""
    stem: Json = {"op": "conv", "out_channels": 4, "kernel_size": 1}
    stem |= {"norm": None, "activation": None}
    raw = {
        "name": "written",
        "input": {"channels": RGB[0], "height": RGB[1], "width": RGB[2]},
        "blocks": [{"name": "b", "layers": [stem, *layers]}],
        "output": {"layers": head},
    }
    return Spec.model_validate(raw)


SOURCE = """
import operator
import torch
from torch import nn
from torch.nn import functional as F
from tests.convert.from_module.modules import Dense, Gate, PreActivation, Tangled

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        {init}
        self.head = nn.Linear({channels}, 10)

    def forward(self, x):
        x = self.stem(x)
        {forward}
        return {end}
"""


def source(init: str, forward: str, channels: int, end: str) -> str:
    init, forward = (textwrap.indent(part, " " * 8).strip() for part in (init, forward))
    return SOURCE.format(init=init or "pass", forward=forward, channels=channels, end=end)


def net(init: str, forward: str, channels: int = 4, end: str = "self.head(x.mean((2, 3)))") -> Any:
    """A module over 4-channel 12x12 maps, from lines of code."""
    return made(source(init, forward, channels, end), "<lines>")


def net_in(path: Path, init: str, forward: str) -> Any:
    """The same as a file, whose lines can be told."""
    text = source(init, forward, 4, "self.head(x.mean((2, 3)))")
    path.write_text(text)
    return made(text, str(path))


def made(text: str, file: str) -> Any:
    names: dict[str, Any] = {"__name__": "written"}
    exec(compile(text, file, "exec"), names)  # noqa: S102 # a test's own text
    return names["Net"]()


def problems_of(module: nn.Module, shape: tuple[int, int, int] = RGB) -> list[Problem]:
    with pytest.raises(InputError) as error:
        import_module(module, shape, "net")
    return list(error.value.problems)
