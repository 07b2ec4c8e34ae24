"""`archsearch import`: notes, the module left as it was, and the check of the logits."""

from __future__ import annotations

import random
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from archsearch.convert.from_module import folding, import_module
from tests.convert.from_module import modules as m
from tests.convert.from_module.importing import RGB, net, net_in, problems_of


def test_unused_parameters_and_other_settings_are_told() -> None:
    init = "self.n = nn.BatchNorm2d(4, eps=1e-3, momentum=0.5)\nself.idle = nn.Linear(5, 3)"
    notes = import_module(net(init, "x = self.n(x)"), RGB, "net").notes
    assert notes == (
        "momentum 0.5 becomes 0.1: n",
        "eps 0.001 becomes 1e-05: n",
        "forward never uses 18 parameters: idle.weight, idle.bias",
    )


def test_the_module_is_left_as_it_was() -> None:
    module = net("self.n = nn.BatchNorm2d(4)", "x = F.dropout(self.n(x), 0.1, self.training)")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    import_module(module, RGB, "net")
    assert module.training is True
    for name, value in module.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    assert all(p.requires_grad for p in module.parameters())


TRAINING = {
    "if": "if self.training:\n    x = F.dropout(x, 0.5)",
    "literal": "x = F.dropout(x, 0.5, bool(self.training))",
    "else": "x = x if not self.training else F.dropout(x)",
}


@pytest.mark.parametrize("case", TRAINING)
def test_what_only_training_does_is_told(case: str, tmp_path: Path) -> None:
    code = TRAINING[case]
    path = tmp_path / "trained.py"
    imported = import_module(net_in(path, "", code), RGB, "net")
    first = code.splitlines()[0]
    line = next(i for i, row in enumerate(path.read_text().splitlines(), 1) if first in row)
    asks = f"forward asks self.training at {path}:{line} ({first}): "
    assert imported.notes[-1] == f"{asks}only what it does in evaluation is in the spec"
    assert not any("never drops" in note for note in imported.notes)
    assert "dropout" not in [layer.op for layer in imported.spec.blocks[0].layers]


def test_handing_on_the_training_flag_is_no_question() -> None:
    imported = import_module(net("", "x = F.dropout(x, 0.5, self.training)"), RGB, "net")
    assert imported.notes == ()
    assert '"dropout":0.5' in imported.spec.model_dump_json()


# The check


def test_logits_that_are_all_zero_are_equal() -> None:
    module = net("", "pass", end="F.relu(self.head(x.mean((2, 3))))")
    nn.init.constant_(module.head.bias, -1000.0)
    spec = import_module(module, RGB, "net").spec
    assert spec.output.layers[-1].model_dump()["activation"] == "relu"


@pytest.mark.parametrize("calls", [1, 2])
def test_a_forward_that_changes_its_state_is_told(calls: int) -> None:
    code = f"self.n += 1\nif self.n > {calls}:\n    x = F.gelu(x)"
    (problem,) = problems_of(net("self.n = 0", code))
    assert (problem.place, problem.rule) == ("forward", "runs-differ")
    assert "a bug in archsearch" not in problem.message


@pytest.mark.parametrize("rolled", [[0, 1], [0, 0, 1], [0, 1, 1, 0]])
def test_a_forward_that_rolls_dice_is_told(
    rolled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = chain(rolled, repeat(rolled[-1]))
    monkeypatch.setattr(random, "random", lambda: next(dice))
    code = "import random\nif random.random() < 0.5:\n    x = F.gelu(x)"
    (problem,) = problems_of(net("", code))
    assert problem.rule == "runs-differ"


def test_a_wrong_spec_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a bug: norms and activations in the wrong order."""
    absorbed = folding._absorbed

    def wrong(layer: Any, then: Any) -> Any:
        fields = absorbed(layer, then)
        return fields and fields | ({"order": "norm_act"} if "order" in fields else {})

    module = m.small(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.BatchNorm2d(8))
    import_module(module, RGB, "net")
    monkeypatch.setattr(folding, "_absorbed", wrong)
    (problem,) = problems_of(module)
    assert problem.rule == "import-check"
    assert "a bug in archsearch" in problem.message
