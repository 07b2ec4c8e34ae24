"""`archsearch report`: its figures against the CSVs, and what is absent, old, broken or hostile."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import random
import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from archsearch.analysis.constraints import Constraints
from archsearch.common import csv_records
from archsearch.common.interval import wilson
from archsearch.common.parse import from_json
from archsearch.errors import InputError
from archsearch.leaderboard import csv_lines
from archsearch.report.facts import Absent, Facts, read_facts
from archsearch.report.figures import MAX_POINTS, search_curves, trade_off
from archsearch.report.importance import Importance, importance
from archsearch.report.markup import element, script_json
from archsearch.report.page import html
from archsearch.report.space_figures import rejections_by_rule, rejections_by_trial
from archsearch.report.summary import LIMIT_PHRASES
from archsearch.space.four_blocks import knob_choices
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.spec.models import Spec
from archsearch.study.config import Study, load_study, study_toml
from archsearch.training.datasets import DATASETS
from tests.conftest import ROOT, Cli

STUDIES = ROOT / "studies"
BEST = "5fa9f89058ef"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A copy of the study to be damaged."""
    return Path(shutil.copytree(STUDIES / "cifar10-200k", tmp_path / "study"))


@pytest.fixture(scope="module")
def facts() -> Facts:
    return read_facts(STUDIES / "cifar10-200k")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


BOARD = rows(STUDIES / "cifar10-200k" / "leaderboard.csv")
HEADER = f"{','.join(BOARD[0])}\n".encode()


def write_rows(path: Path, changed: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(changed[0]))
        writer.writeheader()
        writer.writerows(changed)


def change_first(study: Path, **cells: str) -> None:
    board = rows(study / "leaderboard.csv")
    board[0] |= cells
    write_rows(study / "leaderboard.csv", board)


class Reader(HTMLParser):
    """What of a page matters here: text, scripts, pictures, the policy."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.scripts = "", list[str]()
        self.policy, self.images, self._open = "", list[dict[str, str | None]](), [""]
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "script":
            self.scripts.append("")
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        if tag == "img":
            self.images.append(found)
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.append("")

    def handle_data(self, data: str) -> None:
        if self._open[-1] == "script":
            self.scripts[-1] += data
        elif self._open[-1] != "style":
            self.text += data


def test_the_command_writes_one_file_below_six_megabytes(study: Path, cli: Cli) -> None:
    done = cli("report", study)
    assert done.status == 0, done.err
    path = study / "report.html"
    size = path.stat().st_size
    assert done.out == f"{path}  {size / 1e6:.1f} MB\n"
    assert size < 6_000_000
    assert not list(study.glob(".*.tmp"))


def test_it_goes_where_it_is_told_to(study: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("report", study, "--out", tmp_path / "there" / "page.html").status == 0
    assert (tmp_path / "there" / "page.html").read_text().startswith("<!doctype html>")
    assert not (study / "report.html").exists()
    done = cli("report", study, "--out", tmp_path)
    assert (done.status, "is a folder" in done.err) == (2, True)


def test_without_plotly_it_says_what_to_install(
    study: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("archsearch.report.page", "plotly.offline"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    done = cli("report", study)
    assert (done.status, done.err) == (
        2,
        "error: a report needs plotly: pip install 'archsearch[report]'\n",
    )


def test_only_its_own_scripts_may_run_and_nothing_may_be_fetched(facts: Facts) -> None:
    page = Reader(html(facts))
    run = [page.scripts[0], page.scripts[2]]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    policy = dict(part.split(" ", 1) for part in page.policy.split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert policy["img-src"] == "data:"
    assert len(page.scripts) == 3
    assert "against-params" in json.loads(page.scripts[1])


def test_every_network_is_a_point_as_the_leaderboard_has_it(facts: Facts) -> None:
    trained = [row for row in BOARD if row["status"] == "trained"]
    for cost, per in (("params", 1), ("macs", 1e6)):
        traces = {t["name"]: t for t in trade_off(facts, cost).figure["data"]}  # type: ignore[arg-type] # two literals
        found = traces["search: hold-out"]
        assert found["x"] == [int(row[cost]) / per for row in trained]
        assert found["y"] == pytest.approx([100 * float(row["val_acc"]) for row in trained])
        points = list(zip(found["x"], found["y"], strict=True))
        front = traces["Pareto front"]
        assert sorted(zip(front["x"], front["y"], strict=True)) == sorted(
            (x, y) for x, y in points
            if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)
        )  # fmt: skip
        test = traces["finalists: test"]
        low, high = wilson(9_134, 10_000)
        assert test["y"] == pytest.approx([91.34, 91.12, 90.56])
        assert test["error_y"]["array"][0] == pytest.approx(100 * high - 91.34, abs=1e-3)
        assert test["error_y"]["arrayminus"][0] == pytest.approx(91.34 - 100 * low, abs=1e-3)
        public = traces["public: test, best epoch"]
        assert len(public["x"]) == (49 if cost == "params" else 45)


def test_the_marked_rows_are_those_of_the_column_pareto(facts: Facts) -> None:
    page = html(facts)
    told = re.findall(r"<tr><th[^>]*>\d+</th>.*?<code>(\w+)</code>.*?</tr>", page)
    marked = re.findall(
        r"<tr><th[^>]*>\d+</th><td[^>]*>[^\n]*?<code>(\w{12})</code>(.*?)</tr>", page
    )
    assert told == [row["spec_hash"][:12] for row in BOARD]
    assert {name for name, rest in marked if ">front</td>" in rest} == {
        row["spec_hash"][:12] for row in BOARD if row["pareto"] == "True"
    }


def curves_of(found: Facts) -> dict[str, Any]:
    chart = search_curves(found)
    assert chart
    return chart.figure


def test_curves_are_the_histories_with_gaps_and_many_are_thinned(study: Path) -> None:
    figure = curves_of(read_facts(study))
    points = sum(y is not None for trace in figure["data"] for y in trace["y"])
    assert points == sum(int(row["epochs"]) for row in BOARD)
    history = study / "trials" / BEST / "history.csv"
    lines = [f"{i},0.1,1,0.5,1,0.{i % 9 + 1},1,1" for i in range(1, 3 * MAX_POINTS)]
    history.write_text("\n".join([history.read_text().split("\n")[0], *lines]) + "\n")
    figure = curves_of(read_facts(study))
    curve = next(trace for trace in figure["data"] if trace["name"] == BEST)
    assert len(curve["x"]) < MAX_POINTS
    assert curve["x"][-2] == 3 * MAX_POINTS - 1  # the last epoch, and the gap


def test_rejections_add_up(facts: Facts) -> None:
    assert isinstance(facts.rejections, tuple)
    by_rule = rejections_by_rule(facts.rejections).figure["data"][0]
    assert dict(zip(by_rule["y"], by_rule["x"], strict=True)) == {
        "max_macs": 155, "max_params": 112, "min_receptive_field": 75, "dilated": 37,
        "depthwise_separable": 9,
    }  # fmt: skip
    by_trial = rejections_by_trial(facts.rejections).figure["data"][0]
    assert sum(by_trial["y"]) == len(rows(STUDIES / "cifar10-200k" / "rejections.csv")) == 183


def test_the_summary_says_how_sure_it_is_and_who_chose(facts: Facts) -> None:
    text = Reader(html(facts)).text
    for told in (
        "50 networks: 27 were trained to the end of 3 epochs, 23 were stopped early",
        "183 more proposals cost no training",
        "at most 200,000 parameters, a receptive field of at least 44 pixels",
        "91.34% of the 10,000 test images right (95% interval 90.77 to 91.88)",
        "The target, 85%, is reached",
        "nothing was chosen by the test images",
        "49 public solutions", "89.10%", "best epoch on the test images",
        "AMD EPYC", "bf16", "torch 2.15.0", "seed 0", "one training a network",
    ):  # fmt: skip
        assert told in text, told


def test_every_limit_has_words_and_every_data_set_a_size() -> None:
    assert LIMIT_PHRASES.keys() == Constraints.model_fields.keys()
    assert DATASETS.keys() == {"cifar10", "shapes"}


# Knobs


def with_knobs(study: Path, value: Callable[[dict[str, Any]], float]) -> Facts:
    """The study with settings drawn at random, and accuracies that follow from them."""
    drawn = random.Random(0)
    choices = knob_choices(read_facts(study).study.space)  # type: ignore[arg-type] # four blocks
    board = rows(study / "leaderboard.csv")
    for row in board:
        setting = {name: drawn.choice(values) for name, values in choices.items()}
        row["knobs"] = " ".join(f"{name}={setting[name]}" for name in setting)
        row["val_acc"] = str(value(setting) + 0.01 * drawn.random())
        row["status"] = "trained"
    write_rows(study / "leaderboard.csv", board)
    return read_facts(study)


def test_the_knob_that_decides_has_the_largest_share(study: Path) -> None:
    found = importance(with_knobs(study, lambda knobs: 0.5 + 0.1 * (knobs["block3.stride"] == 1)))
    assert isinstance(found, Importance)
    assert found.shares[0][0] == "block3.stride"
    assert found.shares[0][1] > 3 * found.shares[1][1]
    assert sum(share for _, share in found.shares) == pytest.approx(1)
    assert found.networks == 50


@pytest.mark.parametrize(
    ("cell", "told"),
    [("block9.width=24", "'block9.width=24'"), ("block1.width=24", "has no"), ("a=b=c", "'a=b=c'")],
)
def test_knobs_that_are_no_setting_are_told(study: Path, cell: str, told: str) -> None:
    change_first(study, knobs=cell)
    found = importance(read_facts(study))
    assert isinstance(found, Absent)
    assert told in found.why


def test_a_cell_of_knobs_that_names_none_is_damage(study: Path) -> None:
    change_first(study, knobs="=1+1")
    with pytest.raises(InputError, match=r"line 2\s+knobs must be NAME=VALUE by spaces"):
        read_facts(study)


def test_near_a_spec_the_edits_are_told_and_are_the_knobs(study: Path) -> None:
    base = from_json(Spec, (STUDIES / "seeds" / "era-s9" / "spec.json").read_text(), "spec.json")
    near = Study(name="near", space=Neighbourhood(base=base))
    (study / "study.toml").write_text(study_toml(near))
    board = rows(study / "leaderboard.csv")
    for i, row in enumerate(board):
        dilated = i % 2
        row |= {"knobs": "conv2.2.dilation=2" if dilated else "", "status": "trained"}
        row |= {"edits": "conv2.2: dilated" if dilated else "", "val_acc": str(0.8 + 0.1 * dilated)}
    write_rows(study / "leaderboard.csv", board[1:])
    found = read_facts(study)
    assert importance(found) == Importance((("conv2.2.dilation", 1.0),), 49)
    text = Reader(html(found)).text
    assert "The search started from era-s9; its edits: conv2.2: dilated." in text


# What is absent or old


def test_an_old_study_has_a_page_that_says_what_is_missing() -> None:
    text = Reader(html(read_facts(STUDIES / "first-light"))).text
    assert "leaderboard.csv has no columns of knobs" in text
    assert "archsearch evaluate" in text
    assert "evaluation.json is not there" in text


def test_before_any_test_the_best_so_far_are_shown_and_it_says_so(study: Path) -> None:
    board = rows(study / "leaderboard.csv")
    write_rows(study / "leaderboard.csv", [row | {"test_acc": ""} for row in board])
    (study / "rejections.csv").unlink()
    shutil.rmtree(study / "trials" / BEST / "final-0")
    for history in (study / "trials").rglob("history.csv"):
        history.unlink()
    found = read_facts(study)
    assert [f.row.rank for f in found.finalists] == [1, 2, 3]
    text = Reader(html(found)).text
    assert "No finalist was tested yet" in text
    assert "The test images were not looked at yet" in text
    assert "rejections.csv is not there" in text
    assert "this network was not trained on all images yet" in text
    assert "Learning curves of the search: no file to draw it from is there" in text
    assert "public solutions to" not in text


def test_a_study_without_a_network_has_a_page(study: Path) -> None:
    board = study / "leaderboard.csv"
    board.write_text(board.read_text().split("\n", 1)[0] + "\n")
    (study / "rejections.csv").write_text("proposal,trial,rules\n")
    text = Reader(html(read_facts(study))).text
    assert "no network was trained to its end yet" in text
    assert "No proposal was rejected" in text


def test_files_of_other_networks_and_broken_ones_are_told(study: Path) -> None:
    one, two, three = ("5fa9f89058ef", "970e8f7feae3", "3524cf2f7b93")
    trials = study / "trials"
    shutil.copy(trials / two / "spec.json", trials / one / "spec.json")
    evaluation = "final-0/evaluation/evaluation.json"
    shutil.copy(trials / two / evaluation, trials / one / evaluation)
    (trials / two / evaluation).write_text('{"classes": [')
    found = json.loads((trials / three / evaluation).read_text())
    found["confusion"][3].pop()
    (trials / three / evaluation).write_text(json.dumps(found))
    text = Reader(html(read_facts(study))).text
    assert "spec.json cannot be used: is of another network than the leaderboard's row" in text
    assert "evaluation.json cannot be used: is of another network" in text
    assert "is not valid JSON" in text
    assert "a confusion matrix of one row and one column a class" in text


def test_the_mistakes_that_were_kept_are_shown_in_their_order(study: Path) -> None:
    folder = study / "trials" / BEST / "final-0" / "evaluation"
    count = len(json.loads((folder / "evaluation.json").read_text())["mistakes"])
    strip = Image.new("RGB", (32 * count, 32))
    for i in range(count):
        strip.paste((i, 2 * i, 255 - i), (32 * i, 0, 32 * i + 32, 32))
    strip.save(folder / "mistakes_pixels.png")
    page = Reader(html(read_facts(study)))
    assert len(page.images) == count
    for i, image in enumerate(page.images):
        data = base64.b64decode((image["src"] or "").removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(data)) as tile:
            assert tile.size == (32, 32)
            assert tile.getpixel((5, 5)) == (i, 2 * i, 255 - i)
    assert page.images[0]["alt"] == "cifar10 test image 7896: horse"
    for other in (b"no picture", b"\x89PNG\r\n\x1a\n"):
        (folder / "mistakes_pixels.png").write_bytes(other)
        assert not Reader(html(read_facts(study))).images
    strip.crop((0, 0, 64, 32)).save(folder / "mistakes_pixels.png")
    page = Reader(html(read_facts(study)))
    assert not page.images
    assert "The images are not kept here" in page.text


# What is broken or hostile


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ({"params": "many"}, "line 2  params must be a count, got 'many'"),
        ({"val_acc": "nan"}, "line 2  val_acc"),
        ({"val_acc": "1e9"}, "line 2  val_acc must be a share from 0 to 1"),
        ({"params": ""}, "line 2  params"),
        ({"macs": ""}, "trial 0  macs is blank"),
        ({"params": "9" * 30}, "line 2  params"),
        ({"train_seconds": "-1"}, "line 2  train_seconds must be seconds from 0 to 1e12"),
        ({"status": "won"}, "line 2  status"),
        ({"receptive_field": "44 or so"}, "must be an integer or HEIGHTxWIDTH"),
        ({"spec_hash": "../../../etc/passwd"}, "trial 0  spec_hash must be 64 hexadecimal"),
        ({"spec_hash": BOARD[1]["spec_hash"]}, "is there twice"),
    ],
)
def test_a_broken_leaderboard_is_an_error_that_says_where(
    study: Path, cli: Cli, cells: dict[str, str], told: str
) -> None:
    change_first(study, **cells)
    done = cli("report", study)
    assert done.status == 2
    assert "leaderboard.csv has 1 problem" in done.err
    assert told in done.err
    assert "Traceback" not in done.err
    assert not (study / "report.html").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"rank\n\xff\xfe\n", "line 2  is not UTF-8 text"),
        (HEADER + b'"' + b"x" * 200_000 + b'"\n', "field larger than field limit"),
        (HEADER + b"1,2\n" * 100, "... and "),
        (b"rank,rank,rank\n1\n1,2,3,4,5,6\n", "it has no column trial, spec_hash"),
        (b"rank,trial,spec_hash,status,val_acc,params\n1,2,,failed,,3\n", "spec_hash is blank"),
    ],
)
def test_what_is_no_leaderboard_is_an_error(
    study: Path, cli: Cli, content: bytes, told: str
) -> None:
    (study / "leaderboard.csv").write_bytes(content)
    done = cli("report", study)
    assert done.status == 2
    assert told in done.err
    assert len(done.err.splitlines()) < 50


def test_what_is_too_large_is_not_read(
    study: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = rows(study / "leaderboard.csv")
    many = [row | {"spec_hash": f"{i:064x}"} for i in range(101) for row in board]
    write_rows(study / "leaderboard.csv", many)
    done = cli("report", study)
    assert (done.status, "more than 5,000 rows" in done.err) == (2, True)
    write_rows(study / "leaderboard.csv", board)
    monkeypatch.setattr(csv_records, "MAX_ROWS", 182)
    assert "more than 182 rows" in Reader(html(read_facts(study))).text  # of the rejections
    with (study / "leaderboard.csv").open("r+b") as file:
        file.truncate(csv_lines.MAX_BYTES + 1)
    done = cli("report", study)
    assert (done.status, "larger than 16 MiB" in done.err) == (2, True)


@pytest.mark.parametrize("missing", ["study.toml", "leaderboard.csv"])
def test_what_is_no_study_is_told(study: Path, cli: Cli, missing: str) -> None:
    (study / missing).unlink()
    done = cli("report", study)
    assert done.status == 2
    assert f"holds no {missing}" in done.err


@given(st.text(), st.text())
def test_text_is_never_markup(text: str, attribute: str) -> None:
    found = str(element("p", text, title=attribute))
    read = HTMLParser()
    seen: list[tuple[str, Any]] = []
    read.handle_starttag = lambda tag, attrs: seen.append((tag, attrs))  # type: ignore[method-assign] # to listen
    read.feed(found)
    assert [tag for tag, _ in seen] == ["p"]
    assert found.count("<") == found.count(">") == 2


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists))
def test_json_in_a_script_neither_ends_it_nor_changes(value: Any) -> None:
    text = str(script_json(value))
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


@pytest.mark.parametrize(
    ("limits", "quoted"),
    [
        ({}, True),
        ({"max_macs": None}, True),  # a limit more or less that the coursework does not have
        ({"max_params": 100_000}, False),
        ({"min_receptive_field": None}, False),
        ({"dilated": False}, False),
    ],
)
def test_public_solutions_are_quoted_under_their_own_limits_alone(
    limits: dict[str, Any], quoted: bool, study: Path
) -> None:
    config = load_study(str(study / "study.toml"))
    changed = config.constraints.model_copy(update=limits)
    (study / "study.toml").write_text(
        study_toml(config.model_copy(update={"constraints": changed}))
    )
    text = Reader(html(read_facts(study))).text
    assert ("public solutions" in text) == quoted


def test_how_figures_were_made_is_said_once_in_the_head_and_not_below_each_chart(
    facts: Facts,
) -> None:
    page = html(facts)
    captions = re.findall(r"<figcaption>.*?</figcaption>", page, re.S)
    assert len(captions) == 8
    assert not any("AMD EPYC" in caption for caption in captions)
    head = page.partition("<header>")[2].partition("</header>")[0]
    assert "AMD EPYC, 1 threads; bf16; torch 2.15.0" in head


def test_no_range_reaches_from_a_figure_to_itself(study: Path) -> None:
    board = rows(study / "leaderboard.csv")
    write_rows(
        study / "leaderboard.csv",
        [row | {"val_acc": "1.0"} for row in board if row["status"] == "trained"][:3],
    )
    for history in (study / "trials").glob("*/history.csv"):
        lines = rows(history)
        write_rows(history, [line | {"val_acc": "1.0"} for line in lines])
    found = read_facts(study)
    curves = search_curves(found)
    assert curves
    assert "After one epoch the networks reach 100.00%; " in curves.reading
    reading = trade_off(found, "params").reading
    assert re.search(r"at once: 100.00% with [\d,]+ parameters\.", reading)
    assert "from" not in reading.partition("Grey")[0]
