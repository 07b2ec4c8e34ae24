"""The bytes of a checkpoint: torch's zip archive, with a checksum as the archive's comment.

Readers of zip archives skip a comment, so `torch.load` reads these files as well.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO, NamedTuple

from archsearch.common.guarded_files import open_regular
from archsearch.common.machine import physical_memory
from archsearch.errors import CheckpointError, one_line

REMEDY = "restore a copy, or move it away to train from the beginning"
MAX_PICKLE_BYTES = 16 << 20
"""Of what is not tensors: names, history, settings; a network of 100 layers has 0.1 MiB."""
MAX_ENTRIES = 100_000
LARGE_BYTES = 64 << 20
"""What is larger is read whole only if it ends as a checkpoint does."""
_MEMORY_SHARE = 4
"""A file, its tensors and the network with its optimizer are in memory at a time."""
_MARK = b"archsearch sha256 "
_DIGEST_CHARS = 64
_END = b"PK\x05\x06"
_END_BYTES = 22
"""Size of a zip archive's last record without its comment, whose length is the last 2 bytes."""
_ENTRY = b"PK\x01\x02"


class Archive(NamedTuple):
    """A checked zip archive; `has_checksum` is false if an older archsearch wrote it."""

    content: bytes
    has_checksum: bool


def sealed(archive: memoryview) -> tuple[memoryview, bytes]:
    """Return the content of a checkpoint in two parts: a zip archive, with its checksum."""
    body, mark = archive[:-2], struct.pack("<H", len(_MARK) + _DIGEST_CHARS) + _MARK
    return body, mark + _digest(body, mark)


def read_archive(path: Path) -> Archive:
    """Read a file and check every byte of it, before torch sees it.

    Raises:
        CheckpointError: it cannot be read, is damaged, or is not a file that torch wrote.
    """
    name = one_line(str(path))
    content = _content(path, name)
    has_checksum = content[-_DIGEST_CHARS - len(_MARK) : -_DIGEST_CHARS] == _MARK
    if has_checksum and _digest(memoryview(content)[:-_DIGEST_CHARS]) != content[-_DIGEST_CHARS:]:
        raise CheckpointError(f"{name}: is damaged: its checksum does not match; {REMEDY}")
    # A comment that is no checksum is one that was damaged.
    if not has_checksum and content[-_END_BYTES:][:4] + content[-2:] != _END + b"\0\0":
        raise unreadable(name, "it is cut short, or is not a file that torch wrote")
    try:
        if why := _why_strange(content, check_parts=not has_checksum):
            raise unreadable(name, why)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, OSError, struct.error,
            EOFError, NotImplementedError, RuntimeError) as error:  # fmt: skip
        raise unreadable(name, "it is not a zip archive, or a damaged one") from error
    return Archive(content, has_checksum)


def unreadable(name: str, why: str) -> CheckpointError:
    """Return the error for a file that is not a checkpoint."""
    return CheckpointError(
        f"{name}: is not a checkpoint that can be read ({why}); it is left as it is: {REMEDY}"
    )


def _content(path: Path, name: str) -> bytes:
    try:
        with open_regular(path) as file:
            size, memory = os.fstat(file.fileno()).st_size, physical_memory()
            if memory is not None and size > memory // _MEMORY_SHARE:
                raise CheckpointError(
                    f"{name}: has {size:,} bytes, too many for the {memory:,} bytes of "
                    "memory here; use a machine with more memory"
                )
            if size > LARGE_BYTES and not _ends_as_archive(file):
                raise unreadable(name, "it is cut short, or is not a file that torch wrote")
            return file.read()
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be read: {error.strerror or error}") from error


def _ends_as_archive(file: BinaryIO) -> bool:
    """Return whether an open file ends as a zip archive does; it is read from the start after."""
    file.seek(-_END_BYTES - len(_MARK) - _DIGEST_CHARS, io.SEEK_END)
    found = _END in file.read()
    file.seek(0)
    return found


def _why_strange(content: bytes, *, check_parts: bool) -> str | None:
    """Return what tells an archive from those that torch writes; None if nothing does."""
    if content.count(_ENTRY) > MAX_ENTRIES:
        return f"it has more than {MAX_ENTRIES:,} parts"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.infolist()
        stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
        if not stored or sum(part.file_size for part in parts) > len(content):
            return "its parts are compressed or overlap, which torch does not do"
        pickles = [part for part in parts if part.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            return "it has no part data.pkl"
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            return f"its data.pkl is larger than {MAX_PICKLE_BYTES >> 20} MiB"
        if check_parts and (damaged := archive.testzip()):
            return f"its part {one_line(damaged[:80])} is damaged"
    return None


def _digest(*parts: bytes | memoryview) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest().encode()
