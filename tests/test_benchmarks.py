"""The training benchmarks run, what they print adds up, and the plain loop is plain."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.spec.models import Spec
from archsearch.training.images import Images
from archsearch.training.recipe import Augment, Cutout, Recipe
from tests.conftest import ROOT

BENCHMARKS = ROOT / "benchmarks"
WIDTH, SIDE = 8, 32
SPEC = {
    "name": "tiny",
    "blocks": [
        {
            "name": "a",
            "layers": [
                {"op": "conv", "out_channels": WIDTH},
                {"op": "conv", "out_channels": WIDTH},
                {"op": "depthwise_separable", "out_channels": WIDTH, "stride": 2, "dilation": 2},
            ],
        }
    ],
    "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]},
}
MACS = SIDE**2 * 9 * WIDTH * (3 + WIDTH) + (SIDE // 2) ** 2 * WIDTH * (9 + WIDTH) + WIDTH * 10
RECIPE = {"epochs": 2, "batch_size": 64}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A small network's file, its recipe beside it."""
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    return tmp_path / "spec.json"


def run(script: str, *args: object) -> subprocess.CompletedProcess[str]:
    """A benchmark, on generated images."""
    env = {name: value for name, value in os.environ.items() if name != "ARCHSEARCH_DATA"}
    command = [sys.executable, str(BENCHMARKS / script), *map(str, args)]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=600, check=False
    )


def report(script: str, *args: object) -> tuple[str, list[list[str]]]:
    """What a benchmark prints, and its table's cells below the headings."""
    done = run(script, *args)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    return done.stdout, [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:]]


def number(text: str) -> float:
    """The first figure in a cell."""
    found = re.search(r"[\d,.]+", text)
    assert found, text
    return float(found[0].replace(",", ""))


@pytest.mark.slow
def test_throughput_runs(spec: Path) -> None:
    text, rows = report("throughput.py", spec, "--batches", 2, "--rounds", 1)
    assert "generated images" in text
    assert "two epochs of 128 images" in text
    assert [row[1] for row in rows[1:]] == [
        "plain loop, num_workers=0, fp32",
        "plain loop, num_workers=2, fp32",
    ]
    peak = 1e9 * number(text[text.index("before each round, ") + 19 :])
    for row in rows:
        rate = number(row[2])
        assert row[0] == f"tiny, {MACS / 1e6:.1f} M MACs"
        # Within 2%, and what each figure is rounded by.
        assert rate * number(row[3]) == pytest.approx(50_000, rel=0.02, abs=0.05 * rate)
        used = 100 * rate * 6 * MACS / peak
        assert used == pytest.approx(number(row[5]), rel=0.02 + 0.5e9 / peak, abs=0.06)
        if row is not rows[0]:
            assert number(rows[0][2]) / rate == pytest.approx(number(row[4]), rel=0.02, abs=0.006)


@pytest.mark.slow
def test_time_to_85_runs(spec: Path) -> None:
    args = ("--seeds", 1, "--plain", "--workers", 0, "--batches", 1)
    text, rows = report("time_to_85.py", spec, *args)
    assert "generated images" in text
    assert [row[0] for row in rows[:3]] == [
        "archsearch, seed 0",
        "archsearch, median",
        "plain loop, num_workers=0, seed 0",
    ]
    assert rows[0][1:] == rows[1][1:]
    assert [row[2] for row in rows[:3]] == [str(RECIPE["epochs"])] * 3
    for row in rows[:3]:
        assert number(row[1]) < 85  # of two epochs: it is not 100 for want of a test
        assert 0 < number(row[3]) < number(row[4])  # a start takes seconds
    assert "estimate" in rows[3][0]


@pytest.mark.slow
def test_what_is_wrong_is_told_before_anything_is_timed(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"name": "tiny"}')
    done = run("throughput.py", tmp_path / "spec.json")
    assert done.returncode == 1
    assert "spec.json has" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_nothing_of_ours_trains_in_the_plain_loop() -> None:
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import plain_loop as p; "
    code += "print(*sorted(name for name in sys.modules if name.startswith('archsearch.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "archsearch.convert.to_pytorch" in loaded
    for ours in ("device", "build", "train", "augment", "optimizers", "init", "cli"):
        assert f"archsearch.{ours}" not in loaded


# The plain loop's parts


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `plain_loop`."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import plain_loop

    return plain_loop


@pytest.fixture
def analysis() -> Analysis:
    return analyze(Spec.model_validate(SPEC))


def some_images(count: int) -> Images:
    """The classes 0 and 1: dark and bright, with noise."""
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 100, (count, SIDE, SIDE, 3))
    return Images((noise + 150 * labels[:, None, None, None]).to(torch.uint8), labels)


def test_the_plain_net_is_the_spec_in_torchs_own_layers(
    plain: ModuleType, analysis: Analysis
) -> None:
    net = plain.exported(analysis)
    assert sum(p.numel() for p in net.parameters()) == analysis.params
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert {type(conv) for conv in convs} == {nn.Conv2d}
    assert any(conv.groups == WIDTH and conv.dilation == (2, 2) for conv in convs)


def test_the_plain_loop_learns(plain: ModuleType, analysis: Analysis) -> None:
    torch.manual_seed(0)
    net = plain.exported(analysis)
    recipe = Recipe(epochs=4, lr=0.05, batch_size=16)
    transform = plain.augmentation(recipe.augment)
    loader = torch.utils.data.DataLoader(plain.Pictures(some_images(64), transform), 16)
    assert len(plain.train(net, recipe, loader)) == recipe.epochs
    assert plain.accuracy(net, loader) > 0.9  # chance is 0.5


def test_its_augmentation_is_the_recipes(plain: ModuleType) -> None:
    pixels = some_images(2).pixels
    flipped = plain.augmentation(Augment(flip=1.0, translate=0))
    found = plain.Pictures(Images(pixels, torch.zeros(2)), flipped)[1][0]
    wanted = pixels[1].numpy()[:, ::-1] / 255
    wanted = (wanted - np.array(plain.MEAN)) / np.array(plain.STD)
    assert np.allclose(found.numpy(), wanted.transpose(2, 0, 1), atol=1e-5)

    size = 8
    square = plain.augmentation(Augment(flip=0, translate=0, cutout=Cutout(p=1.0, size=size)))
    cut = plain.Pictures(Images(pixels, torch.zeros(2)), square)[1][0]
    assert int((cut == 0).all(0).sum()) == size**2


def test_rates_leave_the_first_epoch_out(plain: ModuleType) -> None:
    figures = plain.Figures("shapes", "fp32", 2, images=100, epoch_seconds=[50.0, 1.0, 3.0])
    assert figures.images_per_second == 50


# What the drivers make of figures


def test_throughput_gives_medians_and_ratios_by_round(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import throughput
    from timed_training import Figures

    def measured(*rates: int) -> throughput.Round:
        loops = zip(throughput.LOOPS, rates, strict=True)
        figures = {
            loop: Figures("cifar10", "fp32", 2, images=rate, epoch_seconds=[9.0, 1.0])
            for loop, rate in loops
        }
        return throughput.Round("machine", "2.15", 6 * MACS * 4000, figures)

    rounds = [measured(2000, 500, 1000), measured(1000, 500, 200), measured(3000, 1000, 1000)]
    ours, alone, workers = (row[2:] for row in throughput.rows_of(spec, rounds))
    assert ours == (
        "2,000 (1,000 to 3,000)",
        "25.0 (16.7 to 50.0)",
        "",
        "50.0% (25.0% to 75.0%)",
    )
    assert alone[2] == "3.00 (2.00 to 4.00)"
    assert workers[2] == "3.00 (2.00 to 5.00)"


def test_time_to_85_counts_who_reaches_it_and_marks_its_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from time_to_85 import Trained, report

    ours = [
        Trained("seed 0", 0.8499, 8, 100.0, 130.0),
        Trained("seed 1", 0.85, 8, 110.0, 120.0),
        Trained("seed 2", 0.86, 8, 90.0, 150.0),
    ]
    sentences, table = report(ours, [Trained("plain", 0.84, 8, 250.0, 300.0)], 20.0)
    assert sentences[0] == "2 of 3 runs reach 85%"
    assert sentences[1].startswith("plain: 2.5 times the training time")
    assert "estimated at 14.2 times the training time, at least" in sentences[2]
    assert "| archsearch, median | 85.00% | 8 | 100.0 | 130.0 |" in table
    assert "not run to the end" in table[-1]
    assert "at least 1,420" in table[-1]
