"""CSV rows as checked records; the file may be old, cut short or hostile."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from archsearch.common.parse import from_mapping
from archsearch.errors import MAX_PROBLEMS_SHOWN, ArchsearchError, InputError, Problem, one_line

MAX_BYTES = 64 << 20
"""Of a CSV; a search of a thousand trials leaves a few megabytes."""
MAX_ROWS = 200_000


MAX_TEXT = 2_000
"""Characters of a cell that are shown."""


def _text(value: object) -> object:
    return one_line(value[:MAX_TEXT]) if isinstance(value, str) else value


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[int, Field(ge=0, le=10**15)]
Figure = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, BeforeValidator(_text)]
SpecHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Names a folder, so it must not be a path."""


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
        if path.stat().st_size > MAX_BYTES:
            raise ArchsearchError(f"{name}: larger than {MAX_BYTES >> 20} MiB; {_NOT_OURS}")
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for count, row in enumerate(reader):
                if count >= most:
                    raise ArchsearchError(
                        f"{name}: more than {most:,} rows: a report takes no more"
                    )
                yield reader.line_num, {k: v for k, v in row.items() if isinstance(k, str) and v}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ArchsearchError(f"{name}: cannot be read: {why}") from error


_NOT_OURS = "this is not a file that archsearch writes"
