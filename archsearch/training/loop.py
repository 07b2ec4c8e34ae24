"""Training, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from archsearch.errors import DivergedError
from archsearch.training import checkpoint
from archsearch.training.augment import Augmenter, normalised, shrunk, statistics
from archsearch.training.checkpoint import Checkpoint, State
from archsearch.training.device import Device, out_of_memory
from archsearch.training.images import Images
from archsearch.training.initialise import initialise
from archsearch.training.optimizers import add_l1, clip, make_optimizers, set_share
from archsearch.training.recipe import Recipe, learning_rate
from archsearch.training.records import Epoch

EVAL_BATCH = 1_000
EXPLODED = 10.0
"""Times the loss of guessing, ln K: a mean above that over an epoch will not come back."""
_SEED_STRIDE = 1_000_003
"""Keeps the random numbers of (seed, epoch) apart from those of (seed + 1, another epoch)."""


@dataclass(frozen=True, slots=True)
class Score:
    """How a network does on images it was not trained on: single view, no augmentation."""

    accuracy: float
    loss: float


@dataclass(frozen=True, slots=True)
class Training:
    """What one epoch works on; the modules and optimizers change in place."""

    model: nn.Module
    average: AveragedModel | None
    optimizers: list[optim.Optimizer]
    images: Augmenter
    labels: Tensor
    recipe: Recipe
    device: Device
    seed: int

    @property
    def scored(self) -> nn.Module:
        """What is evaluated: the averaged network where the recipe averages."""
        return self.average.module if self.average else self.model

    @property
    def changing(self) -> tuple[nn.Module, list[optim.Optimizer], AveragedModel | None]:
        """All that has a `State`."""
        return self.model, self.optimizers, self.average


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
    warn: Callable[[str], None] = lambda _message: None,
    on_step: Callable[[], None] = lambda: None,
) -> Generator[Epoch, None, nn.Module]:
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
        warn: is told what the user should know.
        on_step: called after every optimizer step and every batch that is scored; what it raises
            ends training.

    Returns:
        The network to score: `model`, or its average.

    Raises:
        DivergedError: the loss is no longer a finite number, or far above that of guessing.
        CheckpointError: there is a checkpoint that cannot be used.
        RuntimeError: torch's own; also that memory ran out with half the batch too.
    """
    found = checkpoint.load(checkpoint_path, run, warn) if checkpoint_path else None
    fit = fit.to(device.torch)
    mean, std = statistics(fit.pixels)
    model.to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload] # stub
    initialise(model, recipe.init, fit.pixels, mean, std)
    at = Training(
        model,
        averaged(model, recipe),
        make_optimizers(model, recipe),
        Augmenter(fit.pixels, recipe.augment, mean, std, seed),
        fit.labels,
        recipe,
        device,
        seed,
    )
    batch_size = min(recipe.batch_size, len(fit))
    history: tuple[Epoch, ...] = ()
    if found and checkpoint_path:
        checkpoint.resume(checkpoint_path, found.state, *at.changing)
        batch_size = found.state.batch_size
        for epoch in found.history:
            history = (*history, epoch)
            yield epoch
            if target_reached(recipe, epoch):
                return at.scored

    while len(history) < recipe.epochs:
        before = State.of(*at.changing, batch_size)
        try:
            epoch = fit_epoch(at, history, batch_size, on_step)
            if held_out:
                score = evaluate(at.scored, held_out, mean, std, device, on_step)
                epoch = epoch.model_copy(update={"val_loss": score.loss, "val_acc": score.accuracy})
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or batch_size < min(recipe.batch_size, len(fit)):
                raise
            batch_size = max(1, batch_size // 2)
            warn(
                f"out of memory in epoch {len(history) + 1}: going on with batches of {batch_size}"
            )
            before.restore(*at.changing)
            continue
        history = (*history, epoch)
        if checkpoint_path:
            state = State.of(*at.changing, batch_size)
            checkpoint.save(checkpoint_path, Checkpoint(run, history, state))
        yield epoch
        if target_reached(recipe, epoch):
            break
    return at.scored


def fit_epoch(
    at: Training,
    history: Sequence[Epoch],
    batch_size: int,
    on_step: Callable[[], None] = lambda: None,
) -> Epoch:
    """Every optimizer step of the next epoch, which is not scored yet.

    Raises:
        DivergedError: the loss is no longer a finite number, or far above that of guessing.
    """
    number, recipe, device = len(history), at.recipe, at.device
    steps = len(at.labels) // batch_size  # the last, short batch is left to another epoch's order
    losses = [e.train_loss if e.val_loss is None else e.val_loss for e in history]
    torch.manual_seed(at.seed * _SEED_STRIDE + number)  # dropout
    # On the device, so that no step waits for a copy.
    generator = torch.Generator(device.torch).manual_seed(at.seed * _SEED_STRIDE + number)
    order = torch.randperm(len(at.labels), generator=generator, device=device.torch)
    loss_sum = torch.zeros((), device=device.torch)
    right = torch.zeros((), device=device.torch, dtype=torch.int64)
    lr = 0.0
    at.model.train()
    device.synchronize()
    started = time.perf_counter()
    for i in range(steps):
        index = order[i * batch_size : (i + 1) * batch_size]
        x_NCHW, y_N = at.images.batch(index, generator, number), at.labels[index]
        step = number * steps + i
        if recipe.small_first and step < recipe.small_first.until * recipe.epochs * steps:
            x_NCHW = shrunk(x_NCHW, recipe.small_first.side)
        with device.autocast():
            logits_NK = at.model(x_NCHW)
            loss = F.cross_entropy(logits_NK, y_N, label_smoothing=recipe.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        add_l1(at.model, recipe)
        clip(at.model, recipe)
        lr = learning_rate(recipe, step, steps, losses)
        set_share(at.optimizers, lr / recipe.lr)
        for optimizer in at.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if at.average:
            at.average.update_parameters(at.model)
        loss_sum += loss.detach()
        right += (logits_NK.detach().argmax(1) == y_N).sum()
        on_step()
    device.synchronize()
    seconds = time.perf_counter() - started
    mean_loss = loss_sum.item() / steps
    check_loss(mean_loss, logits_NK.shape[1], number + 1, recipe)
    return Epoch(
        epoch=number + 1,
        lr=lr,
        train_loss=mean_loss,
        train_acc=right.item() / (steps * batch_size),
        train_seconds=seconds,
        images_per_second=steps * batch_size / seconds,
    )


def batches_per_epoch(recipe: Recipe, fit: int, held_out: int) -> int:
    """Return how many batches an epoch trains on and then scores, for so many images of each."""
    return max(1, fit // max(1, min(recipe.batch_size, fit))) + math.ceil(held_out / EVAL_BATCH)


def check_loss(mean_loss: float, classes: int, epoch: int, recipe: Recipe) -> None:
    """That training has not left the road.

    Raises:
        DivergedError: it has.
    """
    if math.isfinite(mean_loss) and mean_loss <= EXPLODED * math.log(max(2, classes)):
        return
    guessing = f"guessing has {math.log(max(2, classes)):.3g}"
    raise DivergedError(
        f"the loss became {mean_loss:.3g} in epoch {epoch} ({guessing}; learning rate "
        f"{recipe.lr:g}); lower lr or clip gradients"
    )


def averaged(model: nn.Module, recipe: Recipe) -> AveragedModel | None:
    """The recipe's moving average of weights and of norms' statistics, at its beginning."""
    if recipe.average is None:
        return None
    decay = get_ema_multi_avg_fn(recipe.average.decay)  # type: ignore[no-untyped-call] # torch's
    return AveragedModel(model, multi_avg_fn=decay, use_buffers=True)


def evaluate(
    model: nn.Module,
    images: Images,
    mean: Tensor,
    std: Tensor,
    device: Device,
    on_batch: Callable[[], None] = lambda: None,
) -> Score:
    """Accuracy and mean cross entropy on `images`, single view; `mean`, `std` of the training."""
    model.eval()
    images = images.to(device.torch)
    mean, std = mean.to(device.torch), std.to(device.torch)
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
            on_batch()
    return Score(right.item() / len(images), loss.item() / len(images))


def target_reached(recipe: Recipe, epoch: Epoch) -> bool:
    """Whether the recipe ends here, at its target on the hold-out."""
    if not recipe.stop_at_target or recipe.target_accuracy is None or epoch.val_acc is None:
        return False
    return epoch.val_acc >= recipe.target_accuracy
