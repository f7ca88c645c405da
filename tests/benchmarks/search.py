"""Batched search through `Searcher` beside raw hnswlib on the same graph, and beside a plain product with all vectors."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hnswlib
import numpy as np
import torch
from harness import Goal, Section, at_most, interleave, milliseconds

from embedkit.api import build_index
from embedkit.host import Host
from embedkit.index.bundle import BACKEND, IndexBundle, available_threads
from embedkit.serve.query import Searcher
from embedkit.testing.conformance.index import unit_vectors
from embedkit.testing.embeddings import write_embeddings

ROWS, DIM, BATCH, K, EF = 100_000, 64, 1_000, 10, 100
LIMIT = 1.15

TEXT = """{rows:,} unit vectors of {dim} numbers around 20 centres, text ids, batches of {batch:,} new vectors, k = {k}, {threads} threads.
*hnsw*: `Searcher.search(vectors, k)` (checks, unit length, the walk, scores, ids) beside `hnswlib.Index.knn_query` on the very file that
the index wrote, with the same ef = {ef} and threads; both find the same rows, which is checked. *exact*: the same call on the exact index
beside `torch.topk(queries @ vectors.T, k)`, all scores at once. {rounds} pairs of {repeat} batches."""


def run(quick: bool) -> list[Section]:
    """Both backends."""
    rows, rounds = (20_000, 5) if quick else (ROWS, 25)
    vectors, queries = unit_vectors(rows, DIM, 0), unit_vectors(BATCH, DIM, 1)
    threads, repeat = available_threads(), 2
    torch.set_num_threads(threads)
    lines, goals = [], []
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
        folder = write_embeddings(Path(root) / "embeddings", vectors, unit=50_000)
        host = Host.load()
        for name, options in {"hnsw": {"ef": EF}, "exact": {}}.items():
            out = Path(root) / name
            build_index(folder, out, backend={"use": name, **options}, host=host, keep=[])
            searcher = Searcher(IndexBundle.open(out, host.registry))
            plain = raw_hnsw(out / searcher.index.generation / BACKEND, threads) if name == "hnsw" else raw_exact(vectors)
            found = [int(one.removeprefix("item-")) for one in searcher.search(queries, K).ids.ravel()]
            assert np.mean(np.array(found) == plain(queries).ravel()) > 0.999, f"{name}: the two sides find other rows"

            def ours(searcher: Searcher = searcher) -> None:
                for _ in range(repeat):
                    searcher.search(queries, K)

            def theirs(plain=plain) -> None:
                for _ in range(repeat):
                    plain(queries)

            times = interleave({"embedkit": ours, "raw": theirs}, rounds)
            ratio = times.ratio("embedkit", "raw")
            each = [milliseconds(times.median(side) / repeat) for side in ("embedkit", "raw")]
            lines.append([name, *each, f"{BATCH * repeat / times.median('embedkit'):,.0f}", str(ratio)])
            if name == "hnsw":
                goals.append(at_most("batched search over raw hnswlib", ratio, LIMIT))
            else:
                goals.append(Goal("exact search over a plain torch product and topk", "-", str(ratio), None))
    text = TEXT.format(rows=rows, dim=DIM, batch=BATCH, k=K, threads=threads, ef=EF, rounds=rounds, repeat=repeat)
    return [Section("Batched search", text, ["index", "embedkit, a batch", "raw", "queries/s", "ratio"], lines, goals)]


def raw_hnsw(folder: Path, threads: int):
    """The labels that hnswlib finds in the index's own graph."""
    graph = hnswlib.Index(space="ip", dim=DIM)
    graph.load_index(str(folder / "hnsw.bin"))
    graph.set_num_threads(threads)
    graph.set_ef(EF)
    return lambda queries: graph.knn_query(queries, k=K)[0]


def raw_exact(vectors: np.ndarray):
    """The rows of the largest products."""
    transposed = torch.from_numpy(vectors).T
    return lambda queries: torch.topk(torch.from_numpy(queries) @ transposed, K).indices.numpy()
