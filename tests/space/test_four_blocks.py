"""The search space, its study file, and proposals within the limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints
from archsearch.common.parse import from_toml
from archsearch.errors import ExhaustedSpaceError, InputError
from archsearch.search.distributions import distributions
from archsearch.search.events import Rejection
from archsearch.search.sampler import FeasibleSampler
from archsearch.space.four_blocks import BlockSpace, Space, knob_choices, spec_of
from archsearch.space.settings import complete, judge_setting
from archsearch.study.config import Sampler, Study, load_study, shipped_studies, study_toml

ALL = {name: st.sampled_from(choices) for name, choices in knob_choices(Space()).items()}


@given(st.fixed_dictionaries(ALL))
def test_every_setting_is_a_network(knobs: dict[str, int | str]) -> None:
    analysis = analyze(spec_of(knobs, "any"))
    assert len(analysis.spec.blocks) == 4
    strides = [int(knobs[f"block{i}.stride"]) for i in (1, 2, 3, 4)]
    expected = 32
    for stride in strides:
        expected = -(-expected // stride)
    assert analysis.network.sections[3][-1].after.size == (expected, expected)


def test_evenly_spaced_numbers_keep_their_order() -> None:
    found = distributions(Space())
    width = found["block2.width"]
    assert isinstance(width, optuna.distributions.IntDistribution)
    assert (width.low, width.high, width.step) == (32, 64, 8)
    assert isinstance(found["block2.body"], optuna.distributions.CategoricalDistribution)
    assert "block1.stride" not in found


@pytest.mark.parametrize("name", shipped_studies())
def test_a_study_file_survives_being_written_out(name: str) -> None:
    study = load_study(name)
    assert from_toml(Study, study_toml(study), "again") == study


def test_what_is_switched_off_stays_off() -> None:
    study = Study(name="x", constraints=Constraints(max_params=None, dilated=None))
    again = from_toml(Study, study_toml(study), "again")
    assert again.constraints.max_params is None
    assert not again.constraints.dilated


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "/root", "a" * 200])
def test_a_study_cannot_name_a_folder_elsewhere(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        from_toml(Study, f'name = "{name}"', "study.toml")


def test_errors_in_a_study_file_name_their_field(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('name = "x"\n[recipe]\nlr = -1\n[space.block2]\nwidths = [3]\n')
    with pytest.raises(InputError) as error:
        load_study(str(path))
    assert {problem.place for problem in error.value.problems} == {
        "recipe.lr", "space.block2.width", "space.block2.widths",
    }  # fmt: skip


def test_a_known_good_setting_must_be_one_of_the_space(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('name = "x"\n[[start]]\n"block2.width" = 33\n"block9.width" = 1\n')
    with pytest.raises(InputError) as error:
        load_study(str(path))
    told = {problem.place: problem.rule for problem in error.value.problems}
    assert told["start.0.block2.width"] == "choice"
    assert told["start.0.block9.width"] == "unknown-knob"
    assert told["start.0.block4.body"] == "missing"


def proposals(kind: str, count: int, seed: int) -> tuple[list[dict[str, Any]], list[Rejection]]:
    study_file = load_study("cifar10-200k")
    rejections: list[Rejection] = []
    sampler = FeasibleSampler(
        study_file.space,
        study_file.constraints,
        Sampler(kind=kind, startup_trials=4),
        seed,
        rejections.append,
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    drawn = []
    for i in range(count):
        trial = study.ask(distributions(study_file.space))
        knobs = complete(study_file.space, trial.params)
        verdict, rules = judge_setting(study_file.space, knobs, study_file.constraints, "x")
        assert verdict is not None
        assert rules == []
        trial.set_user_attr("spec_hash", verdict.analysis.spec_hash)
        drawn.append({"hash": verdict.analysis.spec_hash, **knobs})
        study.tell(trial, i / count)
    return drawn, rejections


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_proposals_are_within_the_limits_new_and_reproducible(kind: str) -> None:
    one, rejections = proposals(kind, 8, seed=0)
    assert len({knobs["hash"] for knobs in one}) == 8
    assert proposals(kind, 8, seed=0)[0] == one
    assert proposals(kind, 8, seed=1)[0] != one
    assert rejections
    assert all(rejection.rules for rejection in rejections)


def test_a_space_with_nothing_new_left_says_so() -> None:
    one = BlockSpace(
        width=(16,), stride=(2,), entry=("conv",), body=("conv",), depth=(1,), dilation=(1, 2)
    )
    space = Space(block1=one, block2=one, block3=one, block4=one, activation=("relu",))
    none = Constraints(**dict.fromkeys(Constraints.model_fields))
    sampler = FeasibleSampler(space, none, Sampler(patience=300), 0, lambda _: None)
    study = optuna.create_study(sampler=sampler)

    def exhaust() -> None:
        for _ in range(17):
            trial = study.ask(distributions(space))
            analysis = analyze(spec_of(complete(space, trial.params), "x"))
            trial.set_user_attr("spec_hash", analysis.spec_hash)
            study.tell(trial, 0.0)

    with pytest.raises(ExhaustedSpaceError, match="all 16 networks of the space are trained"):
        exhaust()
    assert len(study.trials) == 17  # all 16 networks, and the trial that found no more
