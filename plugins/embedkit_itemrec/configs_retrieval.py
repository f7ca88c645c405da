"""Options of the ``retrieval`` evaluator. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from embedkit.component import Config
from embedkit.config.references import FieldName, TableName, TowerName

MetricName = Literal["recall", "ndcg", "mrr", "map", "hit", "precision", "coverage", "novelty", "popularity_bias", "gini"]
SliceName = Literal["popularity", "tail", "cold", "history", "short"]
BaselineName = Literal["popularity", "repeat_last", "markov", "item_knn", "ease", "history_and_group"]


class RetrievalConfig(Config):
    """How well the query tower finds the items that come next, among all rows of the target tower's table."""

    query: TowerName
    """Tower whose embeddings are the queries."""
    target: TowerName
    """Tower whose rows are ranked; its table is the list of candidates, all of it."""
    exclude_seen: bool
    """Whether items of the query's history are no candidates. No default: figures with and without it cannot be
    compared."""
    events: TableName | None = None
    """Event table that the queries are taken from; told from the towers where only one joins the target's table."""
    k: list[Annotated[int, Field(ge=1)]] = Field([10], min_length=1)
    """Cut-offs."""
    metrics: list[MetricName] = Field(["recall", "ndcg", "mrr", "map", "hit", "coverage", "novelty", "popularity_bias"], min_length=1)
    """What to report at each cut-off. Of what is shown, right or not: ``coverage`` (share of the candidates that anybody is shown),
    ``novelty`` (mean bits of self-information), ``popularity_bias`` (mean popularity over that of the histories), ``gini`` (0: all items
    are shown alike)."""
    slices: list[SliceName] = []
    """``popularity`` (head, mid and tail of the targets), ``tail`` (targets with few train events), ``cold`` (targets without one),
    ``history`` (its length), ``short`` (short ones)."""
    tail_events: int = Field(5, ge=1)
    """tail: train events that a target may have at most."""
    short_history: int = Field(5, ge=0)
    """short: events that a history may hold at most."""
    target_field: FieldName | None = None
    """A category field of the events that says which of them are targets, such as the type of event."""
    target_values: list[str | int | bool] = []
    """The values of ``target_field`` that are targets, such as ``["purchase"]``; histories hold the other events too."""
    prefixes: bool | list[Annotated[int, Field(ge=1)]] = False
    """Measure the model also by the first numbers of its embeddings alone: true for the nested widths of the heads, or a list of
    widths."""
    baselines: list[BaselineName] | None = None
    """Counting baselines to report beside the model. Left out: ``popularity``, and where events have an order
    ``repeat_last`` and ``markov``."""
    neighbors: int = Field(100, ge=1)
    """item_knn: similar items kept for each item."""
    l2: float = Field(500.0, gt=0)
    """ease: weight of the squared norm."""
    group: FieldName | None = None
    """history_and_group: the category field that says which group a query belongs to."""
    own_weight: float = Field(1.0, ge=0)
    """history_and_group: in how many events of the group one event of the query's own history counts."""

    @model_validator(mode="after")
    def _together(self) -> RetrievalConfig:
        if "history_and_group" in (self.baselines or ()) and self.group is None:
            raise ValueError("the baseline 'history_and_group' needs 'group', the field to count in")
        if (self.target_field is None) != (not self.target_values):
            raise ValueError("give 'target_field' and 'target_values' together: which events are targets")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Every figure reported, such as ``ndcg@10``."""
        return tuple(f"{metric}@{k}" for k in self.k for metric in self.metrics)
