"""Stable 64-bit hashing. The same value has the same hash on every machine, in every version: bundles and splits rest on it.

Bytes are hashed as a polynomial modulo 2^64 (so that every stretch of a buffer comes from one running sum, without a loop over rows) and
finished with the mixer of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"). The hash is not
cryptographic: whoever needs certainty compares the values as well. ``tests/data/test_hashing.py`` holds known answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from embedkit.errors import DataError

U64 = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

_MASK = (1 << 64) - 1
_GAMMA, _MUL1, _MUL2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_BASE = 0xD1342543DE82EF95
"""Multiplier of the polynomial: odd, so that it has an inverse; 5 modulo 8, so that its powers have the longest period."""
_INVERSE = pow(_BASE, -1, 1 << 64)
_PIECE = 1 << 20
"""Bytes hashed at a time: keeps the tables of powers in the cache."""

_NULL, _INT, _FLOAT, _BYTES, _TIME, _LIST, _STRUCT = ((0x9AE16A3B2F90404F + i * _GAMMA) & _MASK for i in range(7))


def splitmix64(x: npt.NDArray[Any] | int) -> U64:
    """The SplitMix64 step: a bijection of 64-bit numbers without visible structure. Any integer array in, uint64 of its shape out."""
    z = np.array([x & _MASK], dtype=np.uint64) if isinstance(x, int) else x.astype(np.uint64, copy=False)
    z = z + np.uint64(_GAMMA)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MUL1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MUL2)
    return z ^ (z >> np.uint64(31))


def salt(domain: str, lookup: int) -> int:
    """The salt of one lookup of one domain, 64 bits unsigned: a hash of both, so that order in a run file changes nothing (decision 12)."""
    return int.from_bytes(hashlib.blake2b(f"{domain}\0{lookup}".encode(), digest_size=8).digest(), "little")


def mix_array(codes: npt.NDArray[np.int64], salt: int, rows: int) -> npt.NDArray[np.int64]:
    """Which of ``rows`` table rows each code falls on under a salt: ``splitmix64(code ^ salt) % rows``, unsigned."""
    return (splitmix64(codes.astype(np.uint64) ^ np.uint64(salt)) % np.uint64(rows)).astype(np.int64)


def mix(codes: Tensor, salt: int, rows: int) -> Tensor:
    """``mix_array`` for int64 tensors on any device. torch has no uint64 arithmetic, so shifts and remainder are built from int64 ones."""

    def signed(x: int) -> int:
        return x - (1 << 64) if x >= 1 << 63 else x

    def shifted(x: Tensor, by: int) -> Tensor:
        return (x >> by) & ((1 << (64 - by)) - 1)

    z = (codes ^ signed(salt)) + signed(_GAMMA)
    z = (z ^ shifted(z, 30)) * signed(_MUL1)
    z = (z ^ shifted(z, 27)) * signed(_MUL2)
    z = z ^ shifted(z, 31)
    half = torch.remainder(shifted(z, 1), rows)
    return torch.remainder(half * 2 + (z & 1), rows)


@lru_cache(maxsize=1)
def byte_table() -> U64:
    """A random-looking 64-bit number for each byte value, uint64 [256]."""
    return splitmix64(np.arange(256, dtype=np.uint64) * np.uint64(_MUL1))


@lru_cache(maxsize=1)
def _short_powers() -> tuple[U64, U64]:
    return _powers_to(_PIECE)


def _powers_to(n: int) -> tuple[U64, U64]:
    steps = np.full((2, n + 1), _BASE, dtype=np.uint64)
    steps[1] = _INVERSE
    steps[:, 0] = 1
    np.cumprod(steps, axis=1, out=steps)
    return steps[0], steps[1]


def powers(n: int) -> tuple[U64, U64]:
    """The powers 0 .. n of the base and of its inverse modulo 2^64, uint64 [≥ n + 1] each."""
    return _short_powers() if n <= _PIECE else _powers_to(n)


def running(data: Bytes) -> U64:
    """The running sum whose differences are hashes of stretches, uint64 [n + 1]; see ``stretch``."""
    out = np.zeros(len(data) + 1, dtype=np.uint64)
    np.cumsum(byte_table()[data] * powers(len(data))[1][: len(data)], out=out[1:])
    return out


def stretch(sums: U64, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64], tag: int = 0) -> U64:
    """Hash of ``data[start:stop]`` for many stretches, given ``sums = running(data)``.

    Equal bytes and tag give equal hashes wherever they stand.
    """
    base = powers(len(sums) - 1)[0]
    poly = (sums[stop] - sums[start]) * base[start]
    return splitmix64(poly + (stop - start).astype(np.uint64) * np.uint64(_GAMMA) + np.uint64(tag))


def string_buffers(array: pa.Array) -> tuple[npt.NDArray[np.int64], Bytes]:
    """Offsets int64 [n + 1] and bytes of a (large) string or binary array; offsets start at 0 and a null is an empty stretch."""
    large = array.cast(pa.large_binary()) if not pa.types.is_large_binary(array.type) else array
    if large.null_count:
        large = large.fill_null(b"")
    _, offsets, data = large.buffers()
    n = len(large)
    if n == 0 or offsets is None:
        return np.zeros(n + 1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
    places = np.frombuffer(offsets, dtype=np.int64)[large.offset : large.offset + n + 1]
    blob = np.zeros(0, dtype=np.uint8) if data is None else np.frombuffer(data, dtype=np.uint8)
    return places - places[0], blob[places[0] : places[-1]]


def hash_strings(array: pa.Array) -> U64:
    """Hash of the UTF-8 bytes of each string (or of each binary value), uint64 [n]. A null hashes as the empty string."""
    offsets, data = string_buffers(array)
    n = len(offsets) - 1
    out = np.empty(n, dtype=np.uint64)
    row = 0
    while row < n:
        last = max(row + 1, int(np.searchsorted(offsets, offsets[row] + _PIECE, side="right")) - 1)
        last = min(last, n)
        at = offsets[row : last + 1] - offsets[row]
        out[row:last] = stretch(running(data[offsets[row] : offsets[last]]), at[:-1], at[1:])
        row = last
    return out


def hash_arrays(arrays: Sequence[pa.Array], seed: int = 0) -> U64:
    """One hash a row over several columns of equal length, uint64 [n].

    Values of different families (integer, float, text, time, list) hash apart, those of one family alike whatever their width: int32 7
    as int64 7, but not as ``"7"``. Null and NaN are one value of their own, -0.0 is 0.0. A zoned time hashes as its UTC moment.

    Raises:
        DataError: a column has a type without a stable hash.
    """
    n = len(arrays[0]) if arrays else 0
    out = np.full(n, splitmix64(seed)[0], dtype=np.uint64)
    for array in arrays:
        out = splitmix64(out * np.uint64(_BASE) + _hash_column(array))
    return out


def _hash_column(array: pa.Array) -> U64:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _hash_column(array.cast(kind.value_type))
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return _hash_column(array.cast(pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary()))
    if pa.types.is_floating(kind):
        array = array.cast(pa.float64())
        array = pc.if_else(pc.is_nan(array), None, array)
    if pa.types.is_null(kind):
        return np.full(len(array), _NULL, dtype=np.uint64)
    hashes = _hash_valid(array)
    if array.null_count:
        hashes = np.where(np.asarray(array.is_valid()), hashes, np.uint64(_NULL))
    return hashes


def _hash_valid(array: pa.Array) -> U64:
    kind, t = array.type, pa.types
    if t.is_boolean(kind) or t.is_integer(kind):
        filled = array.cast(pa.uint8()) if t.is_boolean(kind) else array
        return splitmix64(_numbers(filled).astype(np.uint64) ^ np.uint64(_INT))
    if t.is_floating(kind):
        return splitmix64((_numbers(array) + 0.0).view(np.uint64) ^ np.uint64(_FLOAT))
    if t.is_string(kind) or t.is_large_string(kind) or t.is_binary(kind) or t.is_large_binary(kind):
        return splitmix64(hash_strings(array) ^ np.uint64(_BYTES))
    if t.is_date(kind) or t.is_timestamp(kind):
        moment = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return splitmix64(_numbers(moment).astype(np.uint64) ^ np.uint64(_TIME))
    if t.is_decimal(kind):
        return splitmix64(hash_strings(array.cast(pa.string())) ^ np.uint64(_FLOAT))
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        return _hash_lists(array.cast(pa.large_list(kind.value_type)))
    if t.is_struct(kind):
        return hash_arrays(array.flatten(), _STRUCT)
    raise DataError(f"values of type {kind} cannot be hashed: cast the column to numbers, text, times or lists of these")


def _numbers(array: pa.Array) -> npt.NDArray[Any]:
    numbers: npt.NDArray[Any] = array.fill_null(0).to_numpy(zero_copy_only=False)
    return numbers


def _hash_lists(array: pa.Array) -> U64:
    items = _hash_column(array.flatten())  # flatten leaves null lists out
    stop = np.cumsum(np.asarray(pc.list_value_length(array).fill_null(0)), dtype=np.int64)
    start = np.concatenate([[0], stop[:-1]]).astype(np.int64) if len(stop) else stop
    base, inverse = powers(len(items))
    sums = np.zeros(len(items) + 1, dtype=np.uint64)
    np.cumsum(items * inverse[: len(items)], out=sums[1:])
    return splitmix64((sums[stop] - sums[start]) * base[start] + (stop - start).astype(np.uint64) * np.uint64(_GAMMA) ^ np.uint64(_LIST))
