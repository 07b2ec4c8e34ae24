"""Change what archsearch stores: databases, checkpoints and the cache of decoded data."""

from __future__ import annotations

import io
import json
import os
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

import torch

from fuzz.hostile import string, value
from fuzz.text_mutators import any_bytes, changed, json_structure, toml_structure

# The database

_ATTRIBUTES = (
    "study_user_attributes", "trial_user_attributes", "trial_user_attributes",
    "trial_system_attributes", "study_system_attributes",
)  # fmt: skip
_TRIES = 20


def change_database(rng: Random, path: Path) -> str:
    """Change rows or the schema of an SQLite database; return what was changed."""
    with closing(sqlite3.connect(path)) as database:
        for _ in range(_TRIES):
            change = rng.choice(_DATABASE_CHANGES)
            try:
                told = change(rng, database)
                database.commit()
            except (sqlite3.Error, OverflowError, UnicodeError, IndexError):
                database.rollback()  # a constraint forbids it, or there is no such row
                continue
            return told
    return "nothing"


def _rows(database: sqlite3.Connection, table: str) -> list[int]:
    return [row for (row,) in database.execute(f"SELECT rowid FROM {table}")]  # noqa: S608


def _tables(database: sqlite3.Connection) -> list[str]:
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (name,) in found]


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def _cell(rng: Random, database: sqlite3.Connection) -> str:
    table = rng.choice([name for name in _tables(database) if _rows(database, name)])
    column = rng.choice(_columns(database, table))
    new = value(rng)
    new = json.dumps(new) if isinstance(new, list | dict) else new
    rows = rng.choice((_rows(database, table), [rng.choice(_rows(database, table))]))
    for row in rows:
        database.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?', (new, row))  # noqa: S608
    return f"{table}.{column} of {len(rows)} rows is {new!r}"


def _attribute(rng: Random, database: sqlite3.Connection) -> str:
    """Change the JSON of an attribute."""
    table = rng.choice(_ATTRIBUTES)
    row = rng.choice(_rows(database, table))
    key, old = database.execute(
        f"SELECT key, value_json FROM {table} WHERE rowid = ?",  # noqa: S608
        (row,),
    ).fetchone()
    if key == "study" and rng.random() < 0.8:
        text = toml_structure(rng, json.loads(old).encode()).decode("utf-8", "replace")
        new = json.dumps(text)
    elif rng.random() < 0.2:
        new = json.dumps(string(rng))
    else:
        new = json_structure(rng, old.encode()).decode("utf-8", "surrogatepass")
    database.execute(f"UPDATE {table} SET value_json = ? WHERE rowid = ?", (new, row))  # noqa: S608
    return f"{table} {row}: {key} is {new[:300]}"


def _spec_hash(rng: Random, database: sqlite3.Connection) -> str:
    """Name a trial's folder: a path that leads elsewhere, or another trial's."""
    new = rng.choice(("../../../v", "..", ".", "", "../v", "a/../../b", "\0", "*", string(rng)))
    rows = [row for (row,) in database.execute(
        "SELECT rowid FROM trial_user_attributes WHERE key = 'spec_hash'"
    )]  # fmt: skip
    database.execute(
        "UPDATE trial_user_attributes SET value_json = ? WHERE rowid = ?",
        (json.dumps(new), rng.choice(rows)),
    )
    return f"a spec_hash is {new!r}"


def _key(rng: Random, database: sqlite3.Connection) -> str:
    table = rng.choice(_ATTRIBUTES)
    row, new = rng.choice(_rows(database, table)), string(rng)
    new = rng.choice((new, f"final:{new}:0", "final:a", "final:a:b", f"final:{new}:{new}", "study"))
    database.execute(f"UPDATE {table} SET key = ? WHERE rowid = ?", (new, row))  # noqa: S608
    return f"{table} {row}: the key is {new!r}"


def _delete(rng: Random, database: sqlite3.Connection) -> str:
    table = rng.choice(_tables(database))
    rows = _rows(database, table)
    doomed = rng.choice((rows, rng.sample(rows, min(len(rows), 1))))
    for row in doomed:
        database.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))  # noqa: S608
    return f"{len(doomed)} rows of {table} are deleted"


def _duplicate(rng: Random, database: sqlite3.Connection) -> str:
    table = rng.choice(_tables(database))
    columns = _columns(database, table)
    row = rng.choice(_rows(database, table))
    values = list(database.execute(f"SELECT * FROM {table} WHERE rowid = ?", (row,)).fetchone())  # noqa: S608
    for at in rng.sample(range(len(values)), rng.randint(1, len(values))):
        values[at] = rng.choice((10**6, 99, value(rng)))
    marks = ", ".join("?" * len(columns))
    database.execute(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608
    return f"{table} has another row {values!r}"


def _state(rng: Random, database: sqlite3.Connection) -> str:
    row = rng.choice(_rows(database, "trials"))
    new = rng.choice(("RUNNING", "WAITING", "FAIL", "PRUNED", "COMPLETE", "DONE", ""))
    database.execute("UPDATE trials SET state = ? WHERE rowid = ?", (new, row))
    return f"the state of trial {row} is {new!r}"


def _schema(rng: Random, database: sqlite3.Connection) -> str:
    table = rng.choice(_tables(database))
    column = rng.choice(_columns(database, table))
    statement = rng.choice(
        (
            f"DROP TABLE {table}",
            f'ALTER TABLE {table} RENAME COLUMN "{column}" TO other',
            f"ALTER TABLE {table} RENAME TO other",
            f"ALTER TABLE {table} ADD COLUMN newer TEXT DEFAULT 'x'",
            f"CREATE TRIGGER t BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'PWNED'); END",
            f"CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END",  # noqa: S608
            "UPDATE version_info SET schema_version = 99",
            "UPDATE version_info SET library_version = '99.0'",
            "UPDATE alembic_version SET version_num = 'v99'",
            "PRAGMA user_version = 99",
            "PRAGMA journal_mode = wal",
            "PRAGMA application_id = 7",
        )
    )
    database.execute(statement)
    return statement


_DATABASE_CHANGES: Final[tuple[Callable[[Random, sqlite3.Connection], str], ...]] = (
    _cell, _cell, _attribute, _attribute, _attribute, _attribute, _spec_hash, _key, _delete,
    _duplicate, _state, _schema,
)  # fmt: skip


# Files that torch saved


class Evil:
    """Run a command when unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch unpickled",)


def change_saved(rng: Random, raw: bytes) -> bytes:
    """Change the values of a file that torch saved."""
    data = torch.load(io.BytesIO(raw), weights_only=True)
    if rng.random() < 0.1:
        data["model"] = Evil()
    elif rng.random() < 0.6:
        _change_a_tensor(rng, data)
    else:
        data = changed(rng, data)
    whole = io.BytesIO()
    torch.save(data, whole)
    return whole.getvalue()


def _change_a_tensor(rng: Random, data: Any) -> None:
    """Change one tensor's values, shape or kind."""
    slots = [slot for slot in _tensors(data) if slot[0][slot[1]].numel()]
    owner, key = rng.choice(slots)
    old = owner[key]
    owner[key] = rng.choice(_TENSOR_CHANGES)(old)


def _tensors(data: Any) -> list[tuple[Any, Any]]:
    found = []
    keys = list(data) if isinstance(data, dict) else range(len(data))
    for key in keys:
        if isinstance(data[key], torch.Tensor):
            found.append((data, key))
        elif isinstance(data[key], dict | list):
            found += _tensors(data[key])
    return found


_TENSOR_CHANGES: Final[tuple[Callable[[Any], Any], ...]] = (
    lambda old: torch.full_like(old, float("nan")) if old.is_floating_point() else old - 1,
    lambda old: old * 0 + (99 if old.dtype != torch.uint8 else 0),
    lambda old: old[:0] if old.dim() else old.reshape(1),
    lambda old: old.flatten(),
    lambda old: torch.cat([old.reshape(1, *old.shape)] * 2),
    lambda old: old.to(torch.complex64),
    lambda old: old.to(torch.bool),
    lambda old: old.double(),
    lambda old: old.to(torch.int64),
    lambda old: old.to_sparse() if old.dim() else old,
    lambda old: torch.zeros(1).expand(2**36),
    lambda old: torch.zeros(1).expand(old.shape),
    lambda old: torch.empty(old.shape, device="meta"),
    lambda old: old.tolist(),
    lambda old: old[: len(old) // 2] if old.dim() else old,
    lambda old: old.flip(0) if old.dim() else old + 1,
)


def change_archive(rng: Random, raw: bytes) -> bytes:
    """Change the members of a file that torch saved, which is a ZIP archive."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    kind = zipfile.ZIP_STORED
    match rng.randrange(7):
        case 0:
            del members[at]
        case 1:
            members[at] = (name, any_bytes(rng, content))
        case 2:
            members[at] = (rng.choice(("../../../outside/v", "/v", f"{name}x")), content)
        case 3:
            members[at] = (name, b"\0" * (64 << 20))
            kind = zipfile.ZIP_DEFLATED
        case 4:
            kind = zipfile.ZIP_DEFLATED
        case 5:
            members = [(name, pickle.dumps(Evil()) if name.endswith(".pkl") else content)
                       for name, content in members]  # fmt: skip
        case _:
            members += [(f"archive/extra/{i}", b"") for i in range(5_000)]
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", kind) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return whole.getvalue()
