"""What a retrieval evaluation measures of a ranking: figures a query, and figures of all queries together."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from embedkit.evaluate import shown
from embedkit.evaluate.metrics import METRICS, Floats, Ints, coverage, measure
from embedkit.evaluate.ranks import Ranking, Score, full_ranking
from embedkit_itemrec.configs_retrieval import RetrievalConfig
from embedkit_itemrec.task import Task


class Figures:
    """Ranks and measures.

    Args:
        config: metrics and cut-offs.
        task: queries and items.
        frequencies: train events of each item, [M].
        seed: of the order of equal scores.
    """

    def __init__(self, config: RetrievalConfig, task: Task, frequencies: Ints, seed: int) -> None:
        self._config, self._task, self._seed = config, task, seed
        self._popularity = frequencies.astype(np.float64)
        self._frequencies = frequencies
        self.of_ranks = tuple(name for name in config.names if name.partition("@")[0] in METRICS)
        self.of_queries = tuple(name for name in config.names if name.partition("@")[0] in {*METRICS, "novelty"})

    def rank(self, score: Score) -> Ranking:
        """Rank all candidates by a model, and keep of what is shown what the metrics want."""
        metrics = self._config.metrics
        worth: dict[str, Floats] = {}
        if "novelty" in metrics:
            worth["novelty"] = shown.self_information(self._frequencies)
        if "popularity_bias" in metrics:
            worth["popularity"] = self._popularity
        ks = self._config.k if worth or {"coverage", "gini"} & set(metrics) else ()
        with torch.inference_mode():
            return full_ranking(score, self._task.targets, self._task.items, seen=self._task.seen, ks=ks, worth=worth, seed=self._seed)

    def a_query(self, ranking: Ranking) -> dict[str, Floats]:
        """The figures that are means over queries: name → [Q].

        A query that is shown nothing takes part in ``novelty`` with the mean of the others, which leaves the mean as it is.
        """
        found = measure(ranking.ranks, self.of_ranks)
        found |= {f"novelty@{k}": _filled(values) for k, values in ranking.worth.get("novelty", {}).items()}
        return {name: found[name] for name in self.of_queries}

    def together(self, ranking: Ranking) -> dict[str, float]:
        """The figures of all queries together, among them some that were not asked for."""
        found = {f"coverage@{k}": coverage(mask) for k, mask in ranking.covered.items()}
        found |= {f"gini@{k}": shown.gini(exposure) for k, exposure in ranking.exposure.items()}
        for k, popularity in ranking.worth.get("popularity", {}).items():
            found[f"popularity_bias@{k}"] = shown.popularity_bias(popularity, self._usual)
        return found

    @cached_property
    def _usual(self) -> Floats:
        """Mean popularity of the items of each query's history, [Q]."""
        return shown.mean_of(self._popularity, self._task.queries.seen)


def _filled(values: Floats) -> Floats:
    there = values[~np.isnan(values)]
    return np.where(np.isnan(values), there.mean() if len(there) else 0.0, values)
