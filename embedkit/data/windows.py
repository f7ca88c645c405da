"""Windows: whole stretches of users' train events. Each position has the next event or its own as target, or the user has all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from embedkit.data.batch import Asks, Batch
from embedkit.data.columns import ragged_ranges
from embedkit.data.table import Rows
from embedkit.errors import UsageError

if TYPE_CHECKING:
    from embedkit.data.store import Store


WINDOWS: dict[str, Asks] = {"windows": "next", "sequences": "own", "users": "all"}
"""``rows`` of a stream that draws users, and what its batches ask."""


class Windows:
    """Makes batches with a ``window`` (see ``Batch.window``).

    A user's window is the last ``max_length + 1`` train events whose item is known; inputs are all but the last of them, targets all but
    the first. Where a position is asked for its own item, or the user for all items, it is the last ``max_length`` events, each of them
    input and target. Fields of the target's table, and weights, have one row a position; all other fields one row a user, those of the
    last event.

    Args:
        store: where the values come from.
        table: event table.
        fields: what a batch holds; the first event history among them is the window.
        rows: of the stream, one of ``WINDOWS``.
        where: of the stream, for messages.

    Raises:
        UsageError: the table is no event table, no history is among the fields, or positions are asked and the users' events are not
            strictly ordered.
    """

    def __init__(self, store: Store, table: str, fields: Sequence[str], *, rows: str = "windows", where: str) -> None:
        self._kind, self._asks = rows, WINDOWS[rows]
        if table not in store.events:
            raise UsageError(f"{where}: rows = '{self._kind}' needs an event table; set tables.{table}.user, or use rows = 'rows'")
        self._own = self._asks != "next"
        self._store = store
        self._events = store.events[table]
        self._table = table
        self._where = where
        self._histories = [name for name in fields if store.is_history(name) and store.schema.fields[name].table == table]
        if not self._histories:
            raise UsageError(
                f"{where}: rows = '{self._kind}' needs a history: a sequence field of table '{table}' in a tower that a loss reads"
            )
        if self._asks != "all":
            self._require_strict()
        self.window = self._histories[0]
        self._history = store.history(self.window)
        self.target = self._history.target
        self._weights = [spec.name for spec in store.schema.fields.values() if spec.role == "weight"]
        others = [name for name in fields if name not in self._histories and name not in self._weights]
        self._target_fields = [name for name in others if store.schema.fields[name].table == self.target]
        self._user_fields = [name for name in others if name not in self._target_fields]
        item = self._events.joins[self.target]
        ordered = self._events.by_user[: int(self._events.user_offsets[-1])]
        good = (self._events.split[ordered] == 0) & (item[ordered] >= 0)
        self._positions = np.flatnonzero(good).astype(ordered.dtype)
        self._counts = np.bincount(self._events.user[ordered[good]], minlength=self._events.users)
        self._stops = np.cumsum(self._counts)

    def _require_strict(self) -> None:
        if self._events.order is None:
            raise UsageError(
                f"{self._where}: rows = '{self._kind}' needs an order; set tables.{self._table}.time or .position, or use rows = 'events'"
            )
        if not self._events.strict:
            rows = self._events.before
            shared = int(((rows != self._events.rank) & (rows >= 0)).sum())
            raise UsageError(
                f"{self._where}: rows = '{self._kind}' needs a strict order, but {shared:,} events of '{self._table}' come at the same "
                f"time as an earlier one of their user; declare tables.{self._table}.position, or use rows = 'events'"
            )

    def users(self) -> Rows:
        """User numbers that have an input and a target, ascending."""
        return np.flatnonzero(self._counts >= 2)

    def lengths(self, users: Rows) -> Rows:
        """Positions of the windows of users, [B]."""
        length = self._counts[users] if self._own else self._counts[users] - 1
        return length if self._history.max_length is None else np.minimum(length, self._history.max_length)

    def batch(self, users: Rows) -> Batch:
        """The windows of B users, each of ``users()``."""
        length, stop = self._counts[users], self._stops[users]
        if self._history.max_length is not None:
            length = np.minimum(length, self._history.max_length + (not self._own))
        index, offsets = ragged_ranges(torch.from_numpy(stop - length), torch.from_numpy(length))
        position = self._positions[index.numpy()]
        events = self._events.by_user[position].astype(np.int64)
        first = np.zeros(len(events), dtype=bool)
        first[offsets.numpy()[:-1]] = True
        last = np.append(first[1:], True)[: len(first)]
        every = np.ones(len(events), dtype=bool)
        read, asked = (every, every) if self._own else (~last, ~first)
        inputs = torch.from_numpy(position[read].astype(np.int64))
        in_offsets = offsets if self._own else offsets - torch.arange(len(offsets))
        targets = torch.from_numpy(self._events.joins[self.target][events[asked]].astype(np.int64))
        query = self._store.batch({self._table: torch.from_numpy(events[last])}, self._user_fields)
        target = self._store.batch({self.target: targets}, self._target_fields)
        columns = {name: self._store.history(name).at(inputs, in_offsets) for name in self._histories}
        rows = {**query.rows, **target.rows}
        labels, extras = self._weighed(query, events[asked])
        return Batch({**columns, **query.columns, **target.columns}, rows, labels, extras, self.window, self._asks)

    def _weighed(self, query: Batch, targets: Rows) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Labels and extras of the users, with the weights of the target events in place of those of the last one."""
        if not self._weights:
            return dict(query.labels), dict(query.extras)
        found = self._store.batch({self._table: torch.from_numpy(targets)}, ())
        names = {*self._weights, *(f"{name}.present" for name in self._weights)}

        def merged(users: Mapping[str, Tensor], events: Mapping[str, Tensor]) -> dict[str, Tensor]:
            kept = {name: value for name, value in users.items() if name not in names}
            return kept | {name: value for name, value in events.items() if name in names}

        return merged(query.labels, found.labels), merged(query.extras, found.extras)
