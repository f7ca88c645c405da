"""Times and positions as sortable integers, and durations such as ``"7d"``."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.data.table import Table
from embedkit.errors import DataError, UsageError

Keys = npt.NDArray[np.int64]
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def read_order(table: Table, column: str, *, integer: bool = False) -> tuple[Keys, int]:
    """A column as int64 sort keys, [M], and how many units of it make a second.

    Dates, times and ISO 8601 text become microseconds; floating-point numbers are seconds and become microseconds; integers stay as they
    are, and count seconds, or milli-, micro- or nanoseconds since 1970 where they are too large for that.

    Args:
        table: the table.
        column: its column.
        integer: allow integers only (a position).

    Raises:
        DataError: a value is missing or is no time (or, with ``integer``, no integer).
    """
    values = table.column(column)
    if values.null_count:
        row = int(np.flatnonzero(np.asarray(values.is_null()))[0])
        raise DataError(f"table '{table.name}': column '{column}' orders the rows but has no value in {table.place(row)}")
    kind = values.type
    if pa.types.is_integer(kind):
        keys: Keys = np.asarray(values).astype(np.int64)
        return keys, _units(keys)
    if integer:
        raise DataError(f"table '{table.name}': position column '{column}' is {kind}; it must hold integers")
    if pa.types.is_floating(kind):
        seconds = np.asarray(values).astype(np.float64)
        if np.isnan(seconds).any():
            row = int(np.flatnonzero(np.isnan(seconds))[0])
            raise DataError(f"table '{table.name}': column '{column}' orders the rows but is NaN in {table.place(row)}")
        return np.round(seconds * 1e6).astype(np.int64), 1_000_000
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        moments = values.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False)
        return np.asarray(moments.cast(pa.int64())), 1_000_000
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _from_text(table, column, values), 1_000_000
    raise DataError(f"table '{table.name}': column '{column}' is {kind}; times are dates, timestamps, numbers or ISO 8601 text")


def _units(keys: Keys) -> int:
    largest = int(np.abs(keys).max(initial=0))
    return 10**9 if largest > 10**17 else 10**6 if largest > 10**14 else 1000 if largest > 10**11 else 1


def _from_text(table: Table, column: str, values: pa.ChunkedArray) -> Keys:
    try:
        return np.asarray(values.cast(pa.timestamp("us")).cast(pa.int64()))
    except pa.ArrowException:
        pass
    try:
        return np.asarray(values.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))
    except pa.ArrowException as error:
        row, text = _first_bad(values)
        raise DataError(
            f"table '{table.name}': column '{column}' holds {text!r} in {table.place(row)}; times in text must be ISO 8601, "
            "all with a zone or all without"
        ) from error


def _first_bad(values: pa.ChunkedArray) -> tuple[int, str]:
    """The first text that is not a time (by halving, so that few casts are made)."""
    zoned = pc.match_substring_regex(values[:1], r"(Z|[+-]\d\d:?\d\d)$")[0].as_py()
    wanted = pa.timestamp("us", tz="UTC" if zoned else None)
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            values[low:middle].cast(wanted)
            low = middle
        except pa.ArrowException:
            high = middle
    return low, values[low].as_py()


def cut_off(value: float | str, last: int, per_second: int, *, timestamps: bool, where: str) -> int:
    """The first moment that belongs to a period: ``value`` before ``last`` (a duration), or at ``value`` (a timestamp).

    A period of length d that ends at ``last`` is (last - d, last]. A plain number is a duration in seconds for timestamps, and in the
    column's own unit for integers.

    Raises:
        UsageError: neither duration nor timestamp.
    """
    if isinstance(value, (int, float)):
        return last - round(value * (per_second if timestamps else 1)) + 1
    match = _DURATION.fullmatch(value.strip())
    if match:
        return last - round(float(match[1]) * _SECONDS[match[2]] * per_second) + 1
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise UsageError(f"{where}: '{value}' is neither a duration such as '7d' or '12h' nor a timestamp such as '2024-05-01'") from error
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * per_second + since.microseconds * per_second // 1_000_000
