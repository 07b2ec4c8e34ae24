"""Training, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

from archsearch import checkpoint
from archsearch.augment import Augmenter, normalised, statistics
from archsearch.data import Images
from archsearch.device import Device
from archsearch.errors import DivergedError
from archsearch.recipe import Recipe, learning_rate
from archsearch.results import Epoch

EVAL_BATCH = 1_000
_SEED_STRIDE = 1_000_003
"""Keeps the random numbers of (seed, epoch) apart from those of (seed + 1, another epoch)."""


@dataclass(frozen=True, slots=True)
class Score:
    """How a network does on images it was not trained on: single view, no augmentation."""

    accuracy: float
    loss: float


def train(
    model: nn.Module,
    recipe: Recipe,
    fit: Images,
    held_out: Images | None,
    *,
    device: Device,
    seed: int,
    run: str,
    checkpoint_path: Path | None = None,
) -> Generator[Epoch]:
    """Train `model` in place; one record an epoch, after its checkpoint is safe.

    Stop asking for epochs and training stops. With a checkpoint of the same run at
    `checkpoint_path` its epochs are given again, and training goes on to the result that it
    would have had.

    Args:
        model: (N, C, H, W) to logits (N, K); moved to the device.
        recipe: how.
        fit: images to train on.
        held_out: images to score every epoch on; never the test set.
        device: where.
        seed: of data order, augmentation and dropout.
        run: what identifies this run to its checkpoint.
        checkpoint_path: where its state is kept.

    Raises:
        DivergedError: the loss is no longer a finite number.
        CheckpointError: there is a checkpoint that cannot be used.
    """
    model.to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload] # stub
    optimizer = make_optimizer(model, recipe)
    history: tuple[Epoch, ...] = ()
    if checkpoint_path and (found := checkpoint.load(checkpoint_path, run)):
        model.load_state_dict(found.model)
        optimizer.load_state_dict(found.optimizer)
        for epoch in found.history:
            history = (*history, epoch)
            yield epoch
            if target_reached(recipe, epoch):
                return

    fit = fit.to(device.torch)
    mean, std = statistics(fit.pixels)
    images = Augmenter(fit.pixels, recipe.augment, mean, std)
    batch_size = min(recipe.batch_size, len(fit))
    steps = len(fit) // batch_size  # the last, short batch is left to another epoch's order

    for number in range(len(history), recipe.epochs):
        generator = torch.Generator().manual_seed(seed * _SEED_STRIDE + number)
        torch.manual_seed(seed * _SEED_STRIDE + number)  # dropout
        order = torch.randperm(len(fit), generator=generator)
        loss_sum = torch.zeros((), device=device.torch)
        right = torch.zeros((), device=device.torch, dtype=torch.int64)
        model.train()
        device.synchronize()
        started = time.perf_counter()
        for i in range(steps):
            index = order[i * batch_size : (i + 1) * batch_size]
            x_NCHW = images.batch(index, generator)
            y_N = fit.labels[index.to(device.torch)]
            with device.autocast():
                logits_NK = model(x_NCHW)
                loss = F.cross_entropy(logits_NK, y_N, label_smoothing=recipe.label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            clip(model, recipe)
            set_learning_rate(optimizer, learning_rate(recipe, number * steps + i, steps))
            optimizer.step()
            optimizer.zero_grad()
            loss_sum += loss.detach()
            right += (logits_NK.detach().argmax(1) == y_N).sum()
        device.synchronize()
        seconds = time.perf_counter() - started

        train_loss = loss_sum.item() / steps
        if not torch.isfinite(torch.tensor(train_loss)):
            raise DivergedError(
                f"the loss became {train_loss} in epoch {number + 1} "
                f"(learning rate {recipe.lr:g}); lower lr or clip gradients"
            )
        score = evaluate(model, held_out, mean, std, device) if held_out else None
        epoch = Epoch(
            epoch=number + 1,
            lr=optimizer.param_groups[0]["lr"],
            train_loss=train_loss,
            train_acc=right.item() / (steps * batch_size),
            val_loss=score.loss if score else None,
            val_acc=score.accuracy if score else None,
            train_seconds=seconds,
            images_per_second=steps * batch_size / seconds,
        )
        history = (*history, epoch)
        if checkpoint_path:
            checkpoint.save(checkpoint_path, run, history, model, optimizer)
        yield epoch
        if target_reached(recipe, epoch):
            return


def evaluate(model: nn.Module, images: Images, mean: Tensor, std: Tensor, device: Device) -> Score:
    """Accuracy and mean cross entropy on `images`, single view; `mean`, `std` of the training."""
    model.eval()
    images = images.to(device.torch)
    loss = torch.zeros((), device=device.torch)
    right = torch.zeros((), device=device.torch, dtype=torch.int64)
    with torch.inference_mode():
        for start in range(0, len(images), EVAL_BATCH):
            pixels = images.pixels[start : start + EVAL_BATCH]
            y_N = images.labels[start : start + EVAL_BATCH]
            with device.autocast():
                logits_NK = model(normalised(pixels, mean, std))
            loss += F.cross_entropy(logits_NK.float(), y_N, reduction="sum")
            right += (logits_NK.argmax(1) == y_N).sum()
    return Score(right.item() / len(images), loss.item() / len(images))


def target_reached(recipe: Recipe, epoch: Epoch) -> bool:
    """Whether the recipe ends here, at its target on the hold-out."""
    if not recipe.stop_at_target or recipe.target_accuracy is None or epoch.val_acc is None:
        return False
    return epoch.val_acc >= recipe.target_accuracy


def make_optimizer(model: nn.Module, recipe: Recipe) -> optim.Optimizer:
    """The recipe's optimizer; weight decay on matrices and kernels alone unless it says so."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {
            "params": others,
            "weight_decay": recipe.weight_decay if recipe.decay_norms_and_biases else 0.0,
        },
    ]
    match recipe.optimizer:
        case "sgd":
            nesterov = recipe.nesterov and recipe.momentum > 0
            return optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)
        case "adam":
            return optim.Adam(groups, lr=recipe.lr)
        case "adamw":
            return optim.AdamW(groups, lr=recipe.lr)


def set_learning_rate(optimizer: optim.Optimizer, lr: float) -> None:
    """For every group, from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip(model: nn.Module, recipe: Recipe) -> None:
    """Clip gradients as the recipe says."""
    if recipe.clip_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), recipe.clip_value)
    if recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
