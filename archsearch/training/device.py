"""Where training runs and in which precision."""

from __future__ import annotations

import ctypes
import platform
import warnings
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from timeit import repeat
from typing import Literal

import torch
from torch import nn

from archsearch.common.remembered import remembered
from archsearch.errors import ArchsearchError

PrecisionName = Literal["fp32", "bf16"]

_BF16_MUST_WIN_BY = 0.9
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MADV_HUGEPAGE = 14
_HUGE_PAGE_BYTES = 2**21
_HEAP_BYTES = 2**32
"""Of what is remembered of this machine."""


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
    kind = device or ("cuda" if _cuda()[0] else "cpu")
    try:
        chosen = torch.device(kind)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ArchsearchError(f"--device {kind}: cannot be used here: {reason}") from error
    if chosen.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        name = torch.cuda.get_device_name(chosen)
    else:
        keep_freed_memory()
        name = f"{_cpu_name()}, {torch.get_num_threads()} threads"
        bf16 = precision is None and bf16_is_faster(name)
    return Device(chosen, precision or ("bf16" if bf16 else "fp32"), name)


@cache
def _cuda() -> tuple[bool, str]:
    """Return whether CUDA can be used, and what torch warns of; it does so at the first call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    return available, " ".join(str(warning.message) for warning in caught)


def unusable_gpu() -> str | None:
    """Return why the GPU that this machine has cannot be used; None if it has none or it can."""
    available, warning = _cuda()
    return warning.splitlines()[0] if warning and not available else None


def out_of_memory(error: BaseException) -> bool:
    """Whether torch (or Python) says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU's allocator has no error class of its own.
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def lost(error: BaseException) -> bool:
    """Whether the device itself failed: it may be gone, and nothing more will run on it."""
    return isinstance(error, torch.AcceleratorError) and not out_of_memory(error)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep what tensors free instead of handing it back to the kernel, in huge pages.

    Every step allocates the same large blocks; faulting them in anew cost about a quarter of a
    training step on two virtual cores (226 ms against 170 ms), and looking small pages up about a
    tenth of the rest (benchmarks/training_step.py).
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    except (OSError, AttributeError, TypeError):
        return  # not glibc; on Windows CDLL(None) is a TypeError
    # What is freed here stays the heap's, and marked; no memory is taken before it is used.
    if block := libc.malloc(_HEAP_BYTES):
        start = -(-block // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
        libc.madvise(start, _HEAP_BYTES - _HUGE_PAGE_BYTES, _MADV_HUGEPAGE)
        libc.free(block)


def bf16_is_faster(name: str) -> bool:
    """Whether this processor trains a convolution faster in bf16.

    Having the instructions does not tell: with AMX bf16 is several times faster than fp32, with
    AVX512-bf16 alone on some processors half as fast. So it is measured, in a fraction of a
    second, and remembered: a run that goes on must not change its precision.
    """
    if not torch.cpu.get_capabilities().get("avx512_bf16", False):
        return False
    return bool(remembered("bf16", f"{name}, torch {torch.__version__}", _bf16_wins))


def _bf16_wins() -> bool:
    conv = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.zeros(64, 64, 16, 16).to(memory_format=torch.channels_last)

    def step(enabled: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = conv(x)
        y.backward(torch.zeros_like(y))

    fp32, bf16 = (min(repeat(partial(step, on), number=1, repeat=5)) for on in (False, True))
    return bf16 < _BF16_MUST_WIN_BY * fp32


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
