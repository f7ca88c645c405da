"""Hashes of encoded rows: equal hashes mean that a tower of the same space would give equal vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from embedkit.data.batch import Batch
from embedkit.data.columns import Column

Bytes = npt.NDArray[np.uint8]
SIZE = 16


def row_hashes(batch: Batch, fields: Sequence[str]) -> list[bytes]:
    """blake2b-128 of each row's encoded values, B digests of 16 bytes.

    What is hashed, in the order of ``fields``: for every field a byte that says whether there is a value, then the
    value of a dense field (zeros where there is none) or the number of values of a ragged one as int64; after that, the values of the
    ragged fields. Numbers are little-endian, negative zero is zero.
    """
    fixed: list[Bytes] = []
    ragged: list[tuple[memoryview, list[int]]] = []
    for name in fields:
        column = batch.columns[name]
        present = np.ones(len(column), np.bool_) if column.present is None else column.present.numpy()
        fixed.append(present.view(np.uint8)[:, None])
        if column.offsets is None:
            values = _bytes(column.values)
            fixed.append(np.where(present[:, None], values, np.uint8(0)))
        else:
            fixed.append(_lengths(column, present))
            ragged.append(_ragged(column, present))
    rows = np.ascontiguousarray(np.concatenate(fixed, axis=1))
    width, data = rows.shape[1], rows.reshape(-1).data
    digests = []
    for i in range(len(rows)):
        h = hashlib.blake2b(data[i * width : (i + 1) * width], digest_size=SIZE)
        for values_of_all, ends in ragged:
            h.update(values_of_all[ends[i] : ends[i + 1]])
        digests.append(h.digest())
    return digests


def _bytes(values: torch.Tensor) -> Bytes:
    """[N, …] → the bytes of each row, uint8 [N, W]."""
    if values.is_floating_point():
        values = values + 0.0  # -0.0 becomes 0.0
    array = np.ascontiguousarray(values.numpy())
    little: npt.NDArray[np.generic] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return little.reshape(len(array), -1).view(np.uint8) if len(array) else np.empty((0, 1), np.uint8)


def _lengths(column: Column, present: npt.NDArray[np.bool_]) -> Bytes:
    lengths = np.where(present, column.lengths().numpy(), 0).astype("<i8")
    return np.ascontiguousarray(lengths)[:, None].view(np.uint8)


def _ragged(column: Column, present: npt.NDArray[np.bool_]) -> tuple[memoryview, list[int]]:
    """The bytes of all values, and where each row's end; rows that are not present hold none."""
    assert column.offsets is not None
    if not present.all():
        lengths = torch.from_numpy(np.where(present, column.lengths().numpy(), 0))
        kept = torch.repeat_interleave(torch.from_numpy(present), column.lengths())
        values = column.values[kept]
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    else:
        first, last = int(column.offsets[0]), int(column.offsets[-1])
        values, offsets = column.values[first:last], column.offsets - first
    data = _bytes(values)
    return np.ascontiguousarray(data).reshape(-1).data, (offsets * data.shape[1]).tolist()
