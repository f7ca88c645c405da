"""Embeddings by one tower: of rows of its table, which probes and clusterings start from, and of queries, which rankings start from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from embedkit.errors import DataError
from embedkit.evaluate.metrics import Ints

if TYPE_CHECKING:
    from embedkit.data.batch import Batch
    from embedkit.data.queries import Queries
    from embedkit.data.store import Store
    from embedkit.nn.model import Model

BATCH = 2048
"""Rows a forward."""
QUERY_BATCH = 256
"""Queries a forward: few enough that those of a forward have histories of about one length."""


def row_vectors(
    model: Model, store: Store, tower: str, rows: Ints | None = None, *, limit: int = 0, precision: torch.dtype = torch.float32
) -> Tensor:
    """Embed rows of the tower's table, without gradient or dropout.

    Args:
        model: where it is, the vectors are.
        store: with codecs.
        tower: whose embeddings.
        rows: int64 [N], row numbers of the tower's table; all of them when left out.
        limit: histories hold events of splits up to this one: 0 train, 1 valid, 2 test.
        precision: of the forwards.

    Returns:
        float32 [N, E].

    Raises:
        DataError: a vector is not finite.
    """
    table, fields = store.schema.towers[tower].table, store.schema.towers[tower].fields
    rows = np.arange(store.tables[table].rows) if rows is None else rows
    places = (slice(at, at + BATCH) for at in range(0, len(rows), BATCH))
    batches = ((place, store.batch({table: torch.from_numpy(rows[place])}, fields, limit=limit)) for place in places)
    return _embed(model, tower, len(rows), batches, precision)


def query_vectors(
    model: Model, store: Store, queries: Queries, tower: str, lo: int, hi: int, *, precision: torch.dtype = torch.float32
) -> Tensor:
    """Embed the queries ``lo`` to ``hi``, without gradient or dropout. Those with histories of like lengths go through the tower together,
    so that little of what is computed is padding: the more queries at a time, the less.

    Args:
        model: where it is, the vectors are.
        store: with codecs.
        queries: Q of them.
        tower: whose embeddings.
        lo: number of the first.
        hi: number behind the last.
        precision: of the forwards.

    Returns:
        float32 [hi - lo, E].

    Raises:
        DataError: a vector is not finite.
    """
    fields = store.schema.towers[tower].fields
    order = np.argsort(queries.stop[lo:hi] - queries.start[lo:hi], kind="stable")
    places = (order[at : at + QUERY_BATCH] for at in range(0, hi - lo, QUERY_BATCH))
    batches = ((torch.from_numpy(place), store.query_batch(queries, lo + place, fields)) for place in places)
    return _embed(model, tower, hi - lo, batches, precision)


def _embed(model: Model, tower: str, count: int, batches: Iterable[tuple[slice | Tensor, Batch]], precision: torch.dtype) -> Tensor:
    """The embeddings of batches at their places among ``count``, float32 [count, E] on the model's device."""
    device = next(model.parameters()).device
    found = torch.empty((count, model.dims[tower]), device=device)
    for place, batch in batches:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            found[place if isinstance(place, slice) else place.to(device)] = model.encode(batch.to(device), tower).float()
    if not bool(torch.isfinite(found).all()):
        raise DataError(f"tower '{tower}': an embedding is not finite; training diverged, try a smaller learning rate")
    return found
