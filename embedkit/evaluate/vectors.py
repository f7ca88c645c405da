"""Embeddings of some rows of a table by one tower: what probes and clusterings start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from embedkit.errors import DataError

if TYPE_CHECKING:
    from embedkit.data.store import Store
    from embedkit.nn.model import Model

BATCH = 2048
"""Rows a forward."""


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
