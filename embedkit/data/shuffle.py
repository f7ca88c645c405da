"""Shuffling a table that does not fit in memory: units in random order, and rows shuffled within a buffer of several units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from embedkit.data.columns import Column, concat
from embedkit.data.encoded import EncodedTable
from embedkit.data.table import Rows
from embedkit.data.units import Unit

BUFFER_UNITS = 16
"""Units whose encoded rows are in memory and mixed at a time: about a million rows."""

Drawn = tuple[Rows, dict[str, Column]]
"""Row numbers [B] and the columns of these rows."""


class BufferedShuffle:
    """Batches of encoded rows, epoch after epoch; every row once an epoch.

    The order of an epoch follows from (seed, epoch) and the units alone, so a position is two numbers, and going on from one reads at
    most one buffer that was read before.

    Args:
        encoded: the table.
        rows: row numbers that may be drawn, ascending.
        fields: what is encoded.
        size: rows a batch.
        seed: of the order.
        drop_last: leave the last, smaller batch of an epoch out.
    """

    def __init__(self, encoded: EncodedTable, rows: Rows, fields: Sequence[str], *, size: int, seed: int, drop_last: bool = False) -> None:
        self._encoded = encoded
        self._fields = list(fields)
        self._size, self._seed = size, seed
        self._units: list[tuple[Unit, Rows]] = []
        for unit in encoded.table.units:
            first, last = np.searchsorted(rows, [unit.row0, unit.row0 + unit.rows])
            if last > first:
                self._units.append((unit, rows[first:last]))
        whole, rest = divmod(len(rows), size)
        self.batches_per_epoch = whole if drop_last or not rest else whole + 1
        self._epoch = self._batch = 0

    def state_dict(self) -> dict[str, int]:
        """The position after the last batch that was yielded."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from there."""
        self._epoch, self._batch = int(state["epoch"]), int(state["batch"])

    def __iter__(self) -> Iterator[Drawn]:
        """Batches from the current position on. Never ends."""
        while True:
            for drawn in self._rest_of_epoch(self._epoch, self._batch):
                self._batch += 1
                if self._batch == self.batches_per_epoch:
                    self._epoch, self._batch = self._epoch + 1, 0
                yield drawn

    def _rest_of_epoch(self, epoch: int, batch: int) -> Iterator[Drawn]:
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._units))
        skip = batch * self._size
        left: Drawn | None = None
        done = batch
        for number, at in enumerate(range(0, len(order), BUFFER_UNITS)):
            group = [self._units[i] for i in sorted(order[at : at + BUFFER_UNITS].tolist())]
            count = sum(len(rows) for _, rows in group)
            if skip >= count:
                skip -= count
                continue
            pool = self._load(group, np.random.default_rng([self._seed, epoch, number]), skip)
            skip = 0
            if left is not None:
                pool = _join(left, pool)
            begin = 0
            while begin + self._size <= len(pool[0]):
                yield _cut(pool, begin, begin + self._size)
                done += 1
                begin += self._size
            left = _cut(pool, begin, len(pool[0])) if begin < len(pool[0]) else None
        if left is not None and done < self.batches_per_epoch:
            yield left

    def _load(self, group: list[tuple[Unit, Rows]], rng: np.random.Generator, skip: int) -> Drawn:
        parts: dict[str, list[Column]] = {name: [] for name in self._fields}
        for unit, rows in group:
            inside = torch.from_numpy(rows - unit.row0)
            for name, column in self._encoded.encode(unit, self._fields).items():
                parts[name].append(column.take(inside))
        everything = np.concatenate([rows for _, rows in group])
        order = rng.permutation(len(everything))[skip:]
        mixed = torch.from_numpy(order)
        return everything[order], {name: concat(columns).take(mixed) for name, columns in parts.items()}


def _cut(pool: Drawn, start: int, stop: int) -> Drawn:
    at = torch.arange(start, stop)
    return pool[0][start:stop], {name: column.take(at) for name, column in pool[1].items()}


def _join(first: Drawn, second: Drawn) -> Drawn:
    columns = {name: concat([column, second[1][name]]) for name, column in first[1].items()}
    return np.concatenate([first[0], second[0]]), columns
