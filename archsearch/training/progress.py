"""Words for the progress of training: an epoch's figures, a bar, a duration."""

from __future__ import annotations

from archsearch.training.records import Epoch


def epoch_figures(epoch: Epoch) -> str:
    """An epoch's figures on one line."""
    parts = [f"loss {epoch.train_loss:.3f}", f"train {epoch.train_acc:.2%}"]
    if epoch.val_acc is not None:
        parts.append(f"hold-out {epoch.val_acc:.2%}")
    parts += [f"{epoch.train_seconds:.1f} s", f"{epoch.images_per_second:,.0f} images/s"]
    return ", ".join(parts)


LEAST_SHARE = 0.05
"""Of an epoch, before it tells how long the rest will take: the first steps are slow."""


def bar(share: float, width: int) -> str:
    """Draw a share from 0 to 1 as a bar."""
    full = int(width * min(1.0, max(0.0, share)))
    return "━" * full + "┄" * (width - full)


def clock(seconds: float) -> str:
    """1:02:03."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
