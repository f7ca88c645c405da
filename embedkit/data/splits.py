"""Splits: which rows are for training, validation and test. 0 train, 1 valid, 2 test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.config.model import SplitConfig
from embedkit.data.hashing import hash_arrays
from embedkit.data.relations import RowNumbers
from embedkit.data.table import Table, plain
from embedkit.data.times import Keys, cut_off
from embedkit.errors import DataError, UsageError

Split = npt.NDArray[np.uint8]
TRAIN, VALID, TEST = 0, 1, 2
NAMES = {"train": TRAIN, "valid": VALID, "test": TEST}


@dataclass(frozen=True)
class Order:
    """What a split may look at.

    Attributes:
        time: int64 [M] sort keys of the time column, None without one.
        per_second: units of ``time`` in a second.
        timestamps: whether ``time`` comes from dates or timestamps rather than integers.
        user: [M] user numbers (-1 for none), None for a table without users.
        sorted: rows by (user, order), rows without a user left out; None without order.
    """

    time: Keys | None = None
    per_second: int = 1
    timestamps: bool = True
    user: RowNumbers | None = None
    sorted: RowNumbers | None = None


def deal(table: Table, order: Order, log: Callable[[str], None]) -> Split:
    """Deal the rows of a table as its ``split`` says; all train without one.

    Raises:
        UsageError: the split needs a column that the table does not declare, or its numbers make no sense.
        DataError: no train row is left.
    """
    config = table.config.split
    if config is None:
        return np.zeros(table.rows, dtype=np.uint8)
    by = {"time": _by_time, "position": _by_position, "hash": _by_hash, "column": _by_column}[config.by]
    out = by(table, config, order, log)
    counts = np.bincount(out, minlength=3)
    if not counts[TRAIN]:
        raise DataError(f"table '{table.name}': its split leaves no train row of {table.rows:,}; make 'valid' and 'test' smaller")
    log(f"table '{table.name}': {counts[0]:,} train, {counts[1]:,} valid, {counts[2]:,} test rows (split by {config.by})")
    for name, wanted in (("valid", config.valid), ("test", config.test)):
        if wanted and not counts[NAMES[name]]:
            log(f"warning: table '{table.name}': its split deals no {name} rows")
    return out


def _by_time(table: Table, config: SplitConfig, order: Order, log: Callable[[str], None]) -> Split:
    where = f"tables.{table.name}.split"
    if order.time is None:
        raise UsageError(f"{where}: by = 'time' needs a time column; set tables.{table.name}.time, or deal by = 'hash'")
    last = int(order.time.max())

    def start(value: float | str, end: int, name: str) -> int:
        if not value:
            return end + 1
        return cut_off(value, end, order.per_second, timestamps=order.timestamps, where=f"{where}.{name}")

    test = start(config.test, last, "test")
    valid = start(config.valid, test - 1, "valid")
    if valid > test:
        raise UsageError(f"{where}: valid rows start at '{config.valid}', after the test rows at '{config.test}'; test comes last")
    out = np.zeros(table.rows, dtype=np.uint8)
    out[order.time >= valid] = VALID
    out[order.time >= test] = TEST
    return out


def _by_position(table: Table, config: SplitConfig, order: Order, log: Callable[[str], None]) -> Split:
    where = f"tables.{table.name}.split"
    if order.user is None or order.sorted is None:
        raise UsageError(
            f"{where}: by = 'position' needs each user's order; set tables.{table.name}.user and 'time' or 'position', or deal by = 'hash'"
        )
    valid, test = (_events(value, f"{where}.{name}") for name, value in (("valid", config.valid), ("test", config.test)))
    users = int(order.user.max()) + 1
    count = np.bincount(order.user[order.user >= 0], minlength=users)
    owner = order.user[order.sorted]
    from_end = np.repeat(np.cumsum(count), count) - 1 - np.arange(len(owner))
    enough = np.repeat(count > valid + test, count)
    dealt = np.where(from_end < test, TEST, np.where(from_end < test + valid, VALID, TRAIN))
    out = np.zeros(table.rows, dtype=np.uint8)
    out[order.sorted] = np.where(enough, dealt, TRAIN)
    few = int((count <= valid + test).sum())
    if few:
        log(f"table '{table.name}': {few:,} of {users:,} users have at most {valid + test} events; all of them are train rows")
    return out


def _events(value: float | str, where: str) -> int:
    if isinstance(value, str) or value != int(value) or value < 0:
        raise UsageError(f"{where}: {value!r} is not a number of events a user")
    return int(value)


def _by_hash(table: Table, config: SplitConfig, order: Order, log: Callable[[str], None]) -> Split:
    where = f"tables.{table.name}.split"
    if not config.key:
        raise UsageError(f"{where}: by = 'hash' needs 'key', the columns that are hashed (rows equal in them stay together)")
    shares = []
    for name, value in (("valid", config.valid), ("test", config.test)):
        if isinstance(value, str) or not 0 <= value < 1:
            raise UsageError(f"{where}.{name}: {value!r} is not a share of the rows between 0 and 1")
        shares.append(float(value))
    valid, test = shares
    if valid + test >= 1:
        raise UsageError(f"{where}: valid and test shares add up to {valid + test:g}; leave rows for training")
    out = np.empty(table.rows, dtype=np.uint8)
    for row, rows in table.scan(config.key):
        share = hash_arrays([plain(rows.column(key)) for key in config.key]) / 2.0**64
        out[row : row + len(share)] = np.where(share < test, TEST, np.where(share < test + valid, VALID, TRAIN))
    return out


def _by_column(table: Table, config: SplitConfig, order: Order, log: Callable[[str], None]) -> Split:
    if config.column is None:
        raise UsageError(f"tables.{table.name}.split: by = 'column' needs 'column', the column that names the split")
    names = plain(table.column(config.column)).cast(pa.large_string())
    out = np.zeros(table.rows, dtype=np.uint8)
    for value, code in ((config.valid, VALID), (config.test, TEST)):
        if value not in (0, ""):
            text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
            out[np.asarray(pc.equal(names, text).fill_null(False))] = code
    return out


def warn_repeats(table: Table, split: Split, pairs: list[RowNumbers] | None, log: Callable[[str], None]) -> None:
    """Say how many test rows also stand in train: equal in ``pairs`` (user and joined rows of events), or equal in every column."""
    if not (split == TEST).any():
        return
    if pairs:
        hashes = hash_arrays([pa.array(np.asarray(p)) for p in pairs])
        what = "have a user and item that also stand together in a train row"
    else:
        leave = {table.key, table.config.split.column if table.config.split else None}
        columns = [c for c in table.columns if c not in leave]
        if not columns:
            return
        parts = [hash_arrays([plain(rows.column(c)) for c in columns]) for _, rows in table.scan(columns)]
        hashes = np.concatenate(parts)
        what = "are equal to a train row"
    test, train = pl.Series(hashes[split == TEST]), pl.Series(hashes[split == TRAIN])
    shared = train.filter(train.is_in(test.implode()))  # the hash set is made of the smaller side
    repeats = int(test.is_in(shared.implode()).sum())
    if repeats:
        log(f"warning: table '{table.name}': {repeats:,} of {int((split == TEST).sum()):,} test rows {what}")


def warn_early(table: Table, split: Split, time: Keys | None, log: Callable[[str], None]) -> None:
    """Say how many test rows lie before the last train row in time."""
    if time is None or not (split == TEST).any():
        return
    early = int((time[split == TEST] < time[split == TRAIN].max()).sum())
    if early:
        log(
            f"warning: table '{table.name}': {early:,} of {int((split == TEST).sum()):,} test rows lie before the last train row in time, "
            "so the model has seen what came after them"
        )
