"""Embeddings by one tower: of rows of its table, which probes and clusterings start from, and of queries, which rankings start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from embedkit.errors import DataError

if TYPE_CHECKING:
    from embedkit.data.queries import Queries
    from embedkit.data.store import Store
    from embedkit.nn.model import Model

BATCH = 2048
"""Rows a forward."""
QUERY_BATCH = 256
"""Queries a forward: few enough that those of a forward have histories of about one length."""


def row_vectors(
    model: Model,
    store: Store,
    tower: str,
    rows: npt.NDArray[np.int64],
    *,
    limit: int = 0,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> npt.NDArray[np.float32]:
    """Embed rows of the tower's table, without gradient or dropout.

    Args:
        model: on ``device``.
        store: with codecs.
        tower: whose embeddings.
        rows: int64 [N], row numbers of the tower's table.
        limit: histories hold events of splits up to this one: 0 train, 1 valid, 2 test.
        device: where the model is.
        precision: of the forwards.

    Returns:
        float32 [N, E].

    Raises:
        DataError: a vector is not finite.
    """
    table, fields = store.schema.towers[tower].table, store.schema.towers[tower].fields
    device = torch.device(device)
    found = np.empty((len(rows), model.dims[tower]), np.float32)
    for at in range(0, len(rows), BATCH):
        batch = store.batch({table: torch.from_numpy(rows[at : at + BATCH])}, fields, limit=limit)
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            found[at : at + BATCH] = model.encode(batch.to(device), tower).float().cpu().numpy()
    if not np.isfinite(found).all():
        raise DataError(f"tower '{tower}': an embedding is not finite; training diverged, try a smaller learning rate")
    return found


def query_vectors(
    model: Model,
    store: Store,
    queries: Queries,
    tower: str,
    lo: int,
    hi: int,
    *,
    precision: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Embed the queries ``lo`` to ``hi``, without gradient or dropout. Those with histories of like lengths go through the tower together,
    so that little of what is computed is padding: the more queries at a time, the less.

    Args:
        model: where it is, the vectors are.
        store: with codecs.
        queries: Q of them.
        tower: whose embeddings.
        lo: number of the first.
        hi: number behind the last; at least one query.
        precision: of the forwards.

    Returns:
        float32 [hi - lo, E] on the model's device.

    Raises:
        DataError: a vector is not finite.
    """
    fields, device = store.schema.towers[tower].fields, next(model.parameters()).device
    order = np.argsort(queries.stop[lo:hi] - queries.start[lo:hi], kind="stable")
    parts = []
    for at in range(0, hi - lo, QUERY_BATCH):
        batch = store.query_batch(queries, lo + order[at : at + QUERY_BATCH], fields)
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            parts.append(model.encode(batch.to(device), tower).float())
    sorted_ = torch.cat(parts)
    if not bool(torch.isfinite(sorted_).all()):
        raise DataError(f"tower '{tower}': an embedding is not finite; training diverged, try a smaller learning rate")
    found = torch.empty_like(sorted_)
    found[torch.from_numpy(order).to(device)] = sorted_
    return found
