"""The package's listing, CONTRIBUTING's map of it and the import contract agree."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import ROOT

PACKAGE = ROOT / "archsearch"
PACKAGES = {
    "analysis", "cli", "common", "convert", "diagnosis", "executors", "leaderboard", "monitor",
    "report", "search", "space", "spec", "study", "training",
}  # fmt: skip


def test_the_top_level_holds_the_fourteen_packages_and_nothing_else() -> None:
    found = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert found == PACKAGES | {"__init__.py", "__main__.py", "errors.py", "py.typed"}


def test_contributing_maps_every_package_and_names_files_that_exist() -> None:
    table = re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert {package for package, _ in table} == PACKAGES
    for package, files in table:
        for name in re.findall(r"`([\w/*.]+)`", files):
            assert list((PACKAGE / package).glob(name)), f"{package}/{name}"


def test_the_layers_contract_names_every_package_once_in_few_lines() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    assert len(layers) <= 15
    named = [name for layer in layers for name in layer.split(" | ")]
    assert sorted(named) == sorted(PACKAGES | {"errors"})


def test_no_module_is_too_long_to_keep_in_mind() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path): count for path, count in lines.items() if count > 400} == {}
