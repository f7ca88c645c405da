"""Build an index from embeddings: write a generation aside, test it, publish it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.config.plan import Part
from embedkit.embed.manifest import Embeddings, open_embeddings
from embedkit.errors import BundleError, DataError, UsageError
from embedkit.files import atomic_folder, locked, remove_leftovers, sealed, tree_digests, unmade_on_error
from embedkit.index.base import Index, IndexContext, Rows, Vectors
from embedkit.index.bundle import (
    ATTRIBUTES,
    BACKEND,
    IDS,
    META,
    VECTORS,
    IndexBundle,
    IndexMeta,
    available_threads,
)
from embedkit.index.exact import exact_top_k
from embedkit.index.ids import IdTable
from embedkit.index.publish import CURRENT, next_generation, publish
from embedkit.index.vectors import blocks_of, cut, map_vectors, unit_length, write_vectors
from embedkit.pace import Pace

PROBES = 200
_PROBE_K = 10
_BLOCK = 8_192
"""Rows given to the backend at a time: a graph takes seconds for them, and after each a line of progress may be due."""
_TOLERANCE = 1e-5
"""Scores that differ by less are equal: duplicates may be found in another order."""


def build_index(
    embeddings: str | Path,
    out: str | Path,
    backend: Part,
    *,
    keep: Sequence[str] | None = None,
    threads: int | None = None,
    min_recall: float = 0.8,
    log: Callable[[str], Any] = lambda line: None,
) -> IndexBundle:
    """Build a new generation of the index in ``out`` and make it the current one.

    Memory is the backend's own, a block of vectors and a few numbers a row; everything else is streamed. A build that is killed leaves the
    old generation as it was.

    Args:
        embeddings: folder that ``embed`` finished.
        out: folder of the index, made if missing.
        backend: the backend and its options; ``prefix`` and ``rescore`` are taken from these.
        keep: columns of the catalogue to keep for ``where``; None keeps every column that holds single values, ``[]``
            none.
        threads: threads the backend may use; all there are when left out.
        min_recall: share of true neighbours that the backend must find in the self-test.
        log: called with one line a step.

    Raises:
        BundleError: the embeddings are incomplete or damaged, or the new index fails its self-test.
        UsageError: the prefix is none of the space's, or the options do not fit.
        DataError: the disk is full, or the catalogue is not the one that was embedded.
    """
    source, folder = open_embeddings(embeddings), Path(out)
    prefix = _prefix(source, backend)
    if source.rows == 0:
        raise DataError(f"{source.path}: holds no vectors, so there is nothing to index")
    threads = threads or available_threads()
    with unmade_on_error(folder, keep=lambda: (folder / CURRENT).is_file()), locked(folder / ".lock", f"the index {folder}"):
        for left in folder.glob(".*.tmp-*"):
            remove_leftovers(folder / left.name[1:].partition(".tmp-")[0])
        name = next_generation(folder)
        with atomic_folder(folder / name) as aside:
            log(f"copying {source.rows:,} vectors of width {source.space.dim}")
            _write_vectors(source, aside)
            _write_attributes(source, aside, keep)
            log(f"building {backend.entry.name} over {prefix or source.space.dim} dimensions on {threads} threads")
            _write_backend(source, aside, backend, prefix, threads, Pace(log, source.rows))
            meta = _meta(source, aside, backend, prefix, folder)
            _write_meta(aside, meta, {})
            built = IndexBundle.load(aside, name, backend, threads=threads)
            tested = self_test(built)
            log(
                f"self-test on {tested['probes']:.0f} stored vectors: the backend finds {tested['backend_recall']:.1%} of the true "
                f"neighbours, the whole search {tested['recall']:.1%}"
            )
            if tested["backend_recall"] < min_recall:
                raise BundleError(
                    f"{folder}: the new index finds only {tested['backend_recall']:.1%} of the true neighbours in its self-test "
                    f"(wanted: {min_recall:.0%}), so it is not published; raise the backend's accuracy (hnsw: m, ef; ivf_hnsw: nprobe)"
                )
            _write_meta(aside, meta, tested)
        publish(folder, name)
        log(f"generation {name} is current")
    return built.moved(folder / name)


def _prefix(source: Embeddings, backend: Part) -> int | None:
    prefix: int | None = getattr(backend.config, "prefix", None)
    space = source.space
    if prefix is None or prefix == space.dim:
        return None
    if prefix not in space.prefixes:
        widths = ", ".join(str(p) for p in space.prefixes)
        raise UsageError(f"index.prefix = {prefix}: the vectors of tower '{space.tower}' have the prefixes {widths}")
    return prefix


def _write_vectors(source: Embeddings, aside: Path) -> None:
    """Ids and full vectors, one part at a time."""
    cosine = source.space.metric == "cosine"

    def vectors() -> Iterator[Vectors]:
        row = 0
        for _, block in source.blocks():
            if not np.isfinite(block).all():
                bad = row + int(np.flatnonzero(~np.isfinite(block).all(1))[0])
                raise DataError(f"{source.path}: the vector of row {bad} holds a number that is not finite; embed again")
            row += len(block)
            yield unit_length(block) if cosine else block

    write_vectors(aside / VECTORS, vectors(), source.rows, source.space.dim)
    IdTable.write(aside / IDS, (ids for ids, _ in source.blocks()))


def _write_backend(source: Embeddings, aside: Path, backend: Part, prefix: int | None, threads: int, pace: Pace) -> None:
    space = source.space
    index = cast(Index, backend.create(IndexContext(prefix or space.dim, space.metric, threads)))
    full, cosine = map_vectors(aside / VECTORS), space.metric == "cosine"

    def take(rows: Rows | slice) -> Vectors:
        return cut(full[rows], prefix, cosine=cosine)

    order = index.arrange(take, source.rows)

    def blocks() -> Iterator[Vectors]:
        for start in range(0, source.rows, _BLOCK):
            some = slice(start, min(start + _BLOCK, source.rows))
            yield take(some if order is None else order[some])
            pace(some.stop)  # the backend asks for the next one when it has linked this one

    index.build(blocks(), source.rows, **({} if order is None else {"order": order}))
    (aside / BACKEND).mkdir()
    index.save(aside / BACKEND)


def _write_attributes(source: Embeddings, aside: Path, keep: Sequence[str] | None) -> None:
    """Copy the kept columns of the catalogue, unit by unit; the ids are written already. Checks that its rows are those
    that were embedded.
    """
    if keep is not None and not keep:
        return
    from embedkit.data.table import open_table

    said = source.manifest.source
    try:
        table = open_table(said.config, said.name, Path(said.base))
    except DataError as error:
        raise DataError(f"{error} (the catalogue is read for the columns to keep; bring it back, or keep none)") from error
    there = [(file.label, file.size, file.digest) for file in table.files]
    for file in source.manifest.files:
        if (file.file, file.size, file.digest) not in there:
            raise DataError(f"{file.file}: has changed since it was embedded; embed again, or index with no columns kept")
    scalar = [f.name for f in table.schema if not pa.types.is_nested(f.type)]
    columns = list(dict.fromkeys([said.key, *(scalar if keep is None else keep)]))
    ids = IdTable.open(aside / IDS).values
    writer: pq.ParquetWriter | None = None
    try:
        for first, rows in table.scan(columns):
            if not rows[said.key].combine_chunks().cast(ids.type).equals(ids.slice(first, rows.num_rows)):
                raise DataError(
                    f"table '{said.name}': {table.place(first)} and those after it are not the rows that were embedded; embed again, "
                    "or index with no columns kept"
                )
            writer = writer or pq.ParquetWriter(aside / ATTRIBUTES, rows.schema, compression="zstd")
            writer.write_table(rows)
    finally:
        if writer is not None:
            writer.close()


def _meta(source: Embeddings, aside: Path, backend: Part, prefix: int | None, folder: Path) -> IndexMeta:
    return IndexMeta(
        space=source.space,
        rows=source.rows,
        key=source.manifest.source.key,
        prefix=prefix,
        backend=backend.to_json(),
        bundle=os.path.relpath(source.manifest.bundle, folder),
        source=source.digest,
        files={name: d for name, d in tree_digests(aside).items() if not name.startswith(BACKEND + "/")},
    )


def _write_meta(aside: Path, meta: IndexMeta, tested: dict[str, float]) -> None:
    data = meta.to_json() | {"self_test": tested}
    (aside / META).write_text(sealed(data))


def self_test(index: IndexBundle, probes: int = PROBES) -> dict[str, float]:
    """Search for stored vectors, evenly spread, and compare with exact search.

    Returns:
        ``backend_recall``: share of the true nearest 10 that the backend finds in what it searches (the prefix, where
        there is one);
        ``recall``: the same for the whole search against full vectors. A row as near as the tenth counts as found
        (duplicates).
    """
    rows = np.unique(np.linspace(0, index.rows - 1, min(probes, index.rows)).astype(np.int64))
    k = min(_PROBE_K, index.rows)
    full = np.ascontiguousarray(index.vectors[rows])
    cosine = index.space.metric == "cosine"
    short = cut(full, index.meta.prefix, cosine=cosine)
    best = _prefix_top_k(short, index, k)
    found = index.backend.search(short, k)[1]
    whole = index.search(full, k)[1]
    return {
        "probes": float(len(rows)),
        "backend_recall": _recall(found, best),
        "recall": _recall(whole, exact_top_k(full, index.vectors, k)[1]),
    }


def _prefix_top_k(queries: Vectors, index: IndexBundle, k: int) -> Vectors:
    """Scores of the true nearest k over the cut vectors, a block of vectors at a time."""
    cosine = index.space.metric == "cosine"
    best = np.empty((len(queries), 0), np.float32)
    for block in blocks_of(index.vectors):
        scores = exact_top_k(queries, cut(block, index.meta.prefix, cosine=cosine), k)[1]
        best = -np.sort(-np.concatenate([best, scores], 1), axis=1)[:, :k]
    return best


def _recall(scores: Vectors, true: Vectors) -> float:
    return float((scores >= true[:, -1:] - _TOLERANCE).sum(1).clip(max=true.shape[1]).mean() / true.shape[1])
