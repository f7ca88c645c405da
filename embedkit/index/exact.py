"""Exact search: blocked matrix products with a running top k. Memory is a block of scores, whatever the number of
vectors.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from embedkit.index.base import Rows, Vectors

_SCORES = 1 << 24
"""Scores held at once (64 MiB)."""
_QUERIES = 2048


@dataclass(frozen=True, eq=False)
class Exclude:
    """Rows that a query must not be answered with: query q leaves out ``values[offsets[q]:offsets[q + 1]]`` (int64)."""

    values: Rows
    offsets: Rows

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def most(self) -> int:
        """The largest number of rows that one query leaves out."""
        return int(np.diff(self.offsets).max(initial=0))

    def part(self, start: int, stop: int) -> Exclude:
        """Of the queries ``start`` to ``stop``."""
        low, high = self.offsets[start], self.offsets[stop]
        return Exclude(self.values[low:high], self.offsets[start : stop + 1] - low)

    @property
    def queries(self) -> Rows:
        """The query of each value."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))


def exact_top_k(
    queries: Vectors, vectors: Vectors, k: int, *, rows: Rows | None = None, exclude: Exclude | None = None
) -> tuple[Rows, Vectors]:
    """The ``k`` rows of ``vectors`` with the largest inner product, best first; equal scores by row number.

    Args:
        queries: float32 [Q, E].
        vectors: float32 [M, E]; may be a memory map.
        k: neighbours wanted.
        rows: ascending row numbers that may be returned; None for all.
        exclude: rows that single queries leave out.

    Returns:
        rows int64 [Q, K] and scores float32 [Q, K] with K = min(k, rows that may be returned). Where a query leaves out so many rows
        that fewer than K remain, the places that are left hold row -1 and score -inf.
    """
    found = [
        _chunk(queries[i : i + _QUERIES], vectors, k, rows, None if exclude is None else exclude.part(i, min(i + _QUERIES, len(queries))))
        for i in range(0, len(queries), _QUERIES)
    ]
    if not found:
        width = min(k, len(vectors) if rows is None else len(rows))
        return np.empty((0, width), np.int64), np.empty((0, width), np.float32)
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def _chunk(queries: Vectors, vectors: Vectors, k: int, rows: Rows | None, exclude: Exclude | None) -> tuple[Rows, Vectors]:
    total = len(vectors) if rows is None else len(rows)
    width = min(k, total)
    step = max(1024, _SCORES // max(1, len(queries)))
    q = torch.from_numpy(np.ascontiguousarray(queries))
    best = torch.empty((len(queries), 0), dtype=torch.float32)
    place = torch.empty((len(queries), 0), dtype=torch.int64)
    places, of_query = _places(rows, exclude)
    held = torch.empty(len(queries) * min(step, total))  # used again for every block: fresh pages cost more than the products
    for start in range(0, total, step):
        stop = min(total, start + step)
        block = vectors[start:stop] if rows is None else vectors[rows[start:stop]]
        scores = torch.mm(q, _read_only(block).T, out=held[: len(queries) * len(block)].view(len(queries), len(block)))
        if len(places):
            here = (places >= start) & (places < stop)
            scores[of_query[here], places[here] - start] = -torch.inf
        top, at = scores.topk(min(width, stop - start), dim=1)
        best, place = _merge(torch.cat([best, top], 1), torch.cat([place, at + start], 1), width)
    found = place.numpy() if rows is None else rows[place.numpy()]
    scores_out = best.numpy()
    return np.where(np.isneginf(scores_out), -1, found), scores_out


def _read_only(block: Vectors) -> Tensor:
    """A mapped file's rows as a tensor that nobody writes to; torch cannot say so of a tensor and would warn once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(block))


def _places(rows: Rows | None, exclude: Exclude | None) -> tuple[Tensor, Tensor]:
    """Excluded rows as positions among the rows that are scanned, and the query of each."""
    if exclude is None:
        nothing = torch.empty(0, dtype=torch.int64)
        return nothing, nothing
    values, queries = exclude.values, exclude.queries
    if rows is not None:
        at = np.searchsorted(rows, values)
        at[at == len(rows)] = 0
        inside = rows[at] == values if len(rows) else np.zeros(len(values), bool)
        values, queries = at[inside], queries[inside]
    return torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(queries)


def _merge(scores: Tensor, place: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best ``width`` columns, ordered by score and, among equals, by place."""
    width = min(width, scores.shape[1])
    top, at = scores.topk(width, dim=1)
    place = place.gather(1, at)
    by_place = place.argsort(dim=1)
    by_score = top.gather(1, by_place).argsort(dim=1, descending=True, stable=True)
    order = by_place.gather(1, by_score)
    return top.gather(1, order), place.gather(1, order)
