"""What a search maximizes, and the front that no network beats, against their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.errors import InputError
from archsearch.study.config import Sampler, Study, load_study, study_toml
from archsearch.study.objective import pareto_front, score, seconds_to
from archsearch.training.records import Epoch
from tests.search.test_driver import accuracy, check_done, demo, go

ACCURACY = st.floats(0, 0.99)
PARAMS = st.integers(1, 10**7)
SECONDS = st.none() | st.floats(1, 10**6)
NETWORK = st.tuples(ACCURACY, PARAMS, SECONDS)


def epochs(*accuracies: float | None) -> list[Epoch]:
    return [
        Epoch(
            epoch=i, lr=0.1, train_loss=1, train_acc=0.5, val_loss=None, val_acc=accuracy,
            train_seconds=10, images_per_second=1,
        )
        for i, accuracy in enumerate(accuracies, start=1)
    ]  # fmt: skip


def test_seconds_to_a_target_are_those_of_the_epochs_up_to_it() -> None:
    assert seconds_to(0.8, epochs(0.5, 0.8, 0.7)) == 20
    assert seconds_to(0.81, epochs(0.5, 0.8, 0.7)) is None
    assert seconds_to(None, epochs(0.5)) is None
    assert seconds_to(0.5, epochs(None)) is None


@given(NETWORK, NETWORK)
@pytest.mark.parametrize("objective", ["params", "time"])
def test_first_the_target_then_the_cost(
    objective: Literal["params", "time"],
    one: tuple[float, int, float | None],
    two: tuple[float, int, float | None],
) -> None:
    def wanted(network: tuple[float, int, float | None]) -> tuple[bool, float]:
        val_acc, params, seconds = network
        if seconds is None:
            return (False, val_acc)
        return (True, -params if objective == "params" else -seconds)

    def scored(network: tuple[float, int, float | None]) -> float:
        val_acc, params, seconds = network
        last = epochs(val_acc)[0] if seconds is None else epochs(1.0)[0]
        history = [last.model_copy(update={"train_seconds": seconds or 1.0})]
        return score(objective, 1.0, history, params)

    better, worse = sorted((one, two), key=wanted, reverse=True)
    assert scored(better) >= scored(worse)
    if wanted(better)[0] > wanted(worse)[0]:
        assert scored(better) > scored(worse)
    if wanted(worse)[0] and wanted(better)[1] > 0.99 * wanted(worse)[1]:  # both are negative
        assert scored(better) > scored(worse)


def test_a_target_that_was_only_touched_is_not_had() -> None:
    touched, had = epochs(0.9, 0.7), epochs(0.6, 0.8)
    assert score("params", 0.75, touched, 10) == 0.7
    assert score("params", 0.75, had, 1_000_000) > 1
    assert score("time", 0.75, touched, 10) > score("time", 0.75, had, 10) > 1
    assert score("accuracy", 0.75, had, 10) == 0.8


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12))
def test_the_front_is_what_no_row_dominates(rows: list[tuple[int, int]]) -> None:
    front = [row for row, kept in zip(rows, pareto_front(rows), strict=True) if kept]
    # For two columns the front is a staircase: sorted by one it falls in the other.
    best: dict[int, int] = {}
    for x, y in rows:
        best[x] = min(y, best.get(x, y))
    stairs, lowest = set(), 4
    for x in sorted(best):
        if best[x] < lowest:
            stairs.add((x, best[x]))
            lowest = best[x]
    assert set(front) == stairs
    assert len(front) == sum(row in stairs for row in rows)


def test_a_search_for_few_parameters_ranks_by_them(tmp_path: Path) -> None:
    target = 0.7
    config = demo(
        objective="params", recipe=demo().recipe.model_copy(update={"target_accuracy": target})
    )
    entries = go(tmp_path, 12, config=config)
    check_done(tmp_path, 12)
    assert all(entry.status == "trained" for entry in entries)  # the small are not pruned
    reached = [entry for entry in entries if accuracy(entry.spec_hash) >= target]
    missed = [entry for entry in entries if accuracy(entry.spec_hash) < target]
    assert reached
    assert missed
    assert entries == sorted(reached, key=lambda e: e.params) + sorted(
        missed, key=lambda e: -(e.val_acc or 0)
    )
    assert entries[0].test_acc is not None
    for entry in entries:
        beaten = any(
            (other.val_acc or 0) >= (entry.val_acc or 0)
            and other.params <= entry.params
            and other.macs <= entry.macs
            and other.spec_hash != entry.spec_hash
            for other in entries
        )
        assert entry.pareto is not beaten


def test_an_objective_needs_its_target(tmp_path: Path) -> None:
    text = study_toml(demo(objective="time")).replace(
        "target_accuracy = 0.85", "target_accuracy = false"
    )
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"recipe\.target_accuracy  is needed by objective time"):
        load_study(str(path))


@pytest.mark.parametrize("kind", ["tpe", "random", "gp", "nsga2"])
def test_every_sampler_proposes_new_networks_within_the_limits(
    kind: Literal["tpe", "random", "gp", "nsga2"], tmp_path: Path
) -> None:
    config: Study = demo(sampler=Sampler(kind=kind, startup_trials=3))
    first = go(tmp_path / "a", 5, config=config)
    check_done(tmp_path / "a", 5)
    again = go(tmp_path / "b", 5, config=config)
    assert [(e.trial, e.spec_hash) for e in again] == [(e.trial, e.spec_hash) for e in first]
