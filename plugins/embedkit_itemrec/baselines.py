"""Counting baselines: what a model has to beat. They see train events to count, and each query's history.

Every baseline falls back on popularity: a share below any count is added, so that items its counts do not tell apart
are ordered by their train frequency. Scores are float64, in which these sums are exact enough to keep that order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from torch import Tensor

from embedkit.errors import UsageError
from embedkit.evaluate.metrics import Floats, Ints
from embedkit_itemrec.interactions import Interactions

if TYPE_CHECKING:
    from embedkit.data.queries import Queries


class Baseline(ABC):
    """Scores all items for some queries."""

    needs_order = False
    """Whether it makes sense only where events have an order."""

    def __init__(self, data: Interactions) -> None:
        self.data = data
        self.fallback: Floats = data.popularity / (data.popularity.sum() + 1.0)

    @abstractmethod
    def score(self, queries: Queries, lo: int, hi: int) -> Tensor:
        """Scores of the queries ``lo`` to ``hi``, float64 [hi - lo, M]."""

    def _filled(self, counts: sp.csr_matrix) -> Tensor:
        """Sparse counts [q, M] with the fall-back added."""
        return torch.from_numpy(counts.toarray() + self.fallback)


class Popularity(Baseline):
    """The most frequent items of the train events."""

    def score(self, queries: Queries, lo: int, hi: int) -> Tensor:
        """The same for every query."""
        return torch.from_numpy(np.tile(self.fallback, (hi - lo, 1)))


class RepeatLast(Baseline):
    """The last item of the history again, then the most frequent ones."""

    needs_order = True

    def score(self, queries: Queries, lo: int, hi: int) -> Tensor:
        """Popularity with the last item on top."""
        scores = np.tile(self.fallback, (hi - lo, 1))
        query, item = last_items(self.data, queries, lo, hi)
        scores[query, item] = 1.0
        return torch.from_numpy(scores)


class Markov(Baseline):
    """First-order Markov chain: what followed the last item of the history most often in the train events.

    A transition leads from the last item of one moment of a user to every item of the next moment, as for a query.
    """

    needs_order = True

    def __init__(self, data: Interactions) -> None:
        super().__init__(data)
        before, after = transitions(data)
        shape = (data.items, data.items)
        self.counts = sp.csr_matrix((np.ones(len(before)), (before, after)), shape=shape)

    def score(self, queries: Queries, lo: int, hi: int) -> Tensor:
        """Transition counts from the last item."""
        query, item = last_items(self.data, queries, lo, hi)
        rows = sp.csr_matrix((np.ones(len(query)), (query, item)), shape=(hi - lo, self.data.items))
        return self._filled(rows @ self.counts)


class ItemKnn(Baseline):
    """Item-based nearest neighbours (Deshpande and Karypis 2004): cosine of the items' users, summed over the history.

    Args:
        data: the events.
        neighbors: similar items kept for each item, itself included.
        shrink: added to the denominator of the cosine; more of it trusts rare pairs less.
    """

    def __init__(self, data: Interactions, neighbors: int = 100, shrink: float = 0.0) -> None:
        super().__init__(data)
        users = data.matrix.T.tocsr()
        norm = np.sqrt(np.asarray(users.sum(axis=1)).ravel())
        blocks = []
        for lo in range(0, data.items, 512):
            both = sp.csr_matrix(users[lo : lo + 512] @ data.matrix)
            scale = np.repeat(norm[lo : lo + 512], np.diff(both.indptr)) * norm[both.indices] + shrink
            both.data /= scale
            blocks.append(_largest(both, neighbors))
        self.similar = sp.vstack(blocks).tocsr() if blocks else sp.csr_matrix((0, 0))

    def score(self, queries: Queries, lo: int, hi: int) -> Tensor:
        """Summed similarities; the fall-back is scaled to be far below any of them."""
        history = self.data.history_matrix(queries, lo, hi)
        history.data[:] = 1.0
        return torch.from_numpy((history @ self.similar).toarray() + 1e-6 * self.fallback)


class Ease(Baseline):
    """EASE (Steck 2019, section 3.1): the item-to-item weights, with a zero diagonal, that best restore the users' items from each other.

    With ``P = (X'X + l2 I)^-1`` for X users x items, ``B_ij = -P_ij / P_jj``; the score of an item is the sum of its weights from the
    history. One float64 solve over the items with a train event.

    Args:
        data: the events.
        l2: weight of the squared norm of B.

    Raises:
        UsageError: more than ``MOST`` items have a train event.
    """

    MOST = 20_000
    """Items that can be solved for: two matrices of their square in float64 are 6.4 GB."""

    def __init__(self, data: Interactions, l2: float = 500.0) -> None:
        super().__init__(data)
        self.known = np.flatnonzero(np.asarray(data.matrix.sum(axis=0)).ravel())
        count = len(self.known)
        if count > self.MOST:
            raise UsageError(
                f"evaluate: the baseline 'ease' solves for a matrix of items x items, and {count:,} items have a train event, more than "
                f"{self.MOST:,}; leave it out of baselines, or use item_knn"
            )
        seen = sp.csr_matrix(data.matrix[:, self.known])
        gram = np.asarray((seen.T @ seen).toarray(order="F"))
        gram[np.diag_indices(count)] += l2
        factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        inverse = scipy.linalg.cho_solve(factor, np.eye(count, order="F"), overwrite_b=True, check_finite=False)
        self.weights: Floats = inverse
        self.weights /= -np.diag(inverse).copy()
        self.weights[np.diag_indices(count)] = 0.0

    def score(self, queries: Queries, lo: int, hi: int) -> Tensor:
        """Summed weights; the fall-back is far below any of them and orders what no history says anything of."""
        history = self.data.history_matrix(queries, lo, hi)
        history.data[:] = 1.0
        scores = np.tile(1e-9 * self.fallback, (hi - lo, 1))
        scores[:, self.known] += history[:, self.known] @ self.weights
        return torch.from_numpy(scores)


class HistoryAndGroup(Baseline):
    """How often an item stands in the query's own history, plus how often in the train events of the query's group.

    Args:
        data: the events.
        group: group of each event of the table, [N]; 0 for none.
        own: what one event of the own history counts, in events of the group.
    """

    def __init__(self, data: Interactions, group: Ints, own: float = 1.0) -> None:
        super().__init__(data)
        self.group, self.own = group, own
        known = group[data.train] > 0
        pairs = (group[data.train][known], data.item[data.train][known])
        shape = (int(group.max(initial=0)) + 1, data.items)
        self.counts = sp.csr_matrix((np.ones(int(known.sum())), pairs), shape=shape)

    def score(self, queries: Queries, lo: int, hi: int) -> Tensor:
        """Own counts and group counts."""
        history = self.data.history_matrix(queries, lo, hi)
        groups = self.counts[self.group[queries.event[lo:hi]]]
        return self._filled(history * self.own + groups)


def last_items(data: Interactions, queries: Queries, lo: int, hi: int) -> tuple[Ints, Ints]:
    """Query (from 0) and last known item of the queries whose history has one."""
    values, offsets = data.histories(queries, lo, hi)
    query = np.flatnonzero(np.diff(offsets))
    return query, values[offsets[query + 1] - 1]


def transitions(data: Interactions) -> tuple[Ints, Ints]:
    """Pairs (last item of a user's previous moment, item) of the train events; wants events with an order."""
    assert data.moment is not None
    position = np.arange(len(data.train))
    starts = np.ones(len(data.train), bool)
    if len(starts):
        starts[1:] = (data.user[1:] != data.user[:-1]) | (data.moment[1:] != data.moment[:-1])
    previous = np.maximum.accumulate(np.where(starts, position, 0)) - 1
    valid = previous >= 0
    valid[valid] = data.user[previous[valid]] == data.user[valid]
    item = data.item[data.train]
    return item[previous[valid]], item[valid]


def _largest(rows: sp.csr_matrix, count: int) -> sp.csr_matrix:
    """Keep the ``count`` largest entries of each row, and those equal to the smallest of them."""
    if not rows.nnz:
        return rows
    lengths = np.diff(rows.indptr)
    row = np.repeat(np.arange(rows.shape[0]), lengths)
    ordered = rows.data[np.lexsort((-rows.data, row))]
    smallest = ordered[np.maximum(np.minimum(rows.indptr[:-1] + count, rows.indptr[1:]) - 1, 0)]
    keep = rows.data >= np.repeat(smallest, lengths)
    return sp.csr_matrix((rows.data[keep], (row[keep], rows.indices[keep])), shape=rows.shape)
