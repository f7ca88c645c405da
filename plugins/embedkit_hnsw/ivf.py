"""The ivf_hnsw index: a graph for each cell of near vectors, and a search that looks into the nearest cells.

The time to link one graph grows faster than its vectors. Many graphs of one size take as long each, however many vectors there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from embedkit.errors import UsageError
from embedkit.index.base import Index, Mask, Rows, Take, Vectors
from embedkit.index.exact import exact_top_k
from embedkit.index.order import groups_of, near_together
from embedkit_hnsw.cells import cut_at, divide
from embedkit_hnsw.configs import IvfHnswConfig
from embedkit_hnsw.hnsw import FILTER_SHARE, HnswIndex, checked_rows, write_meta

_CELLS = "cells.safetensors"
_META = "cells.json"
_QUERIES = 4_096
"""Queries answered at a time: each holds its candidates from every cell that it looks into."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell.

    Attributes:
        graph: over its vectors.
        rows: int64 [n], the row of each vector of the graph.
    """

    graph: HnswIndex
    rows: Rows


class IvfHnswIndex(Index):
    """Inverted file (Sivic and Zisserman 2003; Jégou, Douze and Schmid 2011, section 4, without the codes) over graphs."""

    config: IvfHnswConfig
    _arranged: tuple[int, ...] = ()
    _cells: list[Cell]
    _centres: Vectors
    _vectors: Vectors | None = None

    @property
    def rows(self) -> int:
        """Vectors in all cells."""
        return sum(len(cell.rows) for cell in self._cells)

    def arrange(self, take: Take, rows: int) -> Rows:
        """Cell by cell, in each near vectors one after the other."""
        cells = divide(take, rows, self.config.cell, self.config.seed)
        self._arranged = tuple(len(members) for members in cells)
        return np.concatenate([_in_order(take, members) for members in cells])

    def build(self, blocks: Iterable[Vectors], rows: int, order: Rows | None = None) -> None:
        """A graph for each cell that ``arrange`` made; one for all vectors where it was not asked."""
        if rows < 1:
            raise UsageError("there are no vectors to index")
        order, sizes = (np.arange(rows), (rows,)) if order is None else (order, self._arranged)
        assert sum(sizes) == rows, "vectors come in the order that arrange of the same index gave"
        self._cells, centres, start = [], [], 0
        for members, size in zip(cut_at(blocks, sizes), sizes, strict=True):
            graph, total = HnswIndex(self.config, context=self.context), np.zeros(self.context.dim)
            graph.build(_added_up(members, total), size)
            self._cells.append(Cell(graph, order[start : start + size]))
            centres.append(total / size)
            start += size
        self._centres, self._vectors = np.stack(centres).astype(np.float32), None

    def search(self, queries: Vectors, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """The nearest rows in the ``nprobe`` nearest cells; exact where a filter lets few rows through or these cells hold too few."""
        queries = self.checked(queries, k, allowed)
        rows = None if allowed is None else np.flatnonzero(allowed)
        width = min(k, self.rows if rows is None else len(rows))
        if rows is not None and len(rows) < FILTER_SHARE * self.rows:
            return exact_top_k(queries, self._all(), k, rows=rows)
        found = np.empty((len(queries), width), np.int64), np.empty((len(queries), width), np.float32)
        for start in range(0, len(queries), _QUERIES):
            some = slice(start, start + _QUERIES)
            found[0][some], found[1][some] = self._probe(queries[some], width, allowed)
        few = np.flatnonzero(np.isneginf(found[1][:, -1:]).any(1))
        if len(few):
            found[0][few], found[1][few] = exact_top_k(queries[few], self._all(), k, rows=rows)
        return found

    def _probe(self, queries: Vectors, width: int, allowed: Mask | None) -> tuple[Rows, Vectors]:
        """The best rows [Q, width] and scores of the cells that each query looks into; scores of -inf where these hold too few."""
        near = self._nearest(queries)
        rows = np.full((*near.shape, width), -1, np.int64)
        scores = np.full(rows.shape, -np.inf, np.float32)
        for places in groups_of(near.ravel()):
            query, probe = np.divmod(places, near.shape[1])
            cell = self._cells[near[query[0], probe[0]]]
            found, told = cell.graph.search(queries[query], width, None if allowed is None else allowed[cell.rows])
            rows[query, probe, : found.shape[1]] = cell.rows[found]
            scores[query, probe, : found.shape[1]] = told
        rows, scores = rows.reshape(len(queries), -1), scores.reshape(len(queries), -1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :width]
        return np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)

    def _nearest(self, queries: Vectors) -> Rows:
        """The numbers of the cells with the nearest centres, [Q, nprobe or all]; for the dot metric those with the largest products."""
        count = min(self.config.nprobe, len(self._cells))
        scores = queries @ self._centres.T
        if self.context.metric == "cosine":  # the mean of unit vectors is shorter the more they differ: by distance, not by angle
            scores -= 0.5 * np.square(self._centres).sum(1)
        near: Rows = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        return near

    def _all(self) -> Vectors:
        """Every vector in row order; fetched on the first exact scan."""
        if self._vectors is None:
            self._vectors = np.empty((self.rows, self.context.dim), np.float32)
            for cell in self._cells:
                self._vectors[cell.rows] = cell.graph.stored()
        return self._vectors

    def save(self, folder: Path) -> None:
        """A folder a cell, and a file with the centres and the rows."""
        for number, cell in enumerate(self._cells):
            _folder(folder, number).mkdir()
            cell.graph.save(_folder(folder, number))
        sizes = np.array([len(cell.rows) for cell in self._cells])
        rows = np.concatenate([cell.rows for cell in self._cells])
        save_file({"centres": self._centres, "sizes": sizes, "rows": rows}, folder / _CELLS)
        write_meta(folder / _META, folder / _CELLS, self)

    def load(self, folder: Path) -> None:
        """Check widths and digests, then let hnswlib read its files."""
        checked_rows(folder / _META, folder / _CELLS, self.context.dim)
        held = load_file(folder / _CELLS)
        self._cells, self._centres, self._vectors = [], held["centres"], None
        for number, rows in enumerate(np.split(held["rows"], np.cumsum(held["sizes"])[:-1])):
            graph = HnswIndex(self.config, context=self.context)
            graph.load(_folder(folder, number))
            self._cells.append(Cell(graph, rows))


def _in_order(take: Take, members: Rows) -> Rows:
    """The rows of a cell in the order in which they are linked fastest."""
    order = near_together(lambda some: take(members[some]), len(members))
    return members if order is None else members[order]


def _added_up(blocks: Iterable[Vectors], total: np.ndarray) -> Iterator[Vectors]:
    """The blocks as they come; ``total`` [E'] is their vectors' sum afterwards."""
    for block in blocks:
        if block.shape[1] == len(total):  # the graph says what is wrong with another
            total += block.sum(0, dtype=np.float64)
        yield block


def _folder(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}"
