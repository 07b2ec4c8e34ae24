"""The training loop that people write, timed: torchvision's transforms, a DataLoader, five lines.

What a good course solution looks like: fp32, NCHW, one image at a time through PIL, on the plain
module that `archsearch export --to pytorch` writes. It follows the recipe as far as torch and
torchvision do; nothing of ours is in the loop or sets anything that it runs with.

Run by throughput.py and time_to_85.py, or: python benchmarks/plain_loop.py SPEC [--recipe FILE] ...
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from PIL import Image
from timed_training import Figures, Task, loop_arguments, task_of, tell
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from archsearch.analysis.analyze import Analysis
from archsearch.convert.to_pytorch import pytorch_source
from archsearch.errors import ArchsearchError
from archsearch.training.images import Images
from archsearch.training.recipe import Augment, Recipe

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SIDE = 32
TO_INPUT = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 gives them: each from an array to PIL, then transformed."""

    def __init__(self, images: Images, transform: transforms.Compose) -> None:
        self.data = images.pixels.numpy()
        self.targets = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def augmentation(augment: Augment) -> transforms.Compose:
    """What a recipe asks for, as torchvision's transforms."""
    before: list[Any] = []
    after: list[Any] = []
    if augment.translate:
        crop = transforms.RandomCrop(SIDE, padding=augment.translate, padding_mode="reflect")
        before.append(crop)
    if augment.flip:
        p = 0.5 if augment.flip == "alternating" else augment.flip
        before.append(transforms.RandomHorizontalFlip(p))
    if a := augment.affine:
        move = transforms.RandomAffine(a.rotate, (a.shift, a.shift), (1 - a.scale, 1 + a.scale))
        before.append(transforms.RandomApply([move], a.p))
    if c := augment.color_jitter:
        jitter = transforms.ColorJitter(c.brightness, c.contrast, c.saturation, c.hue)
        before.append(transforms.RandomApply([jitter], c.p))
    if augment.grayscale:
        before.append(transforms.RandomGrayscale(augment.grayscale))
    if square := augment.cutout:
        area = (square.size / SIDE) ** 2
        after.append(transforms.RandomErasing(square.p, scale=(area, area), ratio=(1, 1)))
    if part := augment.erasing:
        after.append(transforms.RandomErasing(part.p, scale=part.area, ratio=part.ratio))
    return transforms.Compose([*before, *TO_INPUT, *after])


def make_optimizer(net: nn.Module, recipe: Recipe) -> optim.Optimizer:
    """The recipe's optimizer; SGD as the default recipe has it, where torch's own is not asked."""
    match recipe.optimizer:
        case "adam":
            return optim.Adam(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        case "adamw":
            return optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        case "sgd":
            sgd = recipe
        case _:
            sgd = Recipe()
    return optim.SGD(
        net.parameters(),
        lr=sgd.lr,
        momentum=sgd.momentum,
        weight_decay=sgd.weight_decay,
        nesterov=sgd.nesterov and sgd.momentum > 0,
    )


def exported(analysis: Analysis) -> nn.Module:
    """The module that `archsearch export --to pytorch` writes."""
    names: dict[str, Any] = {"__name__": "exported"}
    exec(pytorch_source(analysis), names)  # noqa: S102 # it is ours
    net: nn.Module = names["Net"]()
    return net


def train(net: nn.Module, recipe: Recipe, loader: DataLoader[Any]) -> list[float]:
    """Train; the seconds of each epoch."""
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    optimizer = make_optimizer(net, recipe)
    scheduler = optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=optimizer.param_groups[0]["lr"],
        total_steps=recipe.epochs * len(loader),
        cycle_momentum=False,
    )
    epoch_seconds = []
    for epoch in range(recipe.epochs):
        net.train()
        running_loss = 0.0
        start = time.perf_counter()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            if recipe.clip_value is not None:
                nn.utils.clip_grad_value_(net.parameters(), recipe.clip_value)
            optimizer.step()
            scheduler.step()
            running_loss += loss.item()
        epoch_seconds.append(time.perf_counter() - start)
        print(f"epoch {epoch + 1}: loss {running_loss / len(loader):.3f}", file=sys.stderr)
    return epoch_seconds


def accuracy(net: nn.Module, loader: DataLoader[Any]) -> float:
    """The share that is right."""
    net.eval()
    right = count = 0
    with torch.no_grad():
        for images, labels in loader:
            right += int((net(images).argmax(1) == labels).sum())
            count += len(labels)
    return right / count


def trained(task: Task, workers: int, *, test: bool) -> Figures:
    """Train, and test once at the end if told to."""
    torch.manual_seed(task.seed)
    net, size = exported(task.analysis), task.recipe.batch_size
    pictures = Pictures(task.fit, augmentation(task.recipe.augment))
    loader = DataLoader(pictures, batch_size=size, shuffle=True, num_workers=workers)
    seconds = train(net, task.recipe, loader)
    tests = Pictures(task.dataset.test, transforms.Compose(TO_INPUT))
    return Figures(
        dataset=task.dataset.name,
        precision="fp32",
        threads=torch.get_num_threads(),
        images=len(pictures),
        epoch_seconds=seconds,
        test_acc=accuracy(net, DataLoader(tests, size, num_workers=workers)) if test else None,
    )


def main() -> None:
    """Train what the command line says; print figures."""
    parser = loop_arguments(str(__doc__))
    parser.add_argument("--workers", type=int, default=0, help="DataLoader's; 0 is its default")
    parser.add_argument("--test", action="store_true", help="test once, at the end")
    given = parser.parse_args()
    tell(trained(task_of(given), given.workers, test=given.test))


if __name__ == "__main__":
    try:
        main()
    except ArchsearchError as error:
        sys.exit(f"error: {error}")
