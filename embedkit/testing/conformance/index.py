"""What every index backend must do. A plugin's test module subclasses ``IndexConformance`` and gives the backend::

    class TestMine(IndexConformance):
        entry = "mine"                      # registered name, or plugin:name
        options = {"links": 8}
        plugins = ("path/to/plugin.py",)    # for a one-file plugin

pytest then runs the inherited tests. Fixtures come from pytest alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from embedkit.errors import BundleError, UsageError
from embedkit.host import Host
from embedkit.index.base import Index, IndexContext, Vectors
from embedkit.index.config import IndexConfig
from embedkit.index.exact import exact_top_k
from embedkit.index.vectors import blocks_of, unit_length

ROWS, DIM = 2_000, 16


def unit_vectors(rows: int, dim: int, seed: int) -> Vectors:
    """Random unit vectors around a few centres, as embeddings lie, float32 [rows, dim]."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((20, dim))
    return unit_length((centres[random.integers(0, 20, rows)] + 0.7 * random.standard_normal((rows, dim))).astype(np.float32))


class IndexConformance:
    """Inherit, set ``entry``, and let pytest run it."""

    entry: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    plugins: ClassVar[tuple[str, ...]] = ()
    min_recall: ClassVar[float] = 0.95

    @pytest.fixture(scope="class")
    @classmethod
    def vectors(cls) -> Vectors:
        """The vectors that are indexed."""
        return unit_vectors(ROWS, DIM, 0)

    @pytest.fixture(scope="class")
    @classmethod
    def queries(cls) -> Vectors:
        """Other vectors."""
        return unit_vectors(50, DIM, 1)

    @pytest.fixture(scope="class")
    @classmethod
    def index(cls, vectors: Vectors) -> Index:
        """The backend over all vectors, built from blocks."""
        return cls.arranged(vectors)

    @classmethod
    def create(cls, dim: int) -> Index:
        """An empty backend."""
        found = Host.load(plugins=cls.plugins).registry.entry("index", cls.entry)
        config = found.parse(cls.options, where="conformance")
        return cast(Index, found.create(config, context=IndexContext(dim, "cosine", 1)))

    @classmethod
    def arranged(cls, vectors: Vectors) -> Index:
        """A backend over all vectors, in the order that it asks for, as an index build gives them."""
        index = cls.create(vectors.shape[1])
        order = index.arrange(lambda rows: vectors[rows], len(vectors))
        if order is None:
            index.build(blocks_of(vectors, 300), len(vectors))
        else:
            assert np.array_equal(np.sort(order), np.arange(len(vectors)))
            index.build(blocks_of(vectors[order], 300), len(vectors), order)
        return index

    def test_finds_the_true_neighbours(self, index: Index, vectors: Vectors, queries: Vectors) -> None:
        """Recall against exact search, scores that are inner products, best first."""
        rows, scores = index.search(queries, 10)
        assert rows.shape == scores.shape == (50, 10)
        assert rows.dtype == np.dtype(np.int64)
        assert scores.dtype == np.dtype(np.float32)
        true = exact_top_k(queries, vectors, 10)[0]
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), true.tolist(), strict=True)])
        assert recall >= self.min_recall
        assert (np.diff(scores, axis=1) <= 0).all()
        np.testing.assert_allclose(scores, np.einsum("qe,qke->qk", queries, vectors[rows]), atol=1e-5)

    def test_rows_may_come_in_their_own_order(self, vectors: Vectors, queries: Vectors) -> None:
        """A backend that has arranged nothing indexes what comes, too."""
        index = self.create(DIM)
        index.build(blocks_of(vectors, 300), ROWS)
        rows, scores = index.search(queries, 10)
        np.testing.assert_allclose(scores, np.einsum("qe,qke->qk", queries, vectors[rows]), atol=1e-5)
        recall = (scores >= exact_top_k(queries, vectors, 10)[1][:, -1:] - 1e-5).mean()
        assert recall >= self.min_recall

    def test_what_a_search_may_change_is_an_option(self) -> None:
        """``searching`` names options of the configuration class and no others."""
        config = type(self.create(DIM).config)
        assert issubclass(config, IndexConfig)
        assert config.searching <= set(config.model_fields)
        assert "prefix" not in config.searching

    def test_a_stored_vector_finds_itself(self, index: Index, vectors: Vectors) -> None:
        """The nearest row of a stored vector is its own."""
        rows, _ = index.search(vectors[:100], 1)
        assert (rows[:, 0] == np.arange(100)).mean() >= self.min_recall

    def test_every_row_can_be_asked_for(self, index: Index) -> None:
        """k equal to, and above, the number of rows gives every row once."""
        for k in (ROWS, ROWS + 5):
            rows, _ = index.search(unit_vectors(2, DIM, 3), k)
            assert rows.shape == (2, ROWS)
            assert (np.sort(rows, axis=1) == np.arange(ROWS)).all()

    def test_k_below_one_is_refused(self, index: Index, queries: Vectors) -> None:
        """With a sentence."""
        with pytest.raises(UsageError, match="k = 0"):
            index.search(queries, 0)

    def test_no_queries(self, index: Index) -> None:
        """Zero queries give zero rows."""
        rows, scores = index.search(np.empty((0, DIM), np.float32), 3)
        assert len(rows) == len(scores) == 0

    def test_a_wrong_width_is_refused(self, index: Index, queries: Vectors) -> None:
        """In queries and in vectors."""
        with pytest.raises(UsageError, match="queries have shape"):
            index.search(queries[:, :-1], 3)
        with pytest.raises(UsageError, match="width"):
            self.create(DIM + 1).build([queries], len(queries))

    def test_an_empty_index_is_refused(self) -> None:
        """There is nothing to find in it."""
        with pytest.raises(UsageError, match="no vectors"):
            self.create(DIM).build([], 0)

    @pytest.mark.parametrize("share", [0.5, 0.05, 0.002, 0.0])
    def test_a_filter_is_kept_to(self, index: Index, vectors: Vectors, queries: Vectors, share: float) -> None:
        """Only allowed rows come back, as many as there are up to k, and mostly the right ones."""
        allowed = np.random.default_rng(2).random(ROWS) < share
        rows, scores = index.search(queries, 10, allowed)
        width = min(10, int(allowed.sum()))
        assert rows.shape == scores.shape == (50, width)
        assert allowed[rows].all()
        true = exact_top_k(queries, vectors, 10, rows=np.flatnonzero(allowed))[0]
        hits = [len(set(a) & set(b)) for a, b in zip(rows.tolist(), true.tolist(), strict=True)]
        assert sum(hits) >= self.min_recall * 50 * width

    def test_a_filter_of_another_length_is_refused(self, index: Index, queries: Vectors) -> None:
        """It belongs to another index."""
        with pytest.raises(UsageError, match="filter"):
            index.search(queries, 3, np.ones(ROWS + 1, np.bool_))

    def test_a_saved_index_answers_the_same(self, index: Index, queries: Vectors, tmp_path: Path) -> None:
        """Rows and scores, bit for bit."""
        index.save(tmp_path)
        loaded = self.create(DIM)
        loaded.load(tmp_path)
        assert loaded.rows == ROWS
        for before, after in zip(index.search(queries, 10), loaded.search(queries, 10), strict=True):
            np.testing.assert_array_equal(before, after)

    def test_another_width_is_not_loaded(self, index: Index, tmp_path: Path) -> None:
        """Even where the library below would not notice."""
        index.save(tmp_path)
        with pytest.raises(BundleError, match="width"):
            self.create(DIM - 1).load(tmp_path)

    def test_a_flipped_byte_is_noticed(self, index: Index, tmp_path: Path) -> None:
        """Before the file is used."""
        index.save(tmp_path)
        largest = max(tmp_path.rglob("*"), key=lambda p: p.stat().st_size)
        with open(largest, "r+b") as file:
            file.seek(largest.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
        with pytest.raises(BundleError, match="damaged"):
            self.create(DIM).load(tmp_path)

    def test_a_missing_file_is_noticed(self, tmp_path: Path) -> None:
        """An empty folder is no index."""
        with pytest.raises(BundleError):
            self.create(DIM).load(tmp_path)
