"""Change text: any bytes, and JSON, TOML and CSV by their structure. All are pure functions."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import tomli_w

from fuzz.hostile import ESCAPE, NUMBERS, RAW, string, value

Mutator = Callable[[Random, bytes], bytes]


# Any bytes


def flip_bits(rng: Random, raw: bytes) -> bytes:
    """Flip one bit or a few."""
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 4, 64)) if raw else 0):
        changed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(rng: Random, raw: bytes) -> bytes:
    """Keep the beginning."""
    return raw[: rng.choice((0, 1, len(raw) // 2, max(0, len(raw) - 1), rng.randint(0, len(raw))))]


def insert(rng: Random, raw: bytes) -> bytes:
    """Insert what does not belong there."""
    at = rng.randint(0, len(raw))
    pieces = (
        b"\0", b"\xff\xfe", b"\x1b[2J", ESCAPE.encode(), b"\r", b'"', b"\n\n", b"{", b"]", b",",
        b"\xed\xa0\x80", b"9" * 5_000, b"A" * 3_000_000, string(rng).encode("utf-8", "replace"),
        rng.randbytes(16),
    )  # fmt: skip
    return raw[:at] + rng.choice(pieces) + raw[at:]


def delete(rng: Random, raw: bytes) -> bytes:
    """Cut a piece out."""
    at = rng.randint(0, len(raw))
    return raw[:at] + raw[at + rng.choice((1, 2, 10, 100, len(raw) // 4)) :]


def repeat(rng: Random, raw: bytes) -> bytes:
    """Repeat a piece, or all of it."""
    at = rng.randint(0, len(raw))
    piece = raw[at : at + rng.choice((1, 20, 200))]
    return rng.choice((raw + raw, raw[:at] + piece * rng.choice((2, 50, 5_000)) + raw[at:]))


def change_number(rng: Random, raw: bytes) -> bytes:
    """Write another number in place of one."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", raw))
    if not found:
        return insert(rng, raw)
    at = rng.choice(found)
    other = rng.choice([str(number) for number in NUMBERS[:-1]] + ["1e999", "-", "0x10", "1_0"])
    return raw[: at.start()] + other.encode() + raw[at.end() :]


def change_words(rng: Random, raw: bytes) -> bytes:
    """Write another text in place of a word, wherever it stands."""
    words = sorted(set(re.findall(rb"[A-Za-z_]{3,}", raw)))
    if not words:
        return insert(rng, raw)
    other = string(rng).encode("utf-8", "surrogatepass")
    return raw.replace(rng.choice(words), other, rng.choice((1, -1)))


def encode_otherwise(rng: Random, raw: bytes) -> bytes:
    """Use another encoding, a byte order mark or other line ends."""
    text = raw.decode("utf-8", "replace")
    return rng.choice(
        (
            text.encode("utf-16"),
            b"\xef\xbb\xbf" + raw,
            raw.replace(b"\n", b"\r"),
            raw.replace(b"\n", b"\r\n"),
            ("é" + text).encode("latin-1", "replace"),
        )
    )


def other_content(rng: Random, raw: bytes) -> bytes:
    """Replace all of it."""
    return rng.choice(
        (b"", b"\n", b"\0" * 100, rng.randbytes(200), b"null", b"[]", b"{}", b"1", b'"a"', b"NaN",
         b"[" * 100_000, b"PK\x03\x04" + raw, b"SQLite format 3\0", raw[::-1], b"a,b\n1\n")
    )  # fmt: skip


BYTES: Final[tuple[Mutator, ...]] = (
    flip_bits, truncate, insert, delete, repeat, change_number, change_words, encode_otherwise,
    other_content,
)  # fmt: skip


def any_bytes(rng: Random, raw: bytes) -> bytes:
    """Change bytes, whatever they mean."""
    return rng.choice(BYTES)(rng, raw)


# Structure


def changed(rng: Random, data: Any) -> Any:
    """Change one place in nested lists and dictionaries."""
    slots = list(_slots(data))
    if not slots or rng.random() < 0.03:
        return value(rng)
    owner, key = rng.choice(slots)
    rng.choice(_CHANGES)(rng, owner, key, slots)
    return data


def _slots(data: Any) -> Iterator[tuple[Any, Any]]:
    keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in list(keys):
        yield data, key
        yield from _slots(data[key])


_Slots = list[tuple[Any, Any]]


def _replace(rng: Random, owner: Any, key: Any, _slots: _Slots) -> None:
    owner[key] = value(rng)


def _remove(_rng: Random, owner: Any, key: Any, _slots: _Slots) -> None:
    del owner[key]


def _rename(rng: Random, owner: Any, key: Any, _slots: _Slots) -> None:
    if isinstance(owner, dict):
        owner[string(rng)] = owner.pop(key)
    else:
        owner.insert(key, value(rng))


def _add(rng: Random, owner: Any, _key: Any, _slots: _Slots) -> None:
    for number in range(rng.choice((1, 1, 1, 300, 10_000))):
        if isinstance(owner, list):
            owner.append(value(rng))
        else:
            owner[f"{string(rng)[:50]}{number or ''}"] = rng.choice((1, "a", None))


def _wrap(rng: Random, owner: Any, key: Any, _slots: _Slots) -> None:
    owner[key] = rng.choice(([owner[key]], {"a": owner[key]}, str(owner[key])[:10_000]))


def _from_elsewhere(rng: Random, owner: Any, key: Any, slots: _Slots) -> None:
    other, where = rng.choice(slots)
    owner[key] = copy.deepcopy(other[where])


def _multiply(rng: Random, owner: Any, key: Any, _slots: _Slots) -> None:
    old, times = owner[key], rng.choice((0, 2, 100, 1_000))
    if isinstance(old, bool | int | float):
        owner[key] = old * rng.choice((-1, 0, 2, 1_000, 10**9))
    elif isinstance(old, str | list):
        owner[key] = old * times
    else:
        owner[key] = [old] * times


_CHANGES = (_replace, _replace, _remove, _rename, _add, _wrap, _from_elsewhere, _multiply)


def _times(rng: Random) -> range:
    return range(rng.choice((1, 1, 1, 1, 2, 5)))


def json_structure(rng: Random, raw: bytes) -> bytes:
    """Change JSON so that it stays JSON, or nearly."""
    data = json.loads(raw)
    for _ in _times(rng):
        data = changed(rng, data)
    text = json.dumps(data, ensure_ascii=rng.random() < 0.7)
    if rng.random() < 0.07:
        text = _twice(rng, text)
    return _with_raw(text)


def ndjson_structure(rng: Random, raw: bytes) -> bytes:
    """Change lines of JSON, each by itself, or their order and number."""
    lines = raw.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((json_structure, json_structure, any_bytes))(rng, lines[at])
    return b"\n".join(lines * rng.choice((1, 1, 1, 50))) + rng.choice((b"", b"\n", b"\n\n \n"))


def toml_structure(rng: Random, raw: bytes) -> bytes:
    """Change TOML so that it stays TOML, or nearly."""
    data = tomllib.loads(raw.decode())
    for _ in _times(rng):
        data = changed(rng, data)
    try:
        return _with_raw(tomli_w.dumps(data))
    except (TypeError, ValueError, AttributeError):  # null and the like
        return any_bytes(rng, raw)


def csv_structure(rng: Random, raw: bytes) -> bytes:
    """Change cells, columns or rows of a CSV."""
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8", "replace"))))
    for _ in _times(rng):
        table: Any = rows
        change = rng.randrange(6)
        row = rng.choice(table) if table else []
        if change == 0 and rows:
            table[0] = changed(rng, rows[0]) if rng.random() < 0.9 else []
        elif change == 1:
            rows.insert(rng.randint(0, len(rows)), [string(rng)] * rng.choice((0, 1, 500)))
        elif change == 2:
            rows *= rng.choice((2, 50))
        elif change == 3 and rows:
            del rows[rng.randrange(len(rows))]
        elif row:
            row[rng.randrange(len(row))] = rng.choice((string(rng), str(value(rng))[:10_000]))
        rows = [line if isinstance(line, list) else [line] for line in table]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _twice(rng: Random, text: str) -> str:
    """Give an object the same key twice."""
    braces = [at.end() for at in re.finditer(r"\{", text)]
    if not braces:
        return text
    at = rng.choice(braces)
    return f'{text[:at]}"name": 1, "name": "twice", {text[at:]}'


def _with_raw(text: str) -> bytes:
    for stands_for, raw in RAW.items():
        text = text.replace(f'"{stands_for}"', raw)
    return text.encode("utf-8", "surrogatepass")


_STRUCTURES: Final = {
    ".json": json_structure,
    ".ndjson": ndjson_structure,
    ".toml": toml_structure,
    ".csv": csv_structure,
}


def any_text(suffix: str) -> Mutator:
    """Return a mutator for files of this kind: mostly their structure, else their bytes."""
    structure = _STRUCTURES.get(suffix)

    def mutate(rng: Random, raw: bytes) -> bytes:
        if structure is None or rng.random() < 0.35:
            return any_bytes(rng, raw)
        return structure(rng, raw)

    return mutate
