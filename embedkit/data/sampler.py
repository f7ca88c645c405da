"""BatchSampler: which rows make which batch. Registered with ``register_samplers``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from embedkit.component import Component, Config

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SamplerContext:
    """What a sampler is built from besides its options.

    Attributes:
        rows: int64 [N], the row numbers that may be drawn (train rows of the stream's table; users for windows).
        size: rows a batch (the global batch under DDP).
        seed: of this stream.
        columns: what the sampler's class ``looks_at``, and ``group``, int64, where the stream names its groups; [N] each, in the order of
            ``rows``.
    """

    rows: Rows
    size: int
    seed: int
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


class BatchSampler(Component):
    """Yields batches for ever, epoch after epoch; its position is exact and part of a checkpoint."""

    looks_at: ClassVar[tuple[str, ...]] = ()
    """Cheap columns that it is given: ``length``, the events in each row's history; ``frequency``, the train events that point at it."""
    context: SamplerContext

    @classmethod
    def chances(cls, config: Config, frequencies: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """The chance of each row of a table in one draw, [M], for losses that correct for it; None where all rows have one chance.

        Args:
            config: the sampler's options.
            frequencies: train events that point at each row.
        """
        return None

    @property
    @abstractmethod
    def batches_per_epoch(self) -> int:
        """Batches that make an epoch."""

    def remarks(self) -> list[str]:
        """What a person should know before training, such as rows that are never drawn; the log says it."""
        return []

    @abstractmethod
    def __iter__(self) -> Iterator[Rows]:
        """Row numbers of the next batches, int64 [≤ size], from the current position on. Never ends."""

    @abstractmethod
    def state_dict(self) -> dict[str, int]:
        """The position after the last batch that was yielded."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from there: the batches that follow are the ones that would have followed."""
