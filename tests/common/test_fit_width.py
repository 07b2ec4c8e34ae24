"""Pages on narrow terminals: columns go, names wrap, numbers stay whole."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.common.fit_width import fitted
from archsearch.common.page import GAP, Grid, Line, plain

NAME = st.text("abc_-. ", max_size=40).map(str.strip)
NUMBER = st.integers(0, 10**9).map("{:,}".format)
ROWS = st.lists(st.tuples(NAME, NUMBER, NUMBER, NUMBER), min_size=1, max_size=5)
TITLES = ("name", "first", "second", "third")


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


@given(ROWS, st.integers(45, 120))
def test_nothing_is_lost_but_whole_columns_which_are_named(
    rows: list[tuple[str, ...]], width: int
) -> None:
    grid = Grid(rows, frozenset({0}), TITLES, optional=(2, 3), wrapped=frozenset({0}))
    table, *notes = fitted([grid], width)
    assert isinstance(table, Grid)
    shown = table.titles
    assert (shown == list(TITLES)) == (not notes)
    for note in notes:
        assert isinstance(note, Line)
        missing = [title for title in TITLES if title not in shown]
        assert f"not shown in {width} columns: {', '.join(missing)}; " in note.text
    for i, title in enumerate(shown):
        at = TITLES.index(title)
        kept = [row[i] for row in table.rows]
        if at:
            assert [cell for cell in kept if cell] == [row[at] for row in rows]
        else:
            assert squeezed("".join(kept)) == squeezed("".join(row[0] for row in rows))
    # 12 for the name and 13 for a number: even at 45 columns, one of three numbers is enough.
    assert all(len(line) <= width for line in plain([table]).splitlines())


def test_a_page_that_fits_is_left_alone() -> None:
    page: list[Line | Grid] = [
        Line("head"),
        Grid([("a  b", "1")], frozenset({0}), wrapped=frozenset({0})),
    ]
    assert plain(fitted(page, len("a  b" + GAP + "1"))) == plain(page)


@pytest.mark.parametrize(
    ("cell", "width", "lines"),
    [
        ("block1.depthwise_separable", 20, ["block1.depthwise_", "separable"]),
        ("one two three four", 14, ["one two three", "four"]),
        ("    global_avg_pool_of_all", 16, ["    global_avg_", "    pool_of_all"]),
        ("16: 7.33   24: 6.36   32: 5.55", 24, ["16: 7.33   24: 6.36", "32: 5.55"]),
        ("x" * 30, 20, ["x" * 20, "x" * 10]),
        ("up to 1,234,567,890,123", 16, ["up to", "1,234,567,890,123"]),
    ],
)
def test_cells_wrap_at_spaces_then_within_names_and_never_within_numbers(
    cell: str, width: int, lines: list[str]
) -> None:
    (table,) = fitted([Grid([(cell,)], frozenset({0}), wrapped=frozenset({0}))], width)
    assert isinstance(table, Grid)
    assert [row[0] for row in table.rows] == lines


def test_rows_that_stand_out_do_so_on_every_line() -> None:
    rows = [("short",), ("a name that takes two",), ("last",)]
    (table,) = fitted([Grid(rows, frozenset({0}), bold=frozenset({1}), wrapped=frozenset({0}))], 14)
    assert isinstance(table, Grid)
    assert [row[0] for row in table.rows] == ["short", "a name that", "takes two", "last"]
    assert table.bold == {1, 2}


@pytest.mark.parametrize("rows", [[], [("a", "b")]])
def test_empty_tables_have_a_page_too(rows: list[tuple[str, str]]) -> None:
    grid = Grid(rows, frozenset(), ("x", "y"), optional=(0,), wrapped=frozenset({1}))
    assert plain(fitted([grid], 80)).splitlines()[0].split() == ["x", "y"]
