"""`leaderboard.csv` as a DataFrame: its types, what was written, and files that are hostile."""

from __future__ import annotations

import csv
import io
import operator
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsearch.errors import InputError
from archsearch.leaderboard import reader
from archsearch.leaderboard.csv_lines import MAX_BYTES
from archsearch.leaderboard.entry import COLUMNS, Entry, write_leaderboard
from archsearch.leaderboard.query import known_columns, where
from archsearch.leaderboard.reader import entries, read_board, read_leaderboard, records, stacked
from archsearch.space.neighbourhood import MAX_KNOBS
from tests.cli.test_validate import EVA8, modules_after
from tests.conftest import ROOT

STUDIES = [path.parent for path in sorted((ROOT / "studies").glob("*/leaderboard.csv"))]
HEADER = "rank,trial,spec_hash,status,val_acc,params"
ROW = "1,0,aaaa,trained,0.5,100"


def leaderboard(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "leaderboard.csv").write_text(text, newline="")
    return folder


def entry(**changes: Any) -> Entry:
    row = Entry(
        rank=1, trial=0, spec_hash="a" * 64, status="trained", val_acc=0.5, params=100,
        receptive_field=(9, 9), receptive_field_with_gap=(9, 9), macs=10, epochs=3,
        train_seconds=1.5,
    )  # fmt: skip
    return replace(row, **changes)


# Types


def test_dtypes_are_those_of_the_entry() -> None:
    """Told a second time, by the names of annotations."""
    told = {"int": "Int64", "float": "Float64", "bool": "boolean", "str": "string"}
    told |= {"Share": "Float64", "Seconds": "Float64", "Pair": "Int64", "Status": "string"}
    wanted = {
        column: told[str(annotation).removesuffix(" | None")]
        for column, annotation in Entry.__annotations__.items()
        if column != "knobs"
    }
    assert wanted == reader.DTYPES
    for folder in STUDIES:
        frame = read_leaderboard(folder)
        assert list(frame)[: len(COLUMNS)] == list(COLUMNS)
        assert {column: str(frame[column].dtype) for column in COLUMNS} == wanted


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_study_of_an_older_version_is_read_cell_by_cell(folder: Path) -> None:
    frame = read_leaderboard(folder)
    with (folder / "leaderboard.csv").open(newline="") as file:
        files = list(csv.DictReader(file))
    assert len(frame) == len(files)
    for row, cells in zip(records(frame), files, strict=True):
        setting = [knob.split("=") for knob in cells.pop("knobs", "").split()]
        cells |= {f"knob_{name}": value for name, value in setting}
        for column, cell in row.items():
            text = cells.get(column, "")
            number = text and not isinstance(cell, bool | str)
            assert float(text) == cell if number else text == ("" if cell is None else str(cell))


def test_columns_of_an_older_version_are_blank(tmp_path: Path) -> None:
    frame = read_leaderboard(leaderboard(tmp_path, f"\ufeff{HEADER}\r\n{ROW}\r\n\r\n"))
    assert frame["rank"].tolist() == [1]
    assert frame["pareto"].isna().all()
    assert read_leaderboard(leaderboard(tmp_path, f"{HEADER}\n")).empty


# What was written


KNOBS = st.dictionaries(
    st.sampled_from(["block1.width", "activation", "ünï-1.2.kernel", "x,y.pad"]),
    st.integers(1, 512) | st.sampled_from(["relu", "3x5", "as it is", "=1+1"]),
)
FIELD = st.tuples(st.integers(1, 999), st.integers(1, 999))
SHARES = st.floats(0, 1).map(lambda share: round(share, 4))
ENTRIES = st.builds(
    entry,
    status=st.sampled_from(get_args(get_type_hints(Entry)["status"])),
    val_acc=st.none() | SHARES,
    test_acc=st.none() | SHARES,
    params=st.integers(0, 10**18 - 1),
    receptive_field=FIELD,
    reached_target=st.none() | st.booleans(),
    seed=st.none() | st.integers(0, 2**31),
    train_seconds=st.floats(0, 1e6).map(lambda seconds: round(seconds, 2)),
    device=st.sampled_from(["", "cpu", "a, b", 'a "b"']),
    reason=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
    knobs=KNOBS,
)


@settings(max_examples=30)
@given(st.lists(ENTRIES, max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory: Any, rows: list[Entry]) -> None:
    folder = tmp_path_factory.mktemp("study")
    write_leaderboard(folder / "leaderboard.csv", rows, ["activation", *KNOB_ORDER])
    board = read_board(folder, "s")
    used = {name for row in rows for name in row.knobs}
    names = [c.removeprefix("knob_") for c in board.columns if c.startswith("knob_")]
    assert names == [name for name in ("activation", *KNOB_ORDER) if name in used]
    for back, row in zip(entries(board), rows, strict=True):
        for column, value in asdict(row).items():
            found = getattr(back, column)
            if column == "knobs":
                assert {n: str(v) for n, v in found.items()} == {
                    n: inert(v) for n, v in row.knobs.items()
                }
            elif isinstance(value, float):
                assert found == float(f"{value:.6g}")
            else:
                assert found == (inert(value) if isinstance(value, str) else value), column


KNOB_ORDER = ("x,y.pad", "ünï-1.2.kernel", "block1.width")


def inert(value: object) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def test_a_knob_of_numbers_is_one_and_blank_where_it_is_as_the_spec_is(tmp_path: Path) -> None:
    rows = [entry(knobs={"a.width": 24}), entry(knobs={"a.kind": "7"}), entry(knobs={"b.pad": "x"})]
    write_leaderboard(tmp_path / "leaderboard.csv", rows, ["b.pad", "a.kind", "a.width", "unused"])
    frame = read_leaderboard(tmp_path)
    assert list(frame)[-3:] == ["knob_b.pad", "knob_a.kind", "knob_a.width"]
    assert [str(frame[c].dtype) for c in list(frame)[-3:]] == ["string", "Int64", "Int64"]
    assert frame["knob_a.width"].isna().tolist() == [False, True, True]


def test_a_knob_of_two_kinds_is_text_side_by_side(tmp_path: Path) -> None:
    boards = [
        read_board(leaderboard(tmp_path / name, f"{HEADER},knob_a\n{ROW},{value}\n"), name)
        for name, value in (("one", "3"), ("two", "3x5"))
    ]
    bare = read_board(leaderboard(tmp_path / "none", f"{HEADER}\n{ROW}\n"), "none")
    assert stacked([*boards, bare])["knob_a"].fillna("").tolist() == ["3", "3x5", ""]
    assert str(stacked([boards[0], bare])["knob_a"].dtype) == "Int64"


# Hostile files


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{HEADER},knobs\n{ROW},width\n", r"line 2\s+knobs must be NAME=VALUE by spaces"),
        (f"{HEADER},knobs,knob_a\n", "has knobs in one column and in many"),
        (f"{HEADER},macs\n{ROW},-3\n2,1,b,trained,7,1,1\n3\n", "has 3 problems"),
        (f"{HEADER},study\n", "has a column 'study' too many"),
        (f"{HEADER},{','.join(map(str, range(MAX_KNOBS + 100)))}\n", "columns, more than"),
        (f"{HEADER},knobs\n" + f"{ROW},{'a=1 ' * 9}\n" * 10_001, "at most 10,000 are read"),
        (
            f"{HEADER},knobs\n{ROW},{' '.join(f'k{i}=1' for i in range(MAX_KNOBS + 1))}\n",
            "names more than 2,000 knobs by row 1",
        ),
        (
            f"{HEADER},knobs\n{ROW},{' '.join(f'k{i}=1' for i in range(600))}\n"
            + f"{ROW},\n" * 9_999,
            "names more than 500 knobs by row 1",
        ),
    ],
)  # fmt: skip
def test_what_is_hostile_is_told(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told) as error:
        read_leaderboard(leaderboard(tmp_path, text))
    assert len(str(error.value)) < 10_000


def of_size(row: str) -> str:
    return row * ((MAX_BYTES - 1_000) // len(row))


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER},{','.join(f'knob_{i}' for i in range(494))}\n{ROW}{',' * 494}\n" + "\n" * 10**6,
        f"{HEADER},{','.join(f'knob_{i}' for i in range(1_900))}\n"
        + f"{ROW}{',1' * 1_900}\n" * 2_600,
        f"{HEADER},knobs\n" + f"{ROW},{' '.join(f'k{i}=x{i}' for i in range(160))}\n" * 9_999,
        f"{HEADER}\n" + of_size("1,2\n"),
        f"{HEADER}\n" + of_size(",,,,,\n"),
    ],
    ids=["wide", "many cells", "many knobs", "short lines", "blank lines"],
)  # fmt: skip
@pytest.mark.slow
def test_the_worst_that_fits_costs_bounded_time_and_memory(text: str, tmp_path: Path) -> None:
    assert len(text.encode()) <= MAX_BYTES
    code = (
        "import re, sys; from pathlib import Path\n"
        "from archsearch.errors import InputError\n"
        "from archsearch.leaderboard.reader import read_leaderboard\n"
        "try: read_leaderboard(Path(sys.argv[1]))\n"
        "except InputError: pass\n"
        # Its own peak: ru_maxrss would also count the test's process, which it was forked from.
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    command = [sys.executable, "-c", code, str(leaderboard(tmp_path, text))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 1 << 20


# Conditions


ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
NUMBERS = ("params", "val_acc", "receptive_field", "seed", "knob_block1.width")


def holds(row: Mapping[str, Any], column: str, sign: str, wanted: Any) -> bool:
    """Plain Python's view of a condition."""
    cell = row.get(column)
    if sign in ORDERS:
        smaller = min(cell) if isinstance(cell, tuple) else cell
        return cell is not None and ORDERS[sign](smaller, wanted)
    if sign == "~":
        return wanted in (cell or "")
    return (cell == (None if wanted == "" else wanted)) == (sign == "=")


@settings(max_examples=60)
@given(
    st.lists(ENTRIES, max_size=6),
    st.sampled_from(NUMBERS),
    st.sampled_from([*ORDERS, "=", "!="]),
    st.sampled_from([0, 1, 3, 9, 0.5, 100, 512]) | SHARES,
)
def test_a_condition_on_numbers_is_what_python_says(
    tmp_path_factory: Any, rows: list[Entry], column: str, sign: str, wanted: float
) -> None:
    numbers = [replace(r, knobs={"block1.width": 1}) if r.knobs else r for r in rows]
    if column == "val_acc":
        wanted = min(wanted, 1)
    check(tmp_path_factory.mktemp("study"), numbers, column, sign, wanted, f"{wanted}")


@settings(max_examples=60)
@given(
    st.lists(ENTRIES, max_size=6),
    st.sampled_from(["status", "device", "spec_hash"]),
    st.sampled_from(["~", "=", "!="]),
    st.sampled_from(["", "trained", "pruned", "a", "cpu", "a, b", ".*", "@params", "`rank`"]),
)
def test_a_condition_on_text_is_what_python_says(
    tmp_path_factory: Any, rows: list[Entry], column: str, sign: str, wanted: str
) -> None:
    check(tmp_path_factory.mktemp("study"), rows, column, sign, wanted, wanted)


@settings(max_examples=60)
@given(
    st.lists(ENTRIES, max_size=6), st.sampled_from(["=", "!="]), st.sampled_from(["true", "No", ""])
)
def test_a_condition_on_a_switch_is_what_python_says(
    tmp_path_factory: Any, rows: list[Entry], sign: str, wanted: str
) -> None:
    meant = {"true": True, "No": False, "": ""}[wanted]
    check(tmp_path_factory.mktemp("study"), rows, "reached_target", sign, meant, wanted)


@settings(max_examples=30)
@given(st.lists(ENTRIES, max_size=6), st.sampled_from(["=", "!="]), FIELD)
def test_a_condition_on_a_field_of_two_axes(
    tmp_path_factory: Any, rows: list[Entry], sign: str, wanted: tuple[int, int]
) -> None:
    some = [replace(rows[0], receptive_field=wanted), *rows[1:]] if rows else []
    pair: Any = wanted if wanted[0] != wanted[1] else -1  # a square one is written as a number
    text = f"{wanted[0]}x{wanted[1]}"
    check(tmp_path_factory.mktemp("study"), some, "receptive_field", sign, pair, text)


def check(folder: Path, rows: list[Entry], column: str, sign: str, wanted: Any, text: str) -> None:
    write_leaderboard(folder / "leaderboard.csv", rows, KNOB_ORDER)
    board = read_board(folder, "s")
    known = [*known_columns([board]), "knob_block1.width"]
    table = stacked([board])
    if column not in table:
        return
    found = where(table, f"{column} {sign} {text}", known)
    assert found.dtype == bool
    assert found.tolist() == [holds(row, column, sign, wanted) for row in records(table)]


# Who loads pandas


def running(*args: str) -> str:
    """Code that runs a command and comes back."""
    return (
        f"import sys; sys.argv = {['archsearch', *args]!r}\n"
        "from archsearch.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code"
    )


@pytest.mark.parametrize(
    ("args", "loads"),
    [
        (("validate", str(EVA8)), False),
        (("train", "--help"), False),
        (("space", "cifar10-200k"), False),
        pytest.param(
            ("search", "cifar10-200k", "--dry-run", "--dataset", "shapes"),
            False,
            marks=pytest.mark.slow,  # it measures how long an epoch takes
        ),
        (("leaderboard", str(STUDIES[0])), True),
    ],
    ids=lambda args: args[0] if isinstance(args, tuple) else "",
)
def test_only_what_reads_leaderboards_loads_pandas(args: tuple[str, ...], loads: bool) -> None:
    assert ("pandas" in modules_after(running(*args))) == loads


def test_the_text_of_an_empty_leaderboard_has_the_fixed_columns(tmp_path: Path) -> None:
    write_leaderboard(tmp_path / "leaderboard.csv", [], ["a"])
    [header] = csv.reader(io.StringIO((tmp_path / "leaderboard.csv").read_text()))
    assert header == list(COLUMNS)
