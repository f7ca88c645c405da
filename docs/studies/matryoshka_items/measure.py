"""Recall of a trained run's vectors: whole, cut to their first numbers, and rotated by PCA before they are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from embedkit.api import open_store
from embedkit.bundle import load_bundle
from embedkit.data.queries import Queries
from embedkit.data.store import Store
from embedkit.evaluate.metrics import Floats, measure
from embedkit.evaluate.ranks import Score, full_ranking
from embedkit.evaluate.vectors import query_vectors, row_vectors
from embedkit.files import atomic_file
from embedkit.host import Host
from embedkit.launch import reopen
from embedkit.nn.unit import unit
from embedkit_itemrec.configs_retrieval import RetrievalConfig

METRIC = "recall@20"
VARIANTS = {
    f"{'centred' if centred else 'uncentred'}, {'unit length' if normalized else 'as projected'}": (centred, normalized)
    for centred, normalized in product((False, True), (True, False))
}
"""PCA: whether the items' mean is subtracted (from items and queries), and whether what is left is brought to unit length again."""


@dataclass(frozen=True, eq=False)
class Rotation:
    """Principal axes of item vectors: ``mean`` [E] (zeros where not centred), ``axes`` [E, E], one a row, the strongest first."""

    mean: Tensor
    axes: Tensor

    @classmethod
    def of(cls, items: Tensor, centred: bool) -> Rotation:
        """Fit on item vectors, [M, E]; uncentred, the first axes keep the most of the dot products (Eckart and Young 1936)."""
        exact = items.double()
        mean = exact.mean(0) if centred else torch.zeros_like(exact[0])
        return cls(mean, torch.linalg.svd(exact - mean, full_matrices=False).Vh)

    def cut(self, vectors: Tensor, width: int, normalized: bool) -> Tensor:
        """The first ``width`` coordinates, [..., E] → [..., width]."""
        found = ((vectors.double() - self.mean) @ self.axes[:width].T).float()
        return unit(found) if normalized else found


class Asked:
    """The queries of a split, their vectors [Q, E], and what is excluded, as the run's first evaluator says."""

    def __init__(self, store: Store, options: RetrievalConfig, split: str) -> None:
        table = store.schema.towers[options.target].table
        events = options.events or next(name for name, one in store.events.items() if table in one.joins)
        self.queries: Queries = store.queries(events, table, split)
        self.items = store.tables[table].rows
        self._seen = self.queries.seen if options.exclude_seen else None

    def recall(self, score: Score) -> Floats:
        """``METRIC`` of each query, [Q]."""
        ranking = full_ranking(score, self.queries.targets, self.items, seen=self._seen)
        return measure(ranking.ranks, (METRIC,))[METRIC]

    def recall_of(self, queries: Tensor, items: Tensor) -> Floats:
        """That of dot products."""
        return self.recall(lambda lo, hi: queries[lo:hi] @ items.T)


class Trained:
    """A finished run, ready to be asked."""

    def __init__(self, folder: Path, host: Host) -> None:
        plan, run = reopen(folder, host)
        options = plan.evaluators[0].config
        assert isinstance(options, RetrievalConfig)
        bundle = load_bundle(run.bundle, host.registry)
        self._options, self._model, self._store = options, bundle.model, open_store(bundle, host.registry)
        self._asked: dict[str, Asked] = {}

    def asked(self, split: str) -> Asked:
        """What a split asks."""
        if split not in self._asked:
            self._asked[split] = Asked(self._store, self._options, split)
        return self._asked[split]

    @cached_property
    def items(self) -> Tensor:
        """Vectors of all items, of unit length, [M, E]."""
        return row_vectors(self._model, self._store, self._options.target)

    def queries(self, split: str) -> Tensor:
        """Vectors of a split's queries, of unit length, [Q, E]."""
        asked = self.asked(split).queries
        return query_vectors(self._model, self._store, asked, self._options.query, 0, len(asked))

    def cuts(self, split: str, widths: Sequence[int]) -> dict[str, Floats]:
        """``cut <width>`` → recall of the first numbers, brought to unit length again."""
        asked, queries = self.asked(split), self.queries(split)
        return {f"cut {width}": asked.recall_of(unit(queries[:, :width]), unit(self.items[:, :width])) for width in widths}

    def choose_pca(self, widths: Sequence[int]) -> dict[int, dict[str, float]]:
        """For each width, ``VARIANTS`` with their recall on the validation queries, the best first."""
        asked, queries, found = self.asked("valid"), self.queries("valid"), {width: dict[str, float]() for width in widths}
        for name, (centred, normalized) in VARIANTS.items():
            rotation = Rotation.of(self.items, centred)
            for width in widths:
                pair = [rotation.cut(vectors, width, normalized) for vectors in (queries, self.items)]
                found[width][name] = float(asked.recall_of(*pair).mean())
        return {width: dict(sorted(values.items(), key=lambda one: -one[1])) for width, values in found.items()}

    def pca(self, split: str, chosen: dict[int, str]) -> dict[str, Floats]:
        """``pca <width>`` → recall of the principal coordinates, by the variant that was chosen for the width."""
        asked, queries, found = self.asked(split), self.queries(split), {}
        for width, name in chosen.items():
            centred, normalized = VARIANTS[name]
            rotation = Rotation.of(self.items, centred)
            found[f"pca {width}"] = asked.recall_of(*(rotation.cut(vectors, width, normalized) for vectors in (queries, self.items)))
        return found

    def popularity(self, split: str) -> dict[str, Floats]:
        """``popularity`` → recall of the items with the most train events."""
        counts = self._store.frequencies(self._store.schema.towers[self._options.target].table).float()
        return {"popularity": self.asked(split).recall(lambda lo, hi: counts.repeat(hi - lo, 1))}

    def write(self, path: Path, split: str, columns: dict[str, Floats]) -> None:
        """Keep figures a query as Parquet: its id, its user, and ``columns``."""
        queries = self.asked(split).queries
        with atomic_file(path) as beside:
            pl.DataFrame({"query": queries.ids, "user": queries.users, **columns}).write_parquet(beside)
