"""Histories as Columns: codes of a user's earlier items, cut from one array that is sorted by user (decision 6)."""

from __future__ import annotations

import numpy as np
import torch

from embedkit.data.columns import Column, ragged_ranges
from embedkit.data.events import Events
from embedkit.data.relations import RowNumbers
from embedkit.data.table import Rows


class StoredHistory:
    """One event-history field.

    Args:
        events: whose histories.
        target: item table that the history lists; ``events.joins`` has it.
        codes: int64 [M], vocabulary code of each of its rows.
        max_length: most events a history holds, the latest ones; None for all.
    """

    def __init__(self, events: Events, target: str, codes: torch.Tensor, max_length: int | None) -> None:
        self.events = events
        self.target = target
        self.max_length = max_length
        self._item = events.joins[target]
        along = self._item[events.by_user]
        self._listed = torch.from_numpy(along)
        known = codes.numpy().astype(np.int32)
        self._codes = torch.from_numpy(np.where(along < 0, 0, known[np.maximum(along, 0)]).astype(np.int32))

    def of_events(self, rows: Rows, limit: int) -> Column:
        """Histories of event rows: strictly earlier events, of splits up to ``limit``.

        Without order: all of the user's events of these splits but those with the event's own item.
        """
        start, stop = self.events.history(rows, limit)
        if self.events.order is not None:
            return self.between(start, stop)
        return self._without(self._item[rows], start, stop)

    def _without(self, own: RowNumbers, start: Rows, stop: Rows) -> Column:
        """Ranges of ``by_user`` less the events with each row's own item, cut to their last ``max_length`` events."""
        if self.max_length is not None:
            start = np.maximum(start, stop - self.max_length - 1)
        length = torch.from_numpy(stop - start)
        index, offsets = ragged_ranges(torch.from_numpy(start), length)
        mine = torch.repeat_interleave(torch.from_numpy(own), length, output_size=len(index))
        keep = self._listed.index_select(0, index) != mine
        dropped = torch.searchsorted(offsets, torch.nonzero(~keep).flatten(), right=True) - 1
        length = length - torch.bincount(dropped, minlength=len(length))
        if self.max_length is not None:
            # One event more than the longest was read; where none of them had the own item, the first one goes.
            longer = length > self.max_length
            keep[offsets[:-1][longer]] = False
            length = length - longer.long()
        after = torch.zeros_like(offsets)
        torch.cumsum(length, 0, out=after[1:])
        return Column(self._codes.index_select(0, index[keep]).long(), after)

    def between(self, start: Rows, stop: Rows) -> Column:
        """Histories given as ranges of ``by_user``, cut to their last ``max_length`` events."""
        if self.max_length is not None:
            start = np.maximum(start, stop - self.max_length)
        index, offsets = ragged_ranges(torch.from_numpy(start), torch.from_numpy(stop - start))
        return Column(self._codes.index_select(0, index).long(), offsets)

    def at(self, positions: torch.Tensor, offsets: torch.Tensor) -> Column:
        """Histories given as positions in ``by_user``."""
        return Column(self._codes.index_select(0, positions).long(), offsets)
