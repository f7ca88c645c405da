"""Users: who gets recommendations that stand out, who does not, and what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from embedkit.data.queries import Queries
from embedkit.errors import DataError
from embedkit.evaluate.metrics import Floats, Ints
from embedkit.evaluate.vectors import query_vectors, row_vectors
from embedkit.reporting.items import Names

if TYPE_CHECKING:
    from embedkit.bundle import Bundle
    from embedkit.data.store import Store

SHOWN = 10
"""Recommendations a user."""
_HISTORY = 8
_CHUNK_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Recommendation:
    """An item that is recommended: its name, its score, and whether it was held out."""

    name: str
    score: float
    hit: bool


@dataclass(frozen=True)
class User:
    """A query.

    Attributes:
        id: of the user.
        margin: score of the first recommendation minus that of the eleventh item.
        history: names of the last items of the history, oldest first.
        earlier: how many came before them.
        recommended: the best ten, best first.
        held_out: names of the relevant items.
    """

    id: str
    margin: float
    history: tuple[str, ...]
    earlier: int
    recommended: tuple[Recommendation, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Confidence:
    """The most and the least confident of ``asked`` queries; ``hits`` is the share of queries with a hit, from the least to the most
    confident quarter."""

    most: list[User]
    least: list[User]
    asked: int
    hits: tuple[float, ...]


def confidence(
    bundle: Bundle,
    store: Store,
    *,
    query: str,
    target: str,
    events: str,
    split: Literal["valid", "test"],
    exclude_seen: bool,
    most: int,
    seed: int,
    show: int = 10,
) -> Confidence:
    """Ask at most ``most`` queries of a split, and keep the ``show`` with the largest and the smallest margins.

    Raises:
        DataError: the split has no queries, or there are too few items for a margin.
    """
    table = bundle.schema.towers[target].table
    queries = store.queries(events, table, split, max_queries=most, seed=seed)
    items = store.tables[table].rows
    if not len(queries):
        raise DataError(f"the {split} split of table '{events}' has no queries")
    if items <= SHOWN:
        raise DataError(f"table '{table}' has {items} rows, and a margin wants more than {SHOWN}")
    vectors = row_vectors(bundle.model, store, target)
    best, scores = _best(bundle, store, queries, query, vectors, exclude_seen)
    margin = scores[:, 0] - scores[:, SHOWN]
    order = np.argsort(margin, kind="stable")
    order = order[np.isfinite(margin[order])]
    hits = _hits(best, queries)
    quarters = tuple(float(hits[part].mean()) for part in np.array_split(order, 4) if len(part))
    describe = _Describe(store, queries, table, best, scores, margin)
    return Confidence([describe(q) for q in order[::-1][:show]], [describe(q) for q in order[:show]], len(queries), quarters)


def _best(bundle: Bundle, store: Store, queries: Queries, tower: str, items: torch.Tensor, exclude_seen: bool) -> tuple[Ints, Floats]:
    """Rows and scores of the best of every query, [Q, SHOWN + 1]; -inf where there are fewer candidates."""
    size = max(1, _CHUNK_BYTES // (4 * len(items)))
    rows, scores = [], []
    for lo in range(0, len(queries), size):
        hi = min(lo + size, len(queries))
        found = query_vectors(bundle.model, store, queries, tower, lo, hi) @ items.T
        if exclude_seen:
            values, offsets = queries.seen
            owner = np.repeat(np.arange(hi - lo), np.diff(offsets[lo : hi + 1]))
            found[torch.from_numpy(owner), torch.from_numpy(values[offsets[lo] : offsets[hi]])] = -torch.inf
        top = found.topk(SHOWN + 1, dim=1)
        rows.append(top.indices.numpy())
        scores.append(top.values.double().numpy())
    return np.concatenate(rows), np.concatenate(scores)


def _hits(best: Ints, queries: Queries) -> Floats:
    """Whether a relevant item is among the recommendations of each query, [Q]."""
    values, offsets = queries.targets
    owner = np.repeat(np.arange(len(queries)), np.diff(offsets))
    found = (best[owner, :SHOWN] == values[:, None]).any(axis=1)
    return np.bincount(owner[found], minlength=len(queries)).clip(max=1).astype(np.float64)


class _Describe:
    """Puts a query into words."""

    def __init__(self, store: Store, queries: Queries, table: str, best: Ints, scores: Floats, margin: Floats) -> None:
        self._queries, self._best, self._scores, self._margin = queries, best, scores, margin
        self._names = Names(store, table)
        source = store.events[queries.table]
        self._item, self._by_user = source.joins[table], source.by_user

    def __call__(self, q: int) -> User:
        queries = self._queries
        start, stop = int(queries.start[q]), int(queries.stop[q])
        history = self._item[self._by_user[max(start, stop - _HISTORY) : stop]].astype(np.int64)
        values, offsets = queries.targets
        held = values[offsets[q] : offsets[q + 1]]
        there = np.isfinite(self._scores[q, :SHOWN])
        shown = self._best[q, :SHOWN][there]
        known = [*history[history >= 0], *shown, *held[held >= 0][:_HISTORY]]
        name = dict(zip(known, self._names.of(np.array(known, dtype=np.int64)), strict=True)) | {-1: "an item that is not in the table"}
        recommended = [
            Recommendation(name[row], float(score), bool((held == row).any())) for row, score in zip(shown, self._scores[q], strict=False)
        ]
        return User(
            queries.ids[q],
            float(self._margin[q]),
            tuple(name[row] for row in history),
            max(0, stop - start - _HISTORY),
            tuple(recommended),
            tuple(name[row] for row in held[:_HISTORY]),
        )
