"""What a retrieval evaluation asks: queries, their relevant items, what is excluded; and the model's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from embedkit.errors import DataError, UsageError
from embedkit.evaluate.base import EvaluateContext
from embedkit.evaluate.metrics import Ints
from embedkit.evaluate.ranks import Ragged, Score
from embedkit_itemrec.configs_retrieval import RetrievalConfig

if TYPE_CHECKING:
    from embedkit.data.batch import Batch
    from embedkit.data.queries import Queries
    from embedkit.data.store import Store

_ENCODE_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Task:
    """Queries of one split.

    Attributes:
        queries: as the store gives them.
        events: event table they come from.
        table: table whose rows are ranked.
        items: number of its rows M.
        targets: relevant item rows of each query, distinct; -1 where the item is not in the table.
        seen: item rows that are no candidates; None where all are.
    """

    queries: Queries
    events: str
    table: str
    items: int
    targets: Ragged
    seen: Ragged | None

    @classmethod
    def of(cls, config: RetrievalConfig, context: EvaluateContext) -> Task:
        """Take the queries of the context's split.

        Raises:
            UsageError: no single event table between the two towers.
            DataError: the split has no queries.
        """
        store = context.store
        table = store.schema.towers[config.target].table
        events = _event_table(config, store, table)
        queries = store.queries(events, table, context.split, max_queries=context.max_queries, seed=context.seed)
        if not len(queries):
            raise DataError(
                f"table '{events}': its {context.split} split has no query with a '{table}' item; "
                f"give [tables.{events}] a split with more {context.split} events"
            )
        return cls(queries, events, table, store.tables[table].rows, queries.targets, queries.seen if config.exclude_seen else None)

    def history_lengths(self) -> Ints:
        """Events in each query's history, [Q]."""
        return self.queries.stop - self.queries.start


def embed_rows(context: EvaluateContext, table: str, tower: str) -> Tensor:
    """Embeddings of all rows of a table by one tower, float32 [M, E] on the device."""
    store, fields = context.store, context.store.schema.towers[tower].fields
    rows = store.tables[table].rows
    parts = []
    for lo in range(0, rows, _ENCODE_ROWS):
        batch = store.batch({table: torch.arange(lo, min(lo + _ENCODE_ROWS, rows))}, fields)
        parts.append(_encode(context, batch, tower))
    return torch.cat(parts)


def model_scores(config: RetrievalConfig, context: EvaluateContext, task: Task) -> Score:
    """Scores by the model: the dot product of the query's and the items' embeddings."""
    items = embed_rows(context, task.table, config.target).T
    fields = context.store.schema.towers[config.query].fields

    def score(lo: int, hi: int) -> Tensor:
        parts = []
        for at in range(lo, hi, _ENCODE_ROWS):
            batch = context.store.query_batch(task.queries, at, min(at + _ENCODE_ROWS, hi), fields)
            parts.append(_encode(context, batch, config.query))
        return torch.cat(parts) @ items

    return score


def _encode(context: EvaluateContext, batch: Batch, tower: str) -> Tensor:
    on = context.precision != torch.float32
    with torch.autocast(context.device.type, context.precision, enabled=on):
        vectors = context.model.encode(batch.to(context.device), tower).float()
    if not bool(torch.isfinite(vectors).all()):
        raise DataError(
            f"tower '{tower}': an embedding is not finite, so nothing can be ranked; training diverged, try a smaller learning rate"
        )
    return vectors


def _event_table(config: RetrievalConfig, store: Store, table: str) -> str:
    """The event table whose events point at rows of ``table``."""
    found: list[str] = [name for name, events in store.events.items() if table in events.joins]
    if config.events is not None:
        if config.events not in found:
            raise UsageError(
                f"evaluate: events = '{config.events}' is not an event table that joins '{table}'; there is {', '.join(found) or 'none'}"
            )
        return config.events
    own: str = store.schema.towers[config.query].table
    if own in found:
        return own
    if len(found) != 1:
        raise UsageError(
            f"evaluate: {len(found)} event tables join '{table}' ({', '.join(found) or 'none'}); "
            'retrieval needs one: name it with events = "…"'
        )
    return found[0]
