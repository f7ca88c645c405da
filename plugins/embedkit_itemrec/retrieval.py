"""The ``retrieval`` evaluator: full ranking of the model and of counting baselines on the same queries (decisions 20-22)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl

from embedkit.component import Config
from embedkit.errors import UsageError
from embedkit.evaluate import slices
from embedkit.evaluate.base import Estimate, EvaluateContext, Evaluator
from embedkit.evaluate.estimate import interval
from embedkit.evaluate.metrics import Bools, Floats, Ints, measure
from embedkit.evaluate.ranks import Ranking, Score
from embedkit.evaluate.table import query_table
from embedkit_itemrec import baselines as kinds
from embedkit_itemrec.configs_retrieval import BaselineName, RetrievalConfig
from embedkit_itemrec.figures import Figures
from embedkit_itemrec.interactions import Interactions
from embedkit_itemrec.task import ModelScores, Task, category_codes, nested_widths

if TYPE_CHECKING:
    from embedkit.data.store import Store

Rankings = Mapping[str, Ranking]
Label = tuple[str, int | None]
"""Who ranked: a model's name, and the prefix of the embeddings; None for all of them."""


class Retrieval(Evaluator):
    """Recall, NDCG, MRR, MAP, hit rate and precision with 95% intervals over queries, and what is shown: coverage, novelty, bias.

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
        """Rank, then measure. ``quick`` measures the model alone, without intervals, slices and prefixes.

        Raises:
            UsageError: the towers have no event table in common, a baseline needs an order that the events lack, or a prefix is wider
                than the embeddings.
            DataError: the split has no queries, or the model's embeddings are not finite.
        """
        widths = nested_widths(self.config, context)
        task = Task.of(self.config, context)
        frequencies: Ints = np.asarray(context.store.frequencies(task.table), dtype=np.int64)
        figures = Figures(self.config, task, frequencies, context.seed)
        model = ModelScores(self.config, context, task, remember=bool(widths))
        if context.quick:
            return self._quick(figures, figures.rank(model))
        scorers: dict[str, Score] = {"model": model} | self._baselines(context.store, task)
        rankings = {name: figures.rank(score) for name, score in scorers.items()}
        values = {name: figures.a_query(ranking) for name, ranking in rankings.items()}
        users = task.queries.users
        estimates = list(self._estimates(figures, rankings, values, users, context.seed))
        nested = {("model", width): figures.a_query(figures.rank(model.prefix(width))) for width in widths}
        estimates += _means(nested, users, context.seed)
        for name, mask in self._slices(task, frequencies):
            estimates += _slice(name, mask, figures, rankings, users, context.seed)
        context.save_table(f"queries-{context.split}", _table(task, rankings, values))
        return estimates

    def _quick(self, figures: Figures, ranking: Ranking) -> list[Estimate]:
        means = {name: float(v.mean()) for name, v in figures.a_query(ranking).items()} | figures.together(ranking)
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
        if name == "ease":
            return kinds.Ease(data, self.config.l2)
        if name == "history_and_group":
            assert self.config.group is not None
            group = category_codes(store, task.events, self.config.group, option="group")
            return kinds.HistoryAndGroup(data, group, self.config.own_weight)
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

    def _estimates(
        self, figures: Figures, rankings: Rankings, values: Mapping[str, dict[str, Floats]], users: Ints, seed: int
    ) -> Iterator[Estimate]:
        """Figures over all queries, with what is reported beside them; a figure over nothing is left out."""
        means = _means({(model, None): found for model, found in values.items()}, users, seed)
        for model, ranking in rankings.items():
            queries, targets = len(ranking.ranks), len(ranking.ranks.values)
            shown = {name: Estimate(name, v, None, None, queries, model) for name, v in figures.together(ranking).items()}
            shown |= {estimate.metric: estimate for estimate in means if estimate.model == model}
            yield from (shown[name] for name in self.config.names if not np.isnan(shown[name].value))
            yield Estimate("tied", float(ranking.tied.mean()), None, None, targets, model)
            yield Estimate("unranked", float(ranking.unranked.mean()), None, None, targets, model)

    def _slices(self, task: Task, frequencies: Ints) -> Iterator[tuple[str, Bools]]:
        values, offsets = task.targets
        lengths = task.history_lengths()
        for kind in self.config.slices:
            if kind == "popularity":
                found = slices.popularity(frequencies, values)
            elif kind == "tail":
                found = slices.tail(frequencies, values, self.config.tail_events)
            elif kind == "cold":
                found = slices.cold(frequencies, values)
            elif kind == "short":
                found = slices.short(lengths, offsets, self.config.short_history)
            else:
                found = slices.history(lengths, offsets)
            yield from ((f"{kind}:{part}", mask) for part, mask in found.items())


def _slice(name: str, mask: Bools, figures: Figures, rankings: Rankings, users: Ints, seed: int) -> list[Estimate]:
    """Metrics of ranks over the relevant items of a slice."""
    if not mask.any():
        return []
    kept = {model: ranking.ranks.select(mask) for model, ranking in rankings.items()}
    queries = next(iter(kept.values()))[1]
    return _means({(model, None): measure(ranks, figures.of_ranks) for model, (ranks, _) in kept.items()}, users[queries], seed, name)


def _table(task: Task, rankings: Rankings, values: Mapping[str, dict[str, Floats]]) -> pl.DataFrame:
    """One row a query and model: the query, its relevant items and their ranks, and every metric."""
    queries = task.queries
    return pl.concat(
        query_table(model, queries.ids, queries.users, task.targets, ranking.ranks, values[model]) for model, ranking in rankings.items()
    )


def _means(values: Mapping[Label, Mapping[str, Floats]], users: Ints, seed: int, part: str | None = None) -> list[Estimate]:
    """Means with intervals of several models on the same queries, resampled together."""
    labels = [(model, prefix, name) for (model, prefix), found in values.items() for name in found]
    if not labels:
        return []
    columns: Floats = np.stack([column for found in values.values() for column in found.values()], axis=1)
    found = interval(columns, seed=seed, users=users)
    ends = zip(found.low, found.high, strict=True)
    bounds = [(None, None) if np.isnan(low) else (float(low), float(high)) for low, high in ends]
    return [
        Estimate(name, float(value), low, high, len(columns), model, part, prefix=prefix)
        for (model, prefix, name), value, (low, high) in zip(labels, found.value, bounds, strict=True)
    ]
