"""Where it is computed: device, threads, determinism, seeds, and the facts that a resumed run must share (decision 18)."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from embedkit.config.model import ComputeConfig
from embedkit.errors import UsageError
from embedkit.nn.gather import world
from embedkit.nn.layer import Layer
from embedkit.training.distributed import device_of, local_processes

Precision = Literal["float32", "bfloat16"]
_WORTH = 1.5
"""So many times as fast products in bfloat16 must be on a CPU: each new shape costs oneDNN some code, and numbers must be converted."""
_ROUNDS = 20


def choose_device(name: str) -> torch.device:
    """The device that a run file's ``compute.device`` means.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"compute.device: '{name}' is no device; write auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"compute.device: '{name}' is not supported; write auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"compute.device: there is no '{name}' here ({torch.cuda.device_count()} GPUs found); write auto or cpu")
    return device


def set_up(config: ComputeConfig) -> torch.device:
    """Set threads, and torch's deterministic algorithms on the CPU (decision 18); return the device.

    Processes of one machine that train together share its cores, and have a GPU each.
    """
    device = device_of(choose_device(config.device))
    torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 1) // local_processes()))
    # Not use_deterministic_algorithms: the same switch, but that function imports the compiler, 3 s on two cores.
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "default")
    # Deterministic mode would also fill every new tensor with NaN, which only shows reads of memory that nobody wrote: 5% of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


def choose_precision(config: ComputeConfig) -> Precision:
    """What a run file's ``compute.precision`` means here."""
    if config.precision != "auto":
        return config.precision
    if choose_device(config.device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if bfloat16_speed() >= _WORTH else "float32"


@cache
def bfloat16_speed() -> float:
    """How many times as fast as in float32 a product of matrices of a small layer's size is in bfloat16 on this CPU.

    Half as fast is usual where AVX-512 has instructions for it and AMX is not there.
    """
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=random)[:, :128].contiguous() for _ in range(2))
    sides = {dtype: (a.to(dtype), b.to(dtype).T) for dtype in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys(sides, math.inf)
    for _ in range(_ROUNDS):
        for dtype, (x, y) in sides.items():
            began = time.perf_counter()
            x @ y
            best[dtype] = min(best[dtype], time.perf_counter() - began)
    return best[torch.float32] / best[torch.bfloat16]


def autocast_type(config: ComputeConfig) -> torch.dtype | None:
    """Type of forwards under autocast, None for float32."""
    return torch.bfloat16 if choose_precision(config) == "bfloat16" else None


def compile_layers(module: nn.Module) -> int:
    """Have every ``Layer`` of a module compiled when it first runs; its parameters keep their names. Returns how many there are."""
    layers = [layer for layer in module.modules() if isinstance(layer, Layer)]
    for layer in layers:
        layer.compile(dynamic=True)
    return len(layers)


def facts(device: torch.device, data_path: str) -> dict[str, Any]:
    """What bit-equality of a resumed run depends on, for the checkpoint."""
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "data_path": data_path,
        "processes": world(),
    }
    return found


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed of 63 bits for one purpose of a run; equal names give equal seeds, other names unrelated ones."""
    text = "/".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def seed_all(seed: int) -> None:
    """Seed the global generators (dropout, and what plugins may use)."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - plugins may use the legacy generator
    random.seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's global generators seeded, and put them back."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def global_state() -> dict[str, Any]:
    """State of the global generators, as tensors and JSON values."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "rest": [int(position), int(has_gauss), float(cached)],
        },
        "python": {"version": version, "internal": torch.tensor(internal, dtype=torch.int64), "gauss": gauss},
    }
    if torch.cuda.is_available():
        state["cuda"] = list(torch.cuda.get_rng_state_all())
    return state


def load_global_state(state: dict[str, Any]) -> None:
    """Put back what ``global_state`` returned."""
    torch.set_rng_state(state["torch"])
    numpy, python = state["numpy"], state["python"]
    np.random.set_state((numpy["name"], numpy["keys"].numpy().astype(np.uint32), *numpy["rest"]))  # noqa: NPY002
    random.setstate((python["version"], tuple(python["internal"].tolist()), python["gauss"]))
    if "cuda" in state and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
