"""Vocabulary: values ↔ codes of a domain. Code 0 is the unknown value; known values have the codes 1 .. n."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedkit.data.hashing import hash_strings, splitmix64
from embedkit.data.kinds import canonical, merge_kinds
from embedkit.errors import BundleError
from embedkit.space import digest

I64 = npt.NDArray[np.int64]
_DENSE = 4
"""Integers that span at most this many times their number are looked up by a table instead of a search."""


class Vocabulary:
    """The known values of a domain, in the order of their codes.

    Values keep their type: integers (int64), text, bytes, booleans, floats, dates and times stay what they are. Look-ups use one sorted
    index that is built on first use: 65,536 values cost a few milliseconds however large the vocabulary is.

    Args:
        values: distinct, no nulls; value i gets code i + 1.
        counts: int64 [n], how often each was seen.
        unknown_count: how many values were seen that did not get a code of their own.
    """

    def __init__(self, values: pa.Array, counts: I64, unknown_count: int = 0) -> None:
        self.values = canonical(values)
        self.value_counts = np.asarray(counts, dtype=np.int64)
        self.unknown_count = unknown_count
        assert len(self.values) == len(self.value_counts)

    @property
    def size(self) -> int:
        """Number of codes, the unknown code 0 included."""
        return len(self.values) + 1

    @property
    def counts(self) -> I64:
        """int64 [size]: how often each code was seen in training, code 0 being the values too rare to be known."""
        return np.concatenate([[self.unknown_count], self.value_counts]).astype(np.int64)

    def encode(self, values: pa.Array) -> I64:
        """Codes of the values, int64 [n]; 0 where a value was never seen, and for nulls.

        Raises:
            DataError: the values are of another type than the vocabulary's and cannot be read as it without loss (text for integers, 1.5).
        """
        if len(values) == 0 or len(self.values) == 0:
            return np.zeros(len(values), dtype=np.int64)
        if pa.types.is_dictionary(values.type):
            return self._encode_dictionary(values)
        values = canonical(values, like=self.values.type)
        if _bytes_like(values.type) and len(values) > 64:
            return self._encode_dictionary(values.dictionary_encode())  # hash and compare repeated text once
        return self._lookup(values)

    def _encode_dictionary(self, values: pa.DictionaryArray) -> I64:
        codes = np.append(self.encode_unique(values.dictionary), np.int64(0))
        return codes.take(np.asarray(values.indices.fill_null(len(values.dictionary))))

    def encode_unique(self, values: pa.Array) -> I64:
        """``encode`` for values that hardly repeat."""
        return self._lookup(canonical(values, like=self.values.type))

    def _lookup(self, values: pa.Array) -> I64:
        keys = _keys(values)
        if isinstance(self._index, _Table):
            codes = self._index.find(keys.view(np.int64))
        else:
            codes = self._index.find(keys)
            if _bytes_like(values.type):
                codes = self._recheck(values, codes)
        if values.null_count:
            codes = np.where(np.asarray(values.is_valid()), codes, 0)
        return codes

    def _recheck(self, values: pa.Array, codes: I64) -> I64:
        """Two texts may share a hash: keep a code only where the text itself is equal."""
        found = self.values.take(pa.array(np.maximum(codes - 1, 0)))
        equal = np.asarray(pc.equal(found, values).fill_null(False))
        codes = np.where(equal, codes, 0)
        for row in np.flatnonzero(~equal) if self._collisions else ():
            codes[row] = self._collisions.get(values[int(row)].as_py(), 0)
        return codes

    @cached_property
    def _index(self) -> _Table | _Sorted:
        keys = _keys(self.values)
        if not _bytes_like(self.values.type) and not pa.types.is_floating(self.values.type) and len(keys):
            numbers = keys.view(np.int64)
            low, high = int(numbers.min()), int(numbers.max())
            if high - low < _DENSE * len(numbers) + 1024:
                return _Table(numbers, low, high)
        return _Sorted(keys if _bytes_like(self.values.type) else splitmix64(keys), hashed=_bytes_like(self.values.type))

    @cached_property
    def _collisions(self) -> dict[Any, int]:
        """Text values that share their hash with an earlier one (as good as always empty)."""
        assert isinstance(self._index, _Sorted)
        return {self.values[int(code) - 1].as_py(): int(code) for code in self._index.shadowed}

    def grow(self, other: Vocabulary) -> Vocabulary:
        """This vocabulary with the unseen values of another appended in the other's order; codes that exist stay, counts add up."""
        if len(other.values) == 0:
            return Vocabulary(self.values, self.value_counts, self.unknown_count + other.unknown_count)
        if len(self.values) == 0:
            return Vocabulary(other.values, other.value_counts, self.unknown_count + other.unknown_count)
        codes = self.encode_unique(other.values)
        counts = self.value_counts.copy()
        known = codes > 0
        np.add.at(counts, codes[known] - 1, other.value_counts[known])
        fresh = canonical(other.values, like=self.values.type).filter(pa.array(~known))
        values = pa.concat_arrays([self.values, fresh])
        return Vocabulary(values, np.concatenate([counts, other.value_counts[~known]]), self.unknown_count + other.unknown_count)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the values in order: what decides how values are encoded (counts do not)."""
        parts = [str(self.values.type).encode()]
        for start in range(0, len(self.values), 1 << 16):
            piece = _keys(self.values.slice(start, 1 << 16))
            parts.append(piece.tobytes())
        return digest(parts)

    def save(self, path: Path) -> None:
        """Write Parquet with the columns ``value`` and ``count``. Writing beside and renaming is the caller's part."""
        meta = {"embedkit.vocabulary": json.dumps({"format": 1, "unknown_count": self.unknown_count})}
        table = pa.table({"value": self.values, "count": pa.array(self.value_counts)}).replace_schema_metadata(meta)
        pq.write_table(table, path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what ``save`` wrote.

        Raises:
            BundleError: the file is missing, damaged or of another kind.
        """
        try:
            table = pq.read_table(path)
            meta = json.loads((table.schema.metadata or {})[b"embedkit.vocabulary"])
            values, counts = table.column("value").combine_chunks(), table.column("count").combine_chunks().to_numpy()
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise BundleError(f"{path} is not a vocabulary that embedkit wrote ({error}): train or copy the bundle again") from error
        return cls(values, counts, int(meta["unknown_count"]))


class VocabularyBuilder:
    """Counts the values of a stream; memory grows with the distinct values, not with the rows."""

    def __init__(self, domain: str = "") -> None:
        self.domain = domain
        self._kind: pa.DataType | None = None
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._settled = 0
        self._next = 0

    def observe(self, values: pa.Array, weights: npt.NDArray[np.int64] | None = None) -> None:
        """Count some values; nulls and NaN are passed over. ``weights`` (int64 [n]) counts each value that often.

        Raises:
            DataError: the type cannot be a category, or cannot be united with the type of earlier values.
        """
        values = self._accept(values)
        codes = values.dictionary_encode()
        if len(codes.dictionary) == 0:
            return
        indices, valid = codes.indices, np.asarray(codes.indices.is_valid())
        places = np.asarray(indices.fill_null(0))[valid]
        weight = None if weights is None else np.asarray(weights, dtype=np.int64)[valid]
        counts = np.bincount(places, weights=weight, minlength=len(codes.dictionary)).astype(np.int64)
        first = np.arange(self._next, self._next + len(counts), dtype=np.int64)
        self._next += len(counts)
        self._pending.append(pa.table({"value": codes.dictionary, "count": counts, "first": first}))
        self._pending_rows += len(counts)
        if self._pending_rows > max(1 << 20, self._settled):
            self._settle()

    def _accept(self, values: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        values = canonical(values)
        if pa.types.is_null(values.type):
            return values
        if self._kind is None:
            self._kind = values.type
        elif self._kind != values.type:
            self._kind = merge_kinds(self._kind, values.type, domain=self.domain)
            self._pending = [t.set_column(0, "value", canonical(t["value"].combine_chunks(), like=self._kind)) for t in self._pending]
        return canonical(values, like=self._kind)

    def _settle(self) -> None:
        """Unite the counts of equal values; the least ``first`` is where a value appeared first, whatever the order of uniting."""
        if not self._pending:
            return
        table = pa.concat_tables(self._pending)
        grouped = table.group_by("value").aggregate([("count", "sum"), ("first", "min")])
        grouped = grouped.select(["value", "count_sum", "first_min"]).rename_columns(["value", "count", "first"])
        self._pending, self._settled, self._pending_rows = [grouped], grouped.num_rows, 0

    def build(self, min_count: int = 1, max_size: int | None = None) -> Vocabulary:
        """The vocabulary of everything seen: by descending count, then first appearance.

        Args:
            min_count: values seen less often share the unknown code.
            max_size: at most this many known values, the most frequent ones.
        """
        self._settle()
        if not self._pending:
            return Vocabulary(pa.array([], type=self._kind or pa.int64()), np.zeros(0, dtype=np.int64))
        table = self._pending[0]
        counts, first = table["count"].to_numpy(), table["first"].to_numpy()
        order = np.lexsort((first, -counts))
        keep = order[: int(np.searchsorted(-counts[order], -min_count, side="right"))][:max_size]
        values = table["value"].combine_chunks().take(pa.array(keep))
        return Vocabulary(values, counts[keep], int(counts.sum() - counts[keep].sum()))


class _Table:
    """Codes of integers that lie close together, by position."""

    def __init__(self, numbers: I64, low: int, high: int) -> None:
        self._low, self._high = low, high
        self._codes = np.zeros(high - low + 1, dtype=np.int64)
        self._codes[numbers - low] = np.arange(1, len(numbers) + 1)

    def find(self, numbers: I64) -> I64:
        inside = (numbers >= self._low) & (numbers <= self._high)
        return np.where(inside, self._codes[np.where(inside, numbers - self._low, 0)], 0)


class _Sorted:
    """Codes of 64-bit keys that are spread evenly: sorted keys, and where each stretch of leading bits starts."""

    def __init__(self, hashes: npt.NDArray[np.uint64], *, hashed: bool) -> None:
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        first = np.ones(len(ordered), dtype=bool)
        first[1:] = ordered[1:] != ordered[:-1]
        self.shadowed = order[~first] + 1
        self._hashed = hashed
        self._keys, self._codes = ordered[first], order[first] + 1
        bits = max(1, len(self._keys).bit_length())
        self._shift = np.uint64(64 - bits)
        edges = np.arange(1 << bits, dtype=np.uint64) << self._shift
        self._starts = np.append(np.searchsorted(self._keys, edges), len(self._keys))
        self._deepest = int(np.diff(self._starts).max())

    def find(self, keys: npt.NDArray[np.uint64]) -> I64:
        hashes = keys if self._hashed else splitmix64(keys)
        bucket = (hashes >> self._shift).astype(np.int64)
        at, stop = self._starts[bucket], self._starts[bucket + 1]
        codes = np.zeros(len(hashes), dtype=np.int64)
        rows = np.flatnonzero(at < stop)
        for _ in range(self._deepest):
            here = at[rows]
            hit = self._keys[here] == hashes[rows]
            codes[rows[hit]] = self._codes[here[hit]]
            at[rows] += 1
            rows = rows[~hit & (here + 1 < stop[rows])]
            if len(rows) == 0:
                break
        return codes


def _bytes_like(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _keys(values: pa.Array) -> npt.NDArray[np.uint64]:
    """A 64-bit key for each canonical value: a hash for text and bytes, the value's own bits otherwise (nulls: anything)."""
    kind = values.type
    if _bytes_like(kind):
        return hash_strings(values)
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int64())
    elif pa.types.is_date32(kind):
        values = values.cast(pa.int32()).cast(pa.int64())
    elif pa.types.is_timestamp(kind):
        values = values.cast(pa.int64())
    if values.null_count:
        values = values.fill_null(0)
    numbers = values.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(numbers + 0.0 if numbers.dtype == np.float64 else numbers).view(np.uint64)
