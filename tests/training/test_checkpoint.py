"""Checkpoints: damage to any byte is noticed, and files of other kinds end in one clear error."""

from __future__ import annotations

import copy
import io
import os
import pickle
import random
import shutil
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim.swa_utils import AveragedModel

from archsearch.errors import CheckpointError
from archsearch.training import checkpoint, checkpoint_file
from archsearch.training.checkpoint import Checkpoint, State, read
from archsearch.training.optimizers import Muon
from archsearch.training.records import Epoch
from tests.conftest import ROOT, Cli

Raw = dict[str, Any]
OLD = ROOT / "tests" / "written_by_4c21fd6" / "run" / "checkpoint.pt"
EPOCH = Epoch(
    epoch=1, lr=0.1, train_loss=2.0, train_acc=0.5, val_loss=1.5, val_acc=0.25,
    train_seconds=1.0, images_per_second=100.0,
)  # fmt: skip


class Tiny(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))


def stepped(net: Tiny, make: Callable[[Any], optim.Optimizer]) -> optim.Optimizer:
    """An optimizer that has made a step."""
    optimizer = make(net.parameters())
    net(torch.ones(2, 2, 2, 2)).square().sum().backward()
    optimizer.step()
    return optimizer


def adam(params: Any) -> optim.Optimizer:
    return optim.Adam(params, lr=0.1)


def tiny() -> tuple[Tiny, optim.Optimizer, AveragedModel]:
    net = Tiny()
    return net, stepped(net, adam), AveragedModel(net)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    net, optimizer, average = tiny()
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, Checkpoint("run", (EPOCH,), State.of(net, [optimizer], average, 4)))
    return path


def values(found: Checkpoint) -> bytes:
    """Every value, as bytes; they differ if one bit does."""
    state = found.state
    out = io.BytesIO()
    torch.save([found.run, [e.model_dump() for e in found.history], state.model, state.average,
                state.optimizers, state.batch_size], out)  # fmt: skip
    with zipfile.ZipFile(out) as archive:
        return b"".join(archive.read(n) for n in sorted(archive.namelist()) if "/.data" not in n)


def test_a_saved_checkpoint_comes_back(path: Path) -> None:
    net, optimizer, average = tiny()
    wanted = Checkpoint("run", (EPOCH,), State.of(net, [optimizer], average, 4))
    found = read(path, pytest.fail)
    assert (found.run, found.history, found.state.batch_size) == ("run", (EPOCH,), 4)
    other, fresh = Tiny(), AveragedModel(Tiny())
    again = adam(other.parameters())
    checkpoint.resume(path, found.state, other, [again], fresh)
    assert values(Checkpoint("run", (EPOCH,), State.of(other, [again], fresh, 4))) == values(wanted)


def test_other_programs_read_it_as_they_read_any_file_of_torch(path: Path) -> None:
    for mapped in (False, True):
        raw = torch.load(path, weights_only=True, mmap=mapped)
        assert torch.equal(raw["model"]["0.weight"], read(path).state.model["0.weight"])
        del raw
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"archsearch sha256 ")


def test_a_flip_of_any_byte_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    rng = random.Random(0)
    for place in range(len(content)):
        content[place] ^= (flip := 1 << rng.randrange(8))
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt: is "):
            read(path)
        content[place] ^= flip
    path.write_bytes(content)
    read(path)


def unsealed(path: Path) -> None:
    """Turn a checkpoint into one of the version before checksums."""
    raw = torch.load(path, weights_only=True)
    torch.save(raw, path)


def test_a_flipped_bit_without_a_checksum_is_noticed_or_changes_no_value(path: Path) -> None:
    unsealed(path)
    content, wanted = bytearray(path.read_bytes()), values(read(path))
    rng, noticed = random.Random(1), 0
    for _ in range(400):
        place, flip = rng.randrange(len(content)), 1 << rng.randrange(8)
        content[place] ^= flip
        path.write_bytes(content)
        try:
            assert values(read(path)) == wanted, (place, flip)
        except CheckpointError:
            noticed += 1
        content[place] ^= flip
    assert noticed > 100


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_noticed(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="is not a checkpoint that can be read"):
        read(path)


def test_a_checksum_of_another_file_is_noticed(path: Path) -> None:
    one = path.read_bytes()
    raw = torch.load(path, weights_only=True)
    raw["history"][0]["val_acc"] = 0.75
    other = io.BytesIO()
    torch.save(raw, other)
    two = b"".join(checkpoint_file.sealed(other.getbuffer()))
    path.write_bytes(two)
    assert read(path).history[0].val_acc == 0.75
    path.write_bytes(two[:-64] + one[-64:])
    with pytest.raises(CheckpointError, match="is damaged: its checksum does not match; restore"):
        read(path)


def test_a_checkpoint_of_an_older_version_loads_with_a_note() -> None:
    told: list[str] = []
    assert read(OLD, told.append).history
    [note] = told
    assert "run/checkpoint.pt: has no checksum (an older archsearch wrote it)" in note


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_every_command_that_reads_weights_notices_damage(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(OLD.parent, tmp_path / "run")
    shutil.copy(OLD.parent.parent / "recipe.json", tmp_path)
    found = read(Path("run/checkpoint.pt"))
    checkpoint.save(Path("run/checkpoint.pt"), found)
    damage(Path("run/checkpoint.pt"))
    before = Path("run/checkpoint.pt").read_bytes()
    train = ("train", "run/spec.json", "--recipe", "recipe.json", "--dataset", "shapes")
    onnx = ("export", "run/spec.json", "--to", "onnx", "--out", "x.onnx")
    for command in (
        ("evaluate", "run"),
        (*train, "--out", "run", "--device", "cpu", "--precision", "fp32"),
        (*onnx, "--checkpoint", "run/checkpoint.pt"),
    ):
        done = cli(*command)
        assert (done.status, done.out) == (2, ""), command
        assert "its checksum does not match" in done.err, command
    assert Path("run/checkpoint.pt").read_bytes() == before
    assert not Path("x.onnx").exists()


# Files of other kinds


def changed(path: Path, change: Callable[[Raw], object]) -> None:
    raw = torch.load(path, weights_only=True)
    change(raw)
    out = io.BytesIO()
    torch.save(raw, out)
    path.write_bytes(b"".join(checkpoint_file.sealed(out.getbuffer())))


def put(value: Any, *keys: Any) -> Callable[[Raw], object]:
    """Set one value of a checkpoint."""

    def change(raw: Raw) -> None:
        for key in keys[:-1]:
            raw = raw[key]
        raw[keys[-1]] = value

    return change


def laughs() -> list[Any]:
    """2**40 items in a few bytes."""
    found: list[Any] = []
    for _ in range(40):
        found = [found, found]
    return found


NAN = float("nan")
BIAS = ("training", "model", "0.bias")
STATE = ("training", "optimizers", 0, "state")
ODD: dict[str, tuple[Callable[[Raw], object], str]] = {
    "newer": (put(3, "format"), r"written by a newer archsearch \(format 3; this one reads 2\)"),
    "newest": (put(10**400, "format"), "written by a newer archsearch"),
    "older": (put(1, "format"), "has the format 1, this version of archsearch reads 2"),
    "format": (put("2", "format"), "archsearch did not write it"),
    "no run": (lambda raw: raw.pop("run"), "run: field required"),
    "run": (put(b"run", "run"), "run: input should be a valid string"),
    "history": (put({"a": 1}, "history"), "history: input should be a valid tuple"),
    "epoch": (put(3, "history", 0), "history.0: "),
    "late": (put(7, "history", 0, "epoch"), "history: must have every epoch once"),
    "accuracy": (put(NAN, "history", 0, "val_acc"), "history.0.val_acc: "),
    "laughs": (lambda raw: raw["history"].append(laughs()), "history.1: "),
    "no training": (lambda raw: raw.pop("training"), "training: field required"),
    "batch NaN": (put(NAN, "training", "batch_size"), "batch_size: input should be a valid int"),
    "batch 0": (put(0, "training", "batch_size"), "batch_size: input should be greater than"),
    "batch true": (put(True, "training", "batch_size"), "batch_size: input should be a valid int"),
    "batch huge": (put(10**400, "training", "batch_size"), "batch_size: "),
    "weights": (put([1], "training", "model"), "training.model: input should be a valid dict"),
    "weight": (put(1.5, *BIAS), "training.model.0.bias: "),
    "stretched": (
        put(torch.zeros(1).expand(10**12), *BIAS),
        "must have memory for each of its numbers",
    ),
    "sparse": (
        put(torch.eye(3).to_sparse(), *BIAS), "must be a dense tensor"
    ),
    "meta": (put(torch.zeros(3, device="meta"), "training", "average", "0"), "must be a dense"),
    "average": (put(4, "training", "average"), "training.average: "),
    "optimizers": (put(None, "training", "optimizers"), "training.optimizers: "),
    "optimizer": (put(3, "training", "optimizers", 0), "training.optimizers.0: "),
    "slots": (put([], *STATE), "training.optimizers.0.state: "),
    "slot": (put({"exp_avg": laughs()}, *STATE, 0), "training.optimizers.0.state.0.exp_avg"),
    "bytes": (put(bytearray(9), *STATE, 0, "step"), "training.optimizers.0.state.0.step"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_values_are_told_with_their_place(path: Path, name: str) -> None:
    change, told = ODD[name]
    changed(path, change)
    with pytest.raises(CheckpointError, match=told) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value)) < 600


UNFIT: dict[str, tuple[Callable[[Raw], object], str]] = {
    "shape": (put(torch.zeros(4), *BIAS), r"0.bias is torch.float32 \(4,\)"),
    "type": (put(torch.zeros(3, dtype=torch.complex64), *BIAS), "0.bias is torch.complex64"),
    "more": (put(torch.zeros(3), "training", "model", "\x1b[2J"), r"has a tensor '\\x1b\[2J'"),
    "fewer": (lambda raw: raw["training"]["model"].pop("0.bias"), "has no tensor '0.bias'"),
    "no average": (put(None, "training", "average"), "it has no average"),
    "averaged": (
        lambda raw: raw["training"]["average"].pop("n_averaged"), "has no tensor 'n_averaged'"
    ),
    "none": (put([], "training", "optimizers"), "it has 0 optimizers, the recipe 1"),
    "number": (put({"step": torch.tensor(1.0)}, *STATE, 99), "state of parameter 99 of 4"),
    "negative": (put({}, *STATE, -1), "state of parameter -1 of 4"),
    "moment": (put(torch.zeros(9), *STATE, 0, "exp_avg"), r"'exp_avg' of parameter 0 is \(9,\)"),
    "lost": (lambda raw: raw["training"]["optimizers"][0]["state"][0].pop("exp_avg"), "no exp_avg"),
    "null": (put(None, *STATE, 0, "exp_avg_sq"), "parameter 0 has no exp_avg_sq"),
    "steps": (put(torch.ones(2), *STATE, 0, "step"), r"'step' of parameter 0 is \(2,\), not \(\)"),
    "counts": (put(torch.tensor(True), *STATE, 0, "step"), "'step' of parameter 0 is torch.bool"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_a_state_that_does_not_fit_is_told_before_anything_is_restored(
    path: Path, name: str
) -> None:
    change, told = UNFIT[name]
    changed(path, change)
    net, optimizer, average = tiny()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(CheckpointError, match=told) as error:
        checkpoint.resume(path, read(path).state, net, [optimizer], average)
    assert f"{path}: does not fit this network and recipe (" in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    "make",
    [
        adam,
        lambda params: optim.AdamW(params, lr=0.1),
        lambda params: optim.SGD(params, lr=0.1),
        lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
        lambda params: Muon([p for p in params if p.ndim == 4], lr=0.1, momentum=0.9),
    ],
    ids=["adam", "adamw", "sgd", "momentum", "muon"],
)
def test_every_optimizer_goes_on_from_what_it_saved(
    tmp_path: Path, make: Callable[[Any], optim.Optimizer]
) -> None:
    net, other = Tiny(), Tiny()
    optimizer = stepped(net, make)
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, Checkpoint("run", (EPOCH,), State.of(net, [optimizer], None, 4)))
    fresh = make(other.parameters())
    checkpoint.resume(path, read(path).state, other, [fresh], None)
    for model, at in ((net, optimizer), (other, fresh)):
        at.zero_grad()
        model(torch.ones(2, 2, 2, 2)).square().sum().backward()
        at.step()
    for key, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


class Huge:
    """Asks whoever unpickles it for a terabyte."""

    def __reduce__(self) -> tuple[object, ...]:
        return bytearray, (10**12,)


class Code:
    """Runs code in whoever unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("ran",)


def zipped(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")


def overlapping(path: Path) -> None:
    """Many names of the same megabyte."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/data/0", bytes(1 << 20))
        for number in range(1, 2_000):
            more = copy.copy(archive.filelist[1])
            more.filename = f"archive/data/{number}"
            archive.filelist.append(more)


def state_dict(path: Path) -> None:
    torch.save(Tiny().state_dict(), path)


def whole_module(path: Path) -> None:
    torch.save(Tiny(), path)


def legacy(path: Path) -> None:
    torch.save(Tiny().state_dict(), path, _use_new_zipfile_serialization=False)


def scripted(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(path)  # type: ignore[no-untyped-call]


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "cut short, or is not a file that torch wrote"),
    "text": (lambda path: path.write_text("weights"), "is not a file that torch wrote"),
    "a bare end": (lambda path: path.write_bytes(b"PK\5\6" + bytes(18)), "has no part data.pkl"),
    "state dict": (state_dict, "archsearch did not write it; give the checkpoint.pt of a run"),
    "module": (whole_module, "torch cannot: UnpicklingError"),
    "legacy": (legacy, "is not a file that torch wrote"),
    "scripted": (scripted, "is not a checkpoint that can be read"),
    "list": (lambda path: torch.save([1], path), "archsearch did not write it"),
    "tensor": (lambda path: torch.save(torch.ones(2), path), "archsearch did not write it"),
    "code": (lambda path: zipped(path, pickle.dumps(Code(), 2)), "torch cannot: UnpicklingError"),
    "terabyte": (lambda path: zipped(path, pickle.dumps(Huge(), 2)), "is not a checkpoint"),
    "bomb": (
        lambda path: zipped(path, bytes(100 << 20), zipfile.ZIP_DEFLATED), "parts are compressed"
    ),
    "overlap": (overlapping, "its parts are compressed or overlap"),
    "large pickle": (lambda path: zipped(path, bytes(17 << 20)), "data.pkl is larger than 16 MiB"),
    "entries": (
        lambda path: path.write_bytes(b"PK\1\2" * 100_001 + b"PK\5\6" + bytes(18)), "100,000 parts"
    ),
    "sparse": (sparse, "4,398,046,511,104 bytes, too many for"),
    "folder": (Path.mkdir, "not a regular file|Is a directory"),
    "pipe": (os.mkfifo, "not a regular file|Is a directory"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_files_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, told = FOREIGN[kind]
    path = tmp_path / "checkpoint.pt"
    make(path)
    with pytest.raises(CheckpointError, match=told) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert not (tmp_path / "ran").exists()


def test_a_large_file_that_is_no_archive_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no disk; there is not as much memory
    with pytest.raises(CheckpointError, match=r"too many for|not a file that torch"):
        checkpoint.read(path)
    with path.open("wb") as file:
        file.truncate(1 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="not a file that torch wrote"):
            checkpoint.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
