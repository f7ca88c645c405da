"""Frames: rows as people have them (polars, pandas, Arrow, dicts) into Arrow, and through a tower into vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embedkit.errors import DataError, UsageError, suggest
from embedkit.index.base import Vectors
from embedkit.schema import FieldSpec

if TYPE_CHECKING:
    from embedkit.bundle import Bundle

Frame = Any
"""A polars or pandas data frame, an Arrow table or record batch, a list of dicts (rows), or a dict of columns."""

_SCALARS = (str, bytes, int, float, bool, type(None))


def to_arrow(frame: Frame) -> pa.Table:
    """A frame as an Arrow table.

    A list of dicts holds rows; a key that a row lacks is a missing value. A dict holds columns, or one row if any of
    its values is a single value.

    Raises:
        UsageError: it is nothing of the kind.
        DataError: the values of a column do not have one type.
    """
    try:
        if isinstance(frame, pa.Table):
            return frame
        if isinstance(frame, pa.RecordBatch):
            return pa.Table.from_batches([frame])
        if isinstance(frame, Mapping):
            single = any(isinstance(value, _SCALARS) for value in frame.values())
            return _rows([frame]) if single else pa.table({name: _column(name, values) for name, values in frame.items()})
        if isinstance(frame, Sequence) and all(isinstance(row, Mapping) for row in frame) and not isinstance(frame, str):
            return _rows(frame)
        if type(frame).__module__.startswith("pandas"):
            return pa.Table.from_pandas(frame, preserve_index=False)
        if hasattr(frame, "__arrow_c_stream__"):
            return pa.table(frame)
    except pa.ArrowException as error:
        raise DataError(f"the rows cannot be read as a table: {str(error).splitlines()[0]}") from error
    raise UsageError(
        f"rows of type {type(frame).__name__} cannot be read; give a polars or pandas frame, an Arrow table, a list of dicts, "
        "or a dict of columns"
    )


def _rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise DataError("the rows have no columns")
    return pa.table({name: _column(name, [row.get(name) for row in rows]) for name in names})


def _column(name: str, values: Any) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"column '{name}': its values do not have one type: {str(error).splitlines()[0]}") from error


def column_name(spec: FieldSpec) -> str:
    """The column that a field is read from."""
    return spec.column or spec.name


def encode_rows(
    bundle: Bundle, tower: str, table: pa.Table, *, partial: bool = False, batch_size: int = 1_024, path: str = "the rows"
) -> Vectors:
    """Vectors of rows, float32 [rows, E].

    Args:
        bundle: the model and its codecs.
        tower: whose vectors.
        table: a column for each field of the tower.
        partial: let columns be absent. Their fields are unknown then and hidden from the model; columns of no field are refused.
        batch_size: rows a forward.
        path: what the rows are called in messages.

    Raises:
        UsageError: with ``partial``, a column belongs to no field of the tower, or none does.
        DataError: a column is missing or holds what its field cannot be.
    """
    fields = bundle.schema.towers[tower].fields
    hidden: list[str] = []
    if partial:
        table, hidden = _complete(bundle, tower, table)
    device = next(bundle.model.parameters()).device
    vectors = np.empty((table.num_rows, bundle.spaces[tower].dim), np.float32)
    for start in range(0, table.num_rows, batch_size):
        batch = bundle.codecs.encode(table.slice(start, batch_size), fields, path=path, first_row=start)
        embeddings = bundle.model.encode(batch.to(device), tower, hidden=hidden)
        vectors[start : start + batch_size] = embeddings.float().cpu().numpy()
    return vectors


def _complete(bundle: Bundle, tower: str, table: pa.Table) -> tuple[pa.Table, list[str]]:
    """The table with a column for each field of the tower, and the fields whose columns had to be made up."""
    specs = bundle.schema.tower_fields(tower)
    names = sorted({column_name(spec) for spec in specs})
    for name in table.column_names:
        if name not in names:
            raise UsageError(f"tower '{tower}' reads no column '{name}'{suggest(name, names)}; it reads {', '.join(names)}")
    if not table.column_names:
        raise UsageError(f"the rows hold none of the columns that tower '{tower}' reads: {', '.join(names)}")
    hidden = [spec.name for spec in specs if column_name(spec) not in table.column_names]
    for name in names:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows))
    return table, hidden
