"""Linking an hnsw graph in the order of `near_together` beside raw hnswlib in the order of the table."""

from __future__ import annotations

import time
from statistics import median

import hnswlib
import numpy as np
from harness import Goal, Ratio, Section

from embedkit.index.base import IndexContext, Vectors
from embedkit.index.exact import exact_top_k
from embedkit.index.order import near_together
from embedkit.index.vectors import blocks_of, unit_length
from embedkit_hnsw.configs import HnswConfig
from embedkit_hnsw.hnsw import HnswIndex

DIM, BLOCK, QUERIES, K = 32, 8_192, 1_000, 10
CASES = [("clusters of clusters", 100_000, 3), ("clusters of clusters", 400_000, 1), ("no clusters", 100_000, 3)]

TEXT = """Unit vectors of {dim} numbers in random order, one thread, m = 16, ef_construction = 200. *embedkit*: `HnswIndex.build` over
blocks in the order of `near_together`, the making of that order included. *raw*: `hnswlib.Index.add_items` with these parameters and blocks
in the order of the table. Process time; the two take turns. *recall*: of the true {k} nearest of {queries:,} new vectors with ef = 100;
*search*: process time of such a query. *clusters of clusters*: {rows} vectors a centre on average, sizes skewed, centres around fewer ones;
*no clusters*: normal numbers brought to unit length."""
A_CENTRE = 66


def run(quick: bool) -> list[Section]:
    """All cases."""
    rows, goals = [], []
    for kind, size, rounds in CASES:
        count, rounds = (40_000, 1) if quick else (size, rounds)
        vectors, queries = draw(count, clustered=kind != "no clusters")
        true = exact_top_k(queries, vectors, K)[0]
        ours, theirs = [], []
        for _ in range(rounds):
            for side, times in ((embedkit, ours), (raw, theirs)):
                started = time.process_time()
                found = side(vectors)
                times.append((time.process_time() - started, *searched(found, queries, true)))
        ratios = [one[0] / other[0] for one, other in zip(ours, theirs, strict=True)]
        ratio = Ratio(median(ratios), min(ratios), max(ratios), rounds)
        cells = []
        for figure, shown in enumerate((",.1f", ".4f", ".3f")):
            cells += [f"{median(one[figure] for one in side):{shown}}" for side in (ours, theirs)]
        rows.append([f"{kind}, {count:,}", *cells, str(ratio)])
        goals.append(Goal(f"linking over raw hnswlib in table order: {kind}, {count:,}", "-", str(ratio), None))
    header = ["vectors", "embedkit, s", "raw, s", "recall, embedkit", "raw", "search, embedkit, ms", "raw", "ratio"]
    text = TEXT.format(dim=DIM, k=K, queries=QUERIES, rows=A_CENTRE)
    return [Section("Linking a graph", text, header, rows, goals)]


def draw(count: int, *, clustered: bool) -> tuple[Vectors, Vectors]:
    """Vectors, and queries near some of them."""
    random = np.random.default_rng(0)

    def normal(rows: int) -> Vectors:
        return random.standard_normal((rows, DIM), np.float32)

    vectors = normal(count)
    if clustered:
        coarse = normal(max(8, count // (60 * A_CENTRE)))
        centres = coarse[random.integers(0, len(coarse), count // A_CENTRE)] + 0.7 * normal(count // A_CENTRE)
        vectors = centres[random.zipf(1.3, count) % len(centres)] + 0.5 * vectors
    vectors = unit_length(vectors)
    queries = vectors[random.choice(count, QUERIES, replace=False)] + 0.15 * normal(QUERIES)
    return vectors, unit_length(queries)


def embedkit(vectors: Vectors) -> hnswlib.Index:
    """The graph as an index build makes it."""
    index = HnswIndex(HnswConfig(), context=IndexContext(DIM, "cosine", 1))
    order = near_together(lambda rows: vectors[rows], len(vectors))
    index.build((vectors[order[i : i + BLOCK]] for i in range(0, len(vectors), BLOCK)), len(vectors), order)
    return index._graph


def raw(vectors: Vectors) -> hnswlib.Index:
    """The same without an order."""
    graph = hnswlib.Index(space="ip", dim=DIM)
    graph.init_index(max_elements=len(vectors), M=16, ef_construction=200, random_seed=100)
    for number, block in enumerate(blocks_of(vectors, BLOCK)):
        graph.add_items(block, np.arange(number * BLOCK, number * BLOCK + len(block)), num_threads=1)
    return graph


def searched(graph: hnswlib.Index, queries: Vectors, true: np.ndarray) -> tuple[float, float]:
    """Recall, and milliseconds a query."""
    graph.set_num_threads(1)
    graph.set_ef(100)
    started = time.process_time()
    found = graph.knn_query(queries, k=K)[0]
    took = time.process_time() - started
    hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), true.tolist(), strict=True)]
    return float(np.mean(hits)) / K, 1e3 * took / len(queries)
