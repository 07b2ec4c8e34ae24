"""Where training runs and in which precision."""

from __future__ import annotations

import ctypes
import functools
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from archsearch.errors import ArchsearchError

PrecisionName = Literal["fp32", "bf16"]

_BF16_MUST_WIN_BY = 0.9
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device and the precision of its forward passes."""

    torch: torch.device
    precision: PrecisionName
    name: str

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        return torch.autocast(self.torch.type, torch.bfloat16, enabled=self.precision == "bf16")

    def synchronize(self) -> None:
        """Wait for what was launched, so that a clock reads true."""
        if self.torch.type == "cuda":
            torch.cuda.synchronize(self.torch)


def choose(device: str | None = None, precision: PrecisionName | None = None) -> Device:
    """The device asked for, or the best there is; the precision asked for, or the faster one.

    Raises:
        ArchsearchError: there is no such device.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(kind)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ArchsearchError(f"--device {kind}: cannot be used here: {reason}") from error
    if chosen.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported()
        name = torch.cuda.get_device_name(chosen)
    else:
        keep_freed_memory()
        bf16 = precision is None and bf16_is_faster()
        name = f"{_cpu_name()}, {torch.get_num_threads()} threads"
    return Device(chosen, precision or ("bf16" if bf16 else "fp32"), name)


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free instead of handing it back to the kernel.

    Every step allocates the same large blocks; faulting them in anew cost about a quarter of a
    training step on two virtual cores (226 ms against 170 ms).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # not glibc
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@functools.cache
def bf16_is_faster() -> bool:
    """Whether this processor trains a convolution faster in bf16; measured, a fraction of a second.

    Having the instructions does not tell: with AMX bf16 is several times faster than fp32, with
    AVX512-bf16 alone on some processors half as fast.
    """
    if not torch.cpu.get_capabilities().get("avx512_bf16", False):
        return False
    conv = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.zeros(64, 64, 16, 16).to(memory_format=torch.channels_last)

    def seconds(enabled: bool) -> float:
        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                y = conv(x)
            y.backward(torch.zeros_like(y))

        step()
        return min(_timed(step) for _ in range(4))

    return seconds(enabled=True) < _BF16_MUST_WIN_BY * seconds(enabled=False)


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
