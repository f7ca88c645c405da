"""Building, opening and searching an index folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.config.plan import Part
from embedkit.errors import BundleError, DataError, UsageError
from embedkit.index.build import build_index
from embedkit.index.bundle import IndexBundle
from embedkit.index.exact import Exclude, exact_top_k
from embedkit.registry import Registry
from embedkit.testing.conformance.index import unit_vectors
from embedkit_hnsw.hnsw import HnswIndex

ROWS = 2_500


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return unit_vectors(ROWS, 16, 0)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return unit_vectors(30, 16, 1)


@pytest.fixture(scope="module")
def folder(embeddings: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, vectors: np.ndarray) -> Path:
    return embeddings(tmp_path_factory.mktemp("embeddings") / "e", vectors)


@pytest.fixture(scope="module")
def index(folder: Path, backend: Callable[..., Part], registry: Registry) -> IndexBundle:
    build_index(folder, folder.parent / "i", backend(m=8), keep=[])
    return IndexBundle.open(folder.parent / "i", registry)


def test_it_finds_what_exact_search_finds(index: IndexBundle, vectors: np.ndarray, queries: np.ndarray) -> None:
    rows, scores = index.search(queries * 3, 5)
    true, best = exact_top_k(queries, vectors, 5)
    assert (rows == true).mean() > 0.95
    np.testing.assert_allclose(scores[:, 0], best[:, 0], atol=1e-5)
    assert index.meta.self_test["recall"] > 0.95


def test_a_large_graph_is_linked_cluster_by_cluster(
    tmp_path: Path, folder: Path, vectors: np.ndarray, queries: np.ndarray, backend: Callable[..., Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedkit.index.order.SMALLEST", 100)
    monkeypatch.setattr("embedkit.index.order._CLUSTER", 50)
    given: list[np.ndarray] = []
    real = HnswIndex.build

    def build(self: HnswIndex, blocks: Any, rows: int, order: Any = None) -> None:
        given.append(order)
        real(self, blocks, rows, order)

    monkeypatch.setattr(HnswIndex, "build", build)
    index = build_index(folder, tmp_path / "i", backend(m=8), keep=[])
    assert sorted(given[0].tolist()) == list(range(ROWS)) != given[0].tolist()
    rows, scores = index.search(queries, 5)
    np.testing.assert_allclose(scores, np.einsum("qe,qke->qk", queries, vectors[rows]), atol=1e-5)
    assert (rows == exact_top_k(queries, vectors, 5)[0]).mean() > 0.95


def test_ids_and_rows_are_inverse(index: IndexBundle) -> None:
    rows = np.array([[0, 7], [ROWS - 1, 3]])
    ids = index.ids.take(rows)
    assert ids.tolist() == [["item-0", "item-7"], [f"item-{ROWS - 1}", "item-3"]]
    assert index.ids.rows(pa.array(["item-7", "nothing", f"item-{ROWS - 1}"])).tolist() == [7, -1, ROWS - 1]
    assert index.ids.take(np.array([[1, -1]])).tolist() == [["item-1", None]]


def test_integer_ids(embeddings: Callable[..., Path], tmp_path: Path, vectors: np.ndarray, backend: Callable[..., Part]) -> None:
    ids = pa.array(np.arange(1_200, dtype=np.int64)[::-1] * 5)
    built = build_index(embeddings(tmp_path / "e", vectors[:1_200], ids=ids), tmp_path / "i", backend("exact"), keep=[])
    assert built.ids.take(np.array([0, 2])).tolist() == [5995, 5985]
    assert built.ids.rows(pa.array([5985, 4])).tolist() == [2, -1]
    assert built.ids.rows_or_error(["5985"], where="x").tolist() == [2]


def test_unknown_ids_get_suggestions(index: IndexBundle) -> None:
    with pytest.raises(UsageError, match=r"id 'item-12x' is not in shop.*did you mean 'item-12"):
        index.ids.rows_or_error(["item-1", "item-12x"], where="shop")


def test_a_prefix_is_searched_and_rescored(
    tmp_path: Path, folder: Path, backend: Callable[..., Part], vectors: np.ndarray, queries: np.ndarray
) -> None:
    index = build_index(folder, tmp_path / "i", backend(prefix=8, rescore=ROWS), keep=[])
    assert index.backend.context.dim == 8
    rows, scores = index.search(queries, 5)
    np.testing.assert_allclose(scores, np.einsum("qe,qke->qk", queries, vectors[rows]), atol=1e-5)
    assert (rows == exact_top_k(queries, vectors, 5)[0]).mean() > 0.99
    with pytest.raises(UsageError, match=r"prefix = 5: .* prefixes 4, 8, 16"):
        build_index(folder, tmp_path / "j", backend(prefix=5))


def test_a_search_may_have_options_of_its_own(
    tmp_path: Path, folder: Path, backend: Callable[..., Part], registry: Registry, vectors: np.ndarray, queries: np.ndarray
) -> None:
    build_index(folder, tmp_path / "i", backend("ivf_hnsw", cell=200, nprobe=10), keep=[])
    true = exact_top_k(queries, vectors, 5)[0]

    def found(**options: Any) -> float:
        return float((IndexBundle.open(tmp_path / "i", registry, options=options).search(queries, 5)[0] == true).mean())

    assert found(nprobe=1) < found() - 0.1
    assert found(nprobe=100, ef=400) > 0.99
    with pytest.raises(UsageError, match=r"option 'cell' was fixed .* may change ef, nprobe, rescore: for others build"):
        found(cell=100)
    with pytest.raises(UsageError, match="nprob.*did you mean 'nprobe'"):
        found(nprob=3)
    with pytest.raises(UsageError, match=r"nprobe.*greater than or equal to 1"):
        found(nprobe=0)
    with pytest.raises(UsageError, match="whole vectors, so there is nothing to rescore"):
        found(rescore=10)


def test_a_search_may_rescore_more(
    tmp_path: Path, folder: Path, backend: Callable[..., Part], registry: Registry, vectors: np.ndarray, queries: np.ndarray
) -> None:
    build_index(folder, tmp_path / "i", backend(prefix=4, rescore=10), keep=[])
    true = exact_top_k(queries, vectors, 5)[0]
    few, many = (IndexBundle.open(tmp_path / "i", registry, options=options) for options in ({}, {"rescore": ROWS}))
    assert (few.search(queries, 5)[0] == true).mean() < (many.search(queries, 5)[0] == true).mean() - 0.1


@pytest.mark.parametrize("count", [2, 400, 2_400])
def test_filters_and_exclusions(index: IndexBundle, vectors: np.ndarray, queries: np.ndarray, count: int) -> None:
    allowed = np.zeros(ROWS, bool)
    allowed[np.random.default_rng(0).permutation(ROWS)[:count]] = True
    best = exact_top_k(queries, vectors, 1, rows=np.flatnonzero(allowed))[0]
    exclude = Exclude(best[:, 0], np.arange(len(queries) + 1))
    rows, scores = index.search(queries, 5, allowed=allowed, exclude=exclude)
    kept = rows >= 0
    assert rows.shape == (30, min(5, count))
    assert allowed[rows[kept]].all()
    assert not (rows == best).any()
    assert np.isneginf(scores[~kept]).all()
    assert kept.sum(1).tolist() == [min(5, count - 1)] * 30


def test_many_exclusions_are_scanned(index: IndexBundle, vectors: np.ndarray, queries: np.ndarray) -> None:
    seen = np.arange(0, ROWS, 2)
    rows, _ = index.search(queries[:2], 5, exclude=Exclude(np.tile(seen, 2), np.array([0, len(seen), 2 * len(seen)])))
    assert (rows == exact_top_k(queries[:2], vectors, 5, rows=np.arange(1, ROWS, 2))[0]).all()


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.ones((1, 16)), 0, "k = 0"),
        (np.ones((1, 16)), ROWS + 1, f"k = {ROWS + 1} is larger than the index, which holds {ROWS} rows"),
        (np.ones((1, 8)), 3, "width 16"),
        (np.full((1, 16), np.nan), 3, "not finite"),
    ],
)
def test_bad_questions_are_refused(index: IndexBundle, queries: np.ndarray, k: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        index.search(queries, k)


def test_the_embeddings_must_be_complete(
    embeddings: Callable[..., Path], tmp_path: Path, vectors: np.ndarray, backend: Callable[..., Part]
) -> None:
    folder = embeddings(tmp_path / "e", vectors)
    (folder / "part-00001.parquet").unlink()
    with pytest.raises(BundleError, match="1 of 3 parts are missing"):
        build_index(folder, tmp_path / "i", backend())
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("name", ["ids.arrow", "vectors.safetensors", "backend/hnsw.bin", "index.json"])
def test_a_flipped_byte_is_noticed(tmp_path: Path, folder: Path, backend: Callable[..., Part], registry: Registry, name: str) -> None:
    build_index(folder, tmp_path / "i", backend(), keep=[])
    path = tmp_path / "i" / "000001" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.write_bytes(content)
    with pytest.raises(BundleError, match=name):
        IndexBundle.open(tmp_path / "i", registry)


def test_a_bad_index_is_not_published(tmp_path: Path, folder: Path, backend: Callable[..., Part], registry: Registry) -> None:
    build_index(folder, tmp_path / "i", backend(), keep=[])
    with pytest.raises(BundleError, match="true neighbours"):
        build_index(folder, tmp_path / "i", backend(m=2, ef=1, ef_construction=4), keep=[], min_recall=0.999)
    assert sorted(os.listdir(tmp_path / "i")) == [".lock", "000001", "CURRENT"]
    assert IndexBundle.open(tmp_path / "i", registry).generation == "000001"


def test_generations_follow_each_other(tmp_path: Path, folder: Path, backend: Callable[..., Part]) -> None:
    for number in range(1, 5):
        assert build_index(folder, tmp_path / "i", backend("exact"), keep=[]).generation == f"{number:06d}"
    assert sorted(os.listdir(tmp_path / "i")) == [".lock", "000003", "000004", "CURRENT"]
    meta = json.loads((tmp_path / "i" / "000004" / "index.json").read_text())
    assert meta["backend"]["use"] == "hnsw:exact"
    assert meta["space"]["id"] == "s"


def test_columns_are_kept_to_filter_by(tmp_path: Path, folder: Path, backend: Callable[..., Part]) -> None:
    index = build_index(folder, tmp_path / "i", backend("exact"))
    assert index.attributes.columns == ("item_id", "colour", "price")
    assert np.flatnonzero(index.attributes.where("colour = 'red' and price < 5")).tolist() == [0, 10, 20, 30, 40]
    rows = index.attributes.take(np.array([12, 3]), ["price", "item_id"])
    assert rows.to_pylist() == [{"price": 1.2, "item_id": "item-12"}, {"price": 0.3, "item_id": "item-3"}]
    few = build_index(folder, tmp_path / "i", backend("exact"), keep=["colour"])
    assert few.attributes.columns == ("item_id", "colour")
    with pytest.raises(DataError, match="no column 'size'"):
        build_index(folder, tmp_path / "i", backend("exact"), keep=["size"])


@pytest.mark.parametrize("use", ["hnsw", "exact"])
def test_a_long_build_says_how_far_it_is(
    use: str, tmp_path: Path, folder: Path, backend: Callable[..., Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedkit.index.build._BLOCK", 1_000)
    monkeypatch.setattr("embedkit.pace.EVERY", -1.0)
    said: list[str] = []
    build_index(folder, tmp_path / "i", backend(use), keep=[], log=said.append)
    assert [line.partition(" rows, ")[0] for line in said if line.endswith(" left")] == [
        "1,000 of 2,500",
        "2,000 of 2,500",
        "2,500 of 2,500",
    ]


def test_the_catalogue_must_be_what_was_embedded(
    embeddings: Callable[..., Path], tmp_path: Path, vectors: np.ndarray, backend: Callable[..., Part]
) -> None:
    folder = embeddings(tmp_path / "e", vectors[:50])
    catalogue = tmp_path / "e-catalogue.parquet"
    pq.write_table(pq.read_table(catalogue).slice(0, 49), catalogue)
    with pytest.raises(DataError, match="has changed since it was embedded"):
        build_index(folder, tmp_path / "i", backend("exact"))
    catalogue.unlink()
    with pytest.raises(DataError, match="bring it back, or keep none"):
        build_index(folder, tmp_path / "i", backend("exact"))
    assert build_index(folder, tmp_path / "i", backend("exact"), keep=[]).rows == 50
