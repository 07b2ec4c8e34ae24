"""Put something else where a file or a folder is expected."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

HUGE: Final = 5 << 30


def replace_file(rng: Random, path: Path, outside: Path) -> str:
    """Put something else in place of a file, which may be missing; return what it is."""
    change = rng.choice(_IN_PLACE_OF_A_FILE)
    _clear(path)
    return change(path, outside) or "a regular file"


def replace_folder(rng: Random, path: Path, outside: Path) -> str:
    """Put something else in place of a folder."""
    change = rng.choice(_IN_PLACE_OF_A_FOLDER)
    if change in (_link_to_itself, _fifo, _nothing, _file):
        _clear(path)
        return change(path, outside)
    _clear(outside / path.name)
    shutil.move(path, outside / path.name)
    return change(path, outside)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)


def _link_to_file(path: Path, outside: Path) -> str:
    (outside / path.name).touch()
    path.symlink_to(outside / path.name)
    return "a link to a file outside"


def _link_to_new(path: Path, outside: Path) -> str:
    path.symlink_to(outside / "not-there")
    return "a link to a file outside that does not exist"


def _relative_link(path: Path, outside: Path) -> str:
    path.symlink_to(os.path.relpath(outside / "report.html", path.parent))
    return "a relative link to a file outside"


def _link_to_folder(path: Path, outside: Path) -> str:
    path.symlink_to(outside)
    return "a link to a folder outside"


def _link_to_itself(path: Path, _outside: Path) -> str:
    path.symlink_to(path.name)
    return "a link to itself"


def _fifo(path: Path, _outside: Path) -> str:
    os.mkfifo(path)
    return "a pipe"


def _link_to_fifo(path: Path, outside: Path) -> str:
    os.mkfifo(outside / "pipe")
    path.symlink_to(outside / "pipe")
    return "a link to a pipe"


def _device(path: Path, outside: Path) -> str:
    minor = {"zero": 5, "full": 7, "random": 9}
    name = sorted(minor)[len(path.name) % len(minor)]
    try:
        os.mknod(outside / name, stat.S_IFCHR | 0o666, os.makedev(1, minor[name]))
    except (OSError, AttributeError):  # the superuser of a machine of its own may
        return _fifo(path, outside)
    path.symlink_to(outside / name)
    return f"a link to a device ({name})"


def _folder(path: Path, _outside: Path) -> str:
    path.mkdir()
    return "a folder"


def _full_folder(path: Path, _outside: Path) -> str:
    path.mkdir()
    (path / "file").write_text("x")
    return "a folder with a file"


def _nothing(_path: Path, _outside: Path) -> str:
    return "nothing"


def _empty(path: Path, _outside: Path) -> str:
    path.touch()
    return "an empty file"


def _file(path: Path, _outside: Path) -> str:
    path.write_text("a file")
    return "a file"


def _sparse(path: Path, _outside: Path) -> str:
    with path.open("wb") as file:
        file.truncate(HUGE)
    return "a file of 5 GiB of zeros"


def _outside_folder(path: Path, outside: Path) -> str:
    path.symlink_to(outside / path.name)
    return "a link to such a folder outside"


def _outside_relative(path: Path, outside: Path) -> str:
    path.symlink_to(os.path.relpath(outside / path.name, path.parent))
    return "a relative link to such a folder outside"


_Change = Callable[[Path, Path], str]
_IN_PLACE_OF_A_FILE: Final[tuple[_Change, ...]] = (
    _link_to_file, _link_to_file, _link_to_new, _relative_link, _link_to_folder,
    _link_to_itself, _fifo, _fifo, _link_to_fifo, _device, _folder, _full_folder, _nothing, _empty,
    _sparse,
)  # fmt: skip
_IN_PLACE_OF_A_FOLDER: Final[tuple[_Change, ...]] = (
    _outside_folder, _outside_folder, _outside_relative, _link_to_itself, _fifo, _nothing, _file,
)  # fmt: skip
