"""What a stage will need, said before it starts; and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Mapping

import psutil
import torch
from rich.filesize import decimal
from torch import nn

from embedkit.training.optimize import Optimizers


def parameter_bytes(parameters: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors, each once."""
    return sum(p.numel() * p.element_size() for p in {id(p): p for p in parameters}.values())


def estimate(
    module: nn.Module, tables: Iterable[nn.Parameter], optimizers: Optimizers, data_bytes: int, average: int = 0
) -> dict[str, int]:
    """Bytes a part: ``parameters`` (of these ``tables``), ``gradients``, ``optimizer`` and ``data``.

    A moving average (``average`` bytes) counts as parameters. Gradients of tables count in full unless they are sparse. Activations
    depend on the batch and are not in it.
    """
    held = list(module.parameters())
    dense = {id(p) for p in optimizers.clipped}
    return {
        "parameters": parameter_bytes(held) + average,
        "tables": parameter_bytes(tables),
        "gradients": parameter_bytes(p for p in held if p.requires_grad and id(p) in dense),
        "optimizer": optimizers.state_bytes(),
        "data": data_bytes,
    }


def text(parts: Mapping[str, int], device: torch.device) -> str:
    """One line for people, with what the machine has free."""
    total = sum(size for name, size in parts.items() if name != "tables")
    free = psutil.virtual_memory().available if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
    return (
        f"memory: about {decimal(total)} (parameters {decimal(parts['parameters'])}, of these tables {decimal(parts['tables'])}; "
        f"gradients {decimal(parts['gradients'])}; optimiser {decimal(parts['optimizer'])}; data {decimal(parts['data'])}) "
        f"and the activations of a batch; {decimal(free)} free"
    )


def give_back() -> None:
    """Hand memory that was freed back to the system, where the C library can (glibc).

    A validation frees blocks of many sizes. glibc keeps them for later, and what training then allocates lies between them, so that the
    process grows with every validation although nothing is held.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
