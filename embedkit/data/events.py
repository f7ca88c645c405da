"""Events: an event table's users, order and histories as integer arrays (decision 6). 25 to 33 bytes an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from embedkit.data.relations import RowNumbers, smallest
from embedkit.data.splits import Order, Split, deal
from embedkit.data.table import Rows, Table, plain
from embedkit.data.times import Keys, read_order
from embedkit.errors import DataError

Log = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Events:
    """What is known about N events of U users besides their fields.

    A history is a range ``start .. stop`` of ``by_user``: event rows, oldest first.

    Attributes:
        table: name of the event table.
        joins: joined table → its row for each event, [N], -1 for none.
        user: [N], dense user number in order of first appearance, -1 for an event without a user.
        user_ids: [U], what the user column holds.
        order: int64 [N], sort key; None where the table declares neither time nor position: then a history is a set.
        time: int64 [N], sort key of the time column, None without one.
        split: uint8 [N].
        rolling: whether each held-out event is a query of its own (last-out splits); else one query a user.
        by_user: event rows sorted by (user, order, row), or by (user, split, row) without order; events without a user are not in it.
            Where splits do not follow the order, the train events and the train and valid events stand once more behind it.
        user_offsets: int64 [U + 1]; user u's events are ``by_user[user_offsets[u]:user_offsets[u + 1]]``.
        rank: [N], position of each event in ``by_user``, -1 for none.
        before: [N], position in ``by_user`` of the user's first event that shares the event's order key.
        strict: whether no two events of a user share an order key.
    """

    table: str
    joins: Mapping[str, RowNumbers]
    user: RowNumbers
    user_ids: pa.Array
    order: Keys | None
    time: Keys | None
    split: Split
    rolling: bool
    by_user: RowNumbers
    user_offsets: Rows
    rank: RowNumbers
    before: RowNumbers
    strict: bool
    _blocks: Mapping[int, tuple[int, RowNumbers]] = field(repr=False)
    _up_to: Mapping[int, RowNumbers] = field(repr=False)

    @property
    def rows(self) -> int:
        """N."""
        return len(self.user)

    @property
    def users(self) -> int:
        """U."""
        return len(self.user_offsets) - 1

    def history(self, events: Rows, limit: int = 0) -> tuple[Rows, Rows]:
        """(start, stop) into ``by_user`` of what each event's user did strictly before it, int64 [len(events)] each.

        Args:
            events: event rows.
            limit: the last split that counts: 0 train events only, 1 train and valid, 2 all.

        Without order it is all of the user's events of these splits, the event itself included where its split is: see ``StoredHistory``.
        """
        user = self.user[events].astype(np.int64)
        if self.order is None:
            start, stop = self.up_to(user, limit)
        else:
            before = self.before[events].astype(np.int64)
            block = self._blocks.get(limit)
            if block is not None:
                base, members = block
                start = base + members[self.user_offsets[user]].astype(np.int64)
                stop = base + members[before].astype(np.int64)
            else:
                start, last = self.up_to(user, limit)
                stop = np.minimum(before, last)
        nobody = user < 0
        return np.where(nobody, 0, start), np.where(nobody, 0, stop)

    def up_to(self, users: Rows, limit: int) -> tuple[Rows, Rows]:
        """(start, stop) into ``by_user`` of all events of users whose split is at most ``limit``."""
        block = self._blocks.get(limit)
        if block is not None:
            base, members = block
            first, last = members[self.user_offsets[users]], members[self.user_offsets[users + 1]]
            return base + first.astype(np.int64), base + last.astype(np.int64)
        start = self.user_offsets[users]
        if limit >= 2:
            return start, self.user_offsets[users + 1]
        return start, start + self._up_to[limit][users]


def index_events(table: Table, joins: Mapping[str, RowNumbers], log: Log) -> Events:
    """Read users and order of an event table, deal its split, and sort its events by user.

    Raises:
        UsageError: the split needs an order that the table lacks.
        DataError: a time or position is missing or unreadable, or a position stands twice for one user.
    """
    config = table.config
    assert config.user is not None
    user, user_ids = _number(table, config.user, log)
    time, per_second = read_order(table, config.time) if config.time else (None, 1)
    order = read_order(table, config.position, integer=True)[0] if config.position else time
    timestamps = config.time is not None and not pa.types.is_integer(table.schema.field(config.time).type)
    by_user = None if order is None else _sort(user, order)
    split = deal(table, Order(time, per_second, timestamps, user, by_user), log)
    if by_user is None:
        by_user = _sort(user, split)
    offsets = np.zeros(len(user_ids) + 1, dtype=np.int64)
    np.cumsum(np.bincount(user[user >= 0], minlength=len(user_ids)), out=offsets[1:])
    rank = np.full(table.rows, -1, dtype=by_user.dtype)
    rank[by_user] = np.arange(len(by_user), dtype=by_user.dtype)
    before, strict = _first_of_ties(by_user, user, order)
    if config.position and not strict:
        _refuse_ties(table, config.position, by_user, before, rank)
    blocks, everything = _blocks(by_user, user, order, split)
    return Events(
        table=table.name,
        joins=joins,
        user=user,
        user_ids=user_ids,
        order=order,
        time=time,
        split=split,
        rolling=config.split is not None and config.split.by == "position",
        by_user=everything,
        user_offsets=offsets,
        rank=rank,
        before=before,
        strict=strict,
        _blocks=blocks,
        _up_to={s: np.bincount(user[(split <= s) & (user >= 0)], minlength=len(user_ids)).astype(by_user.dtype) for s in (0, 1)},
    )


def _number(table: Table, column: str, log: Log) -> tuple[RowNumbers, pa.Array]:
    coded = plain(table.column(column)).dictionary_encode()
    numbers: RowNumbers = np.asarray(coded.indices.fill_null(-1)).astype(smallest(table.rows))
    nobody = int((numbers < 0).sum())
    if nobody == table.rows:
        raise DataError(f"table '{table.name}': user column '{column}' has no value in any row")
    if nobody:
        log(
            f"table '{table.name}': {nobody:,} of {table.rows:,} rows have no user in column '{column}'; "
            "they have no history and are no query"
        )
    return numbers, coded.dictionary


def _sort(user: RowNumbers, key: npt.NDArray[np.integer]) -> RowNumbers:
    """Event rows by (user, key, row), rows without a user left out."""
    frame = pl.DataFrame({"user": user, "key": key})
    rows = frame.select(pl.arg_sort_by("user", "key", maintain_order=True)).to_series().to_numpy()
    sorted_rows: RowNumbers = rows[int((user < 0).sum()) :].astype(smallest(len(user)))
    return sorted_rows


def _first_of_ties(by_user: RowNumbers, user: RowNumbers, order: Keys | None) -> tuple[RowNumbers, bool]:
    before = np.full(len(user), -1, dtype=by_user.dtype)
    if order is None:
        return before, False
    keys, owner = order[by_user], user[by_user]
    fresh = np.ones(len(by_user), dtype=bool)
    fresh[1:] = (keys[1:] != keys[:-1]) | (owner[1:] != owner[:-1])
    first = np.maximum.accumulate(np.where(fresh, np.arange(len(by_user), dtype=by_user.dtype), 0))
    before[by_user] = first
    return before, bool(fresh.all())


def _refuse_ties(table: Table, column: str, by_user: RowNumbers, before: RowNumbers, rank: RowNumbers) -> None:
    row = int(np.flatnonzero(before != rank)[0])
    other = int(by_user[before[row]])
    raise DataError(
        f"table '{table.name}': position column '{column}' is equal in {table.place(other)} and {table.place(row)}, "
        "two events of one user; positions must be strict (declare the column as 'time' if equal values are one moment)"
    )


def _blocks(
    by_user: RowNumbers, user: RowNumbers, order: Keys | None, split: Split
) -> tuple[dict[int, tuple[int, RowNumbers]], RowNumbers]:
    """Limit → (base, running count of members), and ``by_user`` with those members appended; none where splits follow the order."""
    dealt, owner = split[by_user], user[by_user]
    follows = not ((dealt[1:] < dealt[:-1]) & (owner[1:] == owner[:-1])).any()
    if order is None or follows:
        return {}, by_user
    blocks: dict[int, tuple[int, RowNumbers]] = {}
    pieces, base = [by_user], len(by_user)
    for limit in (0, 1):
        member = dealt <= limit
        running = np.zeros(len(by_user) + 1, dtype=smallest(len(by_user)))
        np.cumsum(member, out=running[1:])
        blocks[limit] = (base, running)
        pieces.append(by_user[member])
        base += len(pieces[-1])
    return blocks, np.concatenate(pieces)
