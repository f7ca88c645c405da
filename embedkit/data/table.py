"""Table: rows of files, in file order, read as a stream of units. Works without a run: the offline embedder opens tables with it too."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedkit.config.model import TableConfig
from embedkit.data import csvfile, derive
from embedkit.data.checks import check_finite, check_key, require_columns
from embedkit.data.files import File, RangeReader, find_files, is_csv, open_parquet, readable, room
from embedkit.data.units import UNIT_ROWS, Unit, cut
from embedkit.errors import DataError, UsageError
from embedkit.space import canonical_json, digest

Rows = npt.NDArray[np.int64]


class Table:
    """Rows of one or more files after ``where``, ``dedupe`` and ``group``; made by ``open_table``.

    Attributes:
        name: the run file's name of the table.
        rows: M, the number of rows.
        key: the key column, None for a table without one.
        columns: names after ``rename``.
        schema: Arrow types of the columns.
        units: row ranges that cover the table, in order.
        files: what is read.
        dropped: rows that ``where``, ``dedupe`` or a missing ``group.by`` left out.
        split: uint8 [M], 0 train, 1 valid, 2 test; all train until a store deals the rows.
    """

    def __init__(self, name: str, config: TableConfig, files: Sequence[File], kept: Sequence[Rows | None], dropped: int) -> None:
        self.name = name
        self.config = config
        self.files = tuple(files)
        self.key = config.key or (config.group.by if config.group else None)
        self.dropped = dropped
        self._kept = tuple(kept)
        self._by_label = {file.label: i for i, file in enumerate(self.files)}
        self._names = dict(config.rename)
        self.schema = _schema(self.files[0], self._names, config.select)
        self.columns: tuple[str, ...] = tuple(self.schema.names)
        self.units = self._cut()
        self.rows = sum(unit.rows for unit in self.units)
        self._starts = [unit.row0 for unit in self.units]
        self._split: npt.NDArray[np.uint8] | None = None
        self._ids: pa.Array | None = None
        self.keep: object = None  # what must live as long as the table: its temporary folder

    def _cut(self) -> tuple[Unit, ...]:
        units, row0 = [], 0
        for file, kept in zip(self.files, self._kept, strict=True):
            for start, stop in cut(file.groups):
                rows = stop - start if kept is None else int(np.searchsorted(kept, stop) - np.searchsorted(kept, start))
                if rows:
                    units.append(Unit(file.label, start, stop, row0, rows))
                    row0 += rows
        return tuple(units)

    @property
    def split(self) -> npt.NDArray[np.uint8]:
        """uint8 [M]: 0 train, 1 valid, 2 test."""
        if self._split is None:
            self._split = np.zeros(self.rows, dtype=np.uint8)
        return self._split

    @split.setter
    def split(self, value: npt.NDArray[np.uint8]) -> None:
        self._split = value

    @property
    def fingerprint(self) -> str:
        """Changes when a file, or the way its rows are read, changes."""
        read = self.config.model_dump(mode="json", include={"where", "select", "rename", "dedupe", "group", "nonfinite"})
        sources = [[file.label, file.size, file.digest, file.rows] for file in self.files]
        return digest([canonical_json(read), canonical_json(sources)])

    def place(self, row: int) -> str:
        """Where a table row stands, for messages: ``"row 17 of data/items.parquet"``, counted from 0 in that file."""
        unit = self.units[bisect_right(self._starts, row) - 1]
        kept = self._kept[self._by_label[unit.file]]
        inside = unit.start + row - unit.row0 if kept is None else int(kept[np.searchsorted(kept, unit.start) + row - unit.row0])
        return f"row {inside} of {unit.file}"

    def require(self, columns: Sequence[str], why: str = "") -> None:
        """Raise ``DataError`` unless the columns are there. ``why`` follows the name: ``" for field 'title'"``."""
        require_columns(columns, self.columns, table=self.name, source=self.files[0].label, why=why)

    def scan(self, columns: Sequence[str] | None = None, units: Sequence[Unit] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Read units: (first row number, rows) of each, in the order given; all units in table order when None.

        Args:
            columns: what to read; every column when None.
            units: which units, in which order. One unit is in memory at a time.

        Raises:
            DataError: a column is missing or of another type than in the first file, a file is damaged, or a number is infinite.
        """
        wanted = list(self.columns if columns is None else dict.fromkeys(columns))
        self.require(wanted)
        original = {new: old for old, new in self._names.items()}
        reader: RangeReader | None = None
        try:
            for unit in self.units if units is None else units:
                number = self._by_label[unit.file]
                if reader is None or reader.file is not self.files[number]:
                    if reader is not None:
                        reader.close()
                    reader = RangeReader(self.files[number], [original.get(c, c) for c in wanted], table=self.name)
                yield unit.row0, self._tidy(reader.read(unit.start, unit.stop), unit, wanted, original)
        finally:
            if reader is not None:
                reader.close()

    def _tidy(self, rows: pa.Table, unit: Unit, wanted: list[str], original: dict[str, str]) -> pa.Table:
        kept = self._kept[self._by_label[unit.file]]
        rows = rows.cast(pa.schema([field.with_type(_without_views(field.type)) for field in rows.schema]))
        if kept is not None:
            inside = kept[np.searchsorted(kept, unit.start) : np.searchsorted(kept, unit.stop)] - unit.start
            rows = rows.take(pa.array(inside))
        arrays = []
        for name in wanted:
            values = self._as_first_file(name, rows.column(original.get(name, name)).combine_chunks(), unit)
            values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
            missing = self.config.nonfinite == "missing"
            arrays.append(check_finite(name, values, unit.row0, table=self.name, place=self.place, missing=missing))
        return pa.table(arrays, names=wanted) if arrays else pa.table({"": pa.nulls(unit.rows)}).select([])

    def _as_first_file(self, name: str, values: pa.Array, unit: Unit) -> pa.Array:
        wanted = self.schema.field(name).type
        if values.type == wanted:
            return values
        try:
            return values.cast(wanted)
        except pa.ArrowException as error:
            raise DataError(
                f"table '{self.name}': column '{name}' is {values.type} in {unit.file} but {wanted} in {self.files[0].label}, "
                "and its values do not fit; write both files with one type"
            ) from error

    def column(self, name: str) -> pa.ChunkedArray:
        """A whole column, one chunk a unit. Held in memory: for keys, users, times and join columns."""
        chunks = [rows.column(0).combine_chunks() for _, rows in self.scan([name])]
        flat = [piece for c in chunks for piece in (c.chunks if isinstance(c, pa.ChunkedArray) else [c])]
        return pa.chunked_array(flat, type=self.schema.field(name).type)

    def ids(self) -> pa.Array | None:
        """The key column, [M]; None for a table without a key. Kept after the first call."""
        if self.key is None:
            return None
        if self._ids is None:
            self._ids = plain(self.column(self.key))
        return self._ids

    def positions(self, ids: pa.Array | pa.ChunkedArray) -> Rows:
        """Row numbers of ids, int64 [len(ids)], -1 for those that are not in the table.

        Raises:
            UsageError: the table has no key.
        """
        keys = self.ids()
        if keys is None:
            raise UsageError(f"table '{self.name}' has no key; set tables.{self.name}.key to the column that identifies its rows")
        return lookup(plain(ids), keys)


def plain(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array without dictionary encoding, text as ``large_string``: what lookups compare."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        values = values.cast(pa.large_string())
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values


def lookup(ids: pa.Array, keys: pa.Array) -> Rows:
    """Position of each id among the keys (both ``plain``), -1 for null and unknown ids. Numbers and text compare by their digits."""
    if ids.type != keys.type:
        if pa.types.is_integer(ids.type) and pa.types.is_integer(keys.type):
            ids, keys = ids.cast(pa.int64()), keys.cast(pa.int64())
        else:
            ids, keys = ids.cast(pa.large_string()), keys.cast(pa.large_string())
    found = pc.index_in(ids, value_set=keys, skip_nulls=True)
    out: Rows = np.asarray(found.fill_null(-1)).astype(np.int64)
    return out


def open_table(config: TableConfig, name: str, base: Path | str) -> Table:
    """Open a table of a run file: find its files, read their footers, apply ``where``, ``dedupe`` and ``group``, check the key.

    Args:
        config: the table as the run file describes it.
        name: what the run file calls it.
        base: folder that relative paths start from.

    Raises:
        DataError: a file is missing, damaged or empty, a column is missing, or the key has duplicates or missing values.
        UsageError: ``where`` cannot be evaluated, or options contradict each other.
    """
    paths = find_files(config.uri, Path(base), table=name)
    spool = _Spool()
    files = [_open_file(path, label, spool, name) for label, path in paths]
    _check_columns(files, config, name)
    if not sum(file.rows for file in files):
        raise DataError(f"table '{name}': {_names(files)} holds no rows; give files with rows")
    table = _select_rows(config, name, files)
    if config.group is not None:
        table = _group(table, config, spool)
    table.keep = spool
    if table.key is not None:
        key = table.key
        check_key(lambda: ((row, plain(rows.column(0))) for row, rows in table.scan([key])), table=name, column=key, place=table.place)
    return table


class _Spool:
    """A temporary folder, made when first needed, removed with the table that reads from it (or at exit)."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._files = 0
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def file(self) -> Path:
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="embedkit-"))
            self._finalizer = weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        self._files += 1
        return self._path / f"{self._files}.parquet"


def _open_file(path: Path, label: str, spool: _Spool, table: str) -> File:
    if not is_csv(path):
        return open_parquet(path, label, table=table)
    if path.stat().st_size == 0:
        raise DataError(f"table '{table}': {label} is empty: a CSV file needs a line with column names")
    target = spool.file()
    with room(table, target):
        content = csvfile.to_parquet(path, target, label, table=table)
    made = open_parquet(target, label, table=table)
    return File(label, target, path.stat().st_size, content, made.rows, made.groups, made.schema)


def _check_columns(files: Sequence[File], config: TableConfig, name: str) -> None:
    for file in files:
        require_columns(config.rename, file.schema.names, table=name, source=file.label, why=" to rename")
        names = [config.rename.get(column, column) for column in file.schema.names]
        for column in names:
            if names.count(column) > 1:
                raise UsageError(f"tables.{name}.rename: two columns of {file.label} would be called '{column}'")
        require_columns(_mentioned(config), names, table=name, source=file.label)
        if file is not files[0]:
            first = [config.rename.get(column, column) for column in files[0].schema.names]
            require_columns(config.select or first, names, table=name, source=file.label, why=f" (which {files[0].label} has)")
    if config.select is not None and not config.group:
        for column in _needed(config):
            if column not in config.select:
                raise UsageError(f"tables.{name}.select leaves out '{column}', which the table needs for its key, relations or split")
    if config.group and config.key not in (None, config.group.by):
        raise UsageError(f"tables.{name}: the key is '{config.key}' but rows are grouped by '{config.group.by}'; leave 'key' out")


def _mentioned(config: TableConfig) -> list[str]:
    """Columns of the files that the table names."""
    columns = [*(config.select or []), *(config.dedupe or [])]
    if config.group:
        return [*columns, config.group.by, *config.group.columns]
    return [*columns, *_needed(config)]


def _needed(config: TableConfig) -> list[str]:
    """Columns that are read besides those of fields."""
    split = [*config.split.key, *([config.split.column] if config.split.column else [])] if config.split else []
    single = [c for c in (config.key, config.user, config.time, config.position) if c]
    return [*single, *config.join, *split]


def _schema(file: File, rename: dict[str, str], select: Sequence[str] | None) -> pa.Schema:
    fields = [field.with_name(rename.get(field.name, field.name)).with_type(_without_views(field.type)) for field in file.schema]
    by_name = {field.name: field for field in fields}
    return pa.schema([by_name[name] for name in (select if select is not None else by_name)])


def _without_views(kind: pa.DataType) -> pa.DataType:
    """Text as Arrow can filter it: views, which polars hands over and Parquet files remember, it cannot yet."""
    return pa.large_string() if pa.types.is_string_view(kind) else kind


def _select_rows(config: TableConfig, name: str, files: Sequence[File]) -> Table:
    kept: list[Rows | None] = [None] * len(files)
    total = sum(file.rows for file in files)
    if config.where is not None:
        kept = list(derive.rows_where(files, config.where, config.rename, table=name))
        if not sum(len(rows) for rows in kept if rows is not None):
            raise DataError(f"table '{name}': none of the {total} rows of {_names(files)} satisfies where = '{config.where}'")
    if config.dedupe:
        kept = list(derive.rows_distinct(files, kept, config.dedupe, config.position or config.time, config.rename))
    left = sum(file.rows if rows is None else len(rows) for file, rows in zip(files, kept, strict=True))
    kept = [None if rows is not None and len(rows) == file.rows else rows for file, rows in zip(files, kept, strict=True)]
    reading = config if config.group is None else config.model_copy(update={"select": None, "key": None, "group": None})
    return Table(name, reading, files, kept, total - left)


def _group(table: Table, config: TableConfig, spool: _Spool) -> Table:
    assert config.group is not None
    by, columns = config.group.by, config.group.columns
    source, target = spool.file(), spool.file()
    wanted = list(dict.fromkeys([by, *columns]))
    with room(table.name, source):
        with pq.ParquetWriter(source, pa.schema([table.schema.field(c) for c in wanted])) as writer:
            for _, rows in table.scan(wanted):
                writer.write_table(rows)
        rows_made, absent = derive.group_rows(source, target, by, columns, table=table.name)
        source.unlink()
    if not rows_made:
        raise DataError(f"table '{table.name}': column '{by}' to group by has no value in any row of {_names(table.files)}")
    label = f"{_names(table.files)} grouped by {by}"
    with readable(label, table.name):
        made = open_parquet(target, label, table=table.name)
    origin = digest([canonical_json([[f.label, f.size, f.digest, f.rows] for f in table.files])])
    file = File(label, target, sum(f.size for f in table.files), origin, made.rows, made.groups, made.schema)
    return Table(table.name, config.model_copy(update={"rename": {}}), [file], [None], table.dropped + absent)


def _names(files: Sequence[File]) -> str:
    return files[0].label if len(files) == 1 else f"{files[0].label} and {len(files) - 1} more"


__all__ = ["UNIT_ROWS", "Table", "Unit", "lookup", "open_table", "plain"]
