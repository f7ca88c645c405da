"""PartWriter: takes vectors batch by batch, writes one Parquet part a unit on a thread of its own, and notes it."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.embed.manifest import PartLine, note_part, part_name
from embedkit.embed.rowhash import SIZE
from embedkit.files import atomic_file, file_digest, remove_leftovers
from embedkit.index.base import Vectors

_WAITING = 2
"""Units that may wait to be written; more would let memory grow on a slow disk."""


class PartWriter:
    """A context manager; what was given before an error is written, so that a resume finds it.

    Args:
        folder: of the embeddings.
        notes: file that finished units are noted in.
        dim: width of the vectors.
    """

    def __init__(self, folder: Path, notes: Path, dim: int) -> None:
        self.folder = folder
        self.notes = notes
        self.dim = dim
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="embedkit-write")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            while kind is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None and not issubclass(kind, Exception))

    def write(self, unit: int, ids: pa.Array, hashes: list[bytes], vectors: Vectors) -> None:
        """Hand over a whole unit; waits while two others are being written.

        Raises:
            DataError: writing an earlier unit failed, the disk is full.
        """
        while len(self._waiting) >= _WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._write, unit, ids, hashes, vectors))

    def _write(self, unit: int, ids: pa.Array, hashes: list[bytes], vectors: Vectors) -> None:
        path = self.folder / part_name(unit)
        remove_leftovers(path)
        values = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).reshape(-1)), self.dim)
        table = pa.table({"id": ids, "hash": pa.array(hashes, pa.binary(SIZE)), "vector": values})
        with atomic_file(path) as beside:
            pq.write_table(table, beside, row_group_size=max(1, len(ids)), compression="none", use_dictionary=False, write_statistics=False)
        note_part(self.notes, PartLine(unit, path.name, len(ids), path.stat().st_size, file_digest(path)))
