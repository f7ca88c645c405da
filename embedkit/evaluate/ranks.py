"""Full ranking without ever holding queries x items (decisions 20 and 21).

Scores come a chunk of queries at a time, [q, M] for all M items, and leave as the ranks of the relevant items. The
rank of an item is 1 + the items that score higher + its random position among the items of equal score. The random
order of equal items is that of a hash of (seed, query, item): exact, independent from query to query, and the same
whatever the chunk's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from embedkit.evaluate.metrics import MISS, Bools, Floats, Ints, Ranks

Ragged = tuple[Ints, Ints]
"""Values int64 [T] and offsets int64 [Q + 1]: the item rows of each query."""

Score = Callable[[int, int], Tensor]
"""The scores of the queries ``lo`` to ``hi``: a floating tensor [hi - lo, M], higher is better, that may be
overwritten."""

_BYTES_PER_SCORE = 32
"""Scores, comparison masks and bucket numbers of one (query, item) pair while it is in work."""

_BUDGET = 256 * 2**20
"""Bytes of a chunk."""
_CACHED = 32 * 2**20
"""The same on a CPU where no query has several relevant items: its cache then holds the scores, which are read some five times over, and a
validation on 12,000 items is a sixth faster. Several are looked up among sorted scores, which goes better in large chunks."""
_FEW = 64
"""Fewer queries at once are slower than what a cache can give back: the items are read anew for each chunk."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a full ranking leaves.

    Attributes:
        ranks: of the relevant items; ``MISS`` for those that were no candidates.
        tied: bool [R], whether some other candidate had the very score of the relevant item.
        exposure: k -> int64 [M], in the first k of how many queries an item stands.
        worth: name of what was asked -> k -> float64 [Q], its mean over the first k of each query; NaN for a query without candidates.
    """

    ranks: Ranks
    tied: Bools
    exposure: dict[int, Ints]
    worth: dict[str, dict[int, Floats]] = field(default_factory=dict)

    @property
    def covered(self) -> dict[int, Bools]:
        """k -> bool [M], whether an item stands in the first k of any query."""
        return {k: shown > 0 for k, shown in self.exposure.items()}

    @property
    def unranked(self) -> Bools:
        """bool [R], whether a relevant item was no candidate."""
        return np.equal(self.ranks.values, MISS)


def full_ranking(
    score: Score,
    targets: Ragged,
    items: int,
    *,
    seen: Ragged | None = None,
    ks: Sequence[int] = (),
    worth: Mapping[str, Floats] | None = None,
    seed: int = 0,
    budget: int | None = None,
) -> Ranking:
    """Rank the relevant items of every query among all items.

    Args:
        score: scores of a chunk of queries.
        targets: relevant item rows of each query, each item at most once a query; -1 for an item that is not in the
            item table, which is a miss for every model.
        items: M.
        seen: item rows that are no candidates for the query; a relevant item among them is a miss.
        ks: cut-offs at which to note the items that were shown.
        worth: what an item is worth, [M], by name: at each of ``ks`` the mean over what a query is shown is kept.
        seed: of the order of equal scores.
        budget: bytes that one chunk may take; a chunk has at least one query. When left out, 256 MiB at most.

    Raises:
        ValueError: scores of the wrong shape, or a score that is not a number.
    """
    queries = len(targets[1]) - 1
    most = size = _queries_at_once(budget or _BUDGET, items)
    if budget is None and np.diff(targets[1]).max(initial=0) <= 1:
        size = max(_queries_at_once(_CACHED, items), min(_FEW, most))
    values = np.full(len(targets[0]), MISS, np.int64)
    tied = np.zeros(len(targets[0]), bool)
    shown = _Shown(ks, worth or {}, queries, items)
    hi = 0
    while hi < queries:
        lo, hi = hi, min(hi + size, queries)
        scores = score(lo, hi)
        if scores.device.type != "cpu":
            size = most
        if tuple(scores.shape) != (hi - lo, items):
            raise ValueError(f"want scores of shape {(hi - lo, items)}, found {tuple(scores.shape)}")
        if bool(torch.isnan(scores.sum())) and bool(torch.isnan(scores).any()):  # the sum of inf and -inf is no number either
            raise ValueError(f"a score of the queries {lo} to {hi - 1} is not a number")
        _exclude(scores, seen, lo, hi)
        where = slice(int(targets[1][lo]), int(targets[1][hi]))
        values[where], tied[where] = _chunk_ranks(scores, *_cut(targets, lo, hi), first=lo, seed=seed)
        if ks:
            shown.note(top(scores, max(ks), first=lo, seed=seed).cpu().numpy(), lo)
    return Ranking(Ranks(values, targets[1]), tied, shown.exposure, shown.worth)


def _queries_at_once(budget: int, items: int) -> int:
    return max(1, min(4096, budget // (_BYTES_PER_SCORE * max(1, items))))


class _Shown:
    """Adds up what the first k of the queries are, a chunk of queries at a time."""

    def __init__(self, ks: Sequence[int], worth: Mapping[str, Floats], queries: int, items: int) -> None:
        self._of_item = {name: np.append(values, 0.0) for name, values in worth.items()}  # row -1, no item, is worth nothing
        self.exposure = {k: np.zeros(items, np.int64) for k in ks}
        self.worth = {name: {k: np.full(queries, np.nan) for k in ks} for name in worth}

    def note(self, rows: Ints, lo: int) -> None:
        """Item rows [q, k] of the queries from ``lo`` on, best first, -1 for none."""
        counts = (rows >= 0).cumsum(axis=1)
        for k, exposure in self.exposure.items():
            first = rows[:, :k]
            exposure += np.bincount(first[first >= 0], minlength=len(exposure))
        for name, of_item in self._of_item.items():
            sums = of_item[rows].cumsum(axis=1)
            for k, means in self.worth[name].items():
                count = counts[:, k - 1]
                np.divide(sums[:, k - 1], count, out=means[lo : lo + len(rows)], where=count > 0)


def top(scores: Tensor, k: int, *, first: int = 0, seed: int = 0) -> Tensor:
    """Item rows of the k best of each query, best first, int64 [q, k]; -1 where fewer are candidates.

    Equal scores are ordered as in ``full_ranking``; -inf marks what is no candidate.

    Args:
        scores: [q, M].
        k: how many.
        first: number of the first of these queries, for the order of equal scores.
        seed: as in ``full_ranking``.
    """
    width = min(k, scores.shape[1])
    reach = min(k + 1, scores.shape[1])
    best, rows = torch.topk(scores, reach, dim=1)
    equal = ((best[:, 1:] == best[:, :-1]) & (best[:, 1:] > -torch.inf)).any(dim=1)
    best, rows = best[:, :width], rows[:, :width].clone()
    unsettled = torch.nonzero(equal).squeeze(1)
    if len(unsettled):
        rows[unsettled] = _settle(scores, best, unsettled, first, seed)
    rows = rows.masked_fill(best == -torch.inf, -1)
    return torch.nn.functional.pad(rows, (0, k - width), value=-1)


def _settle(scores: Tensor, best: Tensor, queries: Tensor, first: int, seed: int) -> Tensor:
    """Order the best of the given queries by (score, random key); [n, width]."""
    width = best.shape[1]
    within = scores.index_select(0, queries)
    query, item = torch.nonzero(within >= best.index_select(0, queries)[:, -1:], as_tuple=True)
    value = within[query, item]
    order = torch.argsort(_keys(_streams(queries + first, seed)[query], item), stable=True)
    order = order[torch.argsort(value[order], descending=True, stable=True)]
    order = order[torch.argsort(query[order], stable=True)]
    counts = torch.bincount(query, minlength=len(queries))
    start = torch.cumsum(counts, 0) - counts
    return item[order][start.unsqueeze(1) + torch.arange(width, device=scores.device)]


def _exclude(scores: Tensor, seen: Ragged | None, lo: int, hi: int) -> None:
    """Take the seen items out of the candidates, in place."""
    if seen is None:
        return
    query, item = (torch.from_numpy(x).to(scores.device) for x in _pairs(*_cut(seen, lo, hi)))
    scores[query, item] = -torch.inf


def _chunk_ranks(scores: Tensor, values: Ints, offsets: Ints, *, first: int, seed: int) -> tuple[Ints, Bools]:
    """Ranks and tied flags of the relevant items of one chunk."""
    ranks, tied = np.full(len(values), MISS, np.int64), np.zeros(len(values), bool)
    known = np.flatnonzero(values >= 0)
    query = torch.from_numpy(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[known]).to(scores.device)
    item = torch.from_numpy(values[known]).to(scores.device)
    own = scores[query, item]
    count = np.bincount(query.cpu().numpy(), minlength=1)
    places = (_single if count.max(initial=0) <= 1 else _several)(scores, query, item, own, first, seed)
    ranks[known] = (1 + places.higher + places.position).masked_fill(own == -torch.inf, MISS).cpu().numpy()
    tied[known] = ((places.equal > 1) & (own > -torch.inf)).cpu().numpy()
    return ranks, tied


class _Places(NamedTuple):
    """Where relevant items stand among the scores of their query, [R] each."""

    higher: Tensor
    """Items that score higher."""
    equal: Tensor
    """Items of the same score, itself included."""
    position: Tensor
    """Its place (from 0) among these in the order of their keys."""


def _single(scores: Tensor, query: Tensor, item: Tensor, own: Tensor, first: int, seed: int) -> _Places:
    """Places of at most one relevant item a query: compare every score with it."""
    rows = scores if len(query) == len(scores) else scores.index_select(0, query)
    matches = rows == own.unsqueeze(1)
    higher, equal = _true(rows > own.unsqueeze(1)), _true(matches)
    position = torch.zeros_like(query)
    tied = torch.nonzero((equal > 1) & (own > -torch.inf)).squeeze(1)
    if len(tied):
        row, other = torch.nonzero(matches.index_select(0, tied), as_tuple=True)
        streams = _streams(query[tied] + first, seed)
        before = _keys(streams[row], other) < _keys(streams, item[tied])[row]
        position[tied] = torch.bincount(row[before], minlength=len(tied))
    return _Places(higher, equal, position)


def _true(mask: Tensor) -> Tensor:
    """How many are true in each row, int64 [q]; as bytes, which takes a third of the time of summing bools."""
    return mask.view(torch.uint8).sum(1, dtype=torch.int32).long()


def _several(scores: Tensor, query: Tensor, item: Tensor, own: Tensor, first: int, seed: int) -> _Places:
    """Places of any number of relevant items a query: look them up among the query's sorted scores."""
    higher, equal = _counts(scores, query, own)
    position = torch.zeros_like(query)
    tied = torch.nonzero((equal > 1) & (own > -torch.inf)).squeeze(1)
    if len(tied):
        position[tied] = _positions(scores, query[tied], item[tied], own[tied], first, seed)
    return _Places(higher, equal, position)


def _counts(scores: Tensor, query: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """How many scores of its query are above, and how many equal to, each relevant item's, [R] each."""
    wanted, slot = _by_query(query, own, len(scores))
    ascending = _ascending(scores)
    below = torch.searchsorted(ascending, wanted)[query, slot]
    up_to = torch.searchsorted(ascending, wanted, right=True)[query, slot]
    return scores.shape[1] - up_to, up_to - below


def _by_query(query: Tensor, own: Tensor, queries: int) -> tuple[Tensor, Tensor]:
    """Relevant scores as a matrix [q, r], padded with inf, and the column of each; ``query`` ascends."""
    count = torch.bincount(query, minlength=queries)
    slot = torch.arange(len(query), device=query.device) - (torch.cumsum(count, 0) - count)[query]
    matrix = torch.full((queries, int(count.max())), torch.inf, dtype=own.dtype, device=own.device)
    matrix[query, slot] = own
    return matrix, slot


def _ascending(scores: Tensor) -> Tensor:
    """Each row sorted. On a CPU numpy's sort, which uses vector instructions: six times as fast as torch's."""
    if scores.device.type != "cpu" or scores.dtype not in (torch.float32, torch.float64):
        return torch.sort(scores, dim=1).values
    rows = scores.detach().numpy().copy()
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: part.sort(axis=1), np.array_split(rows, threads)))
    return torch.from_numpy(rows)


def _positions(scores: Tensor, query: Tensor, item: Tensor, own: Tensor, first: int, seed: int) -> Tensor:
    """Places of tied relevant items among the equal scores of their query, by key.

    Each score is sorted into the buckets between its query's relevant ones. Those equal to one are few, and are sorted by their keys.
    """
    queries, query = torch.unique_consecutive(query, return_inverse=True)
    within, items = scores.index_select(0, queries), scores.shape[1]
    thresholds = torch.sort(_by_query(query, own, len(queries))[0], dim=1).values
    below = torch.searchsorted(thresholds, within)
    row, other = torch.nonzero(torch.nn.functional.pad(thresholds, (0, 1), value=torch.inf).gather(1, below) == within, as_tuple=True)
    stream = _streams(queries + first, seed)
    place = _order_in_groups(row * (items + 1) + below[row, other], _keys(stream[row], other))
    return place[torch.searchsorted(row * items + other, query * items + item)]


def _order_in_groups(group: Tensor, key: Tensor) -> Tensor:
    """Position (from 0) of each element among those of its group, by key."""
    order = torch.argsort(key, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    _, sizes = torch.unique_consecutive(group[order], return_counts=True)
    start = torch.repeat_interleave(torch.cumsum(sizes, 0) - sizes, sizes)
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order), device=order.device) - start
    return position


def _streams(query: Tensor, seed: int) -> Tensor:
    """A 64-bit number for each query and seed, which starts the keys of its items."""
    return _mix(query * _GOLDEN + seed)


def _keys(stream: Tensor, item: Tensor) -> Tensor:
    """Keys of items in their query's stream: splitmix64 (Steele et al. 2014) in wrapping int64 arithmetic."""
    return _mix(stream + item * _GOLDEN)


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _cut(ragged: Ragged, lo: int, hi: int) -> Ragged:
    """The queries ``lo`` to ``hi`` of a ragged pair."""
    values, offsets = ragged
    return values[offsets[lo] : offsets[hi]], offsets[lo : hi + 1] - offsets[lo]


def _pairs(values: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """Query number and item row of every entry that is in the item table."""
    query = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return query[values >= 0], values[values >= 0]
