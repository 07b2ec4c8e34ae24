"""Data sets as uint8 tensors: loaded, checked, split. One function a source, one check for all."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from archsearch.common.atomic_files import cache_folder, replacing
from archsearch.common.console import tell
from archsearch.common.guarded_files import open_regular
from archsearch.errors import ArchsearchError, DataError
from archsearch.training import shapes
from archsearch.training.datasets import CLASSES, DATASETS, HOLDOUT_SHARE, SIDE, DatasetName

# N images, H W pixels, C channels

HOLDOUT_SEED = 0
_BATCHES = "cifar-10-batches-py"
_DOWNLOAD_TIMEOUT_S = 30
_CACHE_FORMAT = 2
_MAX_CACHE_BYTES = 1 << 28
"""Decoded, CIFAR-10 has 184 million bytes."""
_MAX_BATCH_BYTES = 1 << 28
"""Of a file of torchvision's CIFAR-10; the largest is its archive, of 170 million bytes."""


@dataclass(frozen=True, slots=True)
class Images:
    """Labelled images: `pixels` uint8 (N, H, W, C), `labels` int64 (N,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Images:
        return Images(self.pixels[index], self.labels[index])

    def to(self, device: torch.device) -> Images:
        """The same images on `device`."""
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training and test images, and what the classes are called."""

    name: DatasetName
    classes: tuple[str, ...]
    train: Images
    test: Images


def load(name: DatasetName, folder: Path | None) -> Dataset:
    """A data set, checked.

    Args:
        name: which.
        folder: for cifar10, an image folder (`train/<class>/*.png`, `test/<class>/*.png`) or one
            that holds torchvision's CIFAR-10; None: `ARCHSEARCH_DATA`, else the user's cache,
            where it is downloaded to.

    Raises:
        DataError: it cannot be had, or is not what it should be; with the ways out.
    """
    if name == "shapes":
        return _shapes()
    folder = folder or (Path(env) if (env := os.environ.get("ARCHSEARCH_DATA")) else None)
    if folder is not None and not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {_WAYS_OUT}")
    if folder is not None and (folder / "train").is_dir():
        return _cached_image_folder(folder)
    return _checked(_torchvision(folder))


def holdout(train: Images) -> tuple[Images, Images]:
    """Training images without the hold-out, and the hold-out: a tenth, stratified, fixed."""
    generator = torch.Generator().manual_seed(HOLDOUT_SEED)
    order = torch.randperm(len(train), generator=generator)
    held = torch.zeros(len(train), dtype=torch.bool)
    for label in range(int(train.labels.max()) + 1):
        of_class = order[train.labels[order] == label]
        held[of_class[: len(of_class) // HOLDOUT_SHARE]] = True
    return train[~held], train[held]


_WAYS_OUT = (
    "give --data DIR (train/<class>/*.png and test/<class>/*.png, or a folder that holds "
    f"{_BATCHES}), set ARCHSEARCH_DATA, connect to the internet to download it, "
    "or take generated images: archsearch train or search with --dataset shapes"
)


def _shapes() -> Dataset:
    splits = []
    for pixels in shapes.generate():
        classes, count = pixels.shape[:2]
        labels = torch.arange(classes).repeat_interleave(count)
        splits.append(Images(torch.from_numpy(pixels).flatten(0, 1), labels))
    return Dataset("shapes", shapes.CLASSES, *splits)


def _torchvision(folder: Path | None) -> Dataset:
    from torchvision.datasets import CIFAR10  # noqa: PLC0415 (a second to import)

    root = folder or cache_folder()
    names = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    batches = [root / _BATCHES / name for name in (*names, CIFAR10.meta["filename"])]
    _refuse_special_files([*batches, root / CIFAR10.filename])
    download = folder is None  # torchvision looks first, and mends what is incomplete
    try:
        with _socket_timeout(_DOWNLOAD_TIMEOUT_S):
            if download:
                root.mkdir(parents=True, exist_ok=True)
                if not all(batch.exists() for batch in batches):
                    tell("downloading CIFAR-10, 170 MB")
            with redirect_stderr(StringIO()):  # a progress bar that moves the cursor
                splits = [
                    CIFAR10(str(root), train=train, download=download) for train in (True, False)
                ]
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
        what = "could not be downloaded" if download else f"is not in {root}"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"CIFAR-10 {what} ({reason}); {_WAYS_OUT}") from error
    images = [Images(torch.from_numpy(s.data), torch.tensor(s.targets)) for s in splits]
    return Dataset("cifar10", tuple(splits[0].classes), *images)


def _refuse_special_files(paths: Iterable[Path]) -> None:
    """Check that files whose MD5 torchvision will compute are files, and not endless.

    Raises:
        DataError: one is a pipe or a device, or larger than any of CIFAR-10's.
    """
    for path in paths:
        try:
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}; {_WAYS_OUT}") from error
        if size > _MAX_BATCH_BYTES:
            raise DataError(f"{path}: is too large for a file of CIFAR-10; {_WAYS_OUT}")


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _cached_image_folder(folder: Path) -> Dataset:
    """The image folder, decoded and checked once for each state of its files."""
    files = {split: _listed(folder / split) for split in ("train", "test")}
    listing = hashlib.sha256(str(folder.resolve()).encode())
    for split in files.values():
        for path in split:
            stat = path.stat()
            state = f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\n"
            listing.update(state.encode())
    names = [sorted({path.parent.name for path in split}) for split in files.values()]
    if names[0] != names[1]:
        only = sorted(set(names[0]) ^ set(names[1]))
        raise DataError(f"{folder}: train and test differ in classes: {', '.join(only)}")
    classes = tuple(names[0])
    index = {name: i for i, name in enumerate(classes)}
    labels = [torch.tensor([index[path.parent.name] for path in split]) for split in files.values()]
    _raise(_count_problems(classes, *labels))
    cache = cache_folder() / f"cifar10-{listing.hexdigest()[:16]}.pt"
    cached = _read_cache(cache, [len(split) for split in files.values()])
    pixels = cached or [_decoded(split) for split in files.values()]
    dataset = _checked(Dataset("cifar10", classes, *map(Images, pixels, labels)))
    if cached is None:
        _write_cache(cache, pixels)
    return dataset


def _listed(folder: Path) -> list[Path]:
    try:
        classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
        return [path for cls in classes for path in sorted(cls.glob("*.png"))]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}; {_WAYS_OUT}") from error


def _decoded(paths: list[Path]) -> Tensor:
    """uint8 (N, 32, 32, 3)."""
    pixels = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
    for i, path in enumerate(paths):
        try:
            with open_regular(path) as file, Image.open(file) as image:
                if image.size != (SIDE, SIDE):
                    width, height = image.size
                    raise DataError(f"{path}: is {width}x{height}; CIFAR-10 is {SIDE}x{SIDE}")
                pixels[i] = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: is not a readable PNG: {error}") from error
    return torch.from_numpy(pixels)


def _checked(dataset: Dataset) -> Dataset:
    """The data set itself, if it is CIFAR-10 as published.

    Raises:
        DataError: counts, classes or balance differ, or test images were trained on.
    """
    _raise(_count_problems(dataset.classes, dataset.train.labels, dataset.test.labels))
    seen = set(_each_image(dataset.train))
    shared = sum(image in seen for image in _each_image(dataset.test))
    if shared:
        why = "an accuracy on them would mean nothing"
        _raise([f"{shared:,} test images are training images too: {why}"])
    return dataset


def _each_image(images: Images) -> list[bytes]:
    """Each image's pixels as bytes."""
    rows = np.ascontiguousarray(images.pixels.numpy()).reshape(len(images), -1)
    found: list[bytes] = rows.view(np.dtype((np.void, rows.shape[1])))[:, 0].tolist()
    return found


def _count_problems(classes: tuple[str, ...], train: Tensor, test: Tensor) -> list[str]:
    problems = []
    wanted_train, wanted_test, _ = DATASETS["cifar10"]
    if len(classes) != CLASSES:
        problems.append(f"{len(classes)} classes, not {CLASSES}")
    for split, labels, wanted in (("train", train, wanted_train), ("test", test, wanted_test)):
        if len(labels) != wanted:
            problems.append(f"{len(labels):,} {split} images, not {wanted:,}")
        known = labels[(labels >= 0) & (labels < len(classes))].long()
        if len(known) < len(labels):
            problems.append(f"{len(labels) - len(known):,} {split} labels are of no class")
        counts = known.bincount(minlength=len(classes)).tolist()
        problems += [
            f"{count:,} {split} images of {classes[i]}, not {wanted // CLASSES:,}"
            for i, count in enumerate(counts)
            if count != wanted // CLASSES
        ]
    return problems


def _raise(problems: list[str]) -> None:
    if problems:
        raise DataError("this is not CIFAR-10: " + "; ".join(problems) + f"; {_WAYS_OUT}")


def _read_cache(path: Path, counts: list[int]) -> list[Tensor] | None:
    """Read the training and test pixels that an earlier run decoded, if they are as it wrote them.

    Whatever is wrong with them, None: the images are decoded again.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > _MAX_CACHE_BYTES:
                return None
            stored = torch.load(file, weights_only=True)
        pixels = [stored["train"], stored["test"]]
        sound = (
            stored["format"] == _CACHE_FORMAT
            and [tuple(split.shape) for split in pixels] == [(n, SIDE, SIDE, 3) for n in counts]
            and all(split.dtype == torch.uint8 for split in pixels)
            and stored["sha256"] == _digest(pixels)
        )
    except Exception:  # noqa: BLE001 (torch.load raises anything on a damaged file)
        return None
    return pixels if sound else None


def _write_cache(path: Path, pixels: list[Tensor]) -> None:
    train, test = pixels
    stored = {"format": _CACHE_FORMAT, "train": train, "test": test, "sha256": _digest(pixels)}
    # A cache that cannot be written costs seconds next time, nothing else.
    with suppress(ArchsearchError, RuntimeError), replacing(path) as temporary:
        torch.save(stored, temporary)


def _digest(pixels: list[Tensor]) -> str:
    digest = hashlib.sha256()
    for split in pixels:
        digest.update(np.ascontiguousarray(split.numpy()).data)
    return digest.hexdigest()
