"""What a retrieval evaluation asks: queries, their relevant items, what is excluded; and the model's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from embedkit.errors import DataError, UsageError, suggest
from embedkit.evaluate.base import EvaluateContext
from embedkit.evaluate.metrics import Bools, Ints
from embedkit.evaluate.ranks import Ragged, Score
from embedkit.evaluate.vectors import query_vectors, row_vectors
from embedkit.nn.unit import unit
from embedkit_itemrec.configs_retrieval import RetrievalConfig

if TYPE_CHECKING:
    from embedkit.data.queries import Queries
    from embedkit.data.store import Store

_AHEAD = 4096
"""Queries embedded at a time, however few are ranked at a time."""


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
            UsageError: no single event table between the two towers, or target_field or target_values are unknown.
            DataError: the split has no queries.
        """
        store = context.store
        table = store.schema.towers[config.target].table
        events = _event_table(config, store, table)
        chosen = {} if config.target_field is None else {"keep": _chosen(config, store, events)}
        queries = store.queries(events, table, context.split, max_queries=context.max_queries, seed=context.seed, **chosen)
        if not len(queries):
            raise DataError(
                f"table '{events}': its {context.split} split has no query with a '{table}' item"
                + (f" and {config.target_field} = {_either(config.target_values)}" if chosen else "")
                + f"; give [tables.{events}] a split with more {context.split} events"
            )
        return cls(queries, events, table, store.tables[table].rows, queries.targets, queries.seen if config.exclude_seen else None)

    def history_lengths(self) -> Ints:
        """Events in each query's history, [Q]."""
        return self.queries.stop - self.queries.start


class ModelScores:
    """Scores by the model: the dot product of the query's and the items' embeddings, or of a prefix of both.

    Args:
        config: which towers.
        context: model and tables.
        task: queries and items.
        remember: keep the queries' embeddings, [Q, E] float32 in all, so that prefixes need no forward of their own.
    """

    def __init__(self, config: RetrievalConfig, context: EvaluateContext, task: Task, *, remember: bool = False) -> None:
        self._config, self._context, self._task = config, context, task
        self._items = row_vectors(context.model, context.store, config.target, precision=context.precision)
        self._remember = remember
        self._known: dict[int, Tensor] = {}

    def __call__(self, lo: int, hi: int) -> Tensor:
        """Scores [hi - lo, M] of whole embeddings."""
        return self._queries(lo, hi) @ self._items.T

    def prefix(self, dim: int) -> Score:
        """The scores of the first ``dim`` numbers, brought to unit length again where the head's embeddings have it."""
        heads = self._context.model.heads
        own, other = (heads[tower].normalized for tower in (self._config.query, self._config.target))
        items = _cut(self._items, dim, other).T
        return lambda lo, hi: _cut(self._queries(lo, hi), dim, own) @ items

    def _queries(self, lo: int, hi: int) -> Tensor:
        """Vectors of the queries, [hi - lo, E]: cut from blocks, since few queries are scored at a time where there are many items."""
        blocks = range(lo // _AHEAD, -(-hi // _AHEAD))
        if not self._remember:
            self._known = {block: known for block, known in self._known.items() if block in blocks}
        for block in blocks:
            if block not in self._known:
                self._known[block] = self._block(block)
        found = [self._known[block] for block in blocks]
        start = blocks.start * _AHEAD
        return (found[0] if len(found) == 1 else torch.cat(found))[lo - start : hi - start]

    def _block(self, block: int) -> Tensor:
        """The vectors of some queries on end."""
        context, queries, lo = self._context, self._task.queries, block * _AHEAD
        return query_vectors(
            context.model, context.store, queries, self._config.query, lo, min(lo + _AHEAD, len(queries)), precision=context.precision
        )


def nested_widths(config: RetrievalConfig, context: EvaluateContext) -> tuple[int, ...]:
    """The prefixes to measure besides whole embeddings, ascending.

    Raises:
        UsageError: one is wider than the embeddings.
    """
    if config.prefixes is False or context.quick:
        return ()
    query, target = (context.model.prefixes[tower] for tower in (config.query, config.target))
    whole = min(query[-1], target[-1])
    wanted = set(query) & set(target) if config.prefixes is True else set(config.prefixes)
    if max(wanted, default=0) > whole:
        raise UsageError(f"evaluate: prefixes names {max(wanted)}, and embeddings have {whole} numbers; leave it out")
    return tuple(sorted(wanted - {whole}))


def _cut(vectors: Tensor, dim: int, normalized: bool) -> Tensor:
    return unit(vectors[:, :dim]) if normalized else vectors[:, :dim]


def category_codes(store: Store, events: str, field: str, *, option: str) -> Ints:
    """The code of a category field for each event, [N]; 0 where it has none or one that no train row has.

    Args:
        store: with codecs.
        events: event table.
        field: a field of it, or of a table that it joins.
        option: that names the field, for messages.

    Raises:
        UsageError: the field is not one category a row of such a table.
    """
    spec = store.schema.fields.get(field)
    if spec is None or not (spec.table == events or spec.table in store.events[events].joins):
        raise UsageError(f"evaluate: {option} = '{field}' is no field of table '{events}' or of a table that it joins")
    column = store.batch({events: torch.arange(store.tables[events].rows)}, (field,)).columns[field]
    if column.ragged or column.values.is_floating_point() or column.values.dim() != 1:
        raise UsageError(f"evaluate: {option} = '{field}' has type {spec.type}; it must be one category a row")
    codes = column.values if column.present is None else column.values.masked_fill(~column.present, 0)
    return np.asarray(codes.numpy(), dtype=np.int64)


def _chosen(config: RetrievalConfig, store: Store, events: str) -> Bools:
    """Which events may be targets, [N]."""
    assert config.target_field is not None
    codes = category_codes(store, events, config.target_field, option="target_field")
    known = store.codecs[config.target_field].vocabulary.values
    wanted = []
    for value in config.target_values:
        found = np.flatnonzero([one == value for one in known.to_pylist()])
        if not len(found):
            raise UsageError(
                f"evaluate: target_values: field '{config.target_field}' has no value {value!r} in a train row"
                f"{suggest(str(value), map(str, known[:1000].to_pylist()))}"
            )
        wanted.append(int(found[0]) + 1)
    return np.isin(codes, wanted)


def _either(values: Sequence[object]) -> str:
    return " or ".join(repr(value) for value in values)


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
