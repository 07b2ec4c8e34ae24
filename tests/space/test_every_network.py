"""All networks of a small space, against trying every setting."""

from __future__ import annotations

from itertools import product

import pytest

from archsearch.analysis.constraints import Constraints
from archsearch.space.counting.every_network import every_network
from archsearch.space.edits.knobs import edits_of, knobs_of
from archsearch.space.four_blocks import BlockSpace, Space
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.settings import AnySpace, judge_setting, knob_choices
from archsearch.spec.models import Spec

FREE = Constraints(**dict.fromkeys(Constraints.model_fields))
ONE = {"width": (8,), "stride": (2,), "entry": ("conv",), "body": ("conv",), "dilation": (1,)}
FEW = Space(
    block1=BlockSpace(**ONE, depth=(0, 1)),
    block2=BlockSpace(**{**ONE, "dilation": (1, 2)}, depth=(0, 1)),
    block3=BlockSpace(**{**ONE, "body": ("conv", "depthwise_separable")}, depth=(0, 2)),
    block4=BlockSpace(**{**ONE, "width": (8, 16)}, depth=(1,)),
    activation=("relu", "silu"),
)
HEAD = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
BASE = Spec.model_validate(
    {
        "name": "base",
        "blocks": [{"name": "b", "layers": [{"op": "conv", "out_channels": 8, "stride": 2}]}],
        "output": {"layers": HEAD},
    }
)
NEAR = Neighbourhood(base=BASE, max_edits=1)


def tried(space: AnySpace, limits: Constraints) -> set[str]:
    """Hashes of what every setting makes."""
    choices = knob_choices(space)
    found = set()
    if isinstance(space, Space):
        settings = [
            dict(zip(choices, values, strict=True)) for values in product(*choices.values())
        ]
    else:
        as_is = {name: knob.as_is for name, knob in knobs_of(space.base).items()}
        settings = [{**as_is, name: value} for name in choices for value in choices[name]]
    for setting in settings:
        verdict, rules = judge_setting(space, setting, limits, "x")
        if verdict and not rules:
            found.add(verdict.analysis.spec_hash)
    return found


@pytest.mark.parametrize(("space", "most"), [(FEW, None), (FEW, 5_000), (NEAR, None), (NEAR, 322)])
def test_it_is_what_trying_every_setting_finds(space: AnySpace, most: int | None) -> None:
    limits = FREE.model_copy(update={"max_params": most})
    every = every_network(space, limits)
    assert every is not None
    assert every.keys() == tried(space, limits)
    for spec_hash, setting in every.items():
        verdict, rules = judge_setting(space, setting, limits, "x")
        assert (verdict and verdict.analysis.spec_hash, rules) == (spec_hash, [])


def test_limits_leave_some_and_the_spec_itself_has_no_edits() -> None:
    every, few = (
        every_network(FEW, FREE),
        every_network(FEW, FREE.model_copy(update={"max_params": 5_000})),
    )
    assert every
    assert few
    assert len(few) < len(every)
    near = every_network(NEAR, FREE)
    assert near
    assert [] in [list(edits_of(BASE, setting)) for setting in near.values()]


def test_a_large_space_is_not_tried() -> None:
    assert every_network(Space(), FREE) is None
    assert every_network(Neighbourhood(base=BASE, max_edits=6), FREE) is None
