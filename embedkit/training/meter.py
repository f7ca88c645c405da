"""Meter: running means of a step's scalars, kept on the device so that no step waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from embedkit.nn.gather import world
from embedkit.training.distributed import mean


class Meter:
    """Sums scalars since the last line of the log, and the time spent in steps."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._rows = 0
        self._since = time.perf_counter()

    def add(self, scalars: Mapping[str, Tensor], rows: int) -> None:
        """Count one step of ``rows`` rows."""
        for name, value in scalars.items():
            held = self._sums.get(name)
            self._sums[name] = value.detach().float() if held is None else held + value
        self._steps += 1
        self._rows += rows

    def take(self) -> tuple[dict[str, float], float]:
        """Means and rows a second since the last call; starts anew."""
        names, held = list(self._sums), list(self._sums.values())
        # One wait for the device, whatever number of scalars; a loss may well count its parts on the CPU.
        values = (torch.stack([value.to(held[0].device) for value in held]) / self._steps).tolist() if held else []
        speed = self._rows / max(time.perf_counter() - self._since, 1e-9)
        self._sums, self._steps, self._rows, self._since = {}, 0, 0, time.perf_counter()
        return dict(zip(names, values, strict=True)), speed

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside out of the throughput."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - start

    def state_dict(self) -> dict[str, Any]:
        """Sums since the last line; with several processes their mean, so that each may go on from it."""
        sums = dict(self._sums)
        if world() > 1:
            sums = {name: torch.tensor(value) for name, value in mean({name: float(held) for name, held in sums.items()}).items()}
        return {"sums": sums, "steps": self._steps, "rows": self._rows}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take what ``state_dict`` returned."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._steps = state["steps"]
        self._rows, self._since = 0, time.perf_counter()
