"""Weights of rows: how much each event counts in a loss.

A field with ``role = "weight"`` is read as it stands: a number of at least 0, or a category whose values the run file gives numbers. Its
values travel in ``Batch.labels``, one a target. A loss over rows calls ``row_weights`` and takes the ``weighted_mean``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from embedkit.data.batch import Batch
from embedkit.errors import UsageError
from embedkit.schema import Schema


def require_weight(schema: Schema, field: str | None, *, where: str) -> None:
    """Raise ``UsageError`` unless the field is there to weigh rows; None asks for no weights. ``where`` names the option."""
    if field is None:
        return
    spec = schema.fields.get(field)
    if spec is None or spec.role != "weight":
        there = ", ".join(name for name, one in schema.fields.items() if one.role == "weight") or "none"
        raise UsageError(f"{where} = '{field}' is no weight; set role = 'weight' in [fields.{field}], or name one of: {there}")


def row_weights(batch: Batch, field: str | None, known: Tensor) -> Tensor:
    """The weight of each of N rows or targets, float32 [N]: 0 where it is not known, or its weight is missing; 1 without a field.

    Args:
        batch: of the view that the loss reads.
        field: with ``role = "weight"``; None for equal weights.
        known: bool [N], the rows that take part.

    Raises:
        UsageError: the batch lacks the field, or has another number of rows.
    """
    if field is None:
        return known.float()
    if field not in batch.labels:
        raise UsageError(f"the batches do not hold weight '{field}': draw from its table, or from an event table that joins it")
    weights = batch.labels[field]
    if weights.shape != known.shape:
        raise UsageError(f"weight '{field}' has {tuple(weights.shape)} values for {known.shape[0]} rows: it must be one number a row")
    present = batch.extras.get(f"{field}.present")
    counted = known if present is None else known & present
    return torch.where(counted, weights.float(), 0.0)


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """``sum_i w_i l_i / sum_i w_i`` over rows [N]; zero, with zero gradients, where all weights are zero.

    So a row of weight 2 counts as two of weight 1, and a factor common to all weights changes nothing.
    """
    total = weights.sum()
    return (losses * weights).sum() / torch.where(total > 0, total, 1.0)
