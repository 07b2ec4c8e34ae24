"""How long a search will take: measured once per machine, then arithmetic."""

from __future__ import annotations

import json

import pytest

from archsearch.common.atomic_files import cache_folder
from archsearch.monitor.estimate import epoch_seconds, estimate, networks_within_limits
from archsearch.spec.hash import spec_hash
from archsearch.study.config import load_study
from archsearch.training.device import choose
from archsearch.training.recipe import SmallFirst


def test_an_estimate_is_measured_once_and_grows_with_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("steps")))
    study, device = load_study("demo"), choose("cpu", "fp32")
    networks = networks_within_limits(study)[:1]
    once = estimate(study, networks, device, 10, 1)
    assert 1 < once.images_per_second[0] < 1e7
    known = json.loads((cache_folder() / "steps.json").read_text())
    assert any(spec_hash(networks[0])[:12] in key and "torch" in key for key in known)
    assert estimate(study, networks, device, 10, 1) == once  # nothing is measured again
    assert estimate(study, networks, device, 20, 1).trials == pytest.approx(2 * once.trials)
    assert estimate(study, networks, device, 10, 5).trials == pytest.approx(once.trials / 5)
    assert estimate(study, networks, device, 10, 1).finals == once.finals
    recipe = study.recipe.model_copy(update={"small_first": None})
    small = recipe.model_copy(update={"small_first": SmallFirst(side=16, until=0.5)})
    whole, part = (epoch_seconds(device, networks[0], each, 10_000) for each in (recipe, small))
    assert 0.6 * whole < part < 0.7 * whole  # half of the epochs on a quarter of the pixels


def test_networks_are_looked_for_no_longer_than_asked() -> None:
    study = load_study("demo")
    assert networks_within_limits(study, within_s=0.0) == []
    assert len(networks_within_limits(study)) == 3
