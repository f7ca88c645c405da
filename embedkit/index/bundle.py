"""IndexBundle: one generation of an index, opened: ids, full vectors, backend, and the space they belong to.

Files of a generation (format 1)::

    index.json           space, key column, prefix, backend, bundle, self-test, digests of the files below
    ids.arrow            ids in row order
    vectors.safetensors  full vectors float32 [M, E], unit length for the cosine metric
    attributes.parquet   columns that were kept for ``where`` (may be absent)
    backend/             whatever the backend saved; it checks its own files
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from embedkit.config.plan import Part
from embedkit.errors import BundleError, UsageError
from embedkit.files import check_digests, unsealed
from embedkit.index.base import Index, IndexContext, Mask, Rows, Vectors
from embedkit.index.config import IndexConfig
from embedkit.index.exact import Exclude, exact_top_k
from embedkit.index.filter import Attributes
from embedkit.index.ids import IdTable
from embedkit.index.publish import current_generation
from embedkit.index.vectors import cut, map_vectors, unit_length
from embedkit.space import Space

if TYPE_CHECKING:
    from embedkit.registry import Registry

FORMAT = 1
META, IDS, VECTORS, ATTRIBUTES, BACKEND = "index.json", "ids.arrow", "vectors.safetensors", "attributes.parquet", "backend"
DEFAULT_RESCORE = 200
_EXACT_ROWS = 1_000
"""So few rows are scanned rather than searched."""
_EXACT_SHARE = 0.2
"""So small a share of the rows, left by a filter, is scanned rather than searched."""
_OVERFETCH = 1_000
"""With more rows to leave out than this, a query is answered by a scan rather than by fetching so many more."""
_GATHERED = 1 << 24
"""Numbers of candidate vectors that are gathered at once for rescoring (64 MiB)."""


@dataclass(frozen=True)
class IndexMeta:
    """What ``index.json`` says.

    Attributes:
        space: of the vectors.
        rows: M.
        key: name of the id column.
        prefix: width that the backend searches; None for the full width.
        backend: the backend's part, as ``Part.to_json`` gives it.
        bundle: folder of the bundle that made the vectors, relative to the index's folder where that is possible.
        source: digest of the embeddings.
        self_test: what the probe found before the generation was published.
        files: file → digest.
    """

    space: Space
    rows: int
    key: str
    prefix: int | None
    backend: Mapping[str, Any]
    bundle: str
    source: str
    self_test: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {"format": FORMAT, "kind": "index", **self.__dict__, "space": self.space.to_json()}

    @classmethod
    def read(cls, path: Path) -> IndexMeta:
        """Read ``index.json``.

        Raises:
            BundleError: it is missing, damaged or of another format.
        """
        try:
            data = json.loads(path.read_text())
            if data["format"] != FORMAT or data["kind"] != "index":
                raise BundleError(f"{path}: is of another format than this version reads ({FORMAT}); build the index again")
            data = unsealed(data)
            known = {one.name: data[one.name] for one in fields(cls) if one.name in data}
            return cls(**{**known, "space": Space.from_json(data["space"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path}: is missing or damaged ({error}); build the index again") from error


class IndexBundle:
    """An opened generation. Rows are 0 … M-1 in the order of the embeddings."""

    def __init__(
        self, path: Path, generation: str, meta: IndexMeta, ids: IdTable, vectors: Vectors, backend: Index, attributes: Attributes
    ) -> None:
        self.path = path
        self.generation = generation
        self.meta = meta
        self.ids = ids
        self.vectors = vectors
        self.backend = backend
        self.attributes = attributes

    @classmethod
    def open(
        cls, path: str | Path, registry: Registry, *, threads: int | None = None, options: Mapping[str, Any] | None = None
    ) -> IndexBundle:
        """Open the current generation of an index folder.

        A generation may be replaced and removed while it is opened; then the new one is taken.

        Args:
            path: the folder.
            registry: finds the backend.
            threads: threads a search may use; all there are when left out.
            options: of the backend, those that only a search reads (``IndexConfig.searching``), in place of what it was built with.

        Raises:
            BundleError: there is no index, or a file of it is damaged.
            PluginError: the backend's plugin is not here.
            UsageError: an option does not fit, or was fixed when the index was built.
        """
        out = Path(path)
        name = current_generation(out)
        while True:
            try:
                meta = IndexMeta.read(out / name / META)
                part = Part.from_json("index", meta.backend, registry, where=str(out / name / META))
                return cls.load(out / name, name, _for_search(part, meta, options, out), threads=threads)
            except (BundleError, OSError):
                again = current_generation(out)
                if again == name:
                    raise
                name = again

    @classmethod
    def load(cls, folder: Path, generation: str, backend: Part, *, threads: int | None = None) -> IndexBundle:
        """Open one generation's folder with the given backend.

        Raises:
            BundleError: a file is missing or damaged.
        """
        meta = IndexMeta.read(folder / META)
        if problem := check_digests(folder, dict(meta.files)):
            raise BundleError(f"{problem}; build the index again")
        space = meta.space
        context = IndexContext(meta.prefix or space.dim, space.metric, threads or available_threads())
        index = cast(Index, backend.create(context))
        index.load(folder / BACKEND)
        vectors, ids = map_vectors(folder / VECTORS), IdTable.open(folder / IDS)
        if not index.rows == len(ids) == len(vectors) == meta.rows or vectors.shape[1] != space.dim:
            raise BundleError(f"{folder}: ids, vectors and graph do not belong together; build the index again")
        return cls(folder.parent, generation, meta, ids, vectors, index, Attributes(folder / ATTRIBUTES))

    def moved(self, folder: Path) -> IndexBundle:
        """The same generation after its folder was renamed to ``folder``: what is open stays open, and is not checked again."""
        meta, attributes = IndexMeta.read(folder / META), Attributes(folder / ATTRIBUTES)
        return IndexBundle(folder.parent, self.generation, meta, self.ids, self.vectors, self.backend, attributes)

    @property
    def space(self) -> Space:
        """The space of the vectors."""
        return self.meta.space

    @property
    def rows(self) -> int:
        """Vectors, M."""
        return self.meta.rows

    @property
    def bundle_path(self) -> Path:
        """Folder of the bundle that made the vectors."""
        return Path(os.path.normpath(self.path / self.meta.bundle))

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None, exclude: Exclude | None = None) -> tuple[Rows, Vectors]:
        """The nearest rows of each query.

        Args:
            queries: float32 [Q, E], full width.
            k: neighbours wanted.
            allowed: bool [M], rows that may be returned.
            exclude: rows that single queries leave out.

        Returns:
            rows int64 [Q, K] and scores float32 [Q, K] (cosines or inner products), best first; K = min(k, rows allowed). Where so many
            rows are left out that fewer remain, the rest is row -1 with score -inf.

        Raises:
            UsageError: k is below 1 or larger than the index, or the queries are of another width or not finite.
        """
        queries = self._checked(queries, k)
        count = self.rows if allowed is None else int(allowed.sum())
        fetch = min(count, k + (0 if exclude is None else exclude.most))
        scan = self.rows <= _EXACT_ROWS or (allowed is not None and count < _EXACT_SHARE * self.rows)
        if scan or count == 0 or fetch - k > _OVERFETCH:
            rows = None if allowed is None else np.flatnonzero(allowed)
            return exact_top_k(queries, self.vectors, k, rows=rows, exclude=exclude)
        found, scores = self._search(queries, fetch, allowed)
        return (found, scores) if exclude is None else _without(found, scores, exclude, min(k, count), self.rows)

    def _checked(self, queries: Vectors, k: int) -> Vectors:
        if k < 1:
            raise UsageError(f"k = {k}: at least one neighbour must be asked for")
        if k > self.rows:
            raise UsageError(f"k = {k} is larger than the index, which holds {self.rows} rows; ask for at most {self.rows}")
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.space.dim:
            raise UsageError(f"queries have shape {list(queries.shape)}, but vectors of this index have width {self.space.dim}")
        if not np.isfinite(queries.sum()) and not np.isfinite(queries).all():
            raise UsageError(f"query {int(np.flatnonzero(~np.isfinite(queries).all(1))[0])} holds a number that is not finite")
        return unit_length(queries) if self.space.metric == "cosine" else queries

    def _search(self, queries: Vectors, k: int, allowed: Mask | None) -> tuple[Rows, Vectors]:
        """The backend's answer; with a prefix, its candidates ordered by full vectors."""
        prefix = self.meta.prefix
        if prefix is None:
            return self.backend.search(queries, k, allowed)
        short = cut(queries, prefix, cosine=self.space.metric == "cosine")
        candidates, _ = self.backend.search(short, max(k, self.backend.config.rescore or DEFAULT_RESCORE), allowed)
        return rescore(queries, self.vectors, candidates, k)


def _for_search(backend: Part, meta: IndexMeta, options: Mapping[str, Any] | None, path: Path) -> Part:
    """The backend with other options for searching."""
    if not options:
        return backend
    config = cast(IndexConfig, backend.config)
    may = config.searching
    if fixed := [key for key in options if key in type(config).model_fields and key not in may]:
        raise UsageError(
            f"{path}: option '{fixed[0]}' was fixed when the index was built; a search may change {', '.join(sorted(may))}: "
            "for others build the index again"
        )
    if "rescore" in options and meta.prefix is None:
        raise UsageError(f"{path}: searches whole vectors, so there is nothing to rescore; build it with a prefix, or leave 'rescore' out")
    return Part(backend.entry, backend.entry.parse(config.model_dump() | dict(options), where=str(path)))


def rescore(queries: Vectors, vectors: Vectors, candidates: Rows, k: int) -> tuple[Rows, Vectors]:
    """The best ``k`` of the candidates int64 [Q, R] by inner product with full vectors, best first."""
    width, step = min(k, candidates.shape[1]), max(1, _GATHERED // max(1, candidates.shape[1] * vectors.shape[1]))
    found = np.empty((len(queries), width), np.int64)
    scores = np.empty((len(queries), width), np.float32)
    for start in range(0, len(queries), step):
        rows = candidates[start : start + step]
        gathered = torch.from_numpy(np.asarray(vectors[rows]))
        products = torch.bmm(gathered, torch.from_numpy(queries[start : start + step]).unsqueeze(2)).squeeze(2)
        top, at = products.topk(width, dim=1)
        scores[start : start + step] = top.numpy()
        found[start : start + step] = np.take_along_axis(rows, at.numpy(), 1)
    return found, scores


def _without(found: Rows, scores: Vectors, exclude: Exclude, width: int, total: int) -> tuple[Rows, Vectors]:
    """Drop the rows that each query leaves out, keep the best ``width``."""
    keys = found + np.arange(len(found), dtype=np.int64)[:, None] * total
    out = np.isin(keys, exclude.values + exclude.queries * total)
    order = np.argsort(out, axis=1, kind="stable")[:, :width]
    out = np.take_along_axis(out, order, 1)
    found, scores = np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)
    return np.where(out, -1, found), np.where(out, np.float32(-np.inf), scores)


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
