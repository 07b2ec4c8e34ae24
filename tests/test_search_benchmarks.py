"""The benchmarks of the search: what they make of leaderboards and curves."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from optuna.pruners import MedianPruner
from rank_correlation import Pair, at_even_ranks, report
from search_quality import (
    Trial,
    distribution_rows,
    gain,
    rank_rows,
    read_trials,
    replayed,
    spearman,
)
from workers import Measured, rows_of

from archsearch.common.csv_files import read_csv
from tests.conftest import ROOT

BENCHMARKS = ROOT / "benchmarks"
FIRST_LIGHT = ROOT / "studies" / "first-light"


def trials(*curves: tuple[float, ...]) -> list[Trial]:
    return [Trial(number, str(number), curve, True, 60.0) for number, curve in enumerate(curves)]


def test_trials_are_read_in_the_order_of_their_proposals() -> None:
    found = read_trials(FIRST_LIGHT)
    assert [trial.number for trial in found] == list(range(8))
    board = {int(row["trial"]): row for row in read_csv(FIRST_LIGHT / "leaderboard.csv")}
    for trial in found:
        assert trial.curve[-1] == pytest.approx(float(board[trial.number]["val_acc"]))
        assert len(trial.curve) == int(board[trial.number]["epochs"])
        assert trial.whole == (board[trial.number]["status"] == "trained")


def test_a_replayed_pruner_stops_what_lies_below_the_median_of_those_before() -> None:
    curves = [(0.5, 0.6, 0.7), (0.4, 0.5, 0.6), (0.45, 0.5, 0.8), (0.6, 0.4, 0.9)]
    found = replayed(trials(*curves), MedianPruner(n_startup_trials=2, n_warmup_steps=1))
    # Before the third: the median of 0.5 and 0.4 at epoch 1, of 0.6 and 0.5 at epoch 2. The
    # fourth's best so far stays above both.
    assert found == {0: 3, 1: 3, 2: 2, 3: 3}
    later = replayed(trials(*curves), MedianPruner(n_startup_trials=2, n_warmup_steps=3))
    assert set(later.values()) == {3}


def test_spearman_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(1)
    one = rng.permutation(20).astype(float)
    two = one + rng.normal(0, 5, 20)
    apart = one.argsort().argsort() - two.argsort().argsort()
    rho, low, high = spearman(one, two)
    assert rho == pytest.approx(1 - 6 * (apart**2).sum() / (20 * (20**2 - 1)))
    assert low < rho < high


def test_how_early_epochs_rank() -> None:
    curves = [(0.1 * i, -0.1 * i, 0.2 * i) for i in range(12)]
    first, second = rank_rows(trials(*curves))
    assert first == ("1 of 3", "1.00 (1.00 to 1.00)", "10 of 10")
    assert second == ("2 of 3", "-1.00 (-1.00 to -1.00)", "8 of 10")


def test_gain_is_the_difference_of_medians_within_its_interval() -> None:
    ours, theirs = [0.5, 0.7, 0.9, 0.8], [0.1, 0.2, 0.4, 0.3]
    middle, low, high = gain(ours, theirs)
    assert middle == statistics.median(ours) - statistics.median(theirs)
    assert low < middle < high
    assert gain(ours, ours)[1] < 0 < gain(ours, ours)[2]


def test_pruned_networks_count_as_networks_and_not_as_reaching_the_target() -> None:
    found = [*trials((0.5, 0.9), (0.6, 0.8)), Trial(2, "2", (0.95,), False, 60.0)]
    (row,) = distribution_rows({"s": found}, target=0.85)
    assert row[:5] == ("s", "3", "2", "90.00%", "85.00%")
    assert row[5].startswith("33% (")
    assert row[6:] == ("95.00%", "60.00%", "3")


def test_even_ranks_hold_the_best_and_the_worst() -> None:
    rows = [{"status": "trained", "rank": str(rank)} for rank in range(1, 12)]
    rows.append({"status": "pruned", "rank": "12"})
    assert [row["rank"] for row in at_even_ranks(rows, 3)] == ["1", "6", "11"]
    assert len(at_even_ranks(rows, 100)) == 11


def test_the_correlation_is_of_hold_out_and_test() -> None:
    about = dict.fromkeys(("dataset", "device", "precision", "torch_version", "seed"), "x")
    pairs = [
        Pair(rank, "0" * 64, 1 - rank / 10, {**about, "epochs": 4, "test_acc": 0.9 - rank / 20})
        for rank in range(1, 7)
    ]
    sentences, found = report(pairs)
    assert "of 6 networks: 1.00" in sentences[1]
    assert found[2] == "| 1 | `000000000000` | 90.00% | 85.00% |"


def test_workers_are_told_as_medians_and_against_one() -> None:
    found = [Measured(1, 6, 3600.0, 9.0, 5.0), Measured(2, 6, 2400.0, 12.0, 7.0)]
    assert rows_of(found) == [
        ("1", "6.0", "1.00", "0.25%", "1.50", "5.0"),
        ("2", "9.0", "1.50", "0.50%", "2.00", "7.0"),
    ]


def test_the_report_is_what_the_studys_readme_tells() -> None:
    script, folder = BENCHMARKS / "search_quality.py", ROOT / "studies" / "cifar10-200k"
    command = [sys.executable, str(script), str(folder), str(folder.with_name("random-baseline"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told = (folder / "README.md").read_text()
    tables = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(tables) > 10
    for line in tables:
        assert line in told


def test_a_baseline_that_is_not_chance_is_refused() -> None:
    command = [sys.executable, str(BENCHMARKS / "search_quality.py"), *[str(FIRST_LIGHT)] * 2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "must be random and prune nothing" in done.stderr


@pytest.mark.slow
def test_workers_are_measured(tmp_path: Path) -> None:
    args = ["demo", "--trials", "2", "--epochs", "1", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "workers.py"), *args],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[1:]] == ["1", "2"]
    for row in rows[1:]:
        assert float(row[1].replace(",", "")) > 0
        assert 0 < float(row[3].rstrip("% ")) < 100
