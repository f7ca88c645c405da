"""Joins: for each row of a table, the row of another table that one of its columns names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedkit.data.table import Rows, Table, lookup, plain
from embedkit.errors import DataError, UsageError

Log = Callable[[str], None]
RowNumbers = npt.NDArray[np.signedinteger[Any]]
"""int32 where that is enough, else int64."""

_AT_ONCE = 4_000_000
"""Rows looked up together: each look-up builds the hash table of the keys anew."""


def smallest(rows: int) -> type[np.int32] | type[np.int64]:
    """The integer type that row numbers of a table with so many rows are kept in."""
    return np.int32 if rows < 2**31 else np.int64


def join(table: Table, column: str, target: Table, log: Log) -> RowNumbers:
    """Row of ``target`` that each row of ``table`` names, [N], -1 where the value is missing or unknown (counted in the log)."""
    keys = target.ids()
    if keys is None:
        raise UsageError(
            f"tables.{table.name}.join: '{column}' joins table '{target.name}', which has no key; set tables.{target.name}.key"
        )
    out = np.empty(table.rows, dtype=smallest(target.rows))
    waiting: list[pa.Array] = []
    done = 0

    def flush() -> int:
        values = plain(pa.chunked_array(waiting))
        out[done : done + len(values)] = lookup(values, keys)
        waiting.clear()
        return len(values)

    for _, rows in table.scan([column]):
        waiting += rows.column(0).chunks
        if sum(map(len, waiting)) >= _AT_ONCE:
            done += flush()
    if waiting:
        done += flush()
    unmatched = int((out < 0).sum())
    if unmatched == table.rows:
        raise DataError(_nothing_joined(table, column, target, keys))
    if unmatched:
        log(
            f"table '{table.name}': {unmatched:,} of {table.rows:,} rows name no row of '{target.name}' in column '{column}'; "
            "they keep their other fields"
        )
    return out


def _nothing_joined(table: Table, column: str, target: Table, keys: pa.Array) -> str:
    """The sentence for a join that finds no row at all: with an example of both sides, since their types may be what differs."""
    example = next((v for _, rows in table.scan([column]) for v in rows.column(0).drop_null().slice(0, 1).to_pylist()), None)
    found = "no value at all" if example is None else f"values such as {example!r}"
    return (
        f"table '{table.name}': column '{column}' of {table.files[0].label} holds {found}, and none of its {table.rows:,} rows names "
        f"a row of '{target.name}', whose key '{target.key}' holds values such as {keys[0].as_py()!r}; join another column, or mend it"
    )


def join_all(tables: Mapping[str, Table], log: Log) -> dict[str, dict[str, RowNumbers]]:
    """Table → joined table → row numbers, as the tables' ``join`` entries say.

    Raises:
        UsageError: an unknown table, a table joined to itself, or two columns that join one table.
        DataError: a join finds no row at all.
    """
    out: dict[str, dict[str, RowNumbers]] = {}
    for table in tables.values():
        joined: dict[str, RowNumbers] = {}
        for column, name in table.config.join.items():
            if name not in tables or name == table.name:
                raise UsageError(f"tables.{table.name}.join: '{column}' joins '{name}', which is not another table of the run file")
            if name in joined:
                raise UsageError(f"tables.{table.name}.join: two columns join table '{name}'; join it once")
            joined[name] = join(table, column, tables[name], log)
        out[table.name] = joined
    return out


def expand(rows: Mapping[str, Rows], joins: Mapping[str, Mapping[str, RowNumbers]]) -> dict[str, Rows]:
    """Row numbers of every table that is reached from the given ones through joins; -1 stays -1."""
    out = dict(rows)
    waiting = list(rows)
    while waiting:
        name = waiting.pop()
        for target, found in joins.get(name, {}).items():
            if target not in out:
                at = out[name]
                picked = found[np.maximum(at, 0)].astype(np.int64) if len(found) else np.full(len(at), -1)
                out[target] = np.where(at < 0, -1, picked)
                waiting.append(target)
    return out
