"""`archsearch leaderboard`: whose rows, which of them, in which order, and what damage does."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.errors import ArchsearchError, InputError
from archsearch.leaderboard import csv_lines, reader
from archsearch.leaderboard.query import Query, chosen
from archsearch.leaderboard.view import board_csv, board_json, board_markdown
from tests.conftest import ROOT, Cli

OURS = ROOT / "studies" / "cifar10-200k"
OLD = ROOT / "studies" / "first-light"  # its columns end before pareto
CHANCE = ROOT / "studies" / "random-baseline"


def by_hand(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rows(cli: Cli, *args: str | Path) -> list[dict[str, Any]]:
    result = cli("leaderboard", *args, "--format", "json")
    assert result.status == 0, result.err
    found: list[dict[str, Any]] = json.loads(result.out)
    return found


def study(folder: Path, *lines: str, header: str | None = None) -> Path:
    """A study folder with such a leaderboard."""
    folder.mkdir(parents=True)
    text = "\n".join([header or "rank,trial,spec_hash,status,val_acc,params,macs,device", *lines])
    (folder / "leaderboard.csv").write_text(text + "\n")
    return folder


ROW = "1,0,aaaa1111,trained,0.5,100,1000,cpu"


# What is shown


@pytest.mark.parametrize("folder", [OURS, OLD, CHANCE], ids=lambda folder: folder.name)
def test_the_csv_is_the_file_and_json_has_its_values(folder: Path, cli: Cli) -> None:
    printed = list(csv.DictReader(io.StringIO(cli("leaderboard", folder, "--format", "csv").out)))
    found, files = rows(cli, folder), by_hand(folder)
    for cells in files:  # a column per knob instead of the file's one
        setting = cells.pop("knobs", "").split()
        cells |= {f"knob_{name}": value for name, value in (knob.split("=") for knob in setting)}
    assert printed == files
    assert len(found) == len(files)
    for row, cells in zip(found, files, strict=True):
        assert row.pop("study") == folder.name
        assert list(row) == list(cells)
        for column, text in cells.items():
            value = row[column]
            if not text:
                assert value is None
            elif isinstance(value, bool):
                assert str(value) == text
            elif isinstance(value, int | float):
                assert value == float(text)
            else:
                assert value == text
        assert {type(row[column]) for column in ("rank", "trial", "params", "macs")} == {int}


def test_the_table_shows_the_main_columns_and_what_they_share(cli: Cli) -> None:
    lines = cli("leaderboard", OURS).out.splitlines()
    assert lines[0].split()[:4] == ["rank", "trial", "network", "status"]
    first = by_hand(OURS)[0]
    assert lines[1].split() == [
        "1", first["trial"], first["spec_hash"][:12], "trained", "85.12", "91.34", "128,866",
        "65", "18.6", "3", "205",
    ]  # fmt: skip
    assert lines[-1] == (
        "dataset cifar10; device AMD EPYC, 1 threads; precision bf16; seed 0; torch 2.15.0+cu132"
    )


def test_columns_in_the_order_that_is_asked_for(cli: Cli) -> None:
    out = cli("leaderboard", OURS, "--columns", "params, rank", "--format", "csv", "--top", "2").out
    first, second = by_hand(OURS)[:2]
    assert out == f"params,rank\n{first['params']},1\n{second['params']},2\n"
    told = cli("leaderboard", OURS, "--columns", "rank,parms")
    assert told.status == 2
    assert told.err == "error: no column 'parms'; did you mean 'params'?\n"


def test_a_receptive_field_of_two_axes(cli: Cli, tmp_path: Path) -> None:
    header = "rank,trial,spec_hash,status,val_acc,params,receptive_field"
    lines = [f"{i},{i},a{i}11,trained,0.5,100,{field}" for i, field in enumerate(("9x5", "7", "6"))]
    folder = study(tmp_path / "s", *lines, header=header)
    found = rows(cli, folder, "--sort", "receptive_field")
    assert [row["receptive_field"] for row in found] == [7, 6, [9, 5]]  # the smaller axis counts
    assert len(rows(cli, folder, "--where", "receptive_field>=6")) == 2
    assert len(rows(cli, folder, "--where", "receptive_field=9x5")) == 1
    assert "9x5" in cli("leaderboard", folder).out
    assert (
        cli("leaderboard", folder, "--format", "csv").out
        == (folder / "leaderboard.csv").read_text()
    )


# Which of them


def test_conditions_must_all_hold(cli: Cli) -> None:
    found = rows(cli, OURS, "--where", "params<=110,000", "--where", "val_acc>83.5%")
    wanted = [
        row
        for row in by_hand(OURS)
        if int(row["params"]) <= 110_000 and float(row["val_acc"]) > 0.835
    ]
    assert [str(row["trial"]) for row in found] == [row["trial"] for row in wanted]
    assert 0 < len(wanted) < len(by_hand(OURS))


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("status=pruned", lambda row: row["status"] == "pruned"),
        ("status!=pruned", lambda row: row["status"] != "pruned"),
        ("test_acc=", lambda row: not row["test_acc"]),
        ("test_acc != ", lambda row: row["test_acc"]),
        ("test_acc<1", lambda row: row["test_acc"]),  # no order holds for what is not known
        ("pareto=true", lambda row: row["pareto"] == "True"),
        ("spec_path~6dc9", lambda row: "6dc9" in row["spec_path"]),
        ("edits~stride", lambda _row: False),  # a column of other versions
    ],
)
def test_conditions(condition: str, holds: Any, cli: Cli) -> None:
    wanted = [
        row["trial"] for row in by_hand(CHANCE if "6dc9" in condition else OURS) if holds(row)
    ]
    folder = CHANCE if "6dc9" in condition else OURS
    found = [str(row["trial"]) for row in rows(cli, folder, "--where", condition)]
    assert found == wanted


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("params", "write COLUMN OP VALUE"),
        ("__import__('os')", "write COLUMN OP VALUE"),
        ("params<=1e999", "params is a number"),
        ("params<=nan", "params is a number"),
        ("parms<=1", "did you mean 'params'"),
        ("status<=pruned", "status has no order"),
        ("params~1", "~ looks into text"),
        ("pareto=maybe", "pareto is true or false"),
        ("x" * 100_000, "write COLUMN OP VALUE"),
        ("params<=" + "9" * 900, "params is a number"),
    ],
)
def test_conditions_that_are_none(condition: str, told: str, cli: Cli) -> None:
    result = cli("leaderboard", OURS, "--where", condition)
    assert (result.status, result.out) == (2, "")
    assert told in result.err
    assert len(result.err) < 1_000


def test_a_row_of_a_newer_version_is_found_by_its_settings(cli: Cli, tmp_path: Path) -> None:
    header = "rank,trial,spec_hash,status,val_acc,params,knobs,from_the_future"
    folder = study(
        tmp_path / "s",
        "1,0,aaaa,trained,0.5,100,block1.width=24 block1.stride=1,x",
        "2,1,bbbb,trained,0.4,90,block1.width=32 block1.stride=2,y",
        header=header,
    )
    for condition in ("knob_block1.stride=2", "knob_block1.width >= 25"):
        assert [row["trial"] for row in rows(cli, folder, "--where", condition)] == [1]
    assert rows(cli, folder, "--columns", "knob_block1.width")[1] == {"knob_block1.width": 32}
    assert rows(cli, folder, "--columns", "from_the_future")[0] == {"from_the_future": "x"}


# In which order


@pytest.mark.parametrize(
    ("sort", "high_first"),
    [("val_acc", True), ("params", False), ("-params", True), ("+val_acc", False)],
)
def test_sorting(sort: str, high_first: bool, cli: Cli) -> None:
    column = sort.lstrip("+-")
    values = [row[column] for row in rows(cli, OURS, "--sort", sort)]
    assert values == sorted(values, reverse=high_first)


def test_what_is_not_known_comes_last_either_way(cli: Cli) -> None:
    for sort in ("-test_acc", "+test_acc"):
        tested = [row["test_acc"] is not None for row in rows(cli, OURS, "--sort", sort)]
        assert tested == sorted(tested, reverse=True)
        assert sum(tested) == 3


def test_the_front_is_what_nothing_beats(cli: Cli) -> None:
    def cost(row: dict[str, Any]) -> tuple[float, ...]:
        return (-row["val_acc"], row["params"], row["macs"])

    small = ("--where", "params<=140000")
    trained = [row for row in rows(cli, OURS, CHANCE, *small) if row["status"] == "trained"]
    front = [
        (row["study"], row["trial"])
        for row in trained
        if not any(
            cost(other) != cost(row)
            and all(a <= b for a, b in zip(cost(other), cost(row), strict=True))
            for other in trained
        )
    ]
    found = rows(cli, OURS, CHANCE, *small, "--pareto")
    assert [(row["study"], row["trial"]) for row in found] == front
    assert len({study for study, _ in front}) == 2
    alone = {row["trial"] for row in rows(cli, OURS, "--pareto")}
    assert alone == {int(row["trial"]) for row in by_hand(OURS) if row["pareto"] == "True"}


# Several studies


def test_side_by_side_ranks_are_the_studies_own_until_they_are_sorted(cli: Cli) -> None:
    side_by_side = rows(cli, OURS, CHANCE)
    assert [row["rank"] for row in side_by_side] == [
        int(row["rank"]) for folder in (OURS, CHANCE) for row in by_hand(folder)
    ]
    ranked = rows(cli, OURS, CHANCE, "--sort", "val_acc")
    assert [row["rank"] for row in ranked] == list(range(1, len(side_by_side) + 1))
    assert {row["study"] for row in ranked[:10]} == {OURS.name, CHANCE.name}
    assert rows(cli, OURS, "--sort", "params")[0]["rank"] != 1  # of one study, its own


def test_studies_of_one_name_are_told_apart(cli: Cli, tmp_path: Path) -> None:
    folders = [study(tmp_path / where / "s", ROW) for where in ("a", "b")]
    assert [row["study"] for row in rows(cli, *folders)] == [str(folder) for folder in folders]
    assert len(rows(cli, folders[0], folders[0])) == 1


def test_what_cannot_be_compared_is_said(cli: Cli, tmp_path: Path) -> None:
    assert cli("leaderboard", OURS, CHANCE).err == ""
    told = cli("leaderboard", OURS, OLD).err
    assert "recipes that differ in optimizer, lr" in told
    assert "test accuracies are after different numbers of epochs (cifar10-200k: 30; " in told
    assert "seconds are of different devices" in told
    header = "rank,trial,spec_hash,status,val_acc,params,epochs,dataset"
    one, two = (
        study(tmp_path / name, f"1,0,aaaa,trained,0.5,100,{told}", header=header)
        for name, told in (("one", "3,cifar10"), ("two", "2,shapes"))
    )
    told = cli("leaderboard", one, two).err
    assert "different data sets (one: cifar10; two: shapes): they cannot be compared" in told
    assert "after different numbers of epochs (one: 3; two: 2)" in told
    assert "which recipe trained one, two is not known" in told
    assert cli("leaderboard", one, two, "--where", "dataset=shapes").err == ""


def test_top_rows_are_those_of_each_study_unless_they_are_sorted(cli: Cli) -> None:
    chance = OURS.with_name("random-baseline")
    apart = rows(cli, OURS, chance, "--top", "2")
    assert [row["study"] for row in apart] == 2 * ["cifar10-200k"] + 2 * ["random-baseline"]
    together = rows(cli, OURS, chance, "--top", "2", "--sort", "val_acc")
    assert [row["rank"] for row in together] == [1, 2]


def test_a_share_above_one_is_told_to_be_a_percentage(cli: Cli) -> None:
    done = cli("leaderboard", OURS, "--where", "val_acc>85")
    assert done.status == 2
    assert "write 85% or 0.85" in done.err


# Damage


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["1,0,aaaa,trained,0.5,100"], "line 2  has 6 cells, the header has 8"),
        ([ROW, "2,1,bbbb,trained,good,100,1,cpu"], "line 3  val_acc must be a number, got 'good'"),
        ([ROW.replace("100,", "1e3,")], "line 2  params must be a count, got '1e3'"),
        ([ROW.replace("100,", ",")], "line 2  params must be a count, got ''"),
        ([ROW.replace("0.5", "nan")], "line 2  val_acc must be a number, got 'nan'"),
        ([ROW.replace(",100,", f",{'9' * 5_000},")], "line 2  params must be a count"),
        ([ROW.replace("0.5", "78.4")], "line 2  val_acc must be a share from 0 to 1, got '78.4'"),
        ([ROW.replace("trained", "wat")], "line 2  status must be one of trained, pruned, failed"),
        ([ROW, '2,"cut'], "line 3  unexpected end of data"),
        ([ROW + "x" * 200_000], "line 2  field larger than field limit"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named_and_other_studies_are_shown(
    lines: list[str], told: str, cli: Cli, tmp_path: Path
) -> None:
    bad, good = study(tmp_path / "bad", *lines), study(tmp_path / "good", ROW)
    result = cli("leaderboard", bad, good)
    assert result.status == 2
    assert f"error: {bad}/leaderboard.csv has 1 problem\n  {told}" in result.err
    assert len(result.err) < 1_000
    assert result.out.splitlines()[1].split()[:3] == ["good", "1", "0"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "line 1  is no leaderboard's header: it has no column rank, trial"),
        (b"a,b\n1,2\n", "line 1  is no leaderboard's header"),
        (b"rank,trial,spec_hash,status,val_acc,params,rank\n", "has a column 'rank' too many"),
        (b"rank,trial,spec_hash,status,val_acc,params\n\xff\n", "line 2  is not UTF-8 text"),
        (b"x" * (csv_lines.MAX_BYTES + 1), "larger than 16 MiB"),
    ],
)
def test_a_file_that_is_no_leaderboard(data: bytes, told: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "leaderboard.csv").write_bytes(data)
    result = cli("leaderboard", tmp_path)
    assert (result.status, result.out) == (2, "")
    assert told in result.err


def test_no_more_rows_are_read_than_a_study_has(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", *[ROW] * (reader.MAX_ROWS + 1))
    with pytest.raises(InputError, match=r"line 10002\s+is a row too many: at most 10,000"):
        reader.read_board(folder, "s")


def test_a_folder_without_a_leaderboard(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "leaderboard.csv").mkdir()
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "no\x1b[31mwhere"):
        result = cli("leaderboard", folder, OURS)
        assert result.status == 2
        assert result.err.startswith("error: ")
        assert "\x1b" not in result.err
        assert len(result.out.splitlines()) > 10


HOSTILE = "=1+1|<script>`*_[x](y)\x1b[31m\n@b"


def test_what_cells_hold_is_text_in_every_format(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    cells = {"rank": "1", "trial": "2", "status": "trained", "val_acc": "0.3", "params": "4"}
    head = ("rank", "trial", "spec_hash", "status", "val_acc", "params", "=col|umn")
    line = io.StringIO()
    csv.writer(line).writerows([head, [cells.get(column, HOSTILE) for column in head]])
    (folder / "leaderboard.csv").write_text(line.getvalue(), newline="")
    for output in ("table", "markdown"):
        lines = cli(
            "leaderboard", folder, "--format", output, "--columns", "spec_hash,=col|umn"
        ).out.splitlines()
        assert len(lines) == 3
        assert "\x1b" not in "".join(lines)
        if output == "markdown":
            assert r"\=" not in lines[2]
            assert len(re.findall(r"(?<!\\)\|", lines[2])) == 3
            assert not re.search(r"(?<!\\)[<`*_\[]", lines[2])
    out = cli("leaderboard", folder, "--format", "csv").out
    head_again, row = list(csv.reader(io.StringIO(out, newline="")))
    assert head_again[-1] == "'=col|umn"
    assert row[2] == f"'{HOSTILE}".replace("\x1b", r"\x1b")
    assert rows(cli, folder)[0]["spec_hash"] == HOSTILE


CELL = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20) | st.tuples(st.integers(1, 99), st.integers(1, 99))
)  # fmt: skip


@given(st.lists(st.fixed_dictionaries({"rank": CELL, "x|y": CELL, "device": CELL}), max_size=4))
def test_any_cells_make_one_line_a_row(some: list[dict[str, Any]]) -> None:
    columns = ("rank", "x|y", "device")
    table = pd.DataFrame(some, columns=columns, dtype=object)
    lines = board_markdown(table, columns).splitlines()
    assert len(lines) == 2 + len(some)
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines} == {4}
    assert len(json.loads(board_json(table, columns))) == len(some)
    for cells in list(csv.reader(io.StringIO(board_csv(table, columns), newline="")))[1:]:
        for cell in cells:
            assert not cell.startswith(("=", "@", "\t", "\r"))


@given(st.text(max_size=40))
def test_any_condition_is_understood_or_told(text: str) -> None:
    try:
        found = chosen([reader.read_board(OLD, "s")], Query(where=(text,)))
    except ArchsearchError:
        return
    assert len(found) <= len(by_hand(OLD))


def test_the_table_says_after_how_many_epochs_the_test_was(cli: Cli, tmp_path: Path) -> None:
    told = "hold-out %, epochs, seconds: from the search; test %: finalists, retrained"
    out = cli("leaderboard", OURS).out
    assert f"{told} for 30 epochs" in out
    assert by_hand(OURS)[0]["epochs"] == "3"
    assert told not in cli("leaderboard", OURS, "--columns", "rank,test_acc").out
    untested = cli("leaderboard", OURS, "--where", "status=pruned").out
    assert told not in untested
    header = "rank,trial,spec_hash,status,val_acc,test_acc,params,epochs"  # of an older version
    old = study(tmp_path / "s", "1,0,aaaa,trained,0.5,0.6,100,3", header=header)
    assert f"{told}\n" in cli("leaderboard", old).out
