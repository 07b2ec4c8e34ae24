"""What `studies/` shows is what the code in this tree says of it."""

from __future__ import annotations

import pytest

from archsearch.analyze import analyze
from archsearch.constraints import judge
from archsearch.files import read_csv
from archsearch.parse import from_json, from_toml
from archsearch.spec import Spec
from archsearch.study import Study
from tests.conftest import ROOT

FIRST_LIGHT = ROOT / "studies" / "first-light"


@pytest.mark.parametrize("row", read_csv(FIRST_LIGHT / "leaderboard.csv"), ids=lambda r: r["trial"])
def test_every_row_is_its_specs_and_within_the_limits(row: dict[str, str]) -> None:
    study = from_toml(Study, (FIRST_LIGHT / "study.toml").read_text(), "study.toml")
    spec = from_json(Spec, (FIRST_LIGHT / row["spec_path"]).read_text(), row["spec_path"])
    verdict = judge(analyze(spec), study.constraints)
    assert verdict.accepted
    assert verdict.analysis.spec_hash == row["spec_hash"]
    assert verdict.analysis.params == int(row["params"])
    assert verdict.analysis.macs == int(row["macs"])
    assert verdict.analysis.receptive_field == (int(row["receptive_field"]),) * 2
