"""Which processor computes, and how precisely."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import Any

import torch
from threadpoolctl import ThreadpoolController


def choose_device(name: str = "auto") -> torch.device:
    """Return the device with this name; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    ValueError
        If the device is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    kind = name.split(":")[0]
    if kind not in there:
        raise ValueError(f"Unknown device {name!r}; choose auto, cpu, cuda or mps.")
    if not there[kind]:
        found = ", ".join(kind for kind, found in there.items() if found)
        raise ValueError(f"The device {name!r} is not available here; PyTorch finds {found}.")
    return torch.device(name)


def prefers_bfloat16(device: torch.device) -> bool:
    """Tell whether bfloat16 is computed in hardware on this device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))
    return False


def training_layout(device: torch.device) -> torch.memory_format:
    """Return how weights are laid out in memory while a network learns on this device.

    Processors without AVX-512 take four times as long for the gradients of weights when the
    channels come last, more than everything else gains by it (``benchmarks.training_speed``).
    """
    has = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    slow = has.get("architecture") == "x86_64" and not has.get("avx512_f")
    return torch.contiguous_format if slow else torch.channels_last


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Compute without the threads that libraries keep beside the one that calls.

    For small matrices: where other threads want the processor, waiting for one another at the end
    of every little piece takes many times longer than the work itself.
    """
    torch.get_num_threads()  # PyTorch sets up a thread when first asked, and would undo this later
    own = ExitStack()
    with _ONE_FOR_ALL.lock:  # threadpoolctl lets a thread that has set them keep others from it
        own.enter_context(_thread_pools("openmp").limit(limits=1))
        _ONE_FOR_ALL.take()
    try:
        yield
    finally:
        with _ONE_FOR_ALL.lock:
            _ONE_FOR_ALL.give_back()
            own.close()


class _OneForAll:
    """The threads of libraries that have one number of them for all who call, such as BLAS.

    SciPy's optimisers call it in every iteration. Several may have taken them at a time, and leave
    in any order: the first one takes them, and the last one gives them back.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self._inside = 0
        self._taken: Any = None

    def take(self) -> None:
        if not self._inside:
            self._taken = _thread_pools("blas").limit(limits=1)
        self._inside += 1

    def give_back(self) -> None:
        self._inside -= 1
        if not self._inside:
            self._taken.restore_original_limits()


_ONE_FOR_ALL = _OneForAll()


@cache
def _thread_pools(interface: str) -> ThreadpoolController:
    return ThreadpoolController().select(user_api=interface)


def computing(device: torch.device, precision: str = "auto") -> AbstractContextManager[object]:
    """Return the context in which a network computes with the asked-for precision."""
    wanted = prefers_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    if not wanted:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether PyTorch ran out of memory; only CUDA has an error of its own for that."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in said for sign in ("DefaultCPUAllocator", "not enough memory", "out of memory")
    )


def describe(device: torch.device) -> str:
    """Return what a person calls this device, such as ``CPU (bfloat16)``."""
    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    name = {"cpu": "CPU", "mps": "Apple GPU"}[device.type]
    return f"{name} (bfloat16)" if prefers_bfloat16(device) else name
