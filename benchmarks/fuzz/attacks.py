"""Draw an attack: change one thing in a world, and choose a command that meets it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final

from fuzz import base, commands
from fuzz.base import DATA, RUN, STUDY, World
from fuzz.commands import Line
from fuzz.file_mutators import replace_file, replace_folder
from fuzz.fork import Terminal
from fuzz.hostile import string
from fuzz.store_mutators import change_archive, change_database, change_saved
from fuzz.text_mutators import BYTES, any_bytes, any_text, flip_bits


@dataclass(frozen=True)
class Attack:
    """A changed world and the command that meets it.

    Attributes:
        kind: what is attacked.
        what: how it was changed.
        args: of the command.
        writes: what the command may change, relative to the working directory.
        data: whether its output is meant for programs.
        terminal: around it.
        same_figures: whether an evaluation must be refused or give the figures of before.
        plots: whether matplotlib is there; it is slow.
    """

    kind: str
    what: str
    args: tuple[str, ...]
    writes: tuple[str, ...] = ()
    data: bool = False
    terminal: Terminal = field(default_factory=Terminal)
    same_figures: bool = False
    plots: bool = False


Draw = Callable[[Random, World], Attack]


def draw(rng: Random, base_world: World, world: World) -> Attack:
    """Replace `world` by an attacked copy of `base_world`; return the attack."""
    [kind] = rng.choices(list(_KINDS), weights=[weight for weight, _ in _KINDS.values()])
    base.copy(base_world, world, with_data=kind in _WITH_DATA)
    attack = replace(_KINDS[kind][1](rng, world), kind=kind, plots=rng.random() < 0.03)
    if rng.random() < 0.2:
        given, terminal = attack.terminal.stdin, commands.hostile_terminal(rng)
        attack = replace(attack, terminal=replace(terminal, stdin=terminal.stdin and given))
    if _is_cheap_to_start(attack) and rng.random() < 0.02:
        attack = replace(attack, terminal=replace(attack.terminal, cold=True))
    return attack


def _is_cheap_to_start(attack: Attack) -> bool:
    return attack.args[:1] in (("validate",), ("rules",), ("diagnose",), ("leaderboard",))


def _attack(line: Line, file: str, what: str) -> Attack:
    return Attack("", f"{file}: {what}", line.args(file), line.writes, line.data)


def _choose(rng: Random, lines: Sequence[Line]) -> Line:
    return rng.choices(lines, weights=[line.often for line in lines])[0]


def _input(rng: Random, world: World) -> Attack:
    """Change a file that a user writes; it may come from standard input."""
    name = rng.choice(tuple(commands.INPUTS))
    line = _choose(rng, commands.INPUTS[name])
    path = world.work / name
    mutate = _numbers_of_a_module if name == "model.py" else any_text(path.suffix)
    raw = mutate(rng, path.read_bytes())
    path.write_bytes(raw)
    attack = _attack(line, name, f"{len(raw)} bytes, {raw[:60]!r}")
    if name == "spec.json" and rng.random() < 0.15:
        args = tuple("-" if part == name else part for part in attack.args)
        return replace(attack, args=args, terminal=Terminal(stdin=raw))
    return attack


_IN_THE_MODULE = (
    "width=8", "16, 3", "padding=1", "stride=2", "dilation=2", "16, 10", "self.head", "nn.ReLU",
    "flatten(1)", "AdaptiveAvgPool2d(1)", "Net",
)  # fmt: skip


def _numbers_of_a_module(rng: Random, raw: bytes) -> bytes:
    """Change numbers and names alone: the module is run."""
    text = raw.decode()
    for _ in range(rng.choice((1, 2))):
        old = rng.choice(_IN_THE_MODULE)
        new = rng.choice(("0", "-1", "3.5", "None", "1_000", "'a'", "é", "nn.Identity", "1, 1"))
        text = text.replace(old, rng.choice((new, old.replace("=", f"={new}#"), f"{old}.{new}")))
    return text.encode()


def _stored(rng: Random, world: World) -> Attack:
    """Change a file that archsearch writes."""
    name = rng.choice(tuple(commands.STORED))
    line = _choose(rng, commands.STORED[name])
    file = _one_trial(rng, world, name)
    path = world.work / file
    old = path.read_bytes() if path.is_file() else b""
    raw = any_text(path.suffix)(rng, old) if old else any_bytes(rng, b"sqlite:///elsewhere.db\n")
    path.write_bytes(raw)
    return _attack(line, file, f"{len(raw)} bytes, {raw[:60]!r}")


def _one_trial(rng: Random, world: World, name: str) -> str:
    if "TRIAL" not in name:
        return name
    trials = sorted(path.name for path in (world.work / STUDY / "trials").iterdir())
    found = [trial for trial in trials if (world.work / name.replace("TRIAL", trial)).exists()]
    return name.replace("TRIAL", rng.choice(found or trials))


def _database(rng: Random, world: World) -> Attack:
    file = f"{STUDY}/study.db"
    path = world.work / file
    if rng.random() < 0.2:
        mutate = rng.choice((flip_bits, flip_bits, *BYTES))
        path.write_bytes(mutate(rng, path.read_bytes()))
        what = mutate.__name__
    else:
        what = "; ".join(change_database(rng, path) for _ in range(rng.choice((1, 1, 1, 2))))
    return _attack(_choose(rng, commands.DATABASE), file, what)


def _checkpoint(rng: Random, world: World) -> Attack:
    name = rng.choice(
        (f"{RUN}/checkpoint.pt", f"{RUN}/checkpoint.pt", "runs/half/checkpoint.pt",
         f"{STUDY}/trials/TRIAL/checkpoint.pt", f"{STUDY}/trials/TRIAL/final-0/checkpoint.pt")
    )  # fmt: skip
    line = _choose(rng, commands.STORED[name])
    file = _one_trial(rng, world, name)
    path = world.work / file
    mutate = rng.choice((flip_bits, flip_bits, any_bytes, change_archive, change_saved))
    path.write_bytes(mutate(rng, path.read_bytes()))
    bytes_alone = mutate in (flip_bits, any_bytes)
    return replace(_attack(line, file, mutate.__name__), same_figures=bytes_alone)


def _special_file(rng: Random, world: World) -> Attack:
    lines = {**commands.STORED, **commands.INPUTS}
    name = rng.choice(tuple(lines))
    line, file = _choose(rng, lines[name]), _one_trial(rng, world, name)
    return _attack(line, file, replace_file(rng, world.work / file, world.outside))


def _special_folder(rng: Random, world: World) -> Attack:
    name = rng.choice(tuple(commands.FOLDERS))
    line = _choose(rng, commands.FOLDERS[name])
    if "final-0" in name:
        name = name.replace(
            "TRIAL", next((world.work / STUDY).glob("trials/*/final-0")).parent.name
        )
    file = _one_trial(rng, world, name)
    return _attack(line, file, replace_folder(rng, world.work / file, world.outside))


def _images(rng: Random, world: World) -> Attack:
    """Change a folder of images."""
    folder = world.work / DATA
    image = rng.choice(sorted(folder.rglob("*.png")))
    changes: dict[str, Callable[[], object]] = {
        "bytes": lambda: image.write_bytes(any_bytes(rng, image.read_bytes())),
        "huge": lambda: image.write_bytes(_resized(rng, image.read_bytes())),
        "special": lambda: replace_file(rng, image, world.outside),
        "special folder": lambda: replace_folder(rng, image.parent, world.outside),
        "another name": lambda: image.parent.rename(_name_of(rng, image.parent)),
        "one more": lambda: shutil.copy(image, _name_of(rng, image)),
        "no class": lambda: shutil.rmtree(image.parent),
        "trained on": lambda: shutil.copy(image, folder / "test" / "class0" / "0.png"),
        "no test": lambda: shutil.rmtree(folder / "test"),
        "batches": lambda: _batches(rng, folder),
    }
    what = rng.choice(tuple(changes))
    changes[what]()
    return _attack(_choose(rng, commands.IMAGES), DATA, f"{what} at {image}")


def _name_of(rng: Random, path: Path) -> Path:
    """Return a hostile path beside another one."""
    name = string(rng).replace("/", "_").replace("\0", "_")[:60]
    name = os.fsdecode(name.encode("utf-8", "surrogatepass"))
    return path.with_name((name if name.strip(".") else "\udcff") + path.suffix)


def _resized(rng: Random, png: bytes) -> bytes:
    """Write another size into the header of a PNG."""
    size = rng.choice(((33, 32), (60_000, 60_000), (2**31 - 1, 1), (0, 0), (12_000, 12_000)))
    return png[:16] + struct.pack(">II", *size) + png[24:]


def _batches(rng: Random, folder: Path) -> None:
    """Write what looks like torchvision's CIFAR-10."""
    shutil.rmtree(folder)
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    names = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
    for name in names:
        (batches / name).write_bytes(rng.randbytes(100))


def _cache(rng: Random, world: World) -> Attack:
    [path] = world.cache.glob("*.pt")
    mutate = rng.choice((flip_bits, any_bytes, change_archive, change_saved, change_saved))
    if rng.random() < 0.15:
        what = replace_file(rng, path, world.outside)
    else:
        path.write_bytes(mutate(rng, path.read_bytes()))
        what = mutate.__name__
    return _attack(_choose(rng, commands.IMAGES), str(path), what)


def _arguments(rng: Random, _world: World) -> Attack:
    args, writes, data = commands.hostile_line(rng)
    return Attack("", "its arguments", args, writes, data)


def _terminal(rng: Random, world: World) -> Attack:
    """Leave the files as they are, but for a name that not every terminal can print."""
    lines = list(itertools.chain.from_iterable({**commands.STORED, **commands.INPUTS}.values()))
    line, spec = _choose(rng, lines), world.work / "spec.json"
    spec.write_text(json.dumps(json.loads(spec.read_text()) | {"name": string(rng)}))
    terminal = commands.hostile_terminal(rng)
    attack = _attack(line, "spec.json", f"the terminal: {terminal}")
    return replace(attack, terminal=terminal)


_KINDS: Final[dict[str, tuple[int, Draw]]] = {
    "files of a user": (24, _input),
    "files of archsearch": (16, _stored),
    "database": (20, _database),
    "checkpoint": (8, _checkpoint),
    "special file": (10, _special_file),
    "special folder": (4, _special_folder),
    "image folder": (3, _images),
    "image cache": (3, _cache),
    "arguments": (9, _arguments),
    "terminal": (3, _terminal),
}
"""Each with its weight."""
_WITH_DATA: Final = ("image folder", "image cache", "arguments")
