"""How many workers a network may cost, and how many may die before any can start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.analysis.analyze import analyze
from archsearch.common.parse import from_mapping
from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.executors.protocol import JobFailed
from archsearch.executors.supervision import Deaths
from archsearch.spec.models import Spec
from archsearch.training.job import Job
from archsearch.training.recipe import Recipe

SPEC = from_mapping(Spec, {
    "name": "small",
    "blocks": [{"name": "a", "layers": [{"op": "conv", "out_channels": 8}]}],
    "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]},
}, "test")  # fmt: skip
_ANALYSIS = analyze(SPEC)
JOB = Job(
    key="one", spec_hash=_ANALYSIS.spec_hash, network=_ANALYSIS.network, recipe=Recipe(), seed=0,
    folder=Path("nowhere"), final=False,
)  # fmt: skip


@pytest.fixture
def deaths() -> Deaths:
    return Deaths("workers", "is there memory?")


def test_the_third_death_of_a_job_fails_it_and_no_other(deaths: Deaths) -> None:
    other = replace(JOB, key="two")
    told = [deaths.of(job, "died", blame=True, lost=None) for job in (JOB, other, JOB, JOB, other)]
    failed = JobFailed("one", "3 workers died of it: the last died")
    assert told == [None, None, None, failed, None]


def test_what_is_not_its_fault_is_not_held_against_a_job(deaths: Deaths) -> None:
    assert not [told for _ in range(9) if (told := deaths.of(JOB, "", blame=False, lost=None))]


def test_a_device_that_is_lost_three_times_ends_the_search(deaths: Deaths) -> None:
    lost = DeviceLostError("cuda:0", "a fault")
    assert [deaths.of(JOB, "", blame=True, lost=lost) for _ in range(2)] == [None, None]
    with pytest.raises(DeviceLostError):
        deaths.of(JOB, "", blame=True, lost=lost)


def test_three_that_could_not_start_in_a_row_are_enough(deaths: Deaths) -> None:
    deaths.early("died")
    deaths.early("died")
    deaths.one_started()
    deaths.early("died")
    deaths.early("died")
    with pytest.raises(ArchsearchError, match=r"^3 workers in a row .* the last ill; is there mem"):
        deaths.early("ill")
