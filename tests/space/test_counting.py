"""A search space's figures, against the analyzer and against listing every setting."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import LIMIT_RULES, Constraints, judge
from archsearch.analysis.totals import Totals
from archsearch.space.counting import account as accounting
from archsearch.space.counting import half_spaces
from archsearch.space.counting.account import (
    FRACTIONS,
    Accounting,
    account,
    advice,
    estimate_proportion,
)
from archsearch.space.counting.lookup import CHUNK, draw_many, look_up, tabulate
from archsearch.space.four_blocks import BlockSpace, Knobs, Space, Value, knob_choices, spec_of
from archsearch.study.config import Study, study_toml
from tests.conftest import Cli

NO_LIMITS = Constraints(**dict.fromkeys(Constraints.model_fields))

WIDTHS = st.lists(st.integers(4, 40), min_size=1, max_size=2, unique=True)
BODIES = [
    "conv", "residual", "basic_block", "depthwise_separable", "residual_depthwise_separable",
    "basic_block_depthwise_separable", "bottleneck",
]  # fmt: skip


def some(values: list[Any], most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


BLOCKS = st.builds(
    BlockSpace,
    width=WIDTHS,
    stride=some([1, 2, 3]),
    entry=some(["conv", "depthwise_separable"], 1),
    body=some(BODIES),
    depth=some([0, 1, 2]),
    dilation=some([1, 2, 3]),
)
SPACES = st.builds(
    Space, block1=BLOCKS, block2=BLOCKS, block3=BLOCKS, block4=BLOCKS,
    activation=some(["relu", "gelu"]),
)  # fmt: skip


def setting(space: Space, picks: dict[str, Any], i: int) -> dict[str, Value]:
    choices = knob_choices(space)
    return {knob: choices[knob][picks[knob][i]] for knob in choices}


@settings(max_examples=100)
@given(SPACES, st.integers(0, 1 << 30))
def test_tables_give_what_the_analyzer_gives(space: Space, seed: int) -> None:
    picks = draw_many(space, 4, np.random.default_rng(seed))
    columns = look_up(tabulate(space), picks)
    for i in range(4):
        totals = analyze(spec_of(setting(space, picks, i), "x")).totals
        for field in Totals._fields:
            actual = getattr(totals, field)
            value = getattr(columns, field)[i]
            assert (value, value) == actual if isinstance(actual, tuple) else value == actual


def test_chunks_make_no_difference() -> None:
    space = Space()
    picks = draw_many(space, CHUNK + 3, np.random.default_rng(0))
    whole = look_up(tabulate(space), picks)
    tail = look_up(tabulate(space), {knob: pick[CHUNK - 1 :] for knob, pick in picks.items()})
    np.testing.assert_array_equal(whole.macs[CHUNK - 1 :], tail.macs)
    np.testing.assert_array_equal(whole.receptive_field[CHUNK - 1 :], tail.receptive_field)


def every_setting(space: Space) -> Iterator[Knobs]:
    choices = knob_choices(space)
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def few(width: tuple[int, ...], **more: Any) -> BlockSpace:
    plain = {
        "stride": (2,), "entry": ("conv",), "body": ("conv",), "depth": (0, 1), "dilation": (1,),
    }  # fmt: skip
    return BlockSpace(width=width, **(plain | more))


SMALL = Space(
    block1=few((8, 12), stride=(1,)),
    block2=few((16,), stride=(1, 2), dilation=(1, 2)),
    block3=few((16, 24), entry=("conv", "depthwise_separable"), dilation=(2,)),
    block4=few((24,), body=("residual", "depthwise_separable"), depth=(0, 2), dilation=(1, 2)),
)
LIMITS = Constraints(max_params=17_000, min_receptive_field=30, max_macs=3_000_000)


@pytest.fixture(scope="module")
def listed() -> list[tuple[Totals, set[str], str]]:
    """Every setting of the small space: totals, limits broken, network."""
    verdicts = [judge(analyze(spec_of(knobs, "x")), LIMITS) for knobs in every_setting(SMALL)]
    return [
        (v.analysis.totals, {broken.rule for broken in v.violations}, v.analysis.spec_hash)
        for v in verdicts
    ]


def test_counts_are_those_of_listing_every_setting(
    listed: list[tuple[Totals, set[str], str]],
) -> None:
    found = account(SMALL, LIMITS)
    assert found.settings == len(listed)
    assert found.exact
    assert found.feasible.count == sum(not broken for _, broken, _ in listed) > 0
    assert found.limits.keys() == found.alone.keys() == found.without.keys()
    for rule in found.limits:
        assert found.alone[rule].count == sum(rule not in broken for _, broken, _ in listed)
        assert found.without[rule].count == sum(broken <= {rule} for _, broken, _ in listed)
    assert found.networks >= len({network for _, _, network in listed})


def test_quantiles_are_those_of_listing_every_setting(
    listed: list[tuple[Totals, set[str], str]],
) -> None:
    found = account(SMALL, LIMITS)
    for figure, values in found.quantiles.items():
        actual = sorted(
            min(value) if isinstance(value := getattr(t, figure), tuple) else value
            for t, _, _ in listed
        )
        for fraction, value in zip(FRACTIONS, values, strict=True):
            assert value == actual[max(0, math.ceil(fraction * len(actual)) - 1)]


def test_a_space_too_large_to_list_is_sampled_with_an_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = {"width": (32, 64), "body": ("conv", "residual_depthwise_separable"), "depth": (0, 1, 2)}
    space = Space(block2=BlockSpace(**few), block3=BlockSpace(**few), block4=BlockSpace(**few))
    counted = account(space, Constraints())
    monkeypatch.setattr(half_spaces, "MAX_LISTED", 10)
    sampled = account(space, Constraints())
    assert counted.exact
    assert not sampled.exact
    for rule, share in sampled.alone.items():
        # Three times the 95% interval: about one in a billion would fall outside by chance.
        assert abs(share.fraction - counted.alone[rule].fraction) <= 1.5 * (share.high - share.low)
    assert sampled.feasible.low < counted.feasible.fraction < sampled.feasible.high
    median = FRACTIONS.index(0.5)
    ratio = sampled.quantiles["params"][median] / counted.quantiles["params"][median]
    assert ratio == pytest.approx(1, abs=0.02)


def test_the_largest_space_that_can_be_written_is_sampled() -> None:
    block = BlockSpace(
        width=tuple(range(4, 68)), stride=(1, 2, 3, 4), depth=tuple(range(17)),
        dilation=tuple(range(1, 9)),
    )  # fmt: skip
    found = account(Space(block1=block, block2=block, block3=block, block4=block), Constraints())
    assert not found.exact
    assert found.settings == 2 * (64 * 4 * 2 * 7 * 17 * 8) ** 4


def test_a_sample_without_hits_proves_nothing() -> None:
    widths = tuple(range(4, 14))
    block = BlockSpace(width=widths, depth=(0, 1, 2, 3, 4), dilation=(1, 2, 3))
    space = Space(block1=block, block2=block, block3=block, block4=block)
    # There is a network of 277 parameters, which no sample of this size is likely to hold.
    found = account(space, NO_LIMITS.model_copy(update={"max_params": 300}))
    assert not found.exact
    assert not found.hopeless
    assert found.feasible.low == 0 < found.feasible.high
    assert "none of 400,000 drawn keeps max_params 300: they reach from" in advice(found)[0]


def test_a_count_whose_histogram_is_too_large_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_spaces, "MAX_CELLS", 10)
    assert not account(Space(), Constraints()).exact


@pytest.mark.parametrize(("hits", "samples"), [(5, 50), (1, 400_000), (0, 10), (7, 7)])
def test_wilsons_interval_ends_where_the_score_test_does(hits: int, samples: int) -> None:
    share = estimate_proportion(hits, samples)
    z = NormalDist().inv_cdf(0.975)
    for end in (share.low, share.high):
        score = (hits / samples - end) ** 2 - z**2 * end * (1 - end) / samples
        assert score == pytest.approx(0, abs=1e-12)
    assert share.low <= share.fraction <= share.high
    assert share.low < share.high


def test_without_limits_everything_fits() -> None:
    found = account(SMALL, NO_LIMITS)
    assert found.feasible.count == found.settings
    assert advice(found) == []


def test_advice_names_the_limit_and_the_choices() -> None:
    found = account(Space(), Constraints(max_macs=12_000_000))
    told = "\n".join(advice(found))
    assert "max_macs costs most" in told
    assert "block2.stride = 1" in told
    hopeless = account(Space(), Constraints(min_receptive_field=10_000))
    assert hopeless.feasible.count == 0
    told = "\n".join(advice(hopeless))
    most = hopeless.quantiles["receptive_field"][-1]
    assert (
        f"no setting keeps min_receptive_field 10,000: the space reaches from 9 to {most}" in told
    )


def test_another_number_of_blocks_fits_nothing() -> None:
    assert account(SMALL, Constraints(conv_blocks=5)).feasible.count == 0
    assert account(SMALL, Constraints(conv_blocks=5)).alone["conv_blocks"].count == 0


@pytest.mark.parametrize("listed_at_most", [half_spaces.MAX_LISTED, 10])
def test_constraints_on_kinds_of_layers_are_screened_too(
    monkeypatch: pytest.MonkeyPatch, listed_at_most: int
) -> None:
    monkeypatch.setattr(half_spaces, "MAX_LISTED", listed_at_most)
    # Strides are in entries and dilations in bodies; nothing pools before the output.
    found = account(SMALL, NO_LIMITS.model_copy(update={"no_pooling": True}))
    assert found.feasible.fraction == 1
    none = account(SMALL, NO_LIMITS.model_copy(update={"strided_dilated": True}))
    assert none.feasible.fraction == 0
    assert any("keeps strided_dilated" in line for line in advice(none))


def test_choices_are_shares_of_their_own_settings() -> None:
    found = account(SMALL, LIMITS)
    exact: dict[tuple[str, Value], list[bool]] = {}
    for knobs in every_setting(SMALL):
        fits = judge(analyze(spec_of(knobs, "x")), LIMITS).accepted
        for knob, value in knobs.items():
            exact.setdefault((knob, value), []).append(fits)
    assert found.choices_of == accounting.ALL
    for choice in found.choices:
        hits = exact[choice.knob, choice.value]
        # Three times the 95% interval: about one in a billion would fall outside by chance.
        wide = 1.5 * (choice.feasible.high - choice.feasible.low)
        assert abs(sum(hits) / len(hits) - choice.feasible.fraction) <= wide


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    shown = cli("space")
    assert shown.status == 0
    assert "99,131,719,680 settings" in shown.out
    path = tmp_path / "study.toml"
    path.write_text(study_toml(Study(name="x", space=SMALL, constraints=LIMITS)))
    assert "counted" in cli("space", path).out
    data = json.loads(cli("space", path, "--format", "json").out)
    assert data["exact"]
    assert data["feasible"]["count"] == round(data["feasible"]["fraction"] * data["settings"])
    assert set(data["limits"]) <= set(LIMIT_RULES)
    path.write_text(study_toml(Study(name="x", constraints=Constraints(max_params=10))))
    assert cli("space", path).status == 1
    missing = cli("space", tmp_path / "none.toml")
    assert (missing.status, missing.out) == (2, "")
    assert "no such study file" in missing.err


def test_a_choice_twice_is_a_problem(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('name = "x"\n[space.block1]\nwidth = [8, 16, 8]\n')
    result = cli("space", path)
    assert result.status == 2
    assert "space.block1.width  must be a list of different choices, got [8, 16, 8]" in result.err


def test_the_same_seed_gives_the_same_accounting() -> None:
    one: Accounting = account(SMALL, LIMITS, seed=3)
    assert one == account(SMALL, LIMITS, seed=3)
