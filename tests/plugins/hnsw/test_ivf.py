"""The index of many graphs keeps what every index promises, and looks where it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedkit.errors import BundleError
from embedkit.index.base import IndexContext
from embedkit.index.exact import exact_top_k
from embedkit.testing.conformance.index import DIM, ROWS, IndexConformance, unit_vectors
from embedkit_hnsw.configs import IvfHnswConfig
from embedkit_hnsw.ivf import IvfHnswIndex


class TestIvfHnsw(IndexConformance):
    entry = "ivf_hnsw"
    options = {"cell": 200, "nprobe": 5}
    min_recall = 0.9


class TestIvfHnswOfOneCell(IndexConformance):
    entry = "hnsw:ivf_hnsw"


def build(vectors: np.ndarray, metric: str = "cosine", **options: object) -> IvfHnswIndex:
    index = IvfHnswIndex(IvfHnswConfig.model_validate(options), context=IndexContext(vectors.shape[1], metric, 1))
    order = index.arrange(lambda rows: vectors[rows], len(vectors))
    index.build([vectors[order]], len(vectors), order)
    return index


@pytest.fixture(scope="module")
def vectors():
    return unit_vectors(ROWS, DIM, 0)


@pytest.fixture(scope="module")
def queries():
    return unit_vectors(300, DIM, 1)


def recall(index, queries, vectors, k=10):
    return (index.search(queries, k)[1] >= exact_top_k(queries, vectors, k)[1][:, -1:] - 1e-5).mean()


def test_every_row_is_in_one_cell_of_at_most_twice_the_size(vectors):
    cells = build(vectors, cell=150)._cells
    assert np.array_equal(np.sort(np.concatenate([cell.rows for cell in cells])), np.arange(ROWS))
    assert max(len(cell.rows) for cell in cells) <= 300
    assert len(cells) >= 7
    for cell in cells:
        np.testing.assert_array_equal(cell.graph.stored(), vectors[cell.rows])


def test_more_probes_find_more_and_all_find_all(vectors, queries):
    found = [recall(build(vectors, cell=100, nprobe=n, ef=400), queries, vectors) for n in (1, 3, 8, 100)]
    assert found == sorted(found)
    assert 0.3 < found[0] < found[1] - 0.05
    assert found[-1] > 0.999


def test_one_probe_looks_into_the_cell_of_the_nearest_centre(vectors, queries):
    index = build(vectors, cell=150, nprobe=1)
    centres = np.stack([vectors[cell.rows].mean(0) for cell in index._cells])
    nearest = np.square(queries[:, None] - centres[None]).sum(2).argmin(1)
    rows = index.search(queries, 5)[0]
    for found, number in zip(rows, nearest, strict=True):
        assert np.isin(found, index._cells[number].rows).all()


def test_one_cell_answers_as_a_graph_alone_does(vectors, queries):
    index = build(vectors)
    (cell,) = index._cells
    np.testing.assert_array_equal(cell.rows, np.arange(ROWS))
    for ours, graphs in zip(index.search(queries, 10), cell.graph.search(queries, 10), strict=True):
        np.testing.assert_array_equal(ours, graphs)


def test_queries_in_pieces_are_answered_alike(vectors, queries, monkeypatch):
    index = build(vectors, cell=150, nprobe=3)
    whole = index.search(queries, 10)
    monkeypatch.setattr("embedkit_hnsw.ivf._QUERIES", 70)
    for one, other in zip(whole, index.search(queries, 10), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_cell_with_too_few_rows_is_no_limit(vectors, queries):
    index = build(vectors, cell=100, nprobe=1)
    rows, scores = index.search(queries[:20], 500)
    true, best = exact_top_k(queries[:20], vectors, 500)
    np.testing.assert_array_equal(rows, true)
    np.testing.assert_allclose(scores, best, atol=1e-6)


def test_a_filter_that_empties_the_near_cells_is_answered_from_the_others(vectors, queries):
    index = build(vectors, cell=200, nprobe=1)
    allowed = np.ones(ROWS, bool)
    allowed[index._cells[0].rows] = False
    inside = vectors[index._cells[0].rows[:5]]
    rows, scores = index.search(inside, 10, allowed)
    assert allowed[rows].all()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_equal_vectors_are_cut_by_row(value):
    vectors = np.full((1_000, 16), value, np.float32)
    cells = build(vectors, cell=100)._cells
    assert max(len(cell.rows) for cell in cells) <= 200
    assert sum(len(cell.rows) for cell in cells) == 1_000


def test_a_lump_of_equal_vectors_among_others(vectors):
    lumped = vectors.copy()
    lumped[: ROWS * 3 // 4] = vectors[0]
    index = build(lumped, cell=100, nprobe=30)
    assert max(len(cell.rows) for cell in index._cells) <= 200
    assert recall(index, lumped[-50:], lumped) > 0.95


def test_the_dot_metric_looks_where_products_are_large():
    random = np.random.default_rng(0)
    vectors = unit_vectors(ROWS, DIM, 0) * random.lognormal(0, 0.4, (ROWS, 1)).astype(np.float32)
    queries = 3 * unit_vectors(200, DIM, 1)
    index = build(vectors, metric="dot", cell=200, nprobe=5, ef=200)
    assert recall(index, queries, vectors) > 0.8


def test_the_cells_hang_on_seed_and_vectors_alone(vectors):
    def cells(seed):
        return [cell.rows.tolist() for cell in build(vectors, cell=150, seed=seed)._cells]

    assert cells(1) == cells(1)
    assert cells(1) != cells(2)


def test_no_more_than_a_block_is_asked_for(vectors, monkeypatch):
    monkeypatch.setattr("embedkit.index.order._BLOCK", 300)
    monkeypatch.setattr("embedkit_hnsw.cells._SAMPLE", 50)
    sizes = []

    def take(rows):
        sizes.append(len(rows))
        return vectors[rows]

    IvfHnswIndex(IvfHnswConfig(cell=150), context=IndexContext(DIM, "cosine", 1)).arrange(take, ROWS)
    assert max(sizes) <= 1_000  # the sample that centres are made of


def test_a_missing_graph_is_noticed(vectors, tmp_path: Path):
    build(vectors, cell=500).save(tmp_path)
    (tmp_path / "00001" / "hnsw.bin").unlink()
    with pytest.raises(BundleError, match="00001"):
        IvfHnswIndex(IvfHnswConfig(), context=IndexContext(DIM, "cosine", 1)).load(tmp_path)
