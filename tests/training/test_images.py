"""Loading, checking and splitting data."""

from __future__ import annotations

import os
import shutil
import socket
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from archsearch.errors import DataError
from archsearch.training import images
from archsearch.training.datasets import DatasetFacts
from archsearch.training.images import Dataset, Images, holdout, load

CLASSES = [f"class{i}" for i in range(10)]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image folder in CIFAR-10's shape, a thousandth of its size."""
    monkeypatch.setattr(images, "DATASETS", {"cifar10": DatasetFacts(50, 10, generated=False)})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("test", 1)):
        for name in CLASSES:
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "images"


def test_an_image_folder_is_decoded_pixel_for_pixel(small: Path) -> None:
    dataset = load("cifar10", small)
    assert dataset.classes == tuple(CLASSES)
    with Image.open(small / "train" / "class3" / "2.png") as image:
        wanted = torch.from_numpy(np.array(image))
    assert torch.equal(dataset.train.pixels[3 * 5 + 2], wanted)
    assert dataset.train.labels[3 * 5 + 2] == 3


def test_the_second_load_reads_the_cache(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("cifar10", small)
    monkeypatch.setattr(images, "_decoded", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(load("cifar10", small).train.pixels, first.train.pixels)


def test_a_changed_folder_is_decoded_again(small: Path) -> None:
    load("cifar10", small)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(small / "train" / "class0" / "0.png")
    assert load("cifar10", small).train.pixels[0].sum() == 0


def test_a_damaged_cache_is_made_anew(small: Path, tmp_path: Path) -> None:
    first = load("cifar10", small)
    (cache,) = (tmp_path / "cache" / "archsearch").glob("*.pt")
    cache.write_bytes(cache.read_bytes()[:-100])
    assert torch.equal(load("cifar10", small).train.pixels, first.train.pixels)


def change_cache(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change what is in the cache, as another program would write it."""
    (cache,) = (tmp_path / "cache" / "archsearch").glob("*.pt")
    stored = torch.load(cache, weights_only=True)
    change(stored)
    torch.save(stored, cache)
    return cache


def with_own_digest(stored: dict[str, Any]) -> None:
    stored["sha256"] = images._digest([stored["train"], stored["test"]])


def flip_a_bit(stored: dict[str, Any]) -> None:
    stored["train"][7, 3, 3, 1] ^= 1


def take_a_tenth(stored: dict[str, Any]) -> None:
    stored["train"] = stored["train"][::10]
    with_own_digest(stored)


def score_training_images(stored: dict[str, Any]) -> None:
    stored["test"] = stored["train"][:10].clone()


def swap_images(stored: dict[str, Any]) -> None:
    stored["train"] = stored["train"].flip(0)


def store_floats(stored: dict[str, Any]) -> None:
    stored["train"] = stored["train"].float()
    with_own_digest(stored)


def store_one_channel(stored: dict[str, Any]) -> None:
    stored["test"] = stored["test"][..., :1]
    with_own_digest(stored)


def be_of_another_version(stored: dict[str, Any]) -> None:
    stored["format"] = 1


def forget_the_digest(stored: dict[str, Any]) -> None:
    del stored["sha256"]


def store_text(stored: dict[str, Any]) -> None:
    stored["train"] = "pixels"


@pytest.mark.parametrize(
    "change",
    [
        flip_a_bit, take_a_tenth, score_training_images, swap_images, store_floats,
        store_one_channel, be_of_another_version, forget_the_digest, store_text,
    ],
)  # fmt: skip
def test_a_cache_that_does_not_match_is_made_anew(
    small: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    first = load("cifar10", small)
    cache = change_cache(tmp_path, change)
    changed = cache.read_bytes()
    again = load("cifar10", small)
    for split in ("train", "test"):
        found, wanted = getattr(again, split), getattr(first, split)
        assert torch.equal(found.pixels, wanted.pixels)
        assert torch.equal(found.labels, wanted.labels)
    assert cache.read_bytes() != changed


def test_a_cache_with_a_digest_of_its_own_is_checked_as_images_are(
    small: Path, tmp_path: Path
) -> None:
    def forge(stored: dict[str, Any]) -> None:
        score_training_images(stored)
        with_own_digest(stored)

    load("cifar10", small)
    change_cache(tmp_path, forge)
    with pytest.raises(DataError, match="10 test images are training images too"):
        load("cifar10", small)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a pipe"])
def test_a_cache_that_is_no_file_is_not_waited_for(small: Path, tmp_path: Path, kind: str) -> None:
    first = load("cifar10", small)
    (cache,) = (tmp_path / "cache" / "archsearch").glob("*.pt")
    cache.unlink()
    if kind == "folder":
        cache.mkdir()
    else:
        pipe = cache if kind == "pipe" else tmp_path / "pipe"
        os.mkfifo(pipe)
        if pipe != cache:
            cache.symlink_to(pipe)
    assert torch.equal(load("cifar10", small).train.pixels, first.train.pixels)


def test_an_image_that_is_a_pipe_is_refused(small: Path) -> None:
    path = small / "train" / "class1" / "0.png"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"class1/0\.png: is not a readable PNG: .*is a pipe"):
        load("cifar10", small)


@pytest.mark.parametrize("name", ["cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "endless"])
def test_a_batch_that_is_no_file_of_cifar10_is_refused(
    tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        monkeypatch.setattr(images, "_MAX_BATCH_BYTES", 9)
        path.write_bytes(b"0123456789")
    told = "too large for a file of CIFAR-10" if kind == "endless" else f"is a {kind}, not a reg"
    with pytest.raises(DataError, match=f"{path.name}: .*{told}"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("label", [-1, 10, 2**40])
def test_labels_of_no_class_are_refused(small: Path, label: int) -> None:
    found = load("cifar10", small)
    labels = found.train.labels.clone()
    labels[3] = label
    wrong = Dataset("cifar10", found.classes, Images(found.train.pixels, labels), found.test)
    with pytest.raises(DataError, match="1 train labels are of no class; 4 train images of"):
        images._checked(wrong)


def test_a_missing_class(small: Path) -> None:
    shutil.rmtree(small / "train" / "class7")
    with pytest.raises(DataError, match="train and test differ in classes: class7"):
        load("cifar10", small)


def test_a_class_missing_from_both(small: Path) -> None:
    for split in ("train", "test"):
        shutil.rmtree(small / split / "class7")
    with pytest.raises(DataError, match="9 classes, not 10"):
        load("cifar10", small)


def test_an_unbalanced_class(small: Path) -> None:
    (small / "train" / "class7" / "0.png").unlink()
    with pytest.raises(DataError, match="49 train images, not 50; 4 train images of class7, not 5"):
        load("cifar10", small)


def test_test_images_that_were_trained_on(small: Path) -> None:
    shutil.copy(small / "train" / "class1" / "0.png", small / "test" / "class1" / "0.png")
    with pytest.raises(DataError, match="1 test images are training images too"):
        load("cifar10", small)


def test_an_image_that_is_none(small: Path) -> None:
    (small / "train" / "class1" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"class1/0\.png: is not a readable PNG"):
        load("cifar10", small)


def test_an_image_of_another_size(small: Path) -> None:
    Image.new("RGB", (64, 32)).save(small / "train" / "class1" / "0.png")
    with pytest.raises(DataError, match="is 64x32; CIFAR-10 is 32x32"):
        load("cifar10", small)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; give --data DIR"):
        load("cifar10", tmp_path / "none")


def test_a_folder_with_neither_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="CIFAR-10 is not in"):
        load("cifar10", tmp_path)


def test_a_download_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server that accepts and stays silent; nothing outside this machine is asked."""
    monkeypatch.delenv("ARCHSEARCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(images, "_DOWNLOAD_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(
            "torchvision.datasets.CIFAR10.url", f"http://127.0.0.1:{port}/cifar.tar.gz"
        )
        with pytest.raises(DataError, match=r"could not be downloaded.*--dataset shapes"):
            load("cifar10", None)
    assert socket.getdefaulttimeout() is None


def test_a_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHSEARCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError, match="network is unreachable"):
        load("cifar10", None)


def test_shapes_are_the_same_every_time_and_balanced() -> None:
    one, two = load("shapes", None), load("shapes", None)
    assert torch.equal(one.train.pixels, two.train.pixels)
    assert one.train.pixels.shape == (5_000, 32, 32, 3)
    assert set(Counter(one.test.labels.tolist()).values()) == {100}


def check_holdout(dataset: Dataset) -> None:
    fit, held = holdout(dataset.train)
    assert len(fit) == 9 * len(held)
    counts = Counter(held.labels.tolist())
    assert set(counts.values()) == {len(held) // 10}
    both = torch.cat([fit.pixels.flatten(1), held.pixels.flatten(1)]).long().sum(1)
    assert torch.equal(both.sort()[0], dataset.train.pixels.flatten(1).long().sum(1).sort()[0])
    again = holdout(dataset.train)[1]
    assert torch.equal(again.pixels, held.pixels)


def test_the_holdout_is_a_fixed_stratified_tenth() -> None:
    check_holdout(load("shapes", None))


@pytest.mark.cifar10
def test_cifar10_itself(cifar10: Path) -> None:
    dataset = load("cifar10", cifar10)
    assert dataset.classes[:3] == ("airplane", "automobile", "bird")
    pixels = dataset.train.pixels.float() / 255
    # Published statistics of the training set.
    assert pixels.mean((0, 1, 2)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert pixels.std((0, 1, 2)).tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-4)
    check_holdout(dataset)


def test_images_index_together() -> None:
    images = Images(torch.arange(12).view(4, 1, 1, 3), torch.arange(4))
    picked = images[torch.tensor([2, 0])]
    assert picked.labels.tolist() == [2, 0]
    assert picked.pixels[0].flatten().tolist() == [6, 7, 8]
