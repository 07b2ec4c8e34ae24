"""CSV rows as checked records; the file may be old, cut short or hostile."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from archsearch.common.csv_files import numbered_rows
from archsearch.common.guarded_files import SPEC_HASH
from archsearch.common.parse import from_mapping
from archsearch.errors import MAX_PROBLEMS_SHOWN, ArchsearchError, InputError, Problem, one_line

MAX_ROWS = 200_000


MAX_TEXT = 2_000
"""Characters of a cell that are shown."""


def _text(value: object) -> object:
    return one_line(value[:MAX_TEXT]) if isinstance(value, str) else value


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[int, Field(ge=0, le=10**15)]
Figure = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Text = Annotated[str, BeforeValidator(_text)]
SpecHash = Annotated[str, Field(pattern=f"^{SPEC_HASH.pattern}$")]


class Cells(BaseModel):
    """A row of a CSV; empty cells and missing columns have their default."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


Record = TypeVar("Record", bound=Cells)


def read_rows(model: type[Record], path: Path, most: int | None = None) -> tuple[Record, ...]:
    """A CSV's rows as records; `MAX_ROWS` of them at most, or `most`.

    Raises:
        InputError: rows are not what they must be: the first problems.
        ArchsearchError: it cannot be read, or is too large.
    """
    found: list[Record] = []
    problems: list[Problem] = []
    for line, cells in _lines(path, most or MAX_ROWS):
        try:
            found.append(from_mapping(model, cells, ""))
        except InputError as error:
            problems += [p._replace(place=f"line {line} {p.place}".strip()) for p in error.problems]
        if len(problems) > MAX_PROBLEMS_SHOWN:
            break
    if problems:
        raise InputError(str(path), problems)
    return tuple(found)


def _lines(path: Path, most: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, cells that hold something)."""
    name = one_line(str(path))
    try:
        for count, (line, row) in enumerate(numbered_rows(path)):
            if count >= most:
                raise ArchsearchError(f"{name}: more than {most:,} rows: a report takes no more")
            yield line, {k: v for k, v in row.items() if isinstance(k, str) and v}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ArchsearchError(f"{name}: cannot be read: {why}") from error
