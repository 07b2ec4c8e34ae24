"""Options of `archsearch search --ray` that do not go together, and Ray where it is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from archsearch.errors import ArchsearchError
from archsearch.executors.ray.cluster import concurrent_trials
from tests.conftest import Cli


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--gpus-per-trial", "0.5"), "give --ray too"),
        (("--cpus-per-trial", "2"), "give --ray too"),
        (("--ray", "local", "--workers", "0"), "leave it out with --ray"),
        (("--ray", "local", "--dry-run"), "leave out --ray"),
        (("--ray", "ray://head:10001"), "with --ray auto"),
        (("--ray", "local", "--gpus-per-trial", "1.5"), "at most 1 or a whole number"),
        (("--ray", "local", "--cpus-per-trial", "inf"), "at most 1 or a whole number"),
        (("--ray", "127.0.0.1:1"), "nobody answers there"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: tuple[str, ...], told: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("search", "demo", *options)
    assert result.status == 2
    assert told in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err


def test_without_ray_the_extra_is_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "archsearch.executors.ray.cluster.find_spec",
        lambda name: None if name == "ray" else find(name),
    )
    result = cli("search", "demo", "--ray", "local")
    assert (result.status, result.err.splitlines()[-1]) == (
        2,
        "error: --ray needs Ray: pip install 'archsearch[ray]'",
    )


def test_a_trial_must_have_a_part_of_the_cluster() -> None:
    with pytest.raises(ArchsearchError, match="needs a CPU or a GPU"):
        concurrent_trials([{"CPU": 4.0}], 0.0, 0.0)
    assert concurrent_trials([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0}], 0.5, 0.25) == 4
