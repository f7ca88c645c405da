"""The ``retrieval`` evaluator: full ranking of the model and of counting baselines on the same queries (decisions 20-22)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl
import torch

from embedkit.component import Config
from embedkit.errors import UsageError
from embedkit.evaluate import slices
from embedkit.evaluate.base import Estimate, EvaluateContext, Evaluator
from embedkit.evaluate.estimate import interval
from embedkit.evaluate.metrics import Bools, Floats, Ints, Ranks, coverage, measure
from embedkit.evaluate.ranks import Ranking, Score, full_ranking
from embedkit.evaluate.table import query_table
from embedkit_itemrec import baselines as kinds
from embedkit_itemrec.configs_retrieval import BaselineName, RetrievalConfig
from embedkit_itemrec.interactions import Interactions
from embedkit_itemrec.task import Task, model_scores

if TYPE_CHECKING:
    from embedkit.data.store import Store

Rankings = Mapping[str, Ranking]


class Retrieval(Evaluator):
    """Recall, NDCG, MRR, MAP, hit rate and precision with 95% intervals over queries, and coverage of the catalogue.

    Candidates are all rows of the target tower's table, those without a train event too: the model may rank them by
    their features, counts cannot. A relevant item that is not in the table is a miss for every model, and so is one
    that ``exclude_seen`` takes out of the candidates; ``unranked`` reports the share of both, ``tied`` the share of
    relevant items whose score another candidate shares, which is ranked by lot.
    """

    ORDERED: ClassVar[tuple[BaselineName, ...]] = ("popularity", "repeat_last", "markov")

    @classmethod
    def metrics(cls, config: Config) -> tuple[str, ...]:
        """``recall@10`` and so on: every metric at every cut-off."""
        assert isinstance(config, RetrievalConfig)
        return config.names

    def run(self, context: EvaluateContext) -> list[Estimate]:
        """Rank, then measure. ``quick`` measures the model alone, without intervals and slices.

        Raises:
            UsageError: the towers have no event table in common, or a baseline needs an order that the events lack.
            DataError: the split has no queries, or the model's embeddings are not finite.
        """
        task = Task.of(self.config, context)
        scorers = {"model": model_scores(self.config, context, task)}
        if context.quick:
            return self._quick(self._rank(scorers["model"], task, context.seed))
        scorers |= self._baselines(context.store, task)
        rankings = {name: self._rank(score, task, context.seed) for name, score in scorers.items()}
        users = task.queries.users
        estimates = list(self._estimates(rankings, users, context.seed))
        for name, mask in self._slices(context.store, task):
            estimates += self._slice(name, mask, rankings, users, context.seed)
        context.save_table(f"queries-{context.split}", self._table(task, rankings))
        return estimates

    def _rank(self, score: Score, task: Task, seed: int) -> Ranking:
        ks = self.config.k if "coverage" in self.config.metrics else ()
        with torch.inference_mode():
            return full_ranking(score, task.targets, task.items, seen=task.seen, ks=ks, seed=seed)

    def _quick(self, ranking: Ranking) -> list[Estimate]:
        values = measure(ranking.ranks, self._per_query)
        means = {name: float(v.mean()) for name, v in values.items()} | self._coverage(ranking)
        return [Estimate(name, means[name], None, None, len(ranking.ranks)) for name in self.config.names]

    def _baselines(self, store: Store, task: Task) -> dict[str, Score]:
        """Fit the baselines; only train events are counted."""
        data = Interactions.of(store, task.events, task.table)
        names = self.config.baselines
        if names is None:
            names = self.ORDERED if data.moment is not None else ("popularity",)
        return {name: self._score(self._fit(name, data, store, task), task) for name in names}

    def _fit(self, name: BaselineName, data: Interactions, store: Store, task: Task) -> kinds.Baseline:
        if name == "item_knn":
            return kinds.ItemKnn(data, self.config.neighbors)
        if name == "history_and_group":
            return kinds.HistoryAndGroup(data, group_codes(store, task.events, self.config.group), self.config.own_weight)
        plain: dict[str, type[kinds.Popularity] | type[kinds.RepeatLast] | type[kinds.Markov]]
        plain = {"popularity": kinds.Popularity, "repeat_last": kinds.RepeatLast, "markov": kinds.Markov}
        kind = plain[name]
        if kind.needs_order and data.moment is None:
            raise UsageError(
                f"evaluate: the baseline '{name}' needs events in order, and table '{task.events}' declares neither "
                "time nor position; leave it out of baselines"
            )
        return kind(data)

    @staticmethod
    def _score(baseline: kinds.Baseline, task: Task) -> Score:
        return lambda lo, hi: baseline.score(task.queries, lo, hi)

    @property
    def _per_query(self) -> list[str]:
        """The figures that are means over queries."""
        return [name for name in self.config.names if not name.startswith("coverage@")]

    @staticmethod
    def _coverage(ranking: Ranking) -> dict[str, float]:
        return {f"coverage@{k}": coverage(mask) for k, mask in ranking.covered.items()}

    def _estimates(self, rankings: Rankings, users: Ints, seed: int) -> Iterator[Estimate]:
        """Figures over all queries, with what is reported beside them."""
        means = _means({name: r.ranks for name, r in rankings.items()}, users, self._per_query, seed, None)
        for model, ranking in rankings.items():
            queries, targets = len(ranking.ranks), len(ranking.ranks.values)
            shown = {name: Estimate(name, v, None, None, queries, model) for name, v in self._coverage(ranking).items()}
            shown |= {estimate.metric: estimate for estimate in means if estimate.model == model}
            yield from (shown[name] for name in self.config.names)
            yield Estimate("tied", float(ranking.tied.mean()), None, None, targets, model)
            yield Estimate("unranked", float(ranking.unranked.mean()), None, None, targets, model)

    def _slice(self, name: str, mask: Bools, rankings: Rankings, users: Ints, seed: int) -> list[Estimate]:
        if not mask.any():
            return []
        kept = {model: ranking.ranks.select(mask) for model, ranking in rankings.items()}
        queries = next(iter(kept.values()))[1]
        return _means({m: ranks for m, (ranks, _) in kept.items()}, users[queries], self._per_query, seed, name)

    def _slices(self, store: Store, task: Task) -> Iterator[tuple[str, Bools]]:
        values, offsets = task.targets
        for kind in self.config.slices:
            if kind == "history":
                found = slices.history(task.history_lengths(), offsets)
            else:
                frequencies: Ints = np.asarray(store.frequencies(task.table), dtype=np.int64)
                cut = slices.popularity if kind == "popularity" else slices.cold
                found = cut(frequencies, values)
            yield from ((f"{kind}:{part}", mask) for part, mask in found.items())

    def _table(self, task: Task, rankings: Rankings) -> pl.DataFrame:
        """One row a query and model: the query, its relevant items and their ranks, and every metric."""
        frames = [
            query_table(model, task.queries.ids, task.queries.users, task.targets, r.ranks, measure(r.ranks, self._per_query))
            for model, r in rankings.items()
        ]
        return pl.concat(frames)


def _means(ranks: Mapping[str, Ranks], users: Ints, names: list[str], seed: int, part: str | None) -> list[Estimate]:
    """Means with intervals of several models on the same queries, resampled together."""
    if not names:
        return []
    columns: Floats = np.stack([v for r in ranks.values() for v in measure(r, names).values()], axis=1)
    found = interval(columns, seed=seed, users=users)
    labels = [(model, name) for model in ranks for name in names]
    ends = zip(found.low, found.high, strict=True)
    bounds = [(None, None) if np.isnan(low) else (float(low), float(high)) for low, high in ends]
    return [
        Estimate(name, float(value), low, high, len(columns), model, part)
        for (model, name), value, (low, high) in zip(labels, found.value, bounds, strict=True)
    ]


def group_codes(store: Store, events: str, field: str) -> Ints:
    """The code of a category field for each event, [N]; 0 where it has none or one that no train row has.

    Raises:
        UsageError: the field is not one category a row of the event table or of a table that it joins.
    """
    spec = store.schema.fields.get(field)
    if spec is None or not (spec.table == events or spec.table in store.events[events].joins):
        raise UsageError(f"evaluate: group = '{field}' is no field of table '{events}' or of a table that it joins")
    column = store.batch({events: torch.arange(store.tables[events].rows)}, (field,)).columns[field]
    if column.ragged or column.values.is_floating_point() or column.values.dim() != 1:
        raise UsageError(f"evaluate: group = '{field}' has type {spec.type}; a group is one category a row")
    codes = column.values if column.present is None else column.values.masked_fill(~column.present, 0)
    return np.asarray(codes.numpy(), dtype=np.int64)
