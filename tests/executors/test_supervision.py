"""How many workers a network may cost, and how many may die before any can start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.analysis.analyze import analyze
from archsearch.common.parse import from_mapping
from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.executors.protocol import EpochDone, JobDone, JobFailed, JobReport
from archsearch.executors.supervision import Supervisor
from archsearch.spec.models import Spec
from archsearch.training.job import Job
from archsearch.training.recipe import Recipe
from tests.executors.pretend_workers import EPOCH

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
def reports() -> list[JobReport]:
    return []


@pytest.fixture
def supervisor(reports: list[JobReport]) -> Supervisor:
    return Supervisor("workers", "is there memory?", lambda _text: None, reports.append)


def test_the_third_death_of_a_job_fails_it_and_no_other(
    supervisor: Supervisor, reports: list[JobReport]
) -> None:
    other = replace(JOB, key="two")
    jobs = (JOB, other, JOB, JOB, other)
    retried = [supervisor.retries(job, "died", blame=True, lost=None) for job in jobs]
    assert retried == [True, True, True, False, True]
    assert reports == [JobFailed("one", "3 workers died of it: the last died")]


def test_what_is_not_its_fault_is_not_held_against_a_job(
    supervisor: Supervisor, reports: list[JobReport]
) -> None:
    assert all(supervisor.retries(JOB, "", blame=False, lost=None) for _ in range(9))
    assert not reports


def test_a_device_that_is_lost_three_times_ends_the_search(supervisor: Supervisor) -> None:
    lost = DeviceLostError("cuda:0", "a fault")
    assert [supervisor.retries(JOB, "", blame=True, lost=lost) for _ in range(2)] == [True, True]
    with pytest.raises(DeviceLostError):
        supervisor.retries(JOB, "", blame=True, lost=lost)


def test_three_that_could_not_start_in_a_row_are_enough(supervisor: Supervisor) -> None:
    supervisor.crashed_early("died")
    supervisor.crashed_early("died")
    supervisor.one_started()
    supervisor.crashed_early("died")
    supervisor.crashed_early("died")
    with pytest.raises(ArchsearchError, match=r"^3 workers in a row .* the last ill; is there mem"):
        supervisor.crashed_early("ill")


def test_an_epoch_that_is_trained_again_after_a_crash_is_reported_once(
    supervisor: Supervisor, reports: list[JobReport]
) -> None:
    first, second = (
        EpochDone("one", EPOCH.model_copy(update={"epoch": number})) for number in (1, 2)
    )
    supervisor.submitted(JOB)
    for report in (first, first, second, first, JobDone("one", None)):
        supervisor.take(report)
    assert reports == [first, second, JobDone("one", None)]
    supervisor.submitted(JOB)  # a study resumed: its first epochs are there, and told again
    supervisor.take(first)
    assert reports[-1] == first
