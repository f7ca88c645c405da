"""Store: the tables of a run, related, split and encoded; where batches come from."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import torch
from torch import Tensor

from embedkit.data.batch import Batch
from embedkit.data.columns import Column
from embedkit.data.encoded import EncodedTable, MemoryTable, StreamedTable, bytes_a_row
from embedkit.data.events import Events, index_events
from embedkit.data.history import StoredHistory
from embedkit.data.queries import Queries, all_users, make_queries
from embedkit.data.relations import Log, RowNumbers, expand, join_all
from embedkit.data.splits import Order, deal, warn_early, warn_repeats
from embedkit.data.table import Rows, Table, open_table
from embedkit.data.times import read_order
from embedkit.errors import UsageError
from embedkit.schema import FieldSpec, Schema

if TYPE_CHECKING:
    from embedkit.config.plan import Plan
    from embedkit.data.codecs import Codecs

DataPath = Literal["memory", "stream"]
_AT_ONCE = 4_000_000
_LARGE_GROUP = 1_048_576


class Store:
    """Made by ``Store.open``; encodes once ``fit`` or ``use`` gave it codecs.

    Attributes:
        plan: the resolved run.
        tables: name → table, with its split.
        joins: table → joined table → row numbers, -1 for none.
        events: event table → users, order and histories.
    """

    def __init__(
        self, plan: Plan, tables: Mapping[str, Table], joins: Mapping[str, Mapping[str, RowNumbers]], events: Mapping[str, Events], log: Log
    ) -> None:
        self.plan = plan
        self.tables = dict(tables)
        self.joins = dict(joins)
        self.events = dict(events)
        self._log = log
        self._codecs: Codecs | None = None
        self._encoded: dict[str, EncodedTable] = {}
        self._histories: dict[str, StoredHistory] = {}
        self._data_path: DataPath | None = None
        self._lock = threading.RLock()  # loaders of several streams ask from their threads

    @classmethod
    def open(cls, plan: Plan, *, log: Log = lambda line: None) -> Store:
        """Open the tables, check keys and columns, join, split, and index events. Nothing is encoded yet.

        Raises:
            DataError: a table is missing, damaged, empty, or holds what it must not.
            UsageError: tables, joins or splits of the run file contradict each other.
        """
        configs = plan.config.tables
        tables = {name: open_table(config, name, plan.base) for name, config in configs.items()}
        for table in tables.values():
            log(f"table '{table.name}': {table.rows:,} rows" + (f", {table.dropped:,} left out" if table.dropped else ""))
        for spec in plan.schema.fields.values():
            if not is_history(spec, tables):
                tables[spec.table].require([spec.column or spec.name], f" for field '{spec.name}'")
        joins = join_all(tables, log)
        events: dict[str, Events] = {}
        for name, table in tables.items():
            if table.config.user is not None:
                events[name] = index_events(table, joins[name], log)
                table.split = events[name].split
                pairs = [events[name].user, *(joins[name][t] for c, t in table.config.join.items() if c != table.config.user)]
                warn_repeats(table, table.split, pairs if len(pairs) > 1 else None, log)
                warn_early(table, table.split, events[name].time, log)
            elif table.config.split is not None:
                time, per_second = read_order(table, table.config.time) if table.config.time else (None, 1)
                stamps = table.config.time is not None and not pa.types.is_integer(table.schema.field(table.config.time).type)
                table.split = deal(table, Order(time, per_second, stamps), log)
                warn_repeats(table, table.split, None, log)
                warn_early(table, table.split, time, log)
        return cls(plan, tables, joins, events, log)

    @property
    def schema(self) -> Schema:
        """Fields and towers."""
        return self.plan.schema

    @property
    def codecs(self) -> Codecs:
        """The codecs in use.

        Raises:
            UsageError: neither ``fit`` nor ``use`` was called.
        """
        if self._codecs is None:
            raise UsageError("this store has no codecs yet: call fit() on train data, or use() with those of a bundle")
        return self._codecs

    @property
    def data_path(self) -> DataPath:
        """``memory``: tables are encoded once; ``stream``: tables that no other table joins are read again at every epoch."""
        if self._data_path is None:
            wanted = self.plan.config.compute.data_path
            self._data_path = self._choose() if wanted == "auto" else wanted
        return self._data_path

    # -- fitting

    def fit(self, start: Codecs | None = None) -> Codecs:
        """Fit codecs on the train rows, streaming, and use them.

        Args:
            start: codecs of a bundle to start from: their fields keep their statistics, and vocabularies grow by new values.
        """
        from embedkit.data.codecs import Codecs

        codecs = Codecs.create(self.plan.model)
        codecs.fit(self.train_values, start=start, place=self._train_place)
        self.use(codecs)
        return codecs

    def use(self, codecs: Codecs, data_path: DataPath | None = None) -> None:
        """Use fitted codecs, and the data path that another process chose; forgets what was encoded with others."""
        self._codecs = codecs
        self._data_path = data_path or self._data_path
        self._encoded.clear()
        self._histories.clear()

    def train_values(self, field: FieldSpec) -> Iterator[pa.Array]:
        """The train values of a field, in unit order: what its codec is fitted on.

        For the key of a joined table these are the ids of the train events that point at it, so that counts are train frequencies and
        only ids with a train event get a code of their own (decision 4). For a history there are none: it uses its domain's vocabulary.
        """
        table = self.tables[field.table]
        if is_history(field, self.tables):
            return
        pointing = [name for name, joined in self.joins.items() if table.name in joined]
        if field.role == "key" and pointing:
            ids = table.ids()
            assert ids is not None
            for name in pointing:
                found = self.joins[name][table.name]
                rows = found[(self.tables[name].split == 0) & (found >= 0)]
                for at in range(0, len(rows), _AT_ONCE):
                    yield ids.take(pa.array(rows[at : at + _AT_ONCE]))
            return
        split = table.split
        for row, frame in table.scan([field.column or field.name]):
            values = plain_chunk(frame.column(0))
            train = split[row : row + len(values)] == 0
            yield values if train.all() else values.filter(pa.array(train))

    def _train_place(self, field: FieldSpec, number: int) -> str:
        """Where the n-th of ``train_values`` stands, for messages."""
        table = self.tables[field.table]
        pointing = [joined[table.name] for joined in self.joins.values() if table.name in joined]
        if field.role != "key" or not pointing:
            return table.place(int(np.flatnonzero(table.split == 0)[number]))
        for name, joined in self.joins.items():
            if table.name in joined:
                rows = joined[table.name][(self.tables[name].split == 0) & (joined[table.name] >= 0)]
                if number < len(rows):
                    return table.place(int(rows[number]))
                number -= len(rows)
        raise IndexError(number)

    # -- encoded values

    def columns(self, table: str) -> dict[str, Column]:
        """All encoded fields of all rows of a table (histories apart), in memory; encoded at the first call."""
        encoded = self._table(table)
        if not isinstance(encoded, MemoryTable):
            encoded = MemoryTable(self.tables[table], self.codecs, list(self._fields(table)))
        return encoded.columns()

    def encoded(self, table: str) -> EncodedTable:
        """The encoded fields of a table, in memory or streamed as ``data_path`` says."""
        return self._table(table)

    def streamed(self, table: str) -> bool:
        """Whether the rows of a table are streamed: on the stream path, a table with fields that no other table joins."""
        joined = any(table in joined for joined in self.joins.values())
        return not joined and any(True for _ in self._fields(table)) and self.data_path == "stream"

    def own_fields(self, table: str, fields: Sequence[str]) -> list[str]:
        """Those of the fields, and of the labels, weights and groups, that are columns of a table."""
        named = [*fields, *(spec.name for spec in self._labels if spec.name not in fields)]
        return [name for name in named if self._spec(name).table == table and not self.is_history(name)]

    def batch(
        self, rows: Mapping[str, Tensor], fields: Sequence[str], *, limit: int = 0, given: Mapping[str, Column] | None = None
    ) -> Batch:
        """Encoded rows by number.

        Args:
            rows: table → int64 [B]; tables that these join are looked up, -1 where there is no row. All of one length B.
            fields: fields to put in; of tables in reach. A history needs its event table in ``rows``.
            limit: histories hold events of splits up to this one: 0 train, 1 valid, 2 test.
            given: columns that the caller has already.

        Returns:
            A batch with ``rows`` for every table in reach, and ``labels`` from all label, weight and group fields in reach. Where a label
            is missing, ``extras["<field>.present"]`` is a bool [B] that is False there.

        Raises:
            UsageError: a field's table is not in reach.
        """
        reached = expand({name: value.numpy() for name, value in rows.items()}, self.joins)
        columns: dict[str, Column] = dict(given or {})
        labels: dict[str, Tensor] = {}
        extras: dict[str, Tensor] = {}
        wanted: dict[str, list[str]] = {}
        for name in fields:
            spec = self._spec(name)
            if spec.table not in reached:
                raise UsageError(f"field '{name}' of table '{spec.table}' cannot be had for rows of {', '.join(rows)}")
            if name in columns:
                continue
            if is_history(spec, self.tables):
                columns[name] = self.history(name).of_events(reached[spec.table], limit)
            else:
                wanted.setdefault(spec.table, []).append(name)
        for spec in self._labels:
            if spec.table in reached and spec.name not in columns and spec.name not in fields:
                wanted.setdefault(spec.table, []).append(spec.name)
        for table, names in wanted.items():
            columns |= self._gather(table, reached[table], names)
        for spec in self._labels:
            if spec.name in columns:
                column = columns[spec.name] if spec.name in fields else columns.pop(spec.name)
                labels[spec.name] = column.values
                if column.present is not None:
                    extras[f"{spec.name}.present"] = column.present
        return Batch(columns, {name: torch.from_numpy(value) for name, value in reached.items()}, labels, extras)

    def history(self, field: str) -> StoredHistory:
        """The stored histories of an event-history field."""
        with self._lock:
            if field not in self._histories:
                self._histories[field] = self._store_history(self._spec(field))
            return self._histories[field]

    def _store_history(self, spec: FieldSpec) -> StoredHistory:
        target = self.history_target(spec.name)
        key = next(s for s in self.schema.of_table(target) if s.role == "key" and s.domain == spec.domain)
        codes = self.columns(target)[key.name].values
        length = getattr(self.plan.model.field_types[spec.name].config, "max_length", None)
        return StoredHistory(self.events[spec.table], target, codes, length)

    def history_target(self, field: str) -> str:
        """The item table whose rows an event-history field lists."""
        spec = self._spec(field)
        for table in self.joins[spec.table]:
            if any(s.role == "key" and s.domain == spec.domain for s in self.schema.of_table(table)):
                return table
        raise UsageError(
            f"fields.{field}: a history lists ids of a table that '{spec.table}' joins, none of whose keys has domain '{spec.domain}'"
        )

    def is_history(self, field: str) -> bool:
        """Whether a field is the user's earlier events rather than a column."""
        return is_history(self._spec(field), self.tables)

    # -- rows

    def train_rows(self, table: str) -> Rows:
        """Row numbers of a table that training may draw, ascending: train rows; of events only those whose joins found an item."""
        keep = self.tables[table].split == 0
        for column, target in self.tables[table].config.join.items():
            if column != self.tables[table].config.user:
                keep = keep & (self.joins[table][target] >= 0)
        return np.flatnonzero(keep)

    def frequencies(self, table: str) -> Tensor:
        """Train events that point at each row of a table, int64 [M]."""
        out = np.zeros(self.tables[table].rows, dtype=np.int64)
        for name, joined in self.joins.items():
            if table in joined:
                found = joined[table][self.tables[name].split == 0]
                out += np.bincount(found[found >= 0], minlength=len(out))
        return torch.from_numpy(out)

    def mutual_information(self, table: str, fields: Sequence[str], bins: int = 256) -> npt.NDArray[np.float64]:
        """Mutual information in nats of each two fields over train rows, [k, k] (decision 15).

        The rows are those of the table that all fields stand in: what the fields of an item say of each other does not depend on how often
        the item is bought. Fields of several tables are counted over the rows of ``table``, which must have them all in reach.
        """
        from embedkit.data.stats import MutualInformation

        owners = {self._spec(name).table for name in fields}
        table = owners.pop() if len(owners) == 1 else table
        counts = MutualInformation({name: self.codecs[name].stats for name in fields}, bins=bins)
        split = self.tables[table].split
        for unit in self.tables[table].units:
            train = unit.row0 + np.flatnonzero(split[unit.row0 : unit.row0 + unit.rows] == 0)
            counts.observe(self.batch({table: torch.from_numpy(train)}, fields).columns)
        return counts.matrix()

    # -- queries

    def queries(
        self,
        events: str,
        target: str,
        split: str,
        max_queries: int | None = None,
        seed: int = 0,
        keep: npt.NDArray[np.bool_] | None = None,
    ) -> Queries:
        """What evaluation asks: see ``embedkit.data.queries``."""
        return make_queries(self.events[events], target, split, max_queries=max_queries, seed=seed, keep=keep)

    def all_users(self, events: str, target: str) -> Queries:
        """One query for every user with everything they did as history and no targets: what ``recommend`` asks."""
        return all_users(self.events[events], target)

    def query_batch(self, queries: Queries, which: Rows, fields: Sequence[str]) -> Batch:
        """Encoded queries by number (int64 [q]): histories as the queries say, everything else of their event rows."""
        given = {}
        for name in fields:
            if self.is_history(name) and self._spec(name).table == queries.table:
                given[name] = self.history(name).between(queries.start[which], queries.stop[which])
        return self.batch({queries.table: torch.from_numpy(queries.event[which])}, fields, given=given)

    # -- within

    def _spec(self, field: str) -> FieldSpec:
        try:
            return self.schema.fields[field]
        except KeyError:
            raise UsageError(f"there is no field '{field}'; the run file has {', '.join(self.schema.fields)}") from None

    @cached_property
    def _labels(self) -> tuple[FieldSpec, ...]:
        return tuple(spec for spec in self.schema.fields.values() if spec.role in ("label", "weight", "group"))

    def _fields(self, table: str) -> Iterator[FieldSpec]:
        return (spec for spec in self.schema.of_table(table) if not is_history(spec, self.tables))

    def _table(self, table: str) -> EncodedTable:
        with self._lock:
            if table not in self._encoded:
                kind = StreamedTable if self.streamed(table) else MemoryTable
                self._encoded[table] = kind(self.tables[table], self.codecs, list(self._fields(table)))
            return self._encoded[table]

    def _gather(self, table: str, rows: Rows, fields: Sequence[str]) -> dict[str, Column]:
        absent = rows < 0
        if not absent.any():
            return self._table(table).take(torch.from_numpy(rows), fields)
        taken = self._table(table).take(torch.from_numpy(np.where(absent, 0, rows)), fields)
        here = torch.from_numpy(~absent)
        return {name: _without(column, here) for name, column in taken.items()}

    def _choose(self) -> DataPath:
        need = 0.0
        for name, table in self.tables.items():
            need += bytes_a_row(table, self.codecs, list(self._fields(name))) * table.rows
        free = psutil.virtual_memory().available
        path: DataPath = "memory" if need <= free / 2 else "stream"
        self._log(f"data path: {path} (encoded tables take about {need / 2**20:,.0f} MiB, half of free memory is {free / 2**21:,.0f} MiB)")
        if path == "stream":
            self._warn_large_groups()
        return path

    def _warn_large_groups(self) -> None:
        for table in self.tables.values():
            largest = max(rows for file in table.files for rows in file.groups)
            if largest > _LARGE_GROUP:
                self._log(
                    f"warning: table '{table.name}' has row groups of up to {largest:,} rows; reading one unit decodes what stands before "
                    f"it there, so write it with row_group_size of at most {_LARGE_GROUP:,} to stream it fast"
                )


def is_history(spec: FieldSpec, tables: Mapping[str, Table]) -> bool:
    """Whether a field is made by its table's relation: a user's earlier events."""
    return spec.column is None and tables[spec.table].config.user is not None


def plain_chunk(values: pa.ChunkedArray) -> pa.Array:
    """The one array of a column of a scanned unit."""
    combined = values.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _without(column: Column, here: Tensor) -> Column:
    """The column with the rows that are not here made absent; ragged rows lose their values."""
    present = here if column.present is None else column.present & here
    if column.offsets is None:
        return Column(column.values, None, present)
    length = torch.where(here, column.lengths(), torch.zeros((), dtype=torch.int64))
    keep = torch.repeat_interleave(here, column.lengths())
    offsets = torch.zeros(len(column) + 1, dtype=torch.int64)
    torch.cumsum(length, 0, out=offsets[1:])
    return Column(column.values[keep], offsets, present)


__all__ = ["DataPath", "Store", "is_history"]
