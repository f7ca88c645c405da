"""The exact index: compares each query with every vector."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from embedkit.errors import BundleError, UsageError
from embedkit.files import atomic_write, file_digest
from embedkit.index.base import Index, Mask, Rows, Vectors
from embedkit.index.exact import exact_top_k
from embedkit.index.vectors import map_vectors, write_vectors

_FILE = "vectors.safetensors"
_DIGEST = "vectors.blake2b"


class ExactIndex(Index):
    """Blocked matrix products (torch's threads). Recall is 1; time grows with the number of vectors."""

    _vectors: Vectors

    @property
    def rows(self) -> int:
        """Vectors it holds."""
        return len(self._vectors)

    def build(self, blocks: Iterable[Vectors], rows: int, order: Rows | None = None) -> None:
        """Keep the vectors in memory, whose rows come in their own order."""
        if rows < 1:
            raise UsageError("there are no vectors to index")
        vectors = np.empty((rows, self.context.dim), np.float32)
        start = 0
        for block in blocks:
            if block.shape[1] != self.context.dim:
                raise UsageError(f"vectors have width {block.shape[1]}, but the index is of width {self.context.dim}")
            vectors[start : start + len(block)] = block
            start += len(block)
        assert start == rows
        self._vectors = vectors

    def search(self, queries: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """The true nearest rows."""
        queries = self.checked(queries, k, allowed)
        return exact_top_k(queries, self._vectors, k, rows=None if allowed is None else np.flatnonzero(allowed))

    def save(self, folder: Path) -> None:
        """Write the vectors and their digest."""
        write_vectors(folder / _FILE, [self._vectors], self.rows, self.context.dim)
        atomic_write(folder / _DIGEST, file_digest(folder / _FILE) + "\n")

    def load(self, folder: Path) -> None:
        """Map the vectors from disk, after their digest was checked."""
        path, digest = folder / _FILE, folder / _DIGEST
        if not (path.is_file() and digest.is_file()):
            raise BundleError(f"{folder}: holds no exact index; build the index again")
        if file_digest(path) != digest.read_text().strip():
            raise BundleError(f"{path}: is damaged (another checksum); build the index again")
        vectors = map_vectors(path)
        if vectors.shape[1] != self.context.dim:
            raise BundleError(f"{path}: vectors have width {vectors.shape[1]}, but width {self.context.dim} is wanted")
        self._vectors = vectors
