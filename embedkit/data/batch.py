"""Batch: the encoded columns of some rows, for every tower at once."""

from __future__ import annotations

from collections.abc import Mapping
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

        def move(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {k: v.to(device, non_blocking=non_blocking) for k, v in tensors.items()}

        columns = {k: c.to(device, non_blocking=non_blocking) for k, c in self.columns.items()}
        return Batch(columns, move(self.rows), move(self.labels), move(self.extras), self.window, self.asks)
