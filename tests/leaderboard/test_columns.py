"""Every column of leaderboard.csv is documented, in the words of `Entry`."""

from __future__ import annotations

import inspect
import re

import pytest

from archsearch.leaderboard.entry import COLUMNS, Entry
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "leaderboard.md"


def documented() -> dict[str, str]:
    """The attributes of `Entry`, as its docstring explains them."""
    attributes = inspect.cleandoc(Entry.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def test_every_column_is_explained() -> None:
    assert [*documented()] == [*COLUMNS, "knobs"]


def test_the_page_has_the_same_words(request: pytest.FixtureRequest) -> None:
    before, head, after = PAGE.read_text().partition("| column | meaning |\n|---|---|\n")
    names = {"knobs": "knob_*"}
    rows = [f"| `{names.get(name, name)}` | {text} |\n" for name, text in documented().items()]
    table = "".join(rows)
    rest = re.sub(r"\A(\|.*\n)*", "", after)
    if request.config.getoption("--overwrite"):
        PAGE.write_text(f"{before}{head}{table}{rest}")
    assert PAGE.read_text() == f"{before}{head}{table}{rest}"
    assert head
