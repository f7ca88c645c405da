"""The hnsw index: a wrapper around hnswlib that checks what hnswlib does not.

hnswlib loads a file of another width without complaint, raises when ``k`` exceeds what a search can reach, takes no filter that is fast
from Python, and does not notice that a disk is full while it saves. All four are handled here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np

from embedkit.errors import BundleError, DataError, UsageError
from embedkit.files import atomic_write, file_digest
from embedkit.index.base import Index, Mask, Rows, Take, Vectors
from embedkit.index.exact import exact_top_k
from embedkit.index.order import near_together
from embedkit_hnsw.configs import HnswConfig

_FILE = "hnsw.bin"
_META = "hnsw.json"
_OVERFETCH = 1.5
"""Candidates fetched for a filter, beyond what an even spread of the allowed rows would need."""
FILTER_SHARE = 0.2
"""A filter that lets less than this share of the rows through is answered by an exact scan of them."""


class HnswIndex(Index):
    """Hierarchical navigable small world graph over inner products (Malkov and Yashunin 2018)."""

    config: HnswConfig
    _graph: Any
    _vectors: Vectors | None = None

    @property
    def rows(self) -> int:
        """Vectors it holds."""
        return int(self._graph.get_current_count())

    def arrange(self, take: Take, rows: int) -> Rows | None:
        """Near vectors one after the other: the neighbours that are looked at then lie in the processor's cache."""
        return near_together(take, rows)

    def build(self, blocks: Iterable[Vectors], rows: int, order: Rows | None = None) -> None:
        """Link the vectors block by block."""
        if rows < 1:
            raise UsageError("there are no vectors to index")
        config = self.config
        graph = hnswlib.Index(space="ip", dim=self.context.dim)
        graph.init_index(max_elements=rows, M=config.m, ef_construction=config.ef_construction, random_seed=config.seed)
        threads = 1 if config.deterministic else self.context.threads
        start = 0
        for block in blocks:
            if block.shape[1] != self.context.dim:
                raise UsageError(f"vectors have width {block.shape[1]}, but the index is of width {self.context.dim}")
            stop = start + len(block)
            labels = np.arange(start, stop) if order is None else order[start:stop]
            graph.add_items(np.ascontiguousarray(block, dtype=np.float32), labels, num_threads=threads)
            start = stop
        assert start == rows
        self._use(graph)

    def _use(self, graph: Any) -> None:
        graph.set_num_threads(self.context.threads)
        self._graph, self._ef, self._vectors = graph, 0, None

    def search(self, queries: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """The rows that a walk through the graph finds; exact where a filter lets few rows through or the walk ends early."""
        queries = self.checked(queries, k, allowed)
        if allowed is not None:
            return self._filtered(queries, k, allowed)
        return self._walk(queries, min(k, self.rows))

    def _walk(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        ef = max(self.config.ef, k)
        if ef != self._ef:
            self._graph.set_ef(ef)
            self._ef = ef
        try:
            labels, distances = self._graph.knn_query(queries, k=k)
        except RuntimeError:  # fewer than k rows can be reached from the entry point
            return exact_top_k(queries, self._all(), k)
        return labels.view(np.int64), np.subtract(1.0, distances, out=distances)

    def _filtered(self, queries: Vectors, k: int, allowed: Mask) -> tuple[Rows, Vectors]:
        rows = np.flatnonzero(allowed)
        width, share = min(k, len(rows)), len(rows) / self.rows
        fetch = int(_OVERFETCH * k / share) + 8 if len(rows) else self.rows
        if share < FILTER_SHARE or fetch >= self.rows:
            return exact_top_k(queries, self._all(), k, rows=rows)
        found, scores = self._walk(queries, fetch)
        good = allowed[found]
        enough = good.sum(1) >= width
        order = np.argsort(~good, axis=1, kind="stable")[:, :width]
        found, scores = np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)
        if not enough.all():
            found[~enough], scores[~enough] = exact_top_k(queries[~enough], self._all(), k, rows=rows)
        return found, scores

    def _all(self) -> Vectors:
        """Every vector in row order; fetched on the first exact scan."""
        if self._vectors is None:
            self._vectors = self.stored()
        return self._vectors

    def stored(self) -> Vectors:
        """A copy of every vector in row order, float32 [M, E']."""
        return np.asarray(self._graph.get_items(np.arange(self.rows), return_type="numpy"), np.float32)

    def save(self, folder: Path) -> None:
        """Write hnswlib's file, and beside it what must be true of it."""
        path = folder / _FILE
        self._graph.save_index(str(path))
        if path.stat().st_size != self._graph.index_file_size():
            raise DataError(f"{path}: could not be written whole, no space left on the disk; free some space and start again")
        write_meta(folder / _META, path, self)

    def load(self, folder: Path) -> None:
        """Check width and digest, then let hnswlib read its file."""
        rows = checked_rows(folder / _META, folder / _FILE, self.context.dim)
        graph = hnswlib.Index(space="ip", dim=self.context.dim)
        graph.load_index(str(folder / _FILE), max_elements=rows)
        self._use(graph)


def write_meta(path: Path, file: Path, index: Index) -> None:
    """Write what must be true of a file of the index."""
    facts = {"dim": index.context.dim, "rows": index.rows, "metric": index.context.metric, "blake2b": file_digest(file)}
    atomic_write(path, json.dumps(facts, indent=1) + "\n")


def checked_rows(path: Path, file: Path, dim: int) -> int:
    """The number of rows that ``write_meta`` wrote, after the file was held against what is said of it.

    Raises:
        BundleError: one of both is missing or damaged, or the vectors are not ``dim`` wide.
    """
    try:
        meta = json.loads(path.read_text())
        width, rows, digest = meta["dim"], int(meta["rows"]), meta["blake2b"]
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{path}: is missing or damaged; build the index again") from error
    if width != dim:
        raise BundleError(f"{file}: vectors have width {width}, but width {dim} is wanted")
    if not file.is_file() or file_digest(file) != digest:
        raise BundleError(f"{file}: is missing or damaged (another checksum); build the index again")
    return rows
