"""The world that is attacked: a study, training runs, data, a cache and the files a user writes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from archsearch.training import checkpoint, datasets, shapes
from fuzz.fork import Command, Outcome, Terminal, start, watch

CPU = ("--device", "cpu", "--precision", "fp32")
FIGURES = "figures.json"
WORK = "1/2/3/work"
STUDY, RUN, DATA = "studies/fuzz", "runs/net", "data"

_SPEC = {
    "format": 1,
    "name": "net",
    "input": {"channels": 3, "height": 32, "width": 32},
    "classes": 10,
    "blocks": [
        {"name": "b1", "layers": [{"op": "conv", "out_channels": 8, "stride": [2, 2]}]},
        {"name": "b2", "layers": [
            {"op": "depthwise_separable", "out_channels": 12, "stride": 2, "dropout": 0.1},
            {"op": "residual", "body": [{"op": "conv", "out_channels": 12, "dilation": 2}]},
        ]},
        {"name": "b3", "layers": [
            {"op": "parallel", "merge": "concat", "branches": [
                [{"op": "conv", "out_channels": 8}], [{"op": "max_pool", "stride": 1,
                                                       "kernel_size": 3, "padding": 1}],
            ]},
            {"op": "squeeze_excite", "reduction": 4},
        ]},
    ],
    "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]},
}  # fmt: skip
_RECIPE = {
    "optimizer": "sgd", "lr": 0.1, "epochs": 2, "batch_size": 100, "target_accuracy": None,
    "schedule": {"kind": "one_cycle", "peak": 0.3}, "average": {"decay": 0.5},
    "augment": {"flip": 0.5, "translate": 2, "cutout": {"p": 0.5, "size": 8}},
}  # fmt: skip
_STUDY = """\
name = "fuzz"
dataset = "shapes"
seed = 0
finalists = 1
[constraints]
max_macs = 1_000_000
max_params = 20_000
[space.block1]
width = [8]
stride = [2]
entry = ["conv"]
depth = [0]
dilation = [1]
[space.block2]
width = [8, 12]
stride = [1, 2]
[space.block3]
width = [8, 12, 16]
[space.block4]
width = [16, 24]
[recipe]
epochs = 2
batch_size = 100
target_accuracy = false
augment = { flip = 0.0, translate = 2 }
[final_recipe]
epochs = 2
batch_size = 100
target_accuracy = false
"""
_LIMITS = {"max_params": 20_000, "min_receptive_field": 44, "conv_blocks": None}
_LOG = """\
epoch,train_loss,train_acc,val_loss,val_acc,lr
1,2.1,0.2,2.2,0.19,0.05
2,1.7,0.35,1.9,0.3,0.1
3,1.5,0.45,1.8,0.33,0.05
4,1.2,0.6,1.9,0.34,0.01
"""
_MODULE = """\
from torch import nn
class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 16, 3, stride=2, dilation=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(16, 10)
    def forward(self, x):
        return self.head(self.features(x).flatten(1))
"""
SENTINELS = (
    "spec.json", "recipe.json", "history.csv", "run.json", "checkpoint.pt", "model.py", ".lock",
    "study.toml", "study.db", "leaderboard.csv", "rejections.csv", "report.html", "storage.txt",
    "result.json", "evaluation/evaluation.json", "final-0/run.json",
)  # fmt: skip
"""Files outside the study, named as those inside: what escapes overwrites one of them."""


@dataclass(frozen=True)
class World:
    """Folders of one attack.

    Attributes:
        root: holds all of it.
    """

    root: Path

    @property
    def work(self) -> Path:
        """The working directory, so deep that `..` does not lead out of the world."""
        return self.root / WORK

    @property
    def outside(self) -> Path:
        """What nobody may touch."""
        return self.root / "outside"

    @property
    def cache(self) -> Path:
        """Where decoded data is kept."""
        return self.root / "home" / ".cache" / "archsearch"


def make_small_data() -> None:
    """Shrink the data sets of this process, so that an epoch takes a tenth of a second."""
    facts = cast("dict[str, datasets.DatasetFacts]", datasets.DATASETS)
    facts["cifar10"] = datasets.DatasetFacts(train=200, test=50, generated=False)
    facts["shapes"] = datasets.DatasetFacts(train=400, test=100, generated=True)
    shapes.generate = cache(shapes.generate)
    shapes.generate()


def environment(world: World) -> dict[str, str]:
    """Return the environment of a command that nobody attacks."""
    return {
        "HOME": str(world.root / "home"),
        "XDG_CACHE_HOME": str(world.cache.parent),
        "PATH": os.environ.get("PATH", ""),
        "OMP_NUM_THREADS": "1",
        "ARCHSEARCH_STORAGE_PATIENCE": "1",
    }


def make(world: World) -> None:
    """Write the files of a user, search, train and evaluate."""
    work = world.work
    for folder in (work, world.outside, world.root / "home"):
        folder.mkdir(parents=True)
    _write_inputs(work)
    _write_images(work / DATA)
    for folder in (world.outside, world.outside / "trials" / "v", work / "v", world.root / "v"):
        for name in SENTINELS:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("SENTINEL\n")
    run = partial(_run, world)
    train = ("train", "spec.json", "--recipe", "recipe.json", *CPU)
    run("train", *train[1:], "--dataset", "shapes", "--out", RUN)
    run("train", *train[1:], "--data", DATA, "--out", "runs/cifar")
    run("train", *train[1:], "--dataset", "shapes", "--out", "runs/half", saves=1)
    run("evaluate", RUN, "--format", "json", "--device", "cpu")
    shutil.copy(world.root / "out", world.root / FIGURES)
    search = ("search", "study.toml", "--workers", "0", *CPU)
    run(*search, "--trials", "3")
    run(*search, "--trials", "5", saves=3)


def _write_inputs(work: Path) -> None:
    (work / "spec.json").write_text(json.dumps(_SPEC, indent=1))
    lines = [json.dumps(_SPEC | {"name": f"net-{i}"}) for i in range(4)]
    (work / "specs.ndjson").write_text("\n".join(lines) + "\n")
    (work / "recipe.json").write_text(json.dumps(_RECIPE, indent=1))
    (work / "study.toml").write_text(_STUDY)
    (work / "limits.json").write_text(json.dumps(_LIMITS))
    (work / "log.csv").write_text(_LOG)
    (work / "model.py").write_text(_MODULE)


def _write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 5)):
        for cls in range(10):
            for i in range(count):
                path = folder / split / f"class{cls}" / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(path)


def _run(world: World, *args: str, saves: int | None = None) -> Outcome:
    command = Command(
        args, world.work, world.root / "out", world.root / "err",
        Terminal(environment(world)), partial(_reproducible, saves),
    )  # fmt: skip
    outcome = watch(start(command), command)
    if outcome.status not in ((0, 1) if saves is None else (3,)):
        raise RuntimeError(f"{args} ended with {outcome}: {command.err.read_text()[-2000:]}")
    return outcome


def _reproducible(saves: int | None) -> None:
    """Count instead of timing, so that files are the same each time; die after so many saves."""
    ticks = itertools.count()
    time.perf_counter = time.monotonic = lambda: next(ticks) / 64
    if saves is not None:
        checkpoint.save = _dies_after(checkpoint.save, saves)


def without_plots() -> None:
    """Hide matplotlib, which takes seconds to draw."""
    sys.modules.pop("archsearch.training.evaluation.plots", None)  # which has imported it
    sys.modules["matplotlib"] = None  # type: ignore[assignment]


def _dies_after(save: Callable[..., Any], saves: int) -> Callable[..., None]:
    count = itertools.count(1)

    def counted(*args: Any, **options: Any) -> None:
        save(*args, **options)
        if next(count) == saves:
            os._exit(3)

    return counted


def copy(base: World, to: World, *, with_data: bool) -> None:
    """Replace a world by a copy of another."""
    shutil.rmtree(to.root, ignore_errors=True)
    ignore = None if with_data else shutil.ignore_patterns(DATA)
    shutil.copytree(base.root, to.root, symlinks=True, ignore=ignore)
