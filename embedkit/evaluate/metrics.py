"""Ranking metrics as functions of ranks (decision 20).

A ``Ranks`` holds, for each query, the rank of every relevant item in the full ranking of all candidates. Every metric
here maps it to one float64 a query, [Q]; each costs a few passes over the ranks and never sees a score. Definitions
are those of trec_eval with binary relevance: recall and average precision divide by the number of relevant items,
also where that is more than k.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MISS = int(np.iinfo(np.int64).max)
"""The rank of a relevant item that was not among the candidates: behind every item, so that every cut-off metric
counts it as a miss."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of the relevant items of Q queries.

    Attributes:
        values: int64 [R], 1-based; ``MISS`` for an item that was not ranked. Any order within a query.
        offsets: int64 [Q + 1]; query q has ``values[offsets[q]:offsets[q + 1]]``.

    Raises:
        ValueError: a query without a relevant item, or a rank below 1.
    """

    values: Ints
    offsets: Ints

    def __post_init__(self) -> None:
        if len(self.offsets) < 1 or self.offsets[0] != 0 or self.offsets[-1] != len(self.values):
            raise ValueError("offsets must start at 0 and end at the number of ranks")
        lengths = np.diff(self.offsets)
        if (lengths < 1).any():
            raise ValueError(f"query {int(np.argmax(lengths < 1))} has no relevant item")
        if (self.values < 1).any():
            raise ValueError(f"ranks start at 1, found {int(self.values.min())}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def relevant(self) -> Ints:
        """Relevant items a query, [Q]."""
        return np.diff(self.offsets)

    @property
    def query(self) -> Ints:
        """The query of each rank, [R]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.relevant)

    def sorted(self) -> Ranks:
        """The same with each query's ranks ascending."""
        if len(self.values) == len(self):
            return self
        return Ranks(self.values[np.lexsort((self.values, self.query))], self.offsets)

    def select(self, keep: Bools) -> tuple[Ranks, Ints]:
        """Keep some of the relevant items (bool [R]) and drop the queries that have none left.

        Returns the ranks, unchanged in the full ranking, and the positions of the remaining queries.
        """
        lengths = np.add.reduceat(keep.astype(np.int64), self.offsets[:-1]) if len(self) else np.zeros(0, np.int64)
        queries = np.flatnonzero(lengths)
        return Ranks(self.values[keep], _offsets(lengths[queries])), queries

    def take(self, queries: Ints) -> Ranks:
        """The ranks of some queries (int64 [N], ascending positions)."""
        mask = np.zeros(len(self), bool)
        mask[queries] = True
        return Ranks(self.values[np.repeat(mask, self.relevant)], _offsets(self.relevant[queries]))


def recall(ranks: Ranks, k: int) -> Floats:
    """Share of the relevant items among the first k."""
    return _hits(ranks, k) / ranks.relevant


def precision(ranks: Ranks, k: int) -> Floats:
    """Share of the first k that is relevant; the denominator is k even where there are fewer candidates."""
    return _hits(ranks, k) / k


def hit(ranks: Ranks, k: int) -> Floats:
    """1 where at least one relevant item is among the first k (trec_eval's success)."""
    return (_hits(ranks, k) > 0).astype(np.float64)


def mrr(ranks: Ranks, k: int) -> Floats:
    """Reciprocal rank of the first relevant item, 0 where it is not among the first k."""
    if not len(ranks):
        return np.zeros(0)
    first = np.minimum.reduceat(ranks.values, ranks.offsets[:-1])
    return np.where(first <= k, 1.0 / first, 0.0)


def average_precision(ranks: Ranks, k: int) -> Floats:
    """Mean over all relevant items of the precision at their ranks; items behind rank k count 0 (trec_eval's
    map_cut)."""
    ordered = ranks.sorted()
    position = np.arange(len(ordered.values), dtype=np.int64) - np.repeat(ordered.offsets[:-1], ordered.relevant) + 1
    gain = np.where(ordered.values <= k, position / ordered.values, 0.0)
    return _sum(gain, ordered) / ordered.relevant


def ndcg(ranks: Ranks, k: int) -> Floats:
    """Discounted cumulative gain of the first k over the best possible one; gain 1, discount 1 / log2(1 + rank).

    Järvelin and Kekäläinen (2002) in the common form with the discount from rank 1 on.
    """
    gain = np.zeros(len(ranks.values))
    inside = ranks.values <= k
    gain[inside] = 1.0 / np.log2(1.0 + ranks.values[inside])
    ideal = np.concatenate(([0.0], np.cumsum(1.0 / np.log2(np.arange(2.0, k + 2.0)))))
    return _sum(gain, ranks) / ideal[np.minimum(ranks.relevant, k)]


def coverage(covered: Bools) -> float:
    """Share of the M candidates that stand in at least one query's first k (bool [M]); one figure for all queries
    together."""
    return float(covered.mean()) if len(covered) else 0.0


METRICS: Mapping[str, Callable[[Ranks, int], Floats]] = {
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": average_precision,
    "hit": hit,
    "precision": precision,
}
"""Metrics with one value a query, by the name that run files and reports use."""


def measure(ranks: Ranks, names: Sequence[str]) -> dict[str, Floats]:
    """Several metrics such as ``ndcg@10`` at once: name → [Q].

    Raises:
        ValueError: a name that is not a known metric, ``@`` and a positive number.
    """
    ordered = ranks.sorted()
    result = {}
    for name in names:
        found = re.fullmatch(r"([a-z]+)@([1-9][0-9]*)", name)
        if found is None or found[1] not in METRICS:
            raise ValueError(f"'{name}' is not a metric: want one of {', '.join(METRICS)}, '@' and a positive number")
        result[name] = METRICS[found[1]](ordered, int(found[2]))
    return result


def _hits(ranks: Ranks, k: int) -> Floats:
    return _sum((ranks.values <= k).astype(np.float64), ranks)


def _sum(values: Floats, ranks: Ranks) -> Floats:
    """Sum of each query's values; every query has at least one."""
    return np.add.reduceat(values, ranks.offsets[:-1]) if len(ranks) else np.zeros(0)


def _offsets(lengths: Ints) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)))
