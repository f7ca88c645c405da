"""IdTable: row number ↔ id, for millions of ids, from a memory-mapped Arrow file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.errors import BundleError, UsageError
from embedkit.index.base import Rows

_SUGGESTIONS = 3
_LOOKED_AT = 5_000
"""Ids that an unknown one is compared with, of each kind that may be near."""


class IdTable:
    """The ids of an index, in row order. ``values`` is a (large) string or integer array."""

    def __init__(self, values: pa.Array) -> None:
        self.values = values
        self._plain = values.to_numpy(zero_copy_only=False) if not _is_text(values.type) else None

    def __len__(self) -> int:
        return len(self.values)

    @staticmethod
    def write(path: Path, blocks: Iterable[pa.Array]) -> None:
        """Write ids block by block."""
        writer: pa.RecordBatchFileWriter | None = None
        with pa.OSFile(str(path), "wb") as sink:
            for block in blocks:
                wide = block.cast(pa.large_string()) if _is_text(block.type) else block
                batch = pa.record_batch([wide], names=["id"])
                writer = writer or pa.ipc.new_file(sink, batch.schema)
                writer.write_batch(batch)
            if writer is not None:
                writer.close()

    @classmethod
    def open(cls, path: Path) -> IdTable:
        """Map what ``write`` wrote.

        Raises:
            BundleError: the file is missing or damaged.
        """
        try:
            return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all()["id"].combine_chunks())
        except (OSError, pa.ArrowException) as error:
            raise BundleError(f"{path}: is missing or damaged; build the index again") from error

    def take(self, rows: Rows) -> npt.NDArray[Any]:
        """Ids of rows, in the shape of ``rows``: int64, or objects (str, None for row -1)."""
        if self._plain is not None and (rows.size == 0 or int(rows.min()) >= 0):
            taken: npt.NDArray[Any] = self._plain[rows]
            return taken
        flat = rows.ravel()
        places = pa.array(flat, mask=flat < 0) if flat.size and int(flat.min()) < 0 else pa.array(flat)
        ids: npt.NDArray[Any] = np.asarray(self.values.take(places).to_numpy(zero_copy_only=False), dtype=object)
        return ids.reshape(rows.shape)

    def rows(self, ids: pa.Array) -> Rows:
        """Row of each id, int64 [N]; -1 where there is none. ``ids`` of another type are cast where that loses nothing."""
        try:
            wanted = ids.cast(self.values.type)
        except pa.ArrowInvalid:
            return np.full(len(ids), -1, np.int64)
        keys, order = self._sorted
        key = _keys(wanted)
        at = np.searchsorted(keys, key)
        at[at == len(keys)] = 0
        found = np.where(keys[at] == key, order[at], -1) if len(keys) else np.full(len(key), -1, np.int64)
        right = pc.equal(self.values.take(pa.array(np.maximum(found, 0))), wanted).fill_null(False)
        collided = (found >= 0) & ~right.to_numpy(zero_copy_only=False)
        if collided.any():  # another id has the same hash: look these up one by one
            slow = pc.index_in(wanted.filter(pa.array(collided)), value_set=self.values).fill_null(-1)
            found[collided] = slow.to_numpy()
        return found.astype(np.int64, copy=False)

    @cached_property
    def _sorted(self) -> tuple[npt.NDArray[Any], Rows]:
        """Keys in ascending order and the row of each: what makes a look-up logarithmic."""
        keys = _keys(self.values)
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def rows_or_error(self, ids: Sequence[Any], *, where: str) -> Rows:
        """Row of each id.

        Raises:
            UsageError: an id is not in the index, with the nearest ones there are.
        """
        try:
            wanted = pa.array(ids)
        except pa.ArrowInvalid:
            wanted = pa.array([str(value) for value in ids])
        rows = self.rows(wanted)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            value = ids[int(unknown[0])]
            more = f" (and {len(unknown) - 1} more unknown ids)" if len(unknown) > 1 else ""
            raise UsageError(f"id '{value}' is not in {where}{more}{self.suggest(str(value))}")
        return rows

    def suggest(self, value: str) -> str:
        """``"; did you mean 'x', 'y'?"`` for the nearest ids, or a few that there are."""
        near = difflib.get_close_matches(value, self._like(value), n=_SUGGESTIONS, cutoff=0.6)
        if near:
            return f"; did you mean {', '.join(repr(n) for n in near)}?"
        shown = ", ".join(repr(one) for one in self.values.slice(0, _SUGGESTIONS).to_pylist())
        return f"; it holds {len(self.values):,} ids such as {shown}"

    def _like(self, value: str) -> list[str]:
        """Ids worth comparing with ``value``: those that start as it does, or hold its longest word."""
        words = sorted(re.findall(r"\w+", value), key=len)
        texts = self.values.cast(pa.large_string())
        found = [texts.filter(pc.starts_with(texts, value[:2], ignore_case=True))[:_LOOKED_AT]]
        if words:
            found.append(texts.filter(pc.match_substring(texts, words[-1], ignore_case=True))[:_LOOKED_AT])
        return list(dict.fromkeys(text for part in found for text in part.to_pylist()))


def _keys(values: pa.Array) -> npt.NDArray[Any]:
    """Numbers that equal ids share: integers as they are, texts as 64-bit hashes (used in memory only, never stored)."""
    if _is_text(values.type):
        hashes: npt.NDArray[Any] = pl.Series(values).hash().to_numpy()
        return hashes
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
