"""Batch: the encoded columns of some rows, for every tower at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from embedkit.data.columns import Column

Asks = Literal["next", "own", "all"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Encoded rows of one stream.

    Attributes:
        columns: field name → Column. The fields of one tower have equal length; two towers may differ (see ``window``).
        rows: table name → int64 row numbers of that table, stable for a run. ``rows["items"][b]`` is the target item of row b.
            A table outside the stream's reach is absent; a row whose join found nothing has -1.
        labels: label, group and weight fields, [B] or [B, …]. With a ``window``, weights are those of the target events, [T].
        extras: tensors that a sampler or stage adds for a loss, by name.
        window: set for streams with ``rows = "windows"``: the name of the sequence field whose every position has a target.
            Position t of row b then has the target item row ``rows[target table][offsets[b] + t]`` with the offsets of that field's
            Column, so target-side columns and rows have length T (all positions), query-side ones length B.
        asks: of a window, who is asked for what: ``next``: each position for the next item; ``own``: each position for the item that
            stands there (``rows = "sequences"``), for losses that hide some of them; ``all``: the row, once, for all of its items
            (``rows = "users"``), likewise.
    """

    columns: Mapping[str, Column]
    rows: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    window: str | None = None
    asks: Asks = "next"

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The batch on another device."""
        return self._moved(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch in memory that a GPU reads by itself, so that ``to`` need not wait."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        rows, labels, extras = ({name: move(x) for name, x in held.items()} for held in (self.rows, self.labels, self.extras))
        return Batch({name: column.moved(move) for name, column in self.columns.items()}, rows, labels, extras, self.window, self.asks)
