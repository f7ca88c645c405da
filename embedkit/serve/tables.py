"""Whole tables of answers: the neighbours of every item, and the best items of every user, chunk by chunk into Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.errors import DataError, UsageError
from embedkit.evaluate.shown import mean_of, popularity_bias, self_information
from embedkit.evaluate.vectors import query_vectors
from embedkit.files import atomic_file
from embedkit.index.base import Rows, Vectors
from embedkit.index.exact import Exclude
from embedkit.pace import Pace
from embedkit.serve.query import Searcher

if TYPE_CHECKING:
    from embedkit.data.queries import Queries
    from embedkit.data.store import Store

CHUNK = 1_024
Log = Callable[[str], Any]


@dataclass(frozen=True)
class Recommended:
    """What ``recommend`` wrote.

    Attributes:
        rows: in the file.
        users: with at least one item.
        coverage: share of the index's rows that anybody is recommended.
        novelty: mean bits of self-information of a user's items; NaN where there are none.
        popularity_bias: mean popularity of what is recommended over that of the histories (``embedkit.evaluate.shown``); NaN where no
            user has both.
    """

    rows: int
    users: int
    coverage: float
    novelty: float
    popularity_bias: float


def neighbours_all(
    searcher: Searcher, out: str | Path, *, k: int = 10, where: str | None = None, chunk: int = CHUNK, log: Log = lambda line: None
) -> int:
    """Write the nearest ``k`` other rows of every row of the index.

    The Parquet file has the columns ``id``, ``rank`` (int32, from 1), ``neighbour`` and ``score`` (float32), ordered by
    row of the index and rank. Memory is a chunk's.

    Returns:
        Rows written.

    Raises:
        UsageError: k is larger than the rest of the index, or the predicate cannot be evaluated.
        DataError: the disk is full.
    """
    index = searcher.index
    others = index.rows - 1
    if k > others:
        raise UsageError(f"k = {k} is larger than the rest of the index, which holds {others} other rows; ask for at most {others}")
    allowed = None if where is None else index.attributes.where(where)
    pace = Pace(log, index.rows)

    def chunks() -> Iterator[pa.Table]:
        for start in range(0, index.rows, chunk):
            rows = np.arange(start, min(index.rows, start + chunk))
            exclude = Exclude(rows, np.arange(len(rows) + 1))
            found, scores = index.search(np.asarray(index.vectors[rows]), k, allowed=allowed, exclude=exclude)
            pace(int(rows[-1]) + 1)
            yield _long(searcher, index.ids.values.take(pa.array(rows)), "id", "neighbour", found, scores)

    return _write(Path(out), chunks())


def recommend(
    searcher: Searcher,
    store: Store,
    out: str | Path,
    *,
    k: int = 10,
    exclude_seen: bool = True,
    tower: str | None = None,
    events: str | None = None,
    where: str | None = None,
    chunk: int = CHUNK,
    log: Log = lambda line: None,
) -> Recommended:
    """Write the best ``k`` items of every user, from everything the user did.

    The Parquet file has the columns ``user`` (text), ``rank`` (int32, from 1), ``item`` and ``score`` (float32). A user
    who has seen nearly everything gets fewer rows.

    Args:
        searcher: over the items, with the bundle that the store's codecs come from.
        store: the tables of the run; its codecs are set to the bundle's.
        out: file to write.
        k: items a user.
        exclude_seen: whether items that the user has met are left out.
        tower: that encodes users; needed where the bundle has more than one beside the items'.
        events: table of events; needed where there is more than one.
        where: predicate over the columns that the index keeps.
        chunk: users at a time.
        log: called with a line every few seconds.

    Returns:
        How much was written, and what it is like; popularity is that of the train events.

    Raises:
        UsageError: tower or events must be named, or k is larger than the index.
        DataError: the disk is full, or an item of the index stands in no table of the store.
    """
    bundle, index = searcher.bundle, searcher.index
    store.use(bundle.codecs)
    tower, target = _user_tower(searcher, tower), bundle.schema.towers[index.space.tower].table
    queries = store.all_users(_events(store, target, events), target)
    row_in_index = _index_rows(searcher, store, target)
    like = _Like(queries, np.asarray(store.frequencies(target), dtype=np.int64), row_in_index, index.rows)
    allowed = None if where is None else index.attributes.where(where)
    pace = Pace(log, len(queries), "users")

    def chunks() -> Iterator[pa.Table]:
        for lo in range(0, len(queries), chunk):
            hi = min(len(queries), lo + chunk)
            vectors = query_vectors(bundle.model, store, queries, tower, lo, hi).cpu().numpy()
            exclude = _seen(queries, lo, hi, row_in_index) if exclude_seen else None
            found, scores = index.search(vectors, k, allowed=allowed, exclude=exclude)
            like.note(found, lo)
            pace(hi)
            yield _long(searcher, pa.array(queries.ids[lo:hi], pa.large_string()), "user", "item", found, scores)

    return like.figures(_write(Path(out), chunks()))


class _Like:
    """Adds up what the recommendations are like, a chunk of users at a time."""

    def __init__(self, queries: Queries, frequencies: Rows, row_in_index: Rows, rows: int) -> None:
        known = row_in_index >= 0
        popularity = np.zeros(rows, np.int64)
        popularity[row_in_index[known]] = frequencies[known]
        self._popularity, self._bits = popularity.astype(np.float64), self_information(popularity)
        self._usual = mean_of(frequencies.astype(np.float64), queries.seen)
        self._shown = np.zeros(rows, bool)
        self._novelty, self._popular = np.full(len(queries), np.nan), np.full(len(queries), np.nan)

    def note(self, found: Rows, lo: int) -> None:
        """Index rows [q, k] of the users from ``lo`` on, -1 for none."""
        kept = found >= 0
        items = found[kept], np.concatenate(([0], np.cumsum(kept.sum(axis=1))))
        self._shown[items[0]] = True
        self._novelty[lo : lo + len(found)] = mean_of(self._bits, items)
        self._popular[lo : lo + len(found)] = mean_of(self._popularity, items)

    def figures(self, rows: int) -> Recommended:
        """What was written, once all is."""
        there = self._novelty[~np.isnan(self._novelty)]
        novelty = float(there.mean()) if len(there) else float("nan")
        return Recommended(rows, len(there), float(self._shown.mean()), novelty, popularity_bias(self._popular, self._usual))


def _user_tower(searcher: Searcher, tower: str | None) -> str:
    towers = [name for name in searcher.bundle.schema.towers if name != searcher.index.space.tower]
    if tower is not None:
        return searcher.bundle.tower(tower)
    if len(towers) != 1:
        raise UsageError(
            f"{searcher.bundle.path}: name the tower that stands for users; beside the items' there are: {', '.join(towers) or 'none'}"
        )
    return towers[0]


def _events(store: Store, target: str, events: str | None) -> str:
    found = [name for name, table in store.events.items() if target in table.joins]
    if events is not None:
        if events not in found:
            raise UsageError(f"'{events}' is no table of events that joins '{target}'; there are: {', '.join(found) or 'none'}")
        return events
    if len(found) != 1:
        raise UsageError(f"name the table of events; those that join '{target}' are: {', '.join(found) or 'none'}")
    return found[0]


def _index_rows(searcher: Searcher, store: Store, target: str) -> Rows:
    """Store row of an item → its row in the index, -1 where it was not embedded."""
    ids = store.tables[target].ids()
    if ids is None:
        raise DataError(f"table '{target}' has no key, so its rows cannot be found in the index")
    return searcher.index.ids.rows(ids)


def _seen(queries: Queries, lo: int, hi: int, row_in_index: Rows) -> Exclude:
    values, offsets = queries.seen
    part = Exclude(values, offsets).part(lo, hi)
    rows = row_in_index[part.values]
    known = rows >= 0
    counts = np.bincount(part.queries[known], minlength=hi - lo)
    return Exclude(rows[known], np.concatenate([[0], np.cumsum(counts)]))


def _long(searcher: Searcher, owners: pa.Array, owner: str, other: str, found: Rows, scores: Vectors) -> pa.Table:
    """One row an answer; places without an answer are left out."""
    kept = (found >= 0).ravel()
    width = found.shape[1]
    position = np.repeat(np.arange(len(found)), width)[kept]
    rank = np.tile(np.arange(1, width + 1, dtype=np.int32), len(found))[kept]
    others = searcher.index.ids.values.take(pa.array(found.ravel()[kept]))
    columns = [owners.take(pa.array(position)), pa.array(rank), others, pa.array(scores.ravel()[kept])]
    return pa.table(columns, names=[owner, "rank", other, "score"])


def _write(out: Path, chunks: Iterator[pa.Table]) -> int:
    rows = 0
    with atomic_file(out) as beside:
        writer: pq.ParquetWriter | None = None
        try:
            for table in chunks:
                writer = writer or pq.ParquetWriter(beside, table.schema, compression="zstd")
                writer.write_table(table)
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
    return rows
