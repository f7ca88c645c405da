"""Kinds of category values: the few Arrow types that vocabularies hold, and how other types become them without loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.errors import DataError

_WORDS = {
    pa.bool_(): "booleans",
    pa.int64(): "integers",
    pa.uint64(): "integers above 2^63",
    pa.float64(): "floats",
    pa.large_string(): "text",
    pa.large_binary(): "bytes",
    pa.date32(): "dates",
    pa.timestamp("us"): "times",
    pa.null(): "nothing",
}


def describe(kind: pa.DataType) -> str:
    """The kind in words: ``integers``, ``text``, …; the Arrow name for types that are no category."""
    return _WORDS.get(kind) or _WORDS.get(_kind_of(kind), str(kind))


def _kind_of(kind: pa.DataType) -> pa.DataType | None:
    t = pa.types
    if t.is_integer(kind):
        return pa.int64()
    if t.is_floating(kind):
        return pa.float64()
    if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
        return pa.large_string()
    if t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind) or t.is_binary_view(kind):
        return pa.large_binary()
    if t.is_date(kind):
        return pa.date32()
    if t.is_timestamp(kind):
        return pa.timestamp("us")
    return kind if kind in _WORDS else None


def canonical(values: pa.Array, like: pa.DataType | None = None) -> pa.Array:
    """The values as one of the kinds: integers as int64 (uint64 where they need it), text as large_string, times as UTC microseconds.

    NaN becomes null, -0.0 becomes 0.0. With ``like``, as exactly that kind.

    Raises:
        DataError: the type is no kind of category, or a value cannot become ``like`` without loss.
    """
    kind = _kind_of(values.type)
    if kind is None:
        raise DataError(f"found values of type {values.type}, wanted integers, text, booleans, floats, dates or times: cast the column")
    if values.type == pa.uint64() and kind == pa.int64() and pc.max(values).as_py() is not None and pc.max(values).as_py() >= 1 << 63:
        kind = pa.uint64()
    if kind == pa.timestamp("us") and values.type != kind:
        values = pc.floor_temporal(values, unit="microsecond") if values.type.unit == "ns" else values
        values = values.cast(pa.timestamp(values.type.unit)).cast(kind)
    elif values.type != kind:
        values = values.cast(kind)
    if kind == pa.float64():
        values = pc.if_else(pc.is_nan(values), None, pc.add(values, 0.0))  # adding 0 turns -0.0 into 0.0
    return values if like is None or like == kind else _convert(values, like)


def _convert(values: pa.Array, like: pa.DataType) -> pa.Array:
    numeric = {pa.int64(), pa.uint64(), pa.float64()}
    convertible = pa.types.is_null(values.type) or (values.type in numeric and like in numeric)
    if convertible:
        try:
            return values.cast(like, safe=True)
        except pa.ArrowInvalid as error:
            detail = str(error).splitlines()[0]
            raise DataError(f"found {describe(values.type)} where {describe(like)} were seen in training ({detail})") from error
    example = values.drop_null()
    if len(example) == 0:
        return pa.nulls(len(values), like)
    raise DataError(
        f"found {describe(values.type)} such as {example[0].as_py()!r}, wanted {describe(like)} as in training: cast the column"
    )


def merge_kinds(one: pa.DataType, other: pa.DataType, *, domain: str) -> pa.DataType:
    """The kind that holds the values of both: integers absorb floats that are whole.

    Raises:
        DataError: no kind holds both.
    """
    if one == other or pa.types.is_null(other):
        return one
    whole = {pa.int64(), pa.float64()}
    if one in whole and other in whole:
        return pa.int64()
    if {one, other} == {pa.int64(), pa.uint64()}:
        return pa.uint64()
    raise DataError(
        f"domain '{domain}' would hold {describe(one)} and {describe(other)}: "
        "cast one of its columns, or give the fields domains of their own"
    )


def missing_mask(values: pa.Array) -> npt.NDArray[np.bool_]:
    """bool [n]: True where a value is missing, that is null or NaN."""
    if pa.types.is_dictionary(values.type):
        members = np.append(missing_mask(values.dictionary), np.True_)
        return members.take(np.asarray(values.indices.fill_null(len(members) - 1)))
    if pa.types.is_floating(values.type):
        numbers: npt.NDArray[np.float64] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return np.isnan(numbers)
    return np.asarray(values.is_null()) if values.null_count else np.zeros(len(values), dtype=np.bool_)
