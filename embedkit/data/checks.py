"""Checks of columns: they are there, keys are unique, numbers are finite. Each failure is one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.errors import DataError

Place = Callable[[int], str]
"""Says where a table row stands: "row 17 of data/items.parquet"."""


def require_columns(wanted: Iterable[str], there: Sequence[str], *, table: str, source: str, why: str = "") -> None:
    """Raise ``DataError`` for the first wanted column that is not there."""
    for column in wanted:
        if column not in there:
            close = get_close_matches(column, there, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else "."
            shown = ", ".join(there[:30]) + (", …" if len(there) > 30 else "")
            raise DataError(f"table '{table}': {source} has no column '{column}'{why}{hint} It has: {shown}")


def check_key(read: Callable[[], Iterable[tuple[int, pa.Array]]], *, table: str, column: str, place: Place) -> None:
    """Raise ``DataError`` unless every value of a key column is there and none stands twice.

    Only 64-bit hashes are kept (8 bytes a row); rows with equal hashes are compared by value.

    Args:
        read: starts a pass over (first row, values); a second pass is made only when hashes collide.
        table: for the message.
        column: for the message.
        place: for the message.
    """
    hashes: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []
    for row, values in read():
        if values.null_count:
            first = row + int(np.flatnonzero(np.asarray(values.is_null()))[0])
            raise DataError(f"table '{table}': key column '{column}' has no value in {place(first)}; every row needs one")
        hashes.append(pl.Series(pl.from_arrow(values)).hash(0).to_numpy())
    everything = np.concatenate(hashes)
    ordered = np.sort(everything)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return
    seen: dict[object, int] = {}
    for row, values in read():
        part = everything[row : row + len(values)]
        for at in np.flatnonzero(np.isin(part, twice)).tolist():
            value = values[at].as_py()
            if value in seen:
                raise DataError(
                    f"table '{table}': key column '{column}' holds {value!r} twice, in {place(seen[value])} and {place(row + at)}; "
                    "keys must be unique (see 'dedupe' and 'group')"
                )
            seen[value] = row + at


def check_finite(column: str, values: pa.Array, row0: int, *, table: str, place: Place, missing: bool) -> pa.Array:
    """The values, with infinities made missing if ``missing``; else raise ``DataError`` at the first one.

    Looks into lists too. Anything but floating-point numbers passes untouched.
    """
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        flat = values.flatten()
        if not pa.types.is_floating(flat.type) or not _any_infinite(flat):
            return values
        if not missing:
            at = int(np.flatnonzero(np.asarray(pc.is_inf(flat).fill_null(False)))[0])
            _refuse(column, flat[at], row0 + int(pc.list_parent_indices(values)[at].as_py()), table, place)
        cleaned = pc.if_else(pc.is_inf(flat), None, flat)
        return type(values).from_arrays(_offsets(values), cleaned, mask=values.is_null() if values.null_count else None)
    if not pa.types.is_floating(kind) or not _any_infinite(values):
        return values
    if not missing:
        at = int(np.flatnonzero(np.asarray(pc.is_inf(values).fill_null(False)))[0])
        _refuse(column, values[at], row0 + at, table, place)
    return pc.if_else(pc.is_inf(values), None, values)


def _any_infinite(values: pa.Array) -> bool:
    return bool(pc.any(pc.is_inf(values)).as_py())


def _offsets(values: pa.Array) -> pa.Array:
    lengths = np.asarray(pc.list_value_length(values).fill_null(0)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.array(offsets, pa.int64() if pa.types.is_large_list(values.type) else pa.int32())


def _refuse(column: str, value: pa.Scalar, row: int, table: str, place: Place) -> None:
    raise DataError(
        f"table '{table}': column '{column}' holds {value.as_py()} in {place(row)}; numbers must be finite "
        '(set nonfinite = "missing" to treat it as missing)'
    )
