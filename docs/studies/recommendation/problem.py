"""One data set, one split, one protocol: what every model of the study is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from embedkit.config.plan import Plan
from embedkit.data.queries import Queries
from embedkit.data.store import Store
from embedkit.evaluate.metrics import Floats, measure
from embedkit.evaluate.ranks import full_ranking
from embedkit_itemrec.configs_retrieval import RetrievalConfig
from embedkit_itemrec.interactions import Interactions

Score = Callable[[Queries, int, int], torch.Tensor]
"""Scores of the queries ``lo`` to ``hi``, [hi - lo, M]."""

METRICS = ("recall@20", "ndcg@20")
TUNED_ON = "ndcg@20"


@dataclass(frozen=True, eq=False)
class Problem:
    """Events, queries and what is excluded, as the run file says."""

    data: Interactions
    queries: dict[str, Queries]
    exclude_seen: bool

    @classmethod
    def of(cls, plan: Plan) -> Problem:
        """Open the tables of a run file that has one ``retrieval`` evaluator."""
        options = plan.evaluators[0].config
        assert isinstance(options, RetrievalConfig)
        store = Store.open(plan, log=print)
        table = store.schema.towers[options.target].table
        events = options.events or next(name for name, one in store.events.items() if table in one.joins)
        queries = {split: store.queries(events, table, split) for split in ("valid", "test")}
        return cls(Interactions.of(store, events, table), queries, options.exclude_seen)

    def measure(self, score: Score, split: str, seed: int = 0) -> Floats:
        """``METRICS`` of each query, [Q, 2]."""
        asked = self.queries[split]
        seen = asked.seen if self.exclude_seen else None
        found = full_ranking(lambda lo, hi: score(asked, lo, hi), asked.targets, self.data.items, seen=seen, seed=seed)
        return np.stack(list(measure(found.ranks, METRICS).values()), axis=1)
