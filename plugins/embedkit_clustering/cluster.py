"""The ``cluster`` stage: k-means on embeddings (G-SimCLR: arXiv 2009.12007, section 3; MCL: arXiv 2402.11816, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from embedkit.errors import UsageError
from embedkit.evaluate.vectors import row_vectors
from embedkit.files import atomic_file
from embedkit.training.compute import autocast_type, derive_seed
from embedkit.training.stages import Stage, StageContext, StageResult
from embedkit_clustering.configs import ClusterConfig

CLUSTERS = "clusters"
"""Name of the stage's table."""


class ClusterStage(Stage):
    """K-means on the embeddings of a table's train rows, brought to unit length. The model stays as it is.

    Writes ``clusters-<stage>.parquet`` into the run's folder: ``row`` (number in the table), ``id`` (where the table has a key),
    ``cluster`` (of this stage) and ``group``, which also tells apart what the stages of ``combine`` did:
    ``group = ((c_0) * K_1 + c_1) * K_2 + …`` with clusters c_i of K_i.
    """

    config: ClusterConfig

    def run(self, context: StageContext) -> StageResult:
        """Embed, cluster, write.

        Raises:
            UsageError: fewer train rows than clusters, a stage to combine with that is none, or scikit-learn is missing.
        """
        store, tower = context.store, self.config.tower
        table = store.tables[store.schema.towers[tower].table]
        rows = np.flatnonzero(np.asarray(table.split) == 0).astype(np.int64)
        if len(rows) < self.config.k:
            raise UsageError(
                f"stages.{context.index}.k: {self.config.k} clusters of {len(rows)} train rows of table '{table.name}': choose fewer"
            )
        precision = autocast_type(context.plan.config.compute) or torch.float32
        vectors = row_vectors(context.model, store, tower, rows, precision=precision).cpu().numpy()
        cluster, inertia = self._cluster(vectors, derive_seed(context.seed, "k-means"))
        group = self._combined(cluster, rows, table.name, context)
        frame = pl.DataFrame({"row": rows, "cluster": cluster, "group": group})
        ids = table.ids()
        if ids is not None:
            frame.insert_column(1, pl.Series("id", ids.take(rows)))
        path = context.folder.path / f"clusters-{context.name}.parquet"
        with atomic_file(path) as beside:
            frame.write_parquet(beside)
        sizes = np.unique(group, return_counts=True)[1]
        spread = f"{sizes.min():,} to {sizes.max():,} rows (median {int(np.median(sizes)):,})"
        context.log(f"{context.name}: {len(sizes)} groups of {spread}, written to {path.name}")
        figures = {"inertia": inertia, "groups": float(len(sizes)), "smallest": float(sizes.min()), "largest": float(sizes.max())}
        return StageResult(figures, {CLUSTERS: path})

    def _cluster(self, vectors: Any, seed: int) -> tuple[Any, float]:
        """The cluster of each row, int64 [N], and the mean squared distance to its centre."""
        try:
            from sklearn.cluster import KMeans, MiniBatchKMeans
        except ImportError:
            raise UsageError('the stage cluster needs scikit-learn, which is not installed: pip install "embedkit[sklearn]"') from None
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(length > 0, length, 1.0)
        kind = KMeans if self.config.method == "full" else MiniBatchKMeans
        found = kind(n_clusters=self.config.k, n_init=self.config.restarts, random_state=seed % 2**32).fit(vectors)
        return found.labels_.astype(np.int64), float(found.inertia_) / len(vectors)

    def _combined(self, cluster: Any, rows: Any, table: str, context: StageContext) -> Any:
        """The groups of earlier stages, each cut by this stage's clusters."""
        group = np.zeros(len(rows), np.int64)
        for name in self.config.combine:
            earlier = pl.read_parquet(clusters_of(context.tables, name, f"stages.{context.index}.combine"))
            if not np.array_equal(earlier["row"].to_numpy(), rows):
                raise UsageError(f"stages.{context.index}.combine: stage '{name}' clustered rows of another table than '{table}'")
            mine = earlier["cluster"].to_numpy()
            group = group * (int(mine.max()) + 1) + mine
        return group * self.config.k + cluster


def clusters_of(tables: Mapping[str, Mapping[str, Path]], stage: str, where: str) -> Path:
    """The table of a ``cluster`` stage.

    Raises:
        UsageError: no earlier stage of that name wrote one.
    """
    found = tables.get(stage, {}).get(CLUSTERS)
    if found is None:
        there = ", ".join(name for name, mine in tables.items() if CLUSTERS in mine) or "none"
        raise UsageError(f"{where}: no earlier stage '{stage}' made clusters; those that did: {there}")
    return found
