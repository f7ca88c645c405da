"""Interactions: an event table as counting models see it, items by row number and users by number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from embedkit.evaluate.metrics import Floats, Ints
from embedkit.evaluate.ranks import Ragged

if TYPE_CHECKING:
    from embedkit.data.queries import Queries
    from embedkit.data.store import Store


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who took what, and what of it is training data.

    Attributes:
        items: number of items M.
        item: item row of each event, [N]; -1 where the join found none.
        by_user: event rows that the histories are ranges of.
        train: the train events with a known item, in that order, [T].
        user: user number of each of those, [T].
        users: number of users.
        moment: order key of each of those, [T]; None where events have no order.
        popularity: train events of each item, [M], those of nobody too.
    """

    items: int
    item: Ints
    by_user: npt.NDArray[np.integer]
    train: Ints
    user: Ints
    users: int
    moment: Ints | None
    popularity: Floats

    @classmethod
    def of(cls, store: Store, events: str, table: str) -> Interactions:
        """The events of one table with the items of another."""
        source = store.events[events]
        item = np.asarray(source.joins[table], dtype=np.int64)
        items = store.tables[table].rows
        counted = (source.split == 0) & (item >= 0)
        once = source.by_user[: int(source.user_offsets[-1])]  # what lies behind are histories that skip held-out events
        train = once[counted[once]].astype(np.int64)
        return cls(
            items=items,
            item=item,
            by_user=source.by_user,
            train=train,
            user=source.user[train].astype(np.int64),
            users=len(source.user_offsets) - 1,
            moment=None if source.order is None else source.order[train],
            popularity=np.bincount(item[counted], minlength=items).astype(np.float64),
        )

    @cached_property
    def matrix(self) -> sp.csr_matrix:
        """Users x items: 1 where a train event has both, float64 [U, M]."""
        shape = (self.users, self.items)
        counts = sp.csr_matrix((np.ones(len(self.train)), (self.user, self.item[self.train])), shape=shape)
        counts.data[:] = 1.0
        return counts

    def histories(self, queries: Queries, lo: int, hi: int) -> Ragged:
        """Known item rows of the histories of some queries, in order: values and offsets [hi - lo + 1]."""
        start, stop = queries.start[lo:hi], queries.stop[lo:hi]
        length = stop - start
        offsets = np.concatenate(([0], np.cumsum(length)))
        position = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], length)
        values = self.item[self.by_user[position]]
        known = values >= 0
        kept = np.concatenate(([0], np.cumsum(known)))
        return values[known], kept[offsets].astype(np.int64)

    def history_matrix(self, queries: Queries, lo: int, hi: int) -> sp.csr_matrix:
        """How often each item stands in each history, float64 [hi - lo, M]."""
        values, offsets = self.histories(queries, lo, hi)
        found = sp.csr_matrix((np.ones(len(values)), values, offsets), shape=(hi - lo, self.items))
        found.sum_duplicates()
        return found
