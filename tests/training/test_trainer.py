"""What goes wrong while a job trains: whose fault it is decides what becomes of it."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from archsearch.analysis.analyze import analyze
from archsearch.errors import DeviceLostError, TrainingError
from archsearch.executors.in_process import InProcessExecutor, train_job
from archsearch.executors.protocol import JobFailed
from archsearch.spec.models import Spec
from archsearch.training import trainer as trainer_module
from archsearch.training.augment import statistics
from archsearch.training.device import Device
from archsearch.training.images import load
from archsearch.training.job import Job
from archsearch.training.loop import EVAL_BATCH, evaluate
from archsearch.training.recipe import Recipe
from archsearch.training.trainer import Trainer
from tests.strategies import HEADS, spec_of


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer.of(load("shapes", None), Device(torch.device("cpu"), "fp32", "the test's"))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    raw = spec_of([[{"op": "conv", "out_channels": 4, "stride": 4}]], HEADS[0], 32, 32)
    raw["input"]["channels"] = 3
    analysis = analyze(Spec.model_validate(raw))
    recipe = Recipe(epochs=1, batch_size=500)
    return Job(
        key="1", spec_hash=analysis.spec_hash, network=analysis.network, recipe=recipe, seed=3,
        folder=tmp_path, final=False,
    )  # fmt: skip


def failing(error: Exception) -> object:
    """Stands in for `train`: the error comes when the first epoch is asked for."""

    def train(*_args: object, **_options: object) -> Iterator[None]:
        yield from ()
        raise error

    return train


def test_a_lost_device_ends_the_search_and_not_the_trial(
    trainer: Trainer, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = torch.AcceleratorError("CUDA error: device-side failure\nCompile with ...")
    monkeypatch.setattr(trainer_module, "train", failing(gone))
    executor = InProcessExecutor(trainer, warn=print)
    executor.submit(job)
    with pytest.raises(DeviceLostError, match=r"^the test's failed: CUDA error: device-side") as e:
        executor.next_report()
    assert not isinstance(e.value, TrainingError)
    assert "run the same command again" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory: use a"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: use a"),
        (MemoryError(), "out of memory: use a"),
        (RuntimeError("mat1 and mat2"), "torch cannot train this: mat1 and mat2"),
    ],
)
def test_what_the_network_cannot_do_fails_its_trial(
    trainer: Trainer, job: Job, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    monkeypatch.setattr(trainer_module, "train", failing(error))
    executor = InProcessExecutor(trainer, warn=print)
    executor.submit(job)
    report = executor.next_report()
    assert isinstance(report, JobFailed)
    assert report.reason.startswith(reason)


def test_every_step_and_every_batch_that_is_scored_is_a_sign_of_life(
    trainer: Trainer, job: Job
) -> None:
    signs = 0

    def sign() -> None:
        nonlocal signs
        signs += 1

    steps = len(trainer.fit) // job.recipe.batch_size
    scored = math.ceil(len(trainer.held_out) / EVAL_BATCH)
    tested = math.ceil(len(trainer.dataset.test) / EVAL_BATCH)
    list(trainer.train(job, test=True, warn=print, on_step=sign))
    assert signs == steps + scored + tested


def test_a_run_that_goes_on_never_has_fewer_epochs_on_disk(trainer: Trainer, job: Job) -> None:
    longer = replace(job, recipe=job.recipe.model_copy(update={"epochs": 3}))
    told = trainer.train(longer, test=False, warn=print)
    next(told), next(told)
    history = job.folder / "history.csv"
    before = history.read_text()
    history.unlink()  # as if a crash had come between the checkpoint and it
    for _ in trainer.train(longer, test=False, warn=print):
        assert history.read_text().startswith(before)
    assert len(history.read_text().splitlines()) == 1 + 3


def test_a_run_says_where_and_how_it_was_made(trainer: Trainer, job: Job) -> None:
    steps = list(trainer.train(job, test=True, warn=print))
    assert len(steps) == 2
    assert json.loads((job.folder / "run.json").read_text()) == {
        "device": "the test's", "precision": "fp32", "seed": 3, "dataset": "shapes",
        "torch_version": torch.__version__, "full": False, "spec_hash": job.spec_hash,
    }  # fmt: skip


def test_a_run_leaves_code_that_needs_torch_alone_and_scores_as_it_was_told(
    trainer: Trainer, job: Job
) -> None:
    _, test_acc = trainer.train(job, test=True, warn=print)
    found = importlib.util.spec_from_file_location("model", job.folder / "model.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    model = module.load_checkpoint(job.folder / "checkpoint.pt")
    mean, std = statistics(trainer.fit.pixels)
    score = evaluate(model, trainer.dataset.test, mean, std, trainer.device)
    assert score.accuracy == test_acc


def test_how_far_an_epoch_is_follows_from_its_steps(trainer: Trainer, job: Job) -> None:
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    list(trainer.train(job, test=False, warn=lambda _text: None, on_step=count))
    assert steps == trainer.steps_per_epoch(job)


def test_the_executor_here_knows_how_far_its_job_is(trainer: Trainer, job: Job) -> None:
    shares: list[float] = []
    executor = InProcessExecutor(trainer, lambda _text: None)
    executor.submit(job)
    executor.submit(replace(job, key="2", folder=job.folder / "2"))
    normal = executor._on_step

    def watched() -> None:
        normal()
        shares.append(executor.epoch_share("1"))
        assert executor.epoch_share("2") == executor.epoch_share("none") == 0

    executor._running["1"] = train_job(trainer, job, executor.warn, watched)
    executor.next_report()
    assert shares == pytest.approx([i / len(shares) for i in range(1, len(shares) + 1)])
    assert executor.epoch_share("1") == 0
