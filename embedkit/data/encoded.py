"""Encoded tables: the columns of all rows as tensors, or units that are encoded when they are asked for (decision 8)."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from embedkit.data.batch import Batch
from embedkit.data.columns import Column, concat
from embedkit.data.table import Table
from embedkit.data.units import Unit
from embedkit.schema import FieldSpec


class Encoder(Protocol):
    """What turns raw columns into Columns: ``embedkit.data.codecs.Codecs``."""

    def encode(self, frame: pa.Table, fields: Sequence[str], *, path: str, first_row: int = 0) -> Batch:
        """Encode the named fields of the rows of a frame; ``path`` and ``first_row`` say in messages where they stand."""
        ...


class EncodedTable(ABC):
    """The encoded fields of one table. Loaders of several streams may read it from their threads at once."""

    def __init__(self, table: Table, codecs: Encoder, fields: Sequence[FieldSpec]) -> None:
        self._lock = threading.Lock()
        self.table = table
        self.codecs = codecs
        self.fields = {spec.name: spec for spec in fields}

    @abstractmethod
    def take(self, rows: Tensor, fields: Sequence[str]) -> dict[str, Column]:
        """The fields of some rows (int64 [B], none negative), in that order."""

    def encode(self, unit: Unit, fields: Sequence[str]) -> dict[str, Column]:
        """Read and encode one unit."""
        ((_, frame),) = self.table.scan(self._columns(fields), [unit])
        return dict(encode_unit(self.table, unit, frame, self.codecs, list(fields)).columns)

    def _columns(self, fields: Sequence[str]) -> list[str]:
        return [self.fields[name].column or name for name in fields]


class MemoryTable(EncodedTable):
    """Every row encoded once and kept; a batch is one gather a column."""

    def __init__(self, table: Table, codecs: Encoder, fields: Sequence[FieldSpec]) -> None:
        super().__init__(table, codecs, fields)
        self._all: dict[str, Column] | None = None

    def columns(self) -> dict[str, Column]:
        """All fields of all M rows; encoded at the first call."""
        with self._lock:
            if self._all is None:
                self._all = self._encode_all()
            return self._all

    def _encode_all(self) -> dict[str, Column]:
        parts: dict[str, list[Column]] = {name: [] for name in self.fields}
        if self.fields:
            names = list(self.fields)
            for unit, (_, frame) in zip(self.table.units, self.table.scan(self._columns(names)), strict=True):
                batch = encode_unit(self.table, unit, frame, self.codecs, names)
                for name in names:
                    parts[name].append(batch.columns[name])
        return {name: concat(parts.pop(name)) for name in list(parts)}

    def take(self, rows: Tensor, fields: Sequence[str]) -> dict[str, Column]:
        """One gather a field."""
        columns = self.columns()
        return {name: columns[name].take(rows) for name in fields}


class StreamedTable(EncodedTable):
    """Units are read and encoded when asked for; the last few are kept."""

    KEPT = 4

    def __init__(self, table: Table, codecs: Encoder, fields: Sequence[FieldSpec]) -> None:
        super().__init__(table, codecs, fields)
        self._starts = np.array([unit.row0 for unit in table.units])
        self._kept: OrderedDict[tuple[int, tuple[str, ...]], dict[str, Column]] = OrderedDict()

    def take(self, rows: Tensor, fields: Sequence[str]) -> dict[str, Column]:
        """Reads every unit that holds one of the rows: rows near each other are cheap, scattered ones are not."""
        if not fields:
            return {}
        at = rows.numpy()
        owner = np.searchsorted(self._starts, at, side="right") - 1
        pieces: dict[str, list[Column]] = {name: [] for name in fields}
        for number in np.unique(owner).tolist():
            unit = self._unit(number, tuple(fields))
            inside = torch.from_numpy(at[owner == number] - self._starts[number])
            for name in fields:
                pieces[name].append(unit[name].take(inside))
        place = np.empty(len(at), dtype=np.int64)
        place[np.argsort(owner, kind="stable")] = np.arange(len(at))
        if not len(at):
            empty = self._unit(0, tuple(fields))
            return {name: empty[name].take(torch.zeros(0, dtype=torch.int64)) for name in fields}
        return {name: concat(parts).take(torch.from_numpy(place)) for name, parts in pieces.items()}

    def _unit(self, number: int, fields: tuple[str, ...]) -> dict[str, Column]:
        key = (number, fields)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self.encode(self.table.units[number], fields)
                if len(self._kept) > self.KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


def encode_unit(table: Table, unit: Unit, frame: pa.Table, codecs: Encoder, fields: Sequence[str]) -> Batch:
    """Encode the rows of a unit; messages name the file and the row in it, or the table's row where some of the file's are left out."""
    if unit.rows == unit.stop - unit.start:
        return codecs.encode(frame, fields, path=unit.file, first_row=unit.start)
    return codecs.encode(frame, fields, path=f"table '{table.name}' ({unit.file} without rows left out)", first_row=unit.row0)


def bytes_a_row(table: Table, codecs: Encoder, fields: Sequence[FieldSpec]) -> float:
    """Bytes that an encoded row takes, as the first unit has it."""
    if not fields:
        return 0.0
    columns = StreamedTable(table, codecs, fields).encode(table.units[0], [spec.name for spec in fields])
    return sum(column.nbytes() for column in columns.values()) / table.units[0].rows


def iter_encoded(
    table: Table, codecs: Encoder, fields: Mapping[str, FieldSpec] | Sequence[FieldSpec], units: Sequence[Unit] | None = None
) -> Iterator[tuple[Unit, pa.Array | None, Batch]]:
    """Encode a table unit by unit: (unit, ids [R] or None without a key, batch of R rows). One unit is in memory at a time.

    Args:
        table: the table.
        codecs: fitted codecs.
        fields: what to encode; only their columns and the key are read.
        units: which units, in order; all when None.

    Raises:
        DataError: a column is missing, or holds what its field cannot be.
    """
    specs = list(fields.values()) if isinstance(fields, Mapping) else list(fields)
    names = [spec.name for spec in specs]
    columns = [spec.column or spec.name for spec in specs] + ([table.key] if table.key else [])
    for spec in specs:
        table.require([spec.column or spec.name], f" for field '{spec.name}'")
    chosen = table.units if units is None else units
    for unit, (row0, frame) in zip(chosen, table.scan(columns, chosen), strict=True):
        batch = encode_unit(table, unit, frame, codecs, names)
        rows = {table.name: torch.arange(row0, row0 + unit.rows)}
        ids = frame.column(table.key).combine_chunks() if table.key else None
        ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
        yield unit, ids, Batch(batch.columns, rows)
