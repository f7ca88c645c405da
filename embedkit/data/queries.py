"""Queries: what retrieval is asked in evaluation, and with which history (decisions 6 and 21).

Last-out splits ask one query a held-out event, with everything the user did strictly before it (the evaluation rolls on). All other
splits ask one query a user, whose targets are the user's held-out items: validation sees the user's train events, test the train and
validation events (with a split by time the history is frozen at the cut).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedkit.data.events import Events
from embedkit.data.splits import NAMES
from embedkit.data.table import Rows
from embedkit.errors import UsageError

Ragged = tuple[Rows, Rows]
"""Values [T] and offsets [Q + 1]."""


@dataclass(frozen=True, eq=False)
class Queries:
    """Q queries of one split.

    Attributes:
        table: event table.
        target: item table.
        users: int64 [Q], user numbers.
        ids: the users' ids, [Q].
        event: int64 [Q], the event row whose fields (and whose user's fields) stand for the query.
        start: int64 [Q].
        stop: int64 [Q]; the history is ``events.by_user[start:stop]``, oldest first, not cut to a ``max_length``.
        targets: relevant item rows, distinct for each query; -1 for an event whose item is in no row of the item table.
        seen: distinct item rows of the history, ascending; what ``exclude_seen`` leaves out.
    """

    table: str
    target: str
    users: Rows
    ids: list[str]
    event: Rows
    start: Rows
    stop: Rows
    targets: Ragged
    seen: Ragged

    def __len__(self) -> int:
        return len(self.users)


def make_queries(
    events: Events,
    target: str,
    split: str,
    *,
    max_queries: int | None = None,
    seed: int = 0,
    keep: npt.NDArray[np.bool_] | None = None,
) -> Queries:
    """The queries of a split; with ``max_queries`` that many of them, drawn with the seed.

    ``keep`` (bool [N], an event each) says which held-out events are targets; all are when left out. Histories hold the others too.

    Raises:
        UsageError: no such split, or the events do not join the item table.
    """
    if split not in ("valid", "test"):
        raise UsageError(f"queries are made for the valid or test split, not '{split}'")
    if target not in events.joins:
        raise UsageError(f"table '{events.table}' does not join '{target}', so its events have no target there")
    held_out = _held_out(events, NAMES[split])
    if keep is not None:
        held_out = held_out[keep[held_out]]
    if events.rolling:
        starts = np.arange(len(held_out))
    else:
        user = events.user[held_out]
        starts = np.flatnonzero(np.concatenate([[True], user[1:] != user[:-1]])) if len(user) else np.zeros(0, dtype=np.int64)
    ends = np.append(starts[1:], len(held_out)) if len(starts) else starts
    if max_queries is not None and max_queries < len(starts):
        chosen = np.sort(np.random.default_rng([seed, NAMES[split]]).choice(len(starts), max_queries, replace=False))
        starts, ends = starts[chosen], ends[chosen]
    first = held_out[starts]
    users = events.user[first].astype(np.int64)
    limit = NAMES[split] - 1
    start, stop = events.history(first, 2) if events.rolling else events.up_to(users, limit)
    targets = _targets(events, target, held_out, starts, ends)
    return Queries(events.table, target, users, _ids(events, users), first, start, stop, targets, _seen(events, target, start, stop))


def all_users(events: Events, target: str) -> Queries:
    """One query for every user: everything the user did is history, the last event stands for the query, and there are no targets."""
    if target not in events.joins:
        raise UsageError(f"table '{events.table}' does not join '{target}', so its events have no target there")
    users = np.arange(events.users)
    start, stop = events.up_to(users, 2)
    none = (np.zeros(0, dtype=np.int64), np.zeros(len(users) + 1, dtype=np.int64))
    event = events.by_user[stop - 1].astype(np.int64)
    return Queries(events.table, target, users, _ids(events, users), event, start, stop, none, _seen(events, target, start, stop))


def _held_out(events: Events, code: int) -> Rows:
    """Event rows of a split by (user, order, row)."""
    ordered = events.by_user[: int(events.user_offsets[-1])]
    rows: Rows = ordered[events.split[ordered] == code].astype(np.int64)
    return rows


def _ids(events: Events, users: Rows) -> list[str]:
    values = events.user_ids.take(pa.array(users))
    text: list[str] = values.cast(pa.large_string()).to_pylist()
    return text


def _targets(events: Events, target: str, held_out: Rows, starts: Rows, ends: Rows) -> Ragged:
    index, owner = _flatten(starts, ends)
    items = events.joins[target][held_out[index]].astype(np.int64)
    cold = items < 0
    # Unmatched events stay apart: nothing tells whether two of them are one item.
    key = np.where(cold, -1 - np.arange(len(items)), items)
    values, offsets = _distinct(owner, key, len(starts))
    return np.maximum(values, -1), offsets


def _seen(events: Events, target: str, start: Rows, stop: Rows) -> Ragged:
    index, owner = _flatten(start, stop)
    items = events.joins[target][events.by_user[index]].astype(np.int64)
    known = items >= 0
    return _distinct(owner[known], items[known], len(start))


def _flatten(start: Rows, stop: Rows) -> tuple[Rows, Rows]:
    """Positions of all ranges, and which range each belongs to."""
    length = stop - start
    owner = np.repeat(np.arange(len(start)), length)
    begin = np.cumsum(length) - length
    return np.arange(int(length.sum())) + np.repeat(start - begin, length), owner


def _distinct(owner: Rows, key: Rows, queries: int) -> Ragged:
    """For each query its distinct keys, ascending. Owner and key are sorted as one number, which is many times faster than by both."""
    if not len(key):
        return key, np.zeros(queries + 1, dtype=np.int64)
    low = int(key.min())
    span = int(key.max()) - low + 1
    code = np.sort(owner * span + (key - low))
    code = code[np.concatenate([[True], code[1:] != code[:-1]])]
    offsets = np.searchsorted(code, np.arange(queries + 1) * span)
    return code % span + low, offsets
