"""A matrix of vectors in a safetensors file that is written block by block and read as a memory map."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from embedkit.errors import BundleError
from embedkit.index.base import Vectors

NAME = "vectors"
_BLOCK = 65_536


def write_vectors(path: Path, blocks: Iterable[Vectors], rows: int, dim: int) -> None:
    """Write float32 [rows, dim] from blocks [N, dim] as one safetensors file with the tensor ``vectors``; memory is a
    block's.
    """
    size = rows * dim * 4
    header = json.dumps({NAME: {"dtype": "F32", "shape": [rows, dim], "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 64 + 56)  # 8 bytes of length before it: the numbers start at a multiple of 64
    written = 0
    with open(path, "wb") as out:
        out.write(len(header).to_bytes(8, "little"))
        out.write(header)
        for block in blocks:
            assert block.shape[1] == dim
            out.write(np.ascontiguousarray(block, dtype="<f4").data)
            written += len(block)
    if written != rows:
        raise BundleError(f"{path}: {written} vectors were given where {rows} were announced")


def map_vectors(path: Path) -> Vectors:
    """Map what ``write_vectors`` wrote: float32 [M, E], read from disk as it is used.

    Raises:
        BundleError: the file is not such a file, or is cut off.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length))[NAME]
        rows, dim = entry["shape"]
        if entry["dtype"] != "F32" or path.stat().st_size != 8 + length + rows * dim * 4:
            raise ValueError("size")
        return np.memmap(path, dtype="<f4", mode="r", offset=8 + length, shape=(rows, dim))
    except (OSError, ValueError, KeyError, MemoryError) as error:
        raise BundleError(f"{path}: is missing or damaged; build the index again") from error


def blocks_of(vectors: Vectors, size: int = _BLOCK) -> Iterator[Vectors]:
    """The matrix in blocks of ``size`` rows."""
    for start in range(0, len(vectors), size):
        yield vectors[start : start + size]


def unit_length(vectors: Vectors) -> Vectors:
    """Each row divided by its length; a row of zeros stays as it is."""
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float32))[:, None]
    result: Vectors = np.divide(vectors, length, out=np.zeros_like(vectors, dtype=np.float32), where=length > 0)
    return result


def cut(vectors: Vectors, prefix: int | None, *, cosine: bool) -> Vectors:
    """The first ``prefix`` numbers of each row, brought to unit length again for the cosine metric."""
    if prefix is None or prefix == vectors.shape[1]:
        return np.asarray(vectors)
    return unit_length(np.asarray(vectors[:, :prefix])) if cosine else np.ascontiguousarray(vectors[:, :prefix])
