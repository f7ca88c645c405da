"""The indexes of the first-party plugin keep what every index promises."""

from __future__ import annotations

from pathlib import Path

import hnswlib
import numpy as np
import pytest

from embedkit.errors import DataError
from embedkit.index import order
from embedkit.index.base import IndexContext
from embedkit.testing.conformance.index import IndexConformance, unit_vectors
from embedkit_hnsw.configs import HnswConfig
from embedkit_hnsw.hnsw import HnswIndex


class TestHnsw(IndexConformance):
    entry = "hnsw"


class TestHnswPlain(IndexConformance):
    entry = "hnsw:hnsw"
    options = {"m": 4, "ef": 20, "ef_construction": 40}
    min_recall = 0.6


class TestHnswArranged(IndexConformance):
    """Linked cluster by cluster, as graphs of many vectors are."""

    entry = "hnsw"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def few(cls):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(order, "SMALLEST", 200)
            patch.setattr(order, "_CLUSTER", 100)
            yield


class TestExact(IndexConformance):
    entry = "exact"
    min_recall = 1.0


def build(vectors: np.ndarray, threads: int = 1, **options: object) -> HnswIndex:
    index = HnswIndex(HnswConfig.model_validate(options), context=IndexContext(vectors.shape[1], "cosine", threads))
    index.build([vectors], len(vectors))
    return index


def test_a_deterministic_build_gives_equal_files(tmp_path: Path) -> None:
    vectors = unit_vectors(3_000, 8, 0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        build(vectors, threads=2, deterministic=True).save(tmp_path / name)
    assert (tmp_path / "a" / "hnsw.bin").read_bytes() == (tmp_path / "b" / "hnsw.bin").read_bytes()


def test_what_hnswlib_cannot_reach_is_scanned() -> None:
    """Thousands of equal vectors cut a small graph into pieces; hnswlib raises there."""
    vectors = np.repeat(unit_vectors(3, 8, 0), 400, axis=0)
    index = build(vectors, m=2, ef_construction=4, ef=1)
    raw = index._graph
    raw.set_ef(1200)
    with pytest.raises(RuntimeError):
        raw.knn_query(vectors[:1], k=1200)
    rows, _ = index.search(vectors[:2], 1200)
    assert (np.sort(rows, axis=1) == np.arange(1200)).all()


def test_scores_of_raw_hnswlib_are_kept() -> None:
    vectors, queries = unit_vectors(3_000, 8, 0), unit_vectors(20, 8, 1)
    index = build(vectors, deterministic=True)
    raw = hnswlib.Index(space="ip", dim=8)
    raw.init_index(3_000, M=16, ef_construction=200, random_seed=100)
    raw.add_items(vectors, np.arange(3_000), num_threads=1)
    raw.set_ef(100)
    labels, distances = raw.knn_query(queries, k=5, num_threads=1)
    rows, scores = index.search(queries, 5)
    np.testing.assert_array_equal(rows, labels)
    np.testing.assert_allclose(scores, 1 - distances)


def test_a_short_file_is_a_full_disk(tmp_path: Path) -> None:
    index = build(unit_vectors(100, 8, 0))

    class Full:
        """hnswlib on a full disk: it writes less than it should and says nothing."""

        def save_index(self, path: str) -> None:
            Path(path).write_bytes(b"short")

        def index_file_size(self) -> int:
            return 100

    index._graph = Full()
    with pytest.raises(DataError, match="no space left"):
        index.save(tmp_path)
